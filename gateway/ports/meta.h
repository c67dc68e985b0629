/* The port to the metadata store: users, tokens and drives (the catalogue), and what is in a drive (its shard).

   A `struct meta` may be used by any worker thread; calls block; none is made on the event loop.
   All functions return 0 or a negative errno: -ENOENT, -EEXIST, -EAGAIN (serialisation: do the transaction again),
   -ETIMEDOUT (it takes too long), -EHOSTUNREACH (the database is away), -EIO. Strings in results are owned by the caller (free them with the
   matching _fini). */
#ifndef CAIRN_GATEWAY_PORTS_META_H
#define CAIRN_GATEWAY_PORTS_META_H
#include "common/buf.h"
#include "common/codec.h"
#include "common/hash.h"
#include "common/op.h"
#include "common/uuid.h"
#include <stdbool.h>
#include <stdint.h>

struct rows; /* gateway/core/rows.h: rows of one drive, loaded, changed in memory, stored */

struct user_row {
    struct uuid id;
    char name[65];
    char *password_hash; /* argon2id, PHC string */
    bool admin, disabled;
    int64_t created;
};
void user_row_fini(struct user_row *u);

/* A refresh-token family: one log-in of one device. */
struct session_row {
    struct uuid id, user;
    char device[129];
    struct hash token;          /* SHA-256 of the refresh token now good */
    struct hash previous;       /* of the one before it, zero none */
    char idempotency_key[129];  /* of the refresh that made `token`, "" none */
    int64_t refreshed, created, expires;
    bool revoked;
};

#define DRIVE_ROOT 1 /* of every drive */
enum role { ROLE_NONE, ROLE_VIEWER, ROLE_EDITOR, ROLE_OWNER };
struct drive_row {
    struct uuid id, owner;
    char name[129];
    uint64_t root;  /* inode: DRIVE_ROOT */
    uint64_t seq;   /* last given: generation·2^40 + counter */
    uint64_t used;  /* bytes of the newest versions */
    uint64_t quota; /* 0: none */
    uint64_t files;      /* inodes in the tree */
    uint64_t next_ino;   /* first number not yet handed out */
    uint64_t oldest_change; /* changes after this seq are kept; a cursor before it gets 410. 0: all of them are */
    int64_t last_time;   /* the newest time given in this drive: times never run backwards */
    uint64_t prior_end;  /* the last seq of the generation before that of seq; 0: there was none */
    enum role role;      /* of the user it was listed for */
    bool away;           /* only in a user's list: its shard cannot be reached, and but id, name and role nothing is known */
};

/* Whether a cursor can be gone on from: what came after it is kept, and it is of this history. A generation that ended early leaves cursors from beyond its end behind;
   how those before the last one ended is no longer known. 0, before everything, is of any history. */
bool drive_row_follows(const struct drive_row *d, uint64_t cursor);

struct change_row { /* one per operation */
    uint64_t seq;
    char kind; /* c created, m modified, a attributes, d deleted, v moved, r restored */
    uint64_t ino, parent, from_parent; /* parent/name: where it is now (deleted: was) */
    char name[NAME_LEN_MAX + 1], from_name[NAME_LEN_MAX + 1];
    uint64_t version;
    struct uuid user;
    char device[129];
    int64_t at;
    char *touch; /* the invalidation as JSON text (docs/protocol.md), for mounts that catch up; owned */
};
void change_row_fini(struct change_row *c);

struct entry_row { /* a directory entry with its inode's attributes */
    uint64_t parent, ino, born, died; /* seq; died UINT64_MAX>>1 while alive */
    char name[NAME_LEN_MAX + 1];
    struct attr attr;
};

struct version_row {
    uint64_t ino, version; /* the seq of its commit */
    uint64_t size;
    uint32_t chunk_size;
    struct hash tree_hash; /* SHA-256 over its chunks' hashes (a hole counts as 32 zero bytes) */
    struct hash sha256;    /* of the whole; zero: not known */
    int64_t mtime, at;
    struct uuid user;
    char device[129];
    bool listed, quarantined;
};

struct chunk_row { /* where a chunk's bytes are */
    struct hash hash;
    uint32_t size;        /* plain bytes */
    uint32_t stored_size;
    enum codec codec;
    char pack[64];        /* object key; "" where the bytes are in the row */
    uint64_t offset;      /* in the pack */
    char *bytes;          /* stored_size bytes, where pack is ""; owned; may be left NULL by look-ups that ask so */
    /* Only chunks_find, chunks_each and chunks_unverified tell these. */
    struct uuid unverified_by; /* the user on whose word alone the bytes are those of the hash; zero: they were checked. Such a chunk has its pack for itself */
    bool damaged;              /* they were checked, and are not; unverified_by says whose they are */
};
void chunk_row_fini(struct chunk_row *c);

/* An object that a client may be bringing into the store by a URL. */
struct pending_row {
    struct uuid drive, user;
    struct chunk_row chunk; /* what it is to be; pack: the object's key; no offset, no bytes */
    int64_t expires;        /* the end of the URL */
};

struct upload_row {
    struct uuid id, user, drive;
    uint64_t parent; /* inode of the directory */
    char name[NAME_LEN_MAX + 1];
    char *path;
    uint64_t size;
    uint32_t chunk_size, mode;
    bool has_base;
    uint64_t base;
    struct hash sha256; /* promised; zero none */
    char state; /* a active, c completed, x cancelled, e expired */
    char *answer; /* JSON of the completion */
    char device[129];
    int64_t created, expires;
    uint64_t received; /* how many of its chunks are recorded: kept by upload_chunks_put */
};
void upload_row_fini(struct upload_row *u);
struct upload_chunk_row {
    uint64_t n;
    uint32_t size;
    struct hash sha256;
    int64_t received;
};

struct lock_row {
    uint64_t ino, owner, start, end;
    struct uuid session;
    bool flock_kind;
    int type;
    uint32_t pid;
};

/* A gateway that has mounts of a drive, and promises them that it hears of its changes (docs/decisions/0017). */
#define GATEWAY_URL_MAX 127
struct interest_row {
    struct uuid gateway;
    char url[GATEWAY_URL_MAX + 1]; /* where the other gateways reach it */
    int64_t until; /* ns, by the database's clock: another number each time it is written. Nobody compares it with a clock of his own */
};
#define INTEREST_FORGET_NS (INT64_C(60) * 1000000000) /* by no clock that is half-way right can it still hold */

/* A mount's session, which holds its locks and claims, and the gateway that answers for it. */
struct mount_row {
    struct uuid drive, session, user, gateway;
    int64_t silent; /* read only: ns since the gateway was heard, INT64_MAX: it never was */
};

/* A transaction on one drive: a snapshot to read, or the drive's row lock to write. Used by one thread. */
struct meta_tx {
    struct meta *meta;
    struct drive_row drive; /* as of the snapshot, or under the lock; a writer changes it and calls store */
    int64_t now;            /* the database's clock when the transaction began */
    bool writing;
    /* Of a writing one where the store is shared: the drive's interests as they are under its lock, but those that are out by more than INTEREST_FORGET_NS. Owned by the transaction. */
    struct interest_row *interests;
    size_t n_interests;
    bool lazy; /* set before commit: it may return before what it did is on the disk, which then follows within a second or with a later commit that
                  is not lazy, whichever is first. A store may ignore it. What is lost is lost whole and newest first, and its seqs are not given again. */
};

/* A committed group of changes of a drive that is not yet known to be published. */
struct outbox_row {
    struct uuid drive;
    uint64_t first, last; /* seqs */
};
#define OUTBOX_GRACE_NS (INT64_C(5) * 1000000000) /* for so long it is left to the gateway that committed it */

struct meta {
    const struct meta_ops *ops;
    bool outbox; /* set by whoever opened it: transactions that store changes leave a row in the outbox */
    bool shared; /* set by the adapter where several gateways may use the store at once: they have interests, and mounts have rows */
};
struct meta_ops {
    /* ---- catalogue ---- */
    int (*user_add)(struct meta *m, const struct user_row *u); /* -EEXIST: the name is taken */
    int (*user_by_name)(struct meta *m, const char *name, struct user_row *ret);
    int (*user_by_id)(struct meta *m, const struct uuid *id, struct user_row *ret);
    int (*user_update)(struct meta *m, const struct user_row *u);
    int (*user_list)(struct meta *m, int (*each)(void *ctx, const struct user_row *u), void *ctx);
    int (*session_add)(struct meta *m, const struct session_row *s);
    int (*session_by_id)(struct meta *m, const struct uuid *id, struct session_row *ret);
    /* Compare-and-set on `token`: -EAGAIN where the stored token is no longer `expected`. */
    int (*session_update)(struct meta *m, const struct session_row *s, const struct hash *expected);
    int (*session_list)(struct meta *m, const struct uuid *user,
                        int (*each)(void *ctx, const struct session_row *s), void *ctx);
    /* Makes the drive with its root directory (inode 1, mode 040755, uid gid 0) and its owner's membership.
       -EEXIST: the owner has one of that name. */
    int (*drive_add)(struct meta *m, const struct drive_row *d);
    int (*drive_by_id)(struct meta *m, const struct uuid *id, struct drive_row *ret);
    /* Those the user is a member of, with `role`; those in a shard that cannot be reached too, as `away`. */
    int (*drive_list)(struct meta *m, const struct uuid *user,
                      int (*each)(void *ctx, const struct drive_row *d), void *ctx);
    int (*drive_rename)(struct meta *m, const struct uuid *id, const char *name);
    int (*drive_quota)(struct meta *m, const struct uuid *id, uint64_t quota);
    int (*member_set)(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role role);
    /* ROLE_NONE where the user is no member or the drive does not exist. */
    int (*member_role)(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role *ret);
    /* The members of a drive, in no order. Stops when each returns non-zero and returns that. */
    int (*member_list)(struct meta *m, const struct uuid *drive, int (*each)(void *ctx, const struct uuid *user, enum role role), void *ctx);
    /* A secret shared by all gateways, 32 bytes, made at the first call: signs tokens and URLs. */
    int (*secret)(struct meta *m, const char *name, uint8_t ret[32]);
    /* Hands out `count` (≥ 1) inode numbers of the drive that nobody else gets, from *ret_first on. -ENOENT; -EOVERFLOW. */
    int (*inodes_reserve)(struct meta *m, const struct uuid *drive, uint64_t count, uint64_t *ret_first);

    /* ---- shards: databases that drives lie in, beside the catalogue's own, which is the shard "main". -ENOTSUP where the store has none ---- */
    /* It is reached and migrated before it is noted. New drives go where their owner's others are, else where there are fewest, evenly once each has a thousand. -EEXIST: the name is taken. */
    int (*shard_add)(struct meta *m, const char *name, const char *url);
    int (*shard_list)(struct meta *m, int (*each)(void *ctx, const char *name, const char *url, uint64_t drives), void *ctx);
    /* Moves a drive to another shard while it is in use; writers wait for a moment, nothing is lost or doubled. May take long: it copies. Ended in between, it is to be called again.
       0 also where the drive is there already. -ENOENT: no such drive; -ENODEV: no such shard; -EBUSY: it is being moved. */
    int (*drive_move)(struct meta *m, const struct uuid *drive, const char *shard);

    /* ---- transactions on a drive ---- */
    /* Takes the drive's row lock (waits for it). -ENOENT: no such drive. */
    int (*begin)(struct meta *m, const struct uuid *drive, struct meta_tx **ret); /* a thread has one at a time */
    /* A consistent snapshot of the drive, with its seq. */
    int (*snapshot)(struct meta *m, const struct uuid *drive, struct meta_tx **ret);
    /* As snapshot, then entry as of now, in one exchange with the store where that can be. ret_entry->ino is 0 where there is no such name. */
    int (*snapshot_entry)(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, struct meta_tx **ret, struct entry_row *ret_entry);
    /* A name and the drive's seq at one moment, without a transaction. ret_entry->ino is 0 where there is no such name. -ENOENT: no such drive. */
    int (*lookup)(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, uint64_t *ret_seq, struct entry_row *ret_entry);
    /* Loads every row that `rows` wants and does not have. */
    int (*load)(struct meta_tx *tx, struct rows *rows);
    /* Writes every dirty row, the changes and the drive's row. */
    int (*store)(struct meta_tx *tx, struct rows *rows);
    int (*commit)(struct meta_tx *tx);    /* durable when it returns 0, unless it is lazy; ends and frees tx in any case */
    void (*rollback)(struct meta_tx *tx); /* also the end of a snapshot; frees tx */

    /* ---- within a transaction or snapshot ---- */
    /* One name. at 0: now; else as of that seq. -ENOENT. */
    int (*entry)(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct entry_row *ret);
    /* A page of a directory in order of name, after `after` ("" from the beginning). */
    int (*entries)(struct meta_tx *tx, uint64_t parent, uint64_t at, const char *after, unsigned limit,
                   int (*each)(void *ctx, const struct entry_row *e), void *ctx);
    int (*inode)(struct meta_tx *tx, uint64_t ino, uint64_t at, struct attr *ret);
    /* Where an inode is (or was at seq `at`): any one of its names. -ENOENT for the root or an unlinked one. */
    int (*entry_of_ino)(struct meta_tx *tx, uint64_t ino, uint64_t at, struct entry_row *ret);
    /* Every entry that this name of this directory ever had, newest first. */
    int (*entry_history)(struct meta_tx *tx, uint64_t parent, const char *name,
                         int (*each)(void *ctx, const struct entry_row *e), void *ctx);
    /* Names that were in the directory once and are no longer, newest deletion first (".versions", trash). */
    int (*entries_dead)(struct meta_tx *tx, uint64_t parent, const char *after, unsigned limit,
                        int (*each)(void *ctx, const struct entry_row *e), void *ctx);
    int (*symlink_target)(struct meta_tx *tx, uint64_t ino, struct buf *ret);
    int (*xattrs)(struct meta_tx *tx, uint64_t ino, uint64_t at,
                  int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx);
    int (*version)(struct meta_tx *tx, uint64_t ino, uint64_t number, struct version_row *ret);
    /* Listed versions of an inode with from < version ≤ to, newest first. */
    int (*versions)(struct meta_tx *tx, uint64_t ino, uint64_t from, uint64_t to, unsigned limit,
                    int (*each)(void *ctx, const struct version_row *v), void *ctx);
    /* The chunks [first, first+n) of a version, resolved through segments and cuts, into ret[n]. */
    int (*chunk_map)(struct meta_tx *tx, uint64_t ino, uint64_t version, uint64_t first, size_t n,
                     struct chunk_ref *ret);
    int (*changes)(struct meta_tx *tx, uint64_t since, unsigned limit,
                   int (*each)(void *ctx, const struct change_row *c), void *ctx);
    /* The changes of kind d with a seq below `before`, newest first: what the trash is made from. */
    int (*deletions)(struct meta_tx *tx, uint64_t before, unsigned limit,
                     int (*each)(void *ctx, const struct change_row *c), void *ctx);
    /* The last seq given up to the end of the second that at_ns lies in; 0 if none. */
    int (*seq_at)(struct meta_tx *tx, int64_t at_ns, uint64_t *ret);
    /* applied(journal, batch): -ENOENT; else the digest and the answer of then. */
    int (*applied_get)(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, struct hash *ret_digest,
                       struct buf *ret_answer);
    /* The highest batch of the journal, 0 none. */
    int (*applied_last)(struct meta_tx *tx, const struct uuid *journal, uint64_t *ret);
    /* -EEXIST, from here or from commit: it is there already. */
    int (*applied_put)(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, const struct hash *digest,
                       const void *answer, size_t len);
    int (*applied_confirm)(struct meta_tx *tx, const struct uuid *journal, uint64_t upto); /* forgets ≤ upto, but never the newest */
    int (*locks)(struct meta_tx *tx, uint64_t ino, int (*each)(void *ctx, const struct lock_row *l), void *ctx);
    /* Every (drive, session) that holds locks: what a gateway finds when it starts. Outside of transactions. */
    int (*lock_sessions)(struct meta *m, int (*each)(void *ctx, const struct uuid *drive, const struct uuid *session), void *ctx);

    /* ---- chunks (part of the writing transaction that this thread has open, else short ones of their own) ---- */
    int (*chunk_get)(struct meta *m, const struct uuid *drive, const struct hash *h, struct chunk_row *ret);
    /* Where h[n] are: rows without their bytes into ret[n]; stored_size 0 where the drive has no such chunk. */
    int (*chunks_find)(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, struct chunk_row *ret);
    /* Which of h[n] the drive has, and may be given to anybody who has the same content: not those that are unverified; ret[i]. */
    int (*chunks_known)(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, bool *ret);
    /* Adds rows; one that is there already is left (and its age renewed), unless it is unverified and the new one is not: then the new place is taken, and the object of the
       former is pending, to be removed. A commit finds every chunk that is there and not damaged. */
    int (*chunks_add)(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n);
    /* For the packing job: up to `limit` bytes of chunks kept in rows, oldest first; then their new place. */
    int (*chunks_inline)(struct meta *m, const struct uuid *drive, uint64_t limit,
                         int (*each)(void *ctx, const struct chunk_row *c), void *ctx);
    /* Drives that got chunks in rows since then (ns), and perhaps others; one may be named several times. Where a shard is away, an error, after all drives of the others. */
    int (*inline_drives)(struct meta *m, int64_t since, int (*each)(void *ctx, const struct uuid *drive), void *ctx);
    int (*chunks_moved)(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n);

    /* ---- objects that clients bring ---- */
    /* Records n of them, all of one drive; durable before their URLs are given out. */
    int (*pendings_add)(struct meta *m, const struct pending_row *p, size_t n);
    /* Those of the drive whose key begins with prefix, in order of key; each ends it by returning non-zero. */
    int (*pendings)(struct meta *m, const struct uuid *drive, const char *prefix, int (*each)(void *ctx, const struct pending_row *p), void *ctx);
    /* The objects are there: their chunks' rows (as p says, unverified_by too) are added, all of one drive, in one transaction. ret[i]: 0 the drive has the chunk (where it had it before, the object
       stays pending); -ENOENT it is not pending, or expired before `now`; -EBUSY p is unverified, and so is what the drive has. */
    int (*pendings_settle)(struct meta *m, const struct pending_row *p, size_t n, int64_t now, int *ret);
    /* Up to limit of all drives that expired before `before`, into ret[limit]; the longest ago first. */
    int (*pendings_over)(struct meta *m, int64_t before, unsigned limit, struct pending_row *ret, unsigned *ret_n);
    int (*pendings_forget)(struct meta *m, const struct pending_row *p, size_t n);
    /* Up to limit chunks of all drives that are unverified and not damaged, without bytes. */
    int (*chunks_unverified)(struct meta *m, unsigned limit, int (*each)(void *ctx, const struct uuid *drive, const struct chunk_row *c), void *ctx);
    /* What was found out about an unverified chunk: right, or damaged. Nothing, if it is somewhere else by now. */
    int (*chunk_judge)(struct meta *m, const struct uuid *drive, const struct chunk_row *c, bool right);

    /* ---- upload sessions ---- */
    int (*upload_add)(struct meta *m, const struct upload_row *u);
    int (*upload_get)(struct meta *m, const struct uuid *id, struct upload_row *ret);
    /* Writes state, answer and expiry. tx may be NULL (a transaction of its own). */
    int (*upload_update)(struct meta *m, struct meta_tx *tx, const struct upload_row *u);
    /* Records n chunks (a number that is recorded already is replaced, and counted once) and renews the session's
       expiry, in one durable transaction. Tells how many are recorded now. -ENOENT: no such session, or it is not active. */
    int (*upload_chunks_put)(struct meta *m, const struct uuid *id, const struct upload_chunk_row *c, size_t n,
                             int64_t expires, uint64_t *ret_received);
    /* In order of n. */
    int (*upload_chunks)(struct meta *m, const struct uuid *id,
                         int (*each)(void *ctx, const struct upload_chunk_row *c), void *ctx);
    /* Active sessions past their time become expired (ret_count of them); what ended a week ago is forgotten. */
    int (*uploads_expire)(struct meta *m, int64_t now, unsigned *ret_count);

    /* ---- housekeeping ---- */
    /* Where a shard is away, an error, after all drives of the others. */
    int (*drives_each)(struct meta *m, int (*each)(void *ctx, const struct drive_row *d), void *ctx);
    /* Forgets changes older than this time (or, keep_max > 0, all but the newest keep_max) and moves oldest_change. */
    int (*changes_trim)(struct meta *m, const struct uuid *drive, int64_t before_ns, uint64_t keep_max);

    /* How far a job has come in a drive's log, kept under the job's name (at most 32 bytes). 0 where it has not begun. */
    int (*cursor_get)(struct meta *m, const struct uuid *drive, const char *name, uint64_t *ret);
    int (*cursor_put)(struct meta *m, const struct uuid *drive, const char *name, uint64_t seq);

    /* Of what only one process is to do at a time (a job's name, at most 32 bytes): it is the holder's turn for `ms` from now on. -EAGAIN: it is another's. */
    int (*turn_take)(struct meta *m, const char *name, const struct uuid *holder, unsigned ms);

    /* ---- outbox ---- */
    /* Takes up to `limit` rows (into ret[limit]) that are due by `now`, the longest waiting first; nobody else gets them until `again` (ns): if they are not removed by then,
       they are due anew. */
    int (*outbox_claim)(struct meta *m, int64_t now, int64_t again, unsigned limit, struct outbox_row *ret, unsigned *ret_n);
    /* Each of `rows` stands for all rows of its drive that lie within first…last. */
    int (*outbox_remove)(struct meta *m, const struct outbox_row *rows, size_t n);

    /* ---- gateways that share the store ---- */
    /* Within a writing transaction: the gateway's interest in the drive holds for `ms` from now on. -EACCES: it is shunned. */
    int (*interest_put)(struct meta_tx *tx, const struct uuid *gateway, const char *url, unsigned ms);
    /* The same for many drives, each under its own lock. ret_seqs[i]: the drive's seq under the lock; UINT64_MAX: not renewed (shunned, there is no such drive, or it could not be written within a
       moment). An error only where none was renewed. */
    int (*interests_renew)(struct meta *m, const struct uuid *gateway, const char *url, unsigned ms, const struct uuid *drives, size_t n, uint64_t *ret_seqs);
    /* Forgets the row if it is still the one with this `until`. */
    int (*interest_drop)(struct meta *m, const struct uuid *drive, const struct uuid *gateway, int64_t until);
    int (*interests_drop_all)(struct meta *m, const struct uuid *gateway); /* it ends */
    /* The gateway lives; to be said every few seconds. A shard that is away is told another time: what it has of the gateway is promised anew (interests_renew). */
    int (*gateway_heard)(struct meta *m, const struct uuid *gateway);
    /* Others have waited for it in vain: it gets no interest for so long. */
    int (*gateway_shun)(struct meta *m, const struct uuid *gateway, unsigned ms);
    /* Forgets interests that are out for INTEREST_FORGET_NS, and gateways that were not heard for an hour and answer for no mount. */
    int (*gateways_tidy)(struct meta *m);
    /* Part of the writing transaction that this thread has open, else by themselves. -ENOENT: there is no such session. */
    int (*mount_get)(struct meta *m, const struct uuid *drive, const struct uuid *session, struct mount_row *ret);
    int (*mount_put)(struct meta *m, const struct mount_row *r); /* its gateway is heard with it, where it never was; the zero one is nobody */
    int (*mount_drop)(struct meta *m, const struct uuid *drive, const struct uuid *session);
    /* Up to `limit` mounts whose gateway was not heard for `ms`, where it could have been: not in a shard that was away during that time. */
    int (*mounts_orphaned)(struct meta *m, unsigned ms, unsigned limit, int (*each)(void *ctx, const struct mount_row *r), void *ctx);

    /* ---- every row of a drive, in the order of its key, for checks; within a snapshot; each ends it by returning non-zero ---- */
    int (*inodes_each)(struct meta_tx *tx, int (*each)(void *ctx, const struct attr *a, uint64_t parent, uint64_t children), void *ctx);
    int (*dentries_each)(struct meta_tx *tx, int (*each)(void *ctx, uint64_t parent, const char *name, uint64_t ino), void *ctx);
    int (*versions_each)(struct meta_tx *tx, int (*each)(void *ctx, const struct version_row *v), void *ctx);
    int (*segments_each)(struct meta_tx *tx, int (*each)(void *ctx, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS]),
                         void *ctx);
    /* Without their bytes. in_row: how many bytes the row has of one that is in no pack. */
    int (*chunks_each)(struct meta_tx *tx, int (*each)(void *ctx, const struct chunk_row *c, uint64_t in_row), void *ctx);
    int (*pendings_each)(struct meta_tx *tx, int (*each)(void *ctx, const struct pending_row *p), void *ctx);

    int (*ping)(struct meta *m);
    void (*free)(struct meta *m);
};
/* url: sqlite:PATH, or postgres://… as libpq understands it, with several hosts too. Creates and migrates the schema. */
int meta_open(const char *url, struct meta **ret);
const char *meta_url_wrong(const char *url); /* NULL, or what it must be */
int meta_sqlite_open(const char *path, struct meta **ret);
int meta_postgres_open(const char *url, struct meta **ret);
const char *postgres_url_wrong(const char *url);
#endif
