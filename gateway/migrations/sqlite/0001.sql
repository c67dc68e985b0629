-- The first schema. Times are nanoseconds since 1970; a hash or id is a blob; names are blobs, so that any byte may be
-- in them and they sort as bytes. What belongs to a drive has `drive` first in its key: a drive's rows lie together.

CREATE TABLE secret (
  name TEXT NOT NULL PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE user (
  id BLOB NOT NULL PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  password_hash TEXT,
  admin INTEGER NOT NULL,
  disabled INTEGER NOT NULL,
  created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
  id BLOB NOT NULL PRIMARY KEY,
  user BLOB NOT NULL,
  device TEXT NOT NULL,
  token BLOB NOT NULL,
  previous BLOB NOT NULL,
  idempotency_key TEXT NOT NULL,
  refreshed INTEGER NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  revoked INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX session_user ON session (user);

CREATE TABLE drive (
  id BLOB NOT NULL PRIMARY KEY,
  owner BLOB NOT NULL,
  name TEXT NOT NULL,
  root INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  used INTEGER NOT NULL,
  quota INTEGER NOT NULL,
  files INTEGER NOT NULL,
  next_ino INTEGER NOT NULL,
  oldest_change INTEGER NOT NULL,
  last_time INTEGER NOT NULL,
  UNIQUE (owner, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE member (
  user BLOB NOT NULL,
  drive BLOB NOT NULL,
  role INTEGER NOT NULL,
  PRIMARY KEY (user, drive)
) STRICT, WITHOUT ROWID;

-- The last seq of each second in which something happened, written when a later second begins: the last one is the drive's.
CREATE TABLE moment (
  drive BLOB NOT NULL,
  second INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (drive, second)
) STRICT, WITHOUT ROWID;

CREATE TABLE inode (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  mode INTEGER NOT NULL,
  nlink INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  rdev INTEGER NOT NULL,
  size INTEGER NOT NULL,
  atime INTEGER NOT NULL,
  mtime INTEGER NOT NULL,
  ctime INTEGER NOT NULL,
  btime INTEGER NOT NULL,
  version INTEGER NOT NULL,
  chunk_size INTEGER NOT NULL,
  quarantined INTEGER NOT NULL,
  born INTEGER NOT NULL,
  born_at INTEGER NOT NULL,
  parent INTEGER NOT NULL,
  children INTEGER NOT NULL,
  target BLOB,
  PRIMARY KEY (drive, ino)
) STRICT, WITHOUT ROWID;

-- A state that held from born until died.
CREATE TABLE inode_past (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  died INTEGER NOT NULL,
  mode INTEGER NOT NULL,
  nlink INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  rdev INTEGER NOT NULL,
  size INTEGER NOT NULL,
  atime INTEGER NOT NULL,
  mtime INTEGER NOT NULL,
  ctime INTEGER NOT NULL,
  btime INTEGER NOT NULL,
  version INTEGER NOT NULL,
  chunk_size INTEGER NOT NULL,
  quarantined INTEGER NOT NULL,
  born INTEGER NOT NULL,
  PRIMARY KEY (drive, ino, died)
) STRICT, WITHOUT ROWID;

-- Names that live are apart from those that died: a directory with a long past lists as quickly as a new one.
CREATE TABLE dentry (
  drive BLOB NOT NULL,
  parent INTEGER NOT NULL,
  name BLOB NOT NULL,
  ino INTEGER NOT NULL,
  born INTEGER NOT NULL,
  PRIMARY KEY (drive, parent, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX dentry_ino ON dentry (drive, ino);

CREATE TABLE dentry_past (
  drive BLOB NOT NULL,
  parent INTEGER NOT NULL,
  name BLOB NOT NULL,
  born INTEGER NOT NULL,
  died INTEGER NOT NULL,
  ino INTEGER NOT NULL,
  PRIMARY KEY (drive, parent, name, born)
) STRICT, WITHOUT ROWID;
CREATE INDEX dentry_past_ino ON dentry_past (drive, ino);

CREATE TABLE xattr (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  name BLOB NOT NULL,
  born INTEGER NOT NULL,
  born_at INTEGER NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (drive, ino, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE xattr_past (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  name BLOB NOT NULL,
  died INTEGER NOT NULL,
  born INTEGER NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (drive, ino, name, died)
) STRICT, WITHOUT ROWID;

CREATE TABLE version (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  version INTEGER NOT NULL,
  size INTEGER NOT NULL,
  chunk_size INTEGER NOT NULL,
  tree_hash BLOB NOT NULL,
  sha256 BLOB,
  mtime INTEGER NOT NULL,
  at INTEGER NOT NULL,
  user BLOB NOT NULL,
  device TEXT NOT NULL,
  listed INTEGER NOT NULL,
  quarantined INTEGER NOT NULL,
  PRIMARY KEY (drive, ino, version)
) STRICT, WITHOUT ROWID;

-- chunks: 36 bytes for each of up to 64, hash and valid length (little endian); holes at the end are left out.
CREATE TABLE segment (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  number INTEGER NOT NULL,
  version INTEGER NOT NULL,
  chunks BLOB NOT NULL,
  PRIMARY KEY (drive, ino, number, version)
) STRICT, WITHOUT ROWID;

-- As of `version`, older rows of segments from here on are holes.
CREATE TABLE cut (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  version INTEGER NOT NULL,
  from_segment INTEGER NOT NULL,
  PRIMARY KEY (drive, ino, version, from_segment)
) STRICT, WITHOUT ROWID;

-- pack NULL: the bytes are in chunk_bytes until a job gathers them into a pack. Apart from `chunk`, so that this stays small (it is
-- asked for every chunk of every commit), and by order of arrival, so that adding one touches the last page and not any.
CREATE TABLE chunk (
  drive BLOB NOT NULL,
  hash BLOB NOT NULL,
  size INTEGER NOT NULL,
  stored_size INTEGER NOT NULL,
  codec INTEGER NOT NULL,
  pack TEXT,
  place INTEGER NOT NULL, -- offset in the pack, or chunk_bytes.id
  claimed INTEGER NOT NULL,
  PRIMARY KEY (drive, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE chunk_bytes (
  id INTEGER PRIMARY KEY,
  drive BLOB NOT NULL,
  hash BLOB NOT NULL,
  bytes BLOB NOT NULL
) STRICT;

CREATE TABLE change (
  drive BLOB NOT NULL,
  seq INTEGER NOT NULL,
  kind TEXT NOT NULL,
  ino INTEGER NOT NULL,
  parent INTEGER NOT NULL,
  name BLOB NOT NULL,
  from_parent INTEGER NOT NULL,
  from_name BLOB NOT NULL,
  version INTEGER NOT NULL,
  user BLOB NOT NULL,
  device TEXT NOT NULL,
  at INTEGER NOT NULL,
  touch TEXT,
  PRIMARY KEY (drive, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX change_deleted ON change (drive, seq) WHERE kind = 'd';

CREATE TABLE applied (
  drive BLOB NOT NULL,
  journal BLOB NOT NULL,
  batch INTEGER NOT NULL,
  digest BLOB NOT NULL,
  answer BLOB NOT NULL,
  PRIMARY KEY (drive, journal, batch)
) STRICT, WITHOUT ROWID;

CREATE TABLE lock (
  drive BLOB NOT NULL,
  ino INTEGER NOT NULL,
  n INTEGER NOT NULL,
  session BLOB NOT NULL,
  flock INTEGER NOT NULL,
  type INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  owner INTEGER NOT NULL,
  pid INTEGER NOT NULL,
  PRIMARY KEY (drive, ino, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX lock_session ON lock (drive, session);

CREATE TABLE upload_session (
  id BLOB NOT NULL PRIMARY KEY,
  user BLOB NOT NULL,
  drive BLOB NOT NULL,
  parent INTEGER NOT NULL,
  name BLOB NOT NULL,
  path TEXT,
  size INTEGER NOT NULL,
  chunk_size INTEGER NOT NULL,
  mode INTEGER NOT NULL,
  base INTEGER, -- NULL: it replaces whatever is there
  sha256 BLOB,
  state TEXT NOT NULL,
  answer TEXT,
  device TEXT NOT NULL,
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  received INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX upload_expires ON upload_session (expires);

CREATE TABLE upload_chunk (
  upload BLOB NOT NULL,
  n INTEGER NOT NULL,
  size INTEGER NOT NULL,
  sha256 BLOB NOT NULL,
  received INTEGER NOT NULL,
  PRIMARY KEY (upload, n)
) STRICT, WITHOUT ROWID;
