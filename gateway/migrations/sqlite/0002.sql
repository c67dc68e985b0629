-- How far a job has come in a drive's log.
CREATE TABLE cursor (
  drive BLOB NOT NULL,
  name TEXT NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (drive, name)
) STRICT, WITHOUT ROWID;
