/* The metadata store in one SQLite file: what its files share. Each meta_sqlite_TOPIC.c has the functions of one topic of
   gateway/ports/meta.h, declared below; meta_sqlite.c has the table of them, the connections and the schema.

   Readers take a connection of their own from a pool and see a snapshot. All writing goes through one connection, guarded by
   `write_lock`, which is held for as long as a writing transaction is open: SQLite has one writer, and a mutex wakes the next one at once, where
   its busy handler sleeps. Functions without a transaction join the writing one of their thread, if it has one. */
#ifndef CAIRN_GATEWAY_ADAPTERS_META_SQLITE_H
#define CAIRN_GATEWAY_ADAPTERS_META_SQLITE_H
#include "gateway/adapters/sqlite_conn.h"
#include "gateway/adapters/sqlite_wal_vfs.h"
#include "gateway/core/rows.h"
#include "gateway/ports/meta.h"
#include <pthread.h>
#include <stdatomic.h>

struct sqlite_checkpointer;
struct sqlite_flusher;
struct sqlite_meta {
    struct meta base;
    char *path;
    pthread_mutex_t pool_lock; /* guards idle; a leaf */
    struct conn *idle;
    pthread_mutex_t write_lock; /* guards writer */
    struct conn *writer;
    _Atomic(const void *) writing_thread; /* of the open writing transaction, NULL none */
    struct sqlite_checkpointer *checkpointer;
    struct sqlite_flusher *flusher;
};
struct sqlite_tx {
    struct meta_tx base;
    struct conn *c;
    uint64_t stored_seq; /* the drive's row as it is in the store */
    int64_t stored_time;
};
static inline struct sqlite_meta *sqlite_of(struct meta *m)
{
    return (struct sqlite_meta *)m;
}
static inline struct conn *conn_of(struct meta_tx *tx)
{
    return ((struct sqlite_tx *)tx)->c;
}

/* A connection to read with, for this scope. */
struct conn *reader_get(struct sqlite_meta *m); /* NULL: none could be opened */
void reader_put(struct conn **c);
#define READER(c, m) CLEANUP(reader_put) struct conn *c = reader_get(sqlite_of(m))

/* A short writing transaction for this scope: undone unless writer_commit was called with err 0. */
struct writer {
    struct sqlite_meta *m;
    struct conn *c;
    int err;     /* why there is none */
    bool lazy;   /* its commit may reach the disk a little later */
    bool joined; /* part of the thread's own transaction, which ends later */
    bool ended;
};
struct writer writer_begin(struct sqlite_meta *m);
int writer_commit(struct writer *w, int err); /* err, or why it could not be committed */
void writer_end(struct writer *w);
#define WRITER(w, m) CLEANUP(writer_end) struct writer w = writer_begin(sqlite_of(m))

/* Moves the log into the database behind the writers' back. */
int sqlite_checkpointer_start(struct sqlite_meta *m);
void sqlite_checkpointer_stop(struct sqlite_meta *m);

/* meta_sqlite_flush.c: brings what was committed lazily to the disk within a second. */
int sqlite_flusher_start(struct sqlite_meta *m);
void sqlite_flusher_stop(struct sqlite_meta *m); /* with what is due on the disk */
void sqlite_flusher_committed(struct sqlite_meta *m, enum sqlite_wal_end log); /* after each COMMIT, by the writer */
/* At each start: a machine that was started anew may have lost the newest commits, so that all drives begin a new generation of seqs. */
int sqlite_generation_check(struct sqlite_meta *m);

#define ATTR_COLUMNS(t)                                                                                                            \
    t "ino, " t "mode, " t "nlink, " t "uid, " t "gid, " t "rdev, " t "size, " t "atime, " t "mtime, " t "ctime, " t "btime, " t   \
      "version, " t "chunk_size, " t "quarantined"
void get_attr(struct query *q, struct attr *ret); /* ATTR_COLUMNS */
void put_attr(struct query *q, const struct attr *a);
/* An inode as of a seq; at 0 now. nearest: where no state of just then was kept, the one that followed. */
int sqlite_inode_at(struct conn *c, const struct uuid *drive, uint64_t ino, uint64_t at, bool nearest, struct attr *ret);

#define DRIVE_COLUMNS(t)                                                                                                           \
    t "id, " t "owner, " t "name, " t "root, " t "seq, " t "used, " t "quota, " t "files, " t "next_ino, " t "oldest_change, " t   \
      "last_time, " t "prior_end"
void get_drive(struct query *q, struct drive_row *ret); /* DRIVE_COLUMNS */
int sqlite_drive(struct conn *c, const struct uuid *id, struct drive_row *ret);

#define VERSION_COLUMNS "ino, version, size, chunk_size, tree_hash, sha256, mtime, at, user, device, listed, quarantined"
void get_version(struct query *q, struct version_row *ret);
/* A segment as of version `at`: *ret_version is that of the row, 0 where it is all holes. */
int sqlite_segment_at(struct conn *c, const struct uuid *drive, uint64_t ino, uint64_t number, uint64_t at, uint64_t *ret_version,
                      struct chunk_ref ret[SEGMENT_CHUNKS]);

int sqlite_chunks_add(struct conn *c, const struct uuid *drive, const struct chunk_row *chunks, size_t n, int64_t now);
/* One of them. -EBUSY: what is there is unverified, and so is this one. *ret_there: it was there before, and stays where it is. */
int sqlite_chunk_add(struct conn *c, const struct uuid *drive, const struct chunk_row *k, int64_t now, bool *ret_there);
#define PENDING_COLUMNS "drive, pack, hash, size, stored_size, codec, user, expires"
void get_lock(struct query *q, struct lock_row *ret);
#define LOCK_COLUMNS "ino, session, flock, type, first, last, owner, pid"

/* ---- the port's functions, by file ---- */
/* meta_sqlite_users.c */
int sqlite_user_add(struct meta *m, const struct user_row *u);
int sqlite_user_by_name(struct meta *m, const char *name, struct user_row *ret);
int sqlite_user_by_id(struct meta *m, const struct uuid *id, struct user_row *ret);
int sqlite_user_update(struct meta *m, const struct user_row *u);
int sqlite_user_list(struct meta *m, int (*each)(void *ctx, const struct user_row *u), void *ctx);
int sqlite_session_add(struct meta *m, const struct session_row *s);
int sqlite_session_by_id(struct meta *m, const struct uuid *id, struct session_row *ret);
int sqlite_session_update(struct meta *m, const struct session_row *s, const struct hash *expected);
int sqlite_session_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct session_row *s), void *ctx);
int sqlite_secret(struct meta *m, const char *name, uint8_t ret[32]);
/* meta_sqlite_drives.c */
int sqlite_drive_add(struct meta *m, const struct drive_row *d);
int sqlite_drive_by_id(struct meta *m, const struct uuid *id, struct drive_row *ret);
int sqlite_drive_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct drive_row *d), void *ctx);
int sqlite_drive_rename(struct meta *m, const struct uuid *id, const char *name);
int sqlite_drive_quota(struct meta *m, const struct uuid *id, uint64_t quota);
int sqlite_member_set(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role role);
int sqlite_member_role(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role *ret);
int sqlite_member_list(struct meta *m, const struct uuid *drive, int (*each)(void *ctx, const struct uuid *user, enum role role), void *ctx);
int sqlite_inodes_reserve(struct meta *m, const struct uuid *drive, uint64_t count, uint64_t *ret_first);
int sqlite_outbox_put(struct conn *c, const struct meta_tx *tx, const struct outbox_row *row); /* within a writing transaction */
int sqlite_outbox_claim(struct meta *m, int64_t now, int64_t again, unsigned limit, struct outbox_row *ret, unsigned *ret_n);
int sqlite_outbox_remove(struct meta *m, const struct outbox_row *rows, size_t n);
int sqlite_cursor_get(struct meta *m, const struct uuid *drive, const char *name, uint64_t *ret);
int sqlite_cursor_put(struct meta *m, const struct uuid *drive, const char *name, uint64_t seq);
int sqlite_turn_take(struct meta *m, const char *name, const struct uuid *holder, unsigned ms);
int sqlite_drives_each(struct meta *m, int (*each)(void *ctx, const struct drive_row *d), void *ctx);
int sqlite_shard_add(struct meta *m, const char *name, const char *url);
int sqlite_shard_list(struct meta *m, int (*each)(void *ctx, const char *name, const char *url, uint64_t drives), void *ctx);
int sqlite_drive_move(struct meta *m, const struct uuid *drive, const char *shard);
/* meta_sqlite_tx.c */
int sqlite_begin(struct meta *m, const struct uuid *drive, struct meta_tx **ret);
int sqlite_snapshot(struct meta *m, const struct uuid *drive, struct meta_tx **ret);
int sqlite_lookup(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, uint64_t *ret_seq, struct entry_row *ret_entry);
int sqlite_snapshot_entry(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, struct meta_tx **ret, struct entry_row *ret_entry);
int sqlite_commit(struct meta_tx *tx);
void sqlite_rollback(struct meta_tx *tx);
/* meta_sqlite_load.c, meta_sqlite_store.c */
int sqlite_load(struct meta_tx *tx, struct rows *rows);
int sqlite_store(struct meta_tx *tx, struct rows *rows);
/* meta_sqlite_names.c */
int sqlite_entry(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct entry_row *ret);
int sqlite_entries(struct meta_tx *tx, uint64_t parent, uint64_t at, const char *after, unsigned limit,
                   int (*each)(void *ctx, const struct entry_row *e), void *ctx);
int sqlite_entry_of_ino(struct meta_tx *tx, uint64_t ino, uint64_t at, struct entry_row *ret);
int sqlite_entry_history(struct meta_tx *tx, uint64_t parent, const char *name, int (*each)(void *ctx, const struct entry_row *e),
                         void *ctx);
int sqlite_entries_dead(struct meta_tx *tx, uint64_t parent, const char *after, unsigned limit,
                        int (*each)(void *ctx, const struct entry_row *e), void *ctx);
/* meta_sqlite_inodes.c */
int sqlite_inode(struct meta_tx *tx, uint64_t ino, uint64_t at, struct attr *ret);
int sqlite_symlink_target(struct meta_tx *tx, uint64_t ino, struct buf *ret);
int sqlite_xattrs(struct meta_tx *tx, uint64_t ino, uint64_t at,
                  int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx);
int sqlite_locks(struct meta_tx *tx, uint64_t ino, int (*each)(void *ctx, const struct lock_row *l), void *ctx);
int sqlite_lock_sessions(struct meta *m, int (*each)(void *ctx, const struct uuid *drive, const struct uuid *session), void *ctx);
/* meta_sqlite_content.c */
int sqlite_version(struct meta_tx *tx, uint64_t ino, uint64_t number, struct version_row *ret);
int sqlite_versions(struct meta_tx *tx, uint64_t ino, uint64_t from, uint64_t to, unsigned limit,
                    int (*each)(void *ctx, const struct version_row *v), void *ctx);
int sqlite_chunk_map(struct meta_tx *tx, uint64_t ino, uint64_t version, uint64_t first, size_t n, struct chunk_ref *ret);
/* meta_sqlite_changes.c */
int sqlite_changes(struct meta_tx *tx, uint64_t since, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx);
int sqlite_deletions(struct meta_tx *tx, uint64_t before, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx);
int sqlite_changes_trim(struct meta *m, const struct uuid *drive, int64_t before_ns, uint64_t keep_max);
int sqlite_seq_at(struct meta_tx *tx, int64_t at_ns, uint64_t *ret);
int sqlite_applied_get(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, struct hash *ret_digest, struct buf *ret_answer);
int sqlite_applied_last(struct meta_tx *tx, const struct uuid *journal, uint64_t *ret);
int sqlite_applied_put(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, const struct hash *digest, const void *answer,
                       size_t len);
int sqlite_applied_confirm(struct meta_tx *tx, const struct uuid *journal, uint64_t upto);
/* meta_sqlite_chunks.c */
int sqlite_chunk_get(struct meta *m, const struct uuid *drive, const struct hash *h, struct chunk_row *ret);
int sqlite_chunks_find(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, struct chunk_row *ret);
int sqlite_chunks_known(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, bool *ret);
int sqlite_meta_chunks_add(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n);
/* meta_sqlite_pending.c */
int sqlite_pendings_add(struct meta *m, const struct pending_row *p, size_t n);
int sqlite_pendings(struct meta *m, const struct uuid *drive, const char *prefix, int (*each)(void *ctx, const struct pending_row *p), void *ctx);
int sqlite_pendings_settle(struct meta *m, const struct pending_row *p, size_t n, int64_t now, int *ret);
int sqlite_pendings_over(struct meta *m, int64_t before, unsigned limit, struct pending_row *ret, unsigned *ret_n);
int sqlite_pendings_forget(struct meta *m, const struct pending_row *p, size_t n);
int sqlite_pendings_each(struct meta_tx *tx, int (*each)(void *ctx, const struct pending_row *p), void *ctx);
int sqlite_chunks_unverified(struct meta *m, unsigned limit, int (*each)(void *ctx, const struct uuid *drive, const struct chunk_row *c), void *ctx);
int sqlite_chunk_judge(struct meta *m, const struct uuid *drive, const struct chunk_row *c, bool right);
int sqlite_chunks_inline(struct meta *m, const struct uuid *drive, uint64_t limit, int (*each)(void *ctx, const struct chunk_row *c),
                         void *ctx);
int sqlite_inline_drives(struct meta *m, int64_t since, int (*each)(void *ctx, const struct uuid *drive), void *ctx);
int sqlite_chunks_moved(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n);
/* meta_sqlite_uploads.c */
int sqlite_upload_add(struct meta *m, const struct upload_row *u);
int sqlite_upload_get(struct meta *m, const struct uuid *id, struct upload_row *ret);
int sqlite_upload_update(struct meta *m, struct meta_tx *tx, const struct upload_row *u);
int sqlite_upload_chunks_put(struct meta *m, const struct uuid *id, const struct upload_chunk_row *c, size_t n, int64_t expires,
                             uint64_t *ret_received);
int sqlite_upload_chunks(struct meta *m, const struct uuid *id, int (*each)(void *ctx, const struct upload_chunk_row *c), void *ctx);
int sqlite_uploads_expire(struct meta *m, int64_t now, unsigned *ret_count);
/* meta_sqlite_gateways.c */
int sqlite_interests(struct conn *c, struct meta_tx *tx); /* into the transaction */
int sqlite_interest_put(struct meta_tx *tx, const struct uuid *gateway, const char *url, unsigned ms);
int sqlite_interests_renew(struct meta *m, const struct uuid *gateway, const char *url, unsigned ms, const struct uuid *drives, size_t n, uint64_t *ret_seqs);
int sqlite_interest_drop(struct meta *m, const struct uuid *drive, const struct uuid *gateway, int64_t until);
int sqlite_interests_drop_all(struct meta *m, const struct uuid *gateway);
int sqlite_gateway_heard(struct meta *m, const struct uuid *gateway);
int sqlite_gateway_shun(struct meta *m, const struct uuid *gateway, unsigned ms);
int sqlite_gateways_tidy(struct meta *m);
int sqlite_mount_get(struct meta *m, const struct uuid *drive, const struct uuid *session, struct mount_row *ret);
int sqlite_mount_put(struct meta *m, const struct mount_row *r);
int sqlite_mount_drop(struct meta *m, const struct uuid *drive, const struct uuid *session);
int sqlite_mounts_orphaned(struct meta *m, unsigned ms, unsigned limit, int (*each)(void *ctx, const struct mount_row *r), void *ctx);
/* meta_sqlite_each.c */
int sqlite_inodes_each(struct meta_tx *tx, int (*each)(void *ctx, const struct attr *a, uint64_t parent, uint64_t children), void *ctx);
int sqlite_dentries_each(struct meta_tx *tx, int (*each)(void *ctx, uint64_t parent, const char *name, uint64_t ino), void *ctx);
int sqlite_versions_each(struct meta_tx *tx, int (*each)(void *ctx, const struct version_row *v), void *ctx);
int sqlite_segments_each(struct meta_tx *tx,
                         int (*each)(void *ctx, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS]), void *ctx);
int sqlite_chunks_each(struct meta_tx *tx, int (*each)(void *ctx, const struct chunk_row *c, uint64_t in_row), void *ctx);
#endif
