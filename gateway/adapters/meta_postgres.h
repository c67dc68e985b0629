/* The metadata store in PostgreSQL: what its files share. Each meta_postgres_TOPIC.c has the functions of one topic of gateway/ports/meta.h, declared
   below; meta_postgres.c has the table of them and the schema, meta_postgres_shards.c the databases.

   The catalogue (users, sessions, who may use which drive, and where it is) is one database; each drive's rows lie in one shard, the catalogue itself being the shard
   "main". A transaction on a drive has a connection of its own; functions without one join the writing transaction of their thread, if that is on the same
   drive, and else take a connection for one statement, which is sent again where the first connection turns out to be broken. */
#ifndef CAIRN_GATEWAY_ADAPTERS_META_POSTGRES_H
#define CAIRN_GATEWAY_ADAPTERS_META_POSTGRES_H
#include "gateway/adapters/pg_query.h"
#include "gateway/core/rows.h"
#include "gateway/ports/meta.h"
#include <errno.h>

struct pg_shards;
struct postgres_meta {
    struct meta base;
    struct pg_pool *catalogue; /* borrowed from shards */
    struct pg_shards *shards;
};
struct postgres_tx {
    struct meta_tx base;
    struct pg_conn *c;
    uint64_t stored_seq; /* the drive's row as it is in the store */
    int64_t stored_time;
    struct uuid id;      /* under which it can be found when it is not known whether it was committed */
    bool joined;         /* a snapshot that a thread took within its own writing transaction: the connection is that one's */
    int64_t generation_at; /* the database's clock: when its generation began, 0 the first */
};
static inline struct postgres_meta *postgres_of(struct meta *m)
{
    return (struct postgres_meta *)m;
}
static inline struct postgres_tx *postgres_tx_of(struct meta_tx *tx)
{
    return (struct postgres_tx *)tx;
}
static inline struct pg_conn *pg_conn_of(struct meta_tx *tx)
{
    return postgres_tx_of(tx)->c;
}

/* A connection for this scope: to the catalogue; to a drive's shard, or that of the writing transaction on that drive which this thread has open. NULL: no server. */
struct postgres_tx *postgres_writing(const struct meta *m); /* what this thread has open, NULL none */
struct pg_conn *postgres_catalogue(struct meta *m);
struct pg_conn *postgres_here(struct meta *m, const struct uuid *drive);
struct pg_conn *postgres_shard(struct meta *m, size_t i);
void postgres_scope_end(struct pg_conn **c);
#define PG_CATALOGUE(c, m) CLEANUP(postgres_scope_end) struct pg_conn *c = postgres_catalogue(m)
#define PG_HERE(c, m, drive) CLEANUP(postgres_scope_end) struct pg_conn *c = postgres_here(m, drive)
#define PG_SHARD(c, m, i) CLEANUP(postgres_scope_end) struct pg_conn *c = postgres_shard(m, i)

/* Rows that a drive has left behind, or that came before it did, are nobody's: what looks across drives asks for those of a drive that is here. */
#define PG_ALIVE(t) "EXISTS (SELECT 1 FROM drive alive WHERE alive.id = " t ".drive)"
/* What is written beside the drive's lock keeps the drive from being moved away meanwhile: `d` is its row, and has to be asked first; empty: it is not here. */
#define PG_KEPT(drive) "d AS MATERIALIZED (SELECT id FROM drive WHERE id = " drive " FOR KEY SHARE)"
#define PG_KEPT_SAYS(done) " SELECT EXISTS (SELECT 1 FROM d), EXISTS (SELECT 1 FROM " done ")"
/* Runs one that ends with PG_KEPT_SAYS. 0; -ENOENT: the drive is not here (PG_SEARCH); -ESRCH: nothing was done. */
int postgres_run_kept(struct pg_query *q);
static inline int postgres_found(int err) /* to the port */
{
    return err == -ESRCH ? -ENOENT : err;
}

/* fn for each shard, until it says 1: enough. One that is away does not keep the others from theirs. The last error. */
int postgres_each_shard(struct meta *m, int (*fn)(struct meta *m, size_t shard, void *ctx), void *ctx);

/* fn for the drives of each shard, of those that a list names: which[k] is where in the list. As postgres_each_shard. */
int postgres_by_shard(struct meta *m, const struct uuid *(*drive_of)(const void *list, size_t i), const void *list, size_t n,
                      int (*fn)(struct pg_conn *c, const void *list, const size_t *which, size_t n));

/* A transaction that is not on a drive's row: begun (with what follows), and committed where err is 0, else rolled back. Returns err, or why it could not be committed (-EAGAIN too
   where that is not known: only for what may be done twice). */
void pg_tx_begin(struct pg_conn *c);
int pg_tx_end(struct pg_conn *c, int err);

/* ---- meta_postgres_shards.c ---- */
#define SHARD_MAIN "main" /* the catalogue's own database */
int pg_shards_open(const char *url, struct pg_shards **ret); /* finds the others in the catalogue, and migrates each */
void pg_shards_free(struct pg_shards *s);
struct pg_pool *pg_shards_catalogue(struct pg_shards *s);
struct pg_pool *pg_shards_named(struct pg_shards *s, const char *name); /* NULL: there is none */
size_t pg_shards_count(struct pg_shards *s);
struct pg_pool *pg_shards_at(struct pg_shards *s, size_t i);
int pg_shards_refresh(struct pg_shards *s); /* looks for new ones, at most once a second. 0: all that the catalogue names are known */
/* That of a drive. NULL: the drive is not known, or the catalogue cannot be reached (*ret_err). */
struct pg_pool *pg_shards_of_drive(struct pg_shards *s, const struct uuid *drive, int *ret_err);
/* Where it was last, for who finds out by himself whether it is there. */
struct pg_pool *pg_shards_last_of_drive(struct pg_shards *s, const struct uuid *drive, int *ret_err);
/* Shard i was told that this gateway lives. While it was away nobody was: settled, when it has been told again for `ms`. */
void pg_shards_told(struct pg_shards *s, size_t i);
bool pg_shards_settled(struct pg_shards *s, size_t i, unsigned ms);
/* A drive was not where it was thought to be: the catalogue is asked anew. 1: try again (while it is being moved, after a moment); 0: it is nowhere; -EHOSTUNREACH: its move does not end. */
struct pg_search { /* zeroed at first */
    unsigned tries;
    char shard[64];
};
int pg_shards_search(struct pg_shards *s, const struct uuid *drive, struct pg_search *search);
/* fn(…) again and again until it finds the drive, or it is nowhere. An expression: the error of the last try. */
#define PG_SEARCH(m, drive, call)                                                                                                  \
    __extension__({                                                                                                                \
        struct pg_search search_ = {0};                                                                                            \
        int found_, again_ = 1;                                                                                                    \
        while ((found_ = (call)) == -ENOENT && again_ == 1)                                                                        \
            again_ = pg_shards_search(postgres_of(m)->shards, drive, &search_);                                                    \
        again_ < 0 ? again_ : found_;                                                                                              \
    })
void pg_shards_forget(struct pg_shards *s, const struct uuid *drive);
/* Where a new drive of this owner goes: where their others are, else where there are fewest, evenly once each has a thousand. */
int pg_shards_place(struct pg_shards *s, const struct uuid *owner, char ret_name[64], struct pg_pool **ret);
int postgres_migrate(struct pg_pool *p); /* meta_postgres.c */

#define PG_NOW_NS "(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint" /* the database's clock */

#define PG_ATTR_COLUMNS(t)                                                                                                         \
    t "ino, " t "mode, " t "nlink, " t "uid, " t "gid, " t "rdev, " t "size, " t "atime, " t "mtime, " t "ctime, " t "btime, " t   \
      "version, " t "chunk_size, " t "quarantined"
void pg_get_attr(struct pg_query *q, struct attr *ret); /* PG_ATTR_COLUMNS */
/* The attributes, as a sub-query with PG_ATTR_COLUMNS, of inode `ino` (an expression) as of seq `at` (9223372036854775807: now); where no state of just then was kept,
   the one that followed. $1 is the drive. */
#define PG_ATTR_NEAREST(ino_, at_)                                                                                                 \
    "(SELECT * FROM (SELECT 0 AS rank, " PG_ATTR_COLUMNS("n.") " FROM inode n WHERE n.drive = $1 AND n.ino = " ino_                \
    " AND n.born <= " at_ " UNION ALL (SELECT 1, " PG_ATTR_COLUMNS("p.") " FROM inode_past p WHERE p.drive = $1 AND p.ino = " ino_ \
    " AND p.died > " at_ " ORDER BY p.died LIMIT 1) UNION ALL SELECT 2, " PG_ATTR_COLUMNS("l.")                                    \
    " FROM inode l WHERE l.drive = $1 AND l.ino = " ino_ ") states ORDER BY rank LIMIT 1)"

#define PG_DRIVE_COLUMNS "id, owner, name, root, seq, used, quota, files, next_ino, oldest_change, last_time, prior_end"
void pg_get_drive(struct pg_query *q, struct drive_row *ret); /* PG_DRIVE_COLUMNS */

#define PG_VERSION_COLUMNS(t)                                                                                                      \
    t "ino, " t "version, " t "size, " t "chunk_size, " t "tree_hash, " t "sha256, " t "mtime, " t "at, " t "user_id, " t          \
      "device, " t "listed, " t "quarantined"
void pg_get_version(struct pg_query *q, struct version_row *ret);

#define PG_LOCK_COLUMNS(t) t "ino, " t "session, " t "flock, " t "type, " t "first, " t "last, " t "owner, " t "pid"
void pg_get_lock(struct pg_query *q, struct lock_row *ret);

/* The statement that adds chunks; ready to be run or left for later. */
int pg_put_chunks(struct pg_query *q, const struct uuid *drive, const struct chunk_row *chunks, size_t n, int64_t now); /* 0 or -EINVAL */
extern const char pg_chunks_add_sql[];

/* ---- the port's functions, by file ---- */
/* meta_postgres_users.c */
int postgres_user_add(struct meta *m, const struct user_row *u);
int postgres_user_by_name(struct meta *m, const char *name, struct user_row *ret);
int postgres_user_by_id(struct meta *m, const struct uuid *id, struct user_row *ret);
int postgres_user_update(struct meta *m, const struct user_row *u);
int postgres_user_list(struct meta *m, int (*each)(void *ctx, const struct user_row *u), void *ctx);
int postgres_session_add(struct meta *m, const struct session_row *s);
int postgres_session_by_id(struct meta *m, const struct uuid *id, struct session_row *ret);
int postgres_session_update(struct meta *m, const struct session_row *s, const struct hash *expected);
int postgres_session_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct session_row *s), void *ctx);
int postgres_secret(struct meta *m, const char *name, uint8_t ret[32]);
/* meta_postgres_drives.c */
int postgres_drive_add(struct meta *m, const struct drive_row *d);
int postgres_drive_by_id(struct meta *m, const struct uuid *id, struct drive_row *ret);
int postgres_drive_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct drive_row *d), void *ctx);
int postgres_drive_rename(struct meta *m, const struct uuid *id, const char *name);
int postgres_drive_quota(struct meta *m, const struct uuid *id, uint64_t quota);
int postgres_member_set(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role role);
int postgres_member_role(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role *ret);
int postgres_member_list(struct meta *m, const struct uuid *drive, int (*each)(void *ctx, const struct uuid *user, enum role role), void *ctx);
int postgres_inodes_reserve(struct meta *m, const struct uuid *drive, uint64_t count, uint64_t *ret_first);
int postgres_outbox_claim(struct meta *m, int64_t now, int64_t again, unsigned limit, struct outbox_row *ret, unsigned *ret_n);
int postgres_outbox_remove(struct meta *m, const struct outbox_row *rows, size_t n);
int postgres_cursor_get(struct meta *m, const struct uuid *drive, const char *name, uint64_t *ret);
int postgres_cursor_put(struct meta *m, const struct uuid *drive, const char *name, uint64_t seq);
int postgres_turn_take(struct meta *m, const char *name, const struct uuid *holder, unsigned ms);
int postgres_drives_each(struct meta *m, int (*each)(void *ctx, const struct drive_row *d), void *ctx);
/* meta_postgres_tx.c */
int postgres_begin(struct meta *m, const struct uuid *drive, struct meta_tx **ret);
int postgres_snapshot(struct meta *m, const struct uuid *drive, struct meta_tx **ret);
int postgres_lookup(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, uint64_t *ret_seq, struct entry_row *ret_entry);
int postgres_snapshot_entry(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, struct meta_tx **ret, struct entry_row *ret_entry);
int postgres_commit(struct meta_tx *tx);
void postgres_rollback(struct meta_tx *tx);
/* meta_postgres_load.c, meta_postgres_store.c */
int postgres_load(struct meta_tx *tx, struct rows *rows);
int postgres_store(struct meta_tx *tx, struct rows *rows);
/* meta_postgres_names.c */
/* A query for an entry as of now, to be sent along with others. */
struct pg_query pg_entry_query(struct pg_conn *c, const struct uuid *drive, uint64_t parent, const char *name);
int pg_entry_take(struct pg_query *q, struct entry_row *ret); /* -ENOENT */
int postgres_entry(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct entry_row *ret);
int postgres_entries(struct meta_tx *tx, uint64_t parent, uint64_t at, const char *after, unsigned limit,
                   int (*each)(void *ctx, const struct entry_row *e), void *ctx);
int postgres_entry_of_ino(struct meta_tx *tx, uint64_t ino, uint64_t at, struct entry_row *ret);
int postgres_entry_history(struct meta_tx *tx, uint64_t parent, const char *name, int (*each)(void *ctx, const struct entry_row *e),
                         void *ctx);
int postgres_entries_dead(struct meta_tx *tx, uint64_t parent, const char *after, unsigned limit,
                        int (*each)(void *ctx, const struct entry_row *e), void *ctx);
/* meta_postgres_inodes.c */
int postgres_inode(struct meta_tx *tx, uint64_t ino, uint64_t at, struct attr *ret);
int postgres_symlink_target(struct meta_tx *tx, uint64_t ino, struct buf *ret);
int postgres_xattrs(struct meta_tx *tx, uint64_t ino, uint64_t at,
                  int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx);
int postgres_locks(struct meta_tx *tx, uint64_t ino, int (*each)(void *ctx, const struct lock_row *l), void *ctx);
int postgres_lock_sessions(struct meta *m, int (*each)(void *ctx, const struct uuid *drive, const struct uuid *session), void *ctx);
/* meta_postgres_content.c */
int postgres_version(struct meta_tx *tx, uint64_t ino, uint64_t number, struct version_row *ret);
int postgres_versions(struct meta_tx *tx, uint64_t ino, uint64_t from, uint64_t to, unsigned limit,
                    int (*each)(void *ctx, const struct version_row *v), void *ctx);
int postgres_chunk_map(struct meta_tx *tx, uint64_t ino, uint64_t version, uint64_t first, size_t n, struct chunk_ref *ret);
/* meta_postgres_changes.c */
int postgres_changes(struct meta_tx *tx, uint64_t since, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx);
int postgres_deletions(struct meta_tx *tx, uint64_t before, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx);
int postgres_changes_trim(struct meta *m, const struct uuid *drive, int64_t before_ns, uint64_t keep_max);
int postgres_seq_at(struct meta_tx *tx, int64_t at_ns, uint64_t *ret);
int postgres_applied_get(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, struct hash *ret_digest, struct buf *ret_answer);
int postgres_applied_last(struct meta_tx *tx, const struct uuid *journal, uint64_t *ret);
int postgres_applied_put(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, const struct hash *digest, const void *answer,
                       size_t len);
int postgres_applied_confirm(struct meta_tx *tx, const struct uuid *journal, uint64_t upto);
/* meta_postgres_chunks.c */
int postgres_chunk_get(struct meta *m, const struct uuid *drive, const struct hash *h, struct chunk_row *ret);
int postgres_chunks_find(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, struct chunk_row *ret);
int postgres_chunks_known(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, bool *ret);
int postgres_chunks_add(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n);
int postgres_chunks_inline(struct meta *m, const struct uuid *drive, uint64_t limit, int (*each)(void *ctx, const struct chunk_row *c),
                         void *ctx);
int postgres_inline_drives(struct meta *m, int64_t since, int (*each)(void *ctx, const struct uuid *drive), void *ctx);
int postgres_chunks_moved(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n);
/* meta_postgres_shards.c, meta_postgres_move.c */
int postgres_shard_add(struct meta *m, const char *name, const char *url);
int postgres_shard_list(struct meta *m, int (*each)(void *ctx, const char *name, const char *url, uint64_t drives), void *ctx);
int postgres_drive_move(struct meta *m, const struct uuid *drive, const char *shard);
/* meta_postgres_pending.c */
int postgres_pendings_add(struct meta *m, const struct pending_row *p, size_t n);
int postgres_pendings(struct meta *m, const struct uuid *drive, const char *prefix, int (*each)(void *ctx, const struct pending_row *p), void *ctx);
int postgres_pendings_settle(struct meta *m, const struct pending_row *p, size_t n, int64_t now, int *ret);
int postgres_pendings_over(struct meta *m, int64_t before, unsigned limit, struct pending_row *ret, unsigned *ret_n);
int postgres_pendings_forget(struct meta *m, const struct pending_row *p, size_t n);
int postgres_pendings_each(struct meta_tx *tx, int (*each)(void *ctx, const struct pending_row *p), void *ctx);
int postgres_chunks_unverified(struct meta *m, unsigned limit, int (*each)(void *ctx, const struct uuid *drive, const struct chunk_row *c), void *ctx);
int postgres_chunk_judge(struct meta *m, const struct uuid *drive, const struct chunk_row *c, bool right);
/* meta_postgres_uploads.c */
int postgres_upload_add(struct meta *m, const struct upload_row *u);
int postgres_upload_get(struct meta *m, const struct uuid *id, struct upload_row *ret);
int postgres_upload_update(struct meta *m, struct meta_tx *tx, const struct upload_row *u);
int postgres_upload_chunks_put(struct meta *m, const struct uuid *id, const struct upload_chunk_row *c, size_t n, int64_t expires,
                             uint64_t *ret_received);
int postgres_upload_chunks(struct meta *m, const struct uuid *id, int (*each)(void *ctx, const struct upload_chunk_row *c), void *ctx);
int postgres_uploads_expire(struct meta *m, int64_t now, unsigned *ret_count);
/* meta_postgres_gateways.c */
int postgres_interest_put(struct meta_tx *tx, const struct uuid *gateway, const char *url, unsigned ms);
int postgres_interests_renew(struct meta *m, const struct uuid *gateway, const char *url, unsigned ms, const struct uuid *drives, size_t n, uint64_t *ret_seqs);
int postgres_interest_drop(struct meta *m, const struct uuid *drive, const struct uuid *gateway, int64_t until);
int postgres_interests_drop_all(struct meta *m, const struct uuid *gateway);
int postgres_gateway_heard(struct meta *m, const struct uuid *gateway);
int postgres_gateway_shun(struct meta *m, const struct uuid *gateway, unsigned ms);
int postgres_gateways_tidy(struct meta *m);
int postgres_mount_get(struct meta *m, const struct uuid *drive, const struct uuid *session, struct mount_row *ret);
int postgres_mount_put(struct meta *m, const struct mount_row *r);
int postgres_mount_drop(struct meta *m, const struct uuid *drive, const struct uuid *session);
int postgres_mounts_orphaned(struct meta *m, unsigned ms, unsigned limit, int (*each)(void *ctx, const struct mount_row *r), void *ctx);
/* meta_postgres_each.c */
int postgres_inodes_each(struct meta_tx *tx, int (*each)(void *ctx, const struct attr *a, uint64_t parent, uint64_t children), void *ctx);
int postgres_dentries_each(struct meta_tx *tx, int (*each)(void *ctx, uint64_t parent, const char *name, uint64_t ino), void *ctx);
int postgres_versions_each(struct meta_tx *tx, int (*each)(void *ctx, const struct version_row *v), void *ctx);
int postgres_segments_each(struct meta_tx *tx,
                         int (*each)(void *ctx, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS]), void *ctx);
int postgres_chunks_each(struct meta_tx *tx, int (*each)(void *ctx, const struct chunk_row *c, uint64_t in_row), void *ctx);
#endif
