-- The first schema. Times are nanoseconds since 1970; names are bytea, so that any byte may be in them and they sort as bytes.
-- Two parts, which may lie in databases of their own: the catalogue (who there is, and where which drive is), and the drives' rows. What belongs to a
-- drive has `drive` first in its key: a drive's rows lie together, and can be spread by it.

-- ---- the catalogue ----

CREATE TABLE secret (
  name text COLLATE "C" PRIMARY KEY,
  value bytea NOT NULL
);

CREATE TABLE users (
  id uuid PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  password_hash text,
  admin boolean NOT NULL,
  disabled boolean NOT NULL,
  created bigint NOT NULL
);

CREATE TABLE session (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL,
  device text NOT NULL,
  token bytea NOT NULL,
  previous bytea NOT NULL,
  idempotency_key text NOT NULL,
  refreshed bigint NOT NULL,
  created bigint NOT NULL,
  expires bigint NOT NULL,
  revoked boolean NOT NULL
);
CREATE INDEX session_of_user ON session (user_id, created);

-- Where drives are, beside the catalogue itself, which is the shard "main".
CREATE TABLE shard (
  name text COLLATE "C" PRIMARY KEY,
  url text NOT NULL
);

-- All drives of one owner are in one shard, unless one was moved.
CREATE TABLE placement (
  drive uuid PRIMARY KEY,
  owner uuid NOT NULL,
  name text COLLATE "C" NOT NULL,
  shard text COLLATE "C" NOT NULL,
  moving_to text COLLATE "C", -- for a moment it may be in neither: who does not find it waits
  UNIQUE (owner, name)
);
CREATE INDEX placement_shard ON placement (shard);

-- Whose turn it is to do what only one process is to do at a time.
CREATE TABLE turn (
  name text COLLATE "C" PRIMARY KEY,
  holder uuid NOT NULL,
  until bigint NOT NULL
);

CREATE TABLE member (
  user_id uuid NOT NULL,
  drive uuid NOT NULL,
  role bigint NOT NULL,
  PRIMARY KEY (user_id, drive)
);
CREATE INDEX member_drive ON member (drive);

-- ---- a shard: one row a drive ----

-- lineage: the cluster and timeline on which seqs were given last; another one may have lost some, and starts a new generation. prior_end: the last seq
-- of the generation before. Interests that were written on the former may be lost, too: for so long as one could hold, there is one of nobody's (meta_postgres_tx.c).
CREATE TABLE drive (
  id uuid PRIMARY KEY,
  owner uuid NOT NULL,
  name text COLLATE "C" NOT NULL,
  root bigint NOT NULL,
  seq bigint NOT NULL,
  used bigint NOT NULL,
  quota bigint NOT NULL,
  files bigint NOT NULL,
  next_ino bigint NOT NULL,
  oldest_change bigint NOT NULL,
  last_time bigint NOT NULL,
  lineage text NOT NULL,
  prior_end bigint NOT NULL,
  generation_at bigint NOT NULL -- when it began; 0: it is the first
) WITH (fillfactor = 50);

-- Drives that are being moved here: whole, but not in use before their row is in `drive`. Until then they may be in use where they come from.
CREATE TABLE arriving (LIKE drive INCLUDING INDEXES);

-- Transactions that were committed lately: a gateway that lost its connection while it committed finds out here.
CREATE TABLE committed (
  drive uuid NOT NULL,
  tx uuid NOT NULL,
  at bigint NOT NULL,
  PRIMARY KEY (drive, tx)
);
CREATE INDEX committed_at ON committed (drive, at);

-- The last seq of each second in which something happened, written when a later second begins: the last one is the drive's.
CREATE TABLE moment (
  drive uuid NOT NULL,
  second bigint NOT NULL,
  seq bigint NOT NULL,
  PRIMARY KEY (drive, second)
);

-- ---- a shard: the tree ----

CREATE TABLE inode (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  mode bigint NOT NULL,
  nlink bigint NOT NULL,
  uid bigint NOT NULL,
  gid bigint NOT NULL,
  rdev bigint NOT NULL,
  size bigint NOT NULL,
  atime bigint NOT NULL,
  mtime bigint NOT NULL,
  ctime bigint NOT NULL,
  btime bigint NOT NULL,
  version bigint NOT NULL,
  chunk_size bigint NOT NULL,
  quarantined boolean NOT NULL,
  born bigint NOT NULL,
  born_at bigint NOT NULL,
  parent bigint NOT NULL,
  children bigint NOT NULL,
  target bytea,
  PRIMARY KEY (drive, ino)
) WITH (fillfactor = 80);

-- A state that held from born until died.
CREATE TABLE inode_past (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  died bigint NOT NULL,
  mode bigint NOT NULL,
  nlink bigint NOT NULL,
  uid bigint NOT NULL,
  gid bigint NOT NULL,
  rdev bigint NOT NULL,
  size bigint NOT NULL,
  atime bigint NOT NULL,
  mtime bigint NOT NULL,
  ctime bigint NOT NULL,
  btime bigint NOT NULL,
  version bigint NOT NULL,
  chunk_size bigint NOT NULL,
  quarantined boolean NOT NULL,
  born bigint NOT NULL,
  PRIMARY KEY (drive, ino, died)
);

-- Names that live are apart from those that died: a directory with a long past lists as quickly as a new one.
CREATE TABLE dentry (
  drive uuid NOT NULL,
  parent bigint NOT NULL,
  name bytea NOT NULL,
  ino bigint NOT NULL,
  born bigint NOT NULL,
  PRIMARY KEY (drive, parent, name)
);
CREATE INDEX dentry_ino ON dentry (drive, ino);

CREATE TABLE dentry_past (
  drive uuid NOT NULL,
  parent bigint NOT NULL,
  name bytea NOT NULL,
  born bigint NOT NULL,
  died bigint NOT NULL,
  ino bigint NOT NULL,
  PRIMARY KEY (drive, parent, name, born)
);
CREATE INDEX dentry_past_ino ON dentry_past (drive, ino);

CREATE TABLE xattr (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  name bytea NOT NULL,
  born bigint NOT NULL,
  born_at bigint NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (drive, ino, name)
);

CREATE TABLE xattr_past (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  name bytea NOT NULL,
  died bigint NOT NULL,
  born bigint NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (drive, ino, name, died)
);

CREATE TABLE lock (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  n bigint NOT NULL,
  session uuid NOT NULL,
  flock boolean NOT NULL,
  type bigint NOT NULL,
  first bigint NOT NULL,
  last bigint NOT NULL,
  owner bigint NOT NULL,
  pid bigint NOT NULL,
  PRIMARY KEY (drive, ino, n)
);
CREATE INDEX lock_session ON lock (drive, session);

-- ---- a shard: content ----

CREATE TABLE version (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  version bigint NOT NULL,
  size bigint NOT NULL,
  chunk_size bigint NOT NULL,
  tree_hash bytea NOT NULL,
  sha256 bytea,
  mtime bigint NOT NULL,
  at bigint NOT NULL,
  user_id uuid NOT NULL,
  device text NOT NULL,
  listed boolean NOT NULL,
  quarantined boolean NOT NULL,
  PRIMARY KEY (drive, ino, version)
);

-- chunks: 36 bytes for each of up to 64, hash and valid length (little endian); holes at the end are left out.
CREATE TABLE segment (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  number bigint NOT NULL,
  version bigint NOT NULL,
  chunks bytea NOT NULL,
  PRIMARY KEY (drive, ino, number, version)
);

-- As of `version`, older rows of segments from here on are holes.
CREATE TABLE cut (
  drive uuid NOT NULL,
  ino bigint NOT NULL,
  version bigint NOT NULL,
  from_segment bigint NOT NULL,
  PRIMARY KEY (drive, ino, version, from_segment)
);

-- pack NULL: the bytes are in chunk_bytes until a job gathers them into a pack. Apart from `chunk`, so that this stays small (it is
-- asked for every chunk of every commit).
CREATE TABLE chunk (
  drive uuid NOT NULL,
  hash bytea NOT NULL,
  size bigint NOT NULL,
  stored_size bigint NOT NULL,
  codec bigint NOT NULL,
  pack text COLLATE "C",
  place bigint NOT NULL, -- offset in the pack, or chunk_bytes.id
  claimed bigint NOT NULL,
  unverified_by uuid, -- on whose word alone the bytes are those of the hash; NULL: they were checked
  damaged boolean NOT NULL DEFAULT false, -- they were checked, and are not
  PRIMARY KEY (drive, hash)
);
CREATE INDEX chunk_unverified ON chunk (drive, hash) WHERE unverified_by IS NOT NULL AND NOT damaged;

-- Objects that clients may be bringing into the store by a URL: recorded before the URL is given out; gone once a chunk's row names the object. What is still
-- here long after `expires` is removed, object first.
CREATE TABLE pending_pack (
  drive uuid NOT NULL,
  pack text COLLATE "C" NOT NULL,
  hash bytea NOT NULL,
  size bigint NOT NULL,
  stored_size bigint NOT NULL,
  codec bigint NOT NULL,
  user_id uuid NOT NULL,
  expires bigint NOT NULL,
  PRIMARY KEY (drive, pack)
);
CREATE INDEX pending_pack_expires ON pending_pack (expires);

CREATE SEQUENCE chunk_bytes_id;
CREATE TABLE chunk_bytes (
  drive uuid NOT NULL,
  id bigint NOT NULL, -- in the order of arrival
  hash bytea NOT NULL,
  bytes bytea NOT NULL,
  at bigint NOT NULL, -- ns
  PRIMARY KEY (drive, id)
);
CREATE INDEX chunk_bytes_at ON chunk_bytes (at, drive); -- which drives have got any lately: there are millions of drives
ALTER TABLE chunk_bytes ALTER COLUMN bytes SET STORAGE EXTERNAL; -- they are compressed where that helps

CREATE TABLE upload_session (
  drive uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  parent bigint NOT NULL,
  name bytea NOT NULL,
  path text,
  size bigint NOT NULL,
  chunk_size bigint NOT NULL,
  mode bigint NOT NULL,
  base bigint, -- NULL: it replaces whatever is there
  sha256 bytea,
  state text NOT NULL,
  answer text,
  device text NOT NULL,
  created bigint NOT NULL,
  expires bigint NOT NULL,
  received bigint NOT NULL,
  PRIMARY KEY (drive, id)
);
CREATE INDEX upload_id ON upload_session (id);
CREATE INDEX upload_expires ON upload_session (expires);

CREATE TABLE upload_chunk (
  drive uuid NOT NULL,
  upload uuid NOT NULL,
  n bigint NOT NULL,
  size bigint NOT NULL,
  sha256 bytea NOT NULL,
  received bigint NOT NULL,
  PRIMARY KEY (drive, upload, n)
);

-- ---- a shard: the log ----

CREATE TABLE change (
  drive uuid NOT NULL,
  seq bigint NOT NULL,
  kind text NOT NULL,
  ino bigint NOT NULL,
  parent bigint NOT NULL,
  name bytea NOT NULL,
  from_parent bigint NOT NULL,
  from_name bytea NOT NULL,
  version bigint NOT NULL,
  user_id uuid NOT NULL,
  device text NOT NULL,
  at bigint NOT NULL,
  touch text,
  PRIMARY KEY (drive, seq)
);
CREATE INDEX change_deleted ON change (drive, seq) WHERE kind = 'd';

CREATE TABLE applied (
  drive uuid NOT NULL,
  journal uuid NOT NULL,
  batch bigint NOT NULL,
  digest bytea NOT NULL,
  answer bytea NOT NULL,
  PRIMARY KEY (drive, journal, batch)
);

-- How far a job has come in a drive's log.
CREATE TABLE cursor (
  drive uuid NOT NULL,
  name text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  PRIMARY KEY (drive, name)
);

-- Groups of changes that were committed and are not yet known to be published.
CREATE TABLE outbox (
  drive uuid NOT NULL,
  first bigint NOT NULL,
  last bigint NOT NULL,
  due bigint NOT NULL, -- when the relay may take it
  PRIMARY KEY (drive, first)
);
CREATE INDEX outbox_due ON outbox (due);

-- ---- a shard: the gateways ----

-- Which gateways have mounts of a drive, and until when they must be told of its changes before these are answered.
CREATE TABLE interest (
  drive uuid NOT NULL,
  gateway uuid NOT NULL,
  url text NOT NULL,
  until bigint NOT NULL,
  PRIMARY KEY (drive, gateway)
);
CREATE INDEX interest_gateway ON interest (gateway);

CREATE TABLE gateway (
  id uuid PRIMARY KEY,
  heard bigint NOT NULL,
  shunned bigint NOT NULL -- until then it gets no interest
);

CREATE TABLE mount (
  drive uuid NOT NULL,
  session uuid NOT NULL,
  user_id uuid NOT NULL,
  gateway uuid NOT NULL,
  PRIMARY KEY (drive, session)
);
CREATE INDEX mount_gateway ON mount (gateway);
