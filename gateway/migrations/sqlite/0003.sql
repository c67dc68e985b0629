-- Groups of changes that were committed and are not yet known to be published.
CREATE TABLE outbox (
  drive BLOB NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  due INTEGER NOT NULL, -- when the relay may take it
  PRIMARY KEY (drive, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_due ON outbox (due);
