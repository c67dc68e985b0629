-- Objects that clients may be bringing into the store by a URL: recorded before the URL is given out; gone once a chunk's row names the object. What is still here long after `expires` is removed, object first.
CREATE TABLE pending_pack (
  drive BLOB NOT NULL,
  pack TEXT NOT NULL,
  hash BLOB NOT NULL,
  size INTEGER NOT NULL,
  stored_size INTEGER NOT NULL,
  codec INTEGER NOT NULL,
  user BLOB NOT NULL,
  expires INTEGER NOT NULL,
  PRIMARY KEY (drive, pack)
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_pack_expires ON pending_pack (expires);

-- On whose word alone the bytes are those of the hash; NULL: they were checked. damaged: they were, and are not.
ALTER TABLE chunk ADD COLUMN unverified_by BLOB;
ALTER TABLE chunk ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0;
CREATE INDEX chunk_unverified ON chunk (drive, hash) WHERE unverified_by IS NOT NULL AND damaged = 0;
