-- What gateways that share a database know of each other. A gateway alone writes none of these.
CREATE TABLE interest (
  drive BLOB NOT NULL,
  gateway BLOB NOT NULL,
  url TEXT NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (drive, gateway)
) STRICT, WITHOUT ROWID;

CREATE TABLE gateway (
  id BLOB NOT NULL PRIMARY KEY,
  heard INTEGER NOT NULL,
  shunned INTEGER NOT NULL DEFAULT 0 -- until then it gets no interest
) STRICT, WITHOUT ROWID;

CREATE TABLE mount (
  drive BLOB NOT NULL,
  session BLOB NOT NULL,
  user BLOB NOT NULL,
  gateway BLOB NOT NULL,
  PRIMARY KEY (drive, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX mount_gateway ON mount (gateway);
