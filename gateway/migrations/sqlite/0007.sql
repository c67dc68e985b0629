-- Whose turn it is to do what only one process is to do at a time.
CREATE TABLE turn (
  name TEXT NOT NULL PRIMARY KEY,
  holder BLOB NOT NULL,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
