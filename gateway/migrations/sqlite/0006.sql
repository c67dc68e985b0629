-- A machine that stops may lose what was committed within the last moments (meta_sqlite_flush.c): numbers that were given then are not given again.
ALTER TABLE drive ADD COLUMN prior_end INTEGER NOT NULL DEFAULT 0; -- the last seq of the generation before, as far as it is known
CREATE TABLE lineage (boot TEXT NOT NULL) STRICT; -- the machine's start since which seqs are given
