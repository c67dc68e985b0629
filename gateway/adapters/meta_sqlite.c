#include "gateway/adapters/meta_sqlite.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>

extern const char *const migrations_sqlite[]; /* gateway/migrations/sqlite/NNNN.sql, in order */

/* ---- connections ---- */

static _Thread_local char this_thread; /* its address is the thread's name */

static bool writing_here(const struct sqlite_meta *m)
{
    return atomic_load_explicit(&m->writing_thread, memory_order_relaxed) == &this_thread;
}

struct conn *reader_get(struct sqlite_meta *m)
{
    if (writing_here(m))
        return m->writer;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->pool_lock);
        struct conn *c = m->idle;
        if (c) {
            m->idle = c->next;
            return c;
        }
    }
    struct conn *c;
    if (conn_open(m->path, &c))
        return NULL;
    c->owner = m;
    return c;
}

void reader_put(struct conn **c)
{
    if (!*c)
        return;
    struct sqlite_meta *m = (*c)->owner;
    if (*c == m->writer)
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->pool_lock);
    (*c)->next = m->idle;
    m->idle = *c;
}

struct writer writer_begin(struct sqlite_meta *m)
{
    struct writer w = {.m = m, .c = m->writer};
    if (writing_here(m)) {
        w.joined = true;
        return w;
    }
    pthread_mutex_lock(&m->write_lock);
    {
        QUERY(q, m->writer, "BEGIN IMMEDIATE");
        w.err = query_run(&q);
    }
    if (w.err) {
        pthread_mutex_unlock(&m->write_lock);
        w.c = NULL;
        w.ended = true;
        return w;
    }
    atomic_store_explicit(&m->writing_thread, &this_thread, memory_order_relaxed);
    return w;
}

static int finish(struct writer *w, int err)
{
    struct sqlite_meta *m = w->m;
    if (!err) {
        QUERY(q, m->writer, "COMMIT");
        sqlite_wal_commit_begin(w->lazy);
        err = query_run(&q);
        sqlite_flusher_committed(m, sqlite_wal_commit_end());
    }
    if (err && !sqlite3_get_autocommit(m->writer->db)) {
        QUERY(q, m->writer, "ROLLBACK");
        query_run(&q);
    }
    atomic_store_explicit(&m->writing_thread, NULL, memory_order_relaxed);
    w->ended = true;
    pthread_mutex_unlock(&m->write_lock);
    return err;
}

int writer_commit(struct writer *w, int err)
{
    if (w->err)
        return w->err;
    if (w->joined || w->ended)
        return err;
    return finish(w, err);
}

void writer_end(struct writer *w)
{
    if (!w->joined && !w->ended)
        finish(w, -ECANCELED);
}

/* ---- schema ---- */

static int schema_version(struct conn *c, int64_t *ret)
{
    QUERY(q, c, "PRAGMA user_version");
    int err = query_one(&q);
    if (!err)
        *ret = get_int(&q);
    return err;
}

static int migrate(struct sqlite_meta *m)
{
    WRITER(w, &m->base);
    int64_t at = 0, known = 0;
    while (migrations_sqlite[known])
        known++;
    int err = w.err ? w.err : schema_version(w.c, &at);
    if (!err && at > known) {
        log_error("database %s has schema %lld, made by a newer version; this one knows %lld", m->path, (long long)at, (long long)known);
        err = -EPROTONOSUPPORT;
    }
    for (; !err && at < known; at++) {
        err = conn_exec(w.c, migrations_sqlite[at]);
        CLEANUP_FREE char *sql = mem_printf("PRAGMA user_version = %lld", (long long)at + 1);
        if (!err)
            err = conn_exec(w.c, sql);
    }
    return writer_commit(&w, err);
}

/* ---- life ---- */

static int sqlite_ping(struct meta *m)
{
    READER(c, m);
    QUERY(q, c, "SELECT 1 FROM drive LIMIT 1");
    return query_run(&q);
}

static void sqlite_free(struct meta *meta)
{
    struct sqlite_meta *m = sqlite_of(meta);
    sqlite_flusher_stop(m);
    sqlite_checkpointer_stop(m);
    while (m->idle) {
        struct conn *c = m->idle;
        m->idle = c->next;
        conn_free(c);
    }
    conn_free(m->writer); /* last: it moves the log into the database */
    pthread_mutex_destroy(&m->pool_lock);
    pthread_mutex_destroy(&m->write_lock);
    free(m->path);
    free(m);
}

static const struct meta_ops sqlite_ops = {
    .user_add = sqlite_user_add,
    .user_by_name = sqlite_user_by_name,
    .user_by_id = sqlite_user_by_id,
    .user_update = sqlite_user_update,
    .user_list = sqlite_user_list,
    .session_add = sqlite_session_add,
    .session_by_id = sqlite_session_by_id,
    .session_update = sqlite_session_update,
    .session_list = sqlite_session_list,
    .drive_add = sqlite_drive_add,
    .drive_by_id = sqlite_drive_by_id,
    .drive_list = sqlite_drive_list,
    .drive_rename = sqlite_drive_rename,
    .drive_quota = sqlite_drive_quota,
    .member_set = sqlite_member_set,
    .member_role = sqlite_member_role,
    .member_list = sqlite_member_list,
    .secret = sqlite_secret,
    .inodes_reserve = sqlite_inodes_reserve,
    .shard_add = sqlite_shard_add,
    .shard_list = sqlite_shard_list,
    .drive_move = sqlite_drive_move,
    .begin = sqlite_begin,
    .snapshot = sqlite_snapshot,
    .snapshot_entry = sqlite_snapshot_entry,
    .lookup = sqlite_lookup,
    .load = sqlite_load,
    .store = sqlite_store,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .entry = sqlite_entry,
    .entries = sqlite_entries,
    .inode = sqlite_inode,
    .entry_of_ino = sqlite_entry_of_ino,
    .entry_history = sqlite_entry_history,
    .entries_dead = sqlite_entries_dead,
    .symlink_target = sqlite_symlink_target,
    .xattrs = sqlite_xattrs,
    .version = sqlite_version,
    .versions = sqlite_versions,
    .chunk_map = sqlite_chunk_map,
    .changes = sqlite_changes,
    .deletions = sqlite_deletions,
    .seq_at = sqlite_seq_at,
    .applied_get = sqlite_applied_get,
    .applied_last = sqlite_applied_last,
    .applied_put = sqlite_applied_put,
    .applied_confirm = sqlite_applied_confirm,
    .locks = sqlite_locks,
    .inodes_each = sqlite_inodes_each,
    .dentries_each = sqlite_dentries_each,
    .versions_each = sqlite_versions_each,
    .segments_each = sqlite_segments_each,
    .chunks_each = sqlite_chunks_each,
    .lock_sessions = sqlite_lock_sessions,
    .outbox_claim = sqlite_outbox_claim,
    .outbox_remove = sqlite_outbox_remove,
    .cursor_get = sqlite_cursor_get,
    .cursor_put = sqlite_cursor_put,
    .turn_take = sqlite_turn_take,
    .chunk_get = sqlite_chunk_get,
    .chunks_find = sqlite_chunks_find,
    .chunks_known = sqlite_chunks_known,
    .chunks_add = sqlite_meta_chunks_add,
    .chunks_inline = sqlite_chunks_inline,
    .inline_drives = sqlite_inline_drives,
    .chunks_moved = sqlite_chunks_moved,
    .pendings_add = sqlite_pendings_add,
    .pendings = sqlite_pendings,
    .pendings_settle = sqlite_pendings_settle,
    .pendings_over = sqlite_pendings_over,
    .pendings_forget = sqlite_pendings_forget,
    .pendings_each = sqlite_pendings_each,
    .chunks_unverified = sqlite_chunks_unverified,
    .chunk_judge = sqlite_chunk_judge,
    .upload_add = sqlite_upload_add,
    .upload_get = sqlite_upload_get,
    .upload_update = sqlite_upload_update,
    .upload_chunks_put = sqlite_upload_chunks_put,
    .upload_chunks = sqlite_upload_chunks,
    .uploads_expire = sqlite_uploads_expire,
    .drives_each = sqlite_drives_each,
    .changes_trim = sqlite_changes_trim,
    .interest_put = sqlite_interest_put,
    .interests_renew = sqlite_interests_renew,
    .interest_drop = sqlite_interest_drop,
    .interests_drop_all = sqlite_interests_drop_all,
    .gateway_heard = sqlite_gateway_heard,
    .gateway_shun = sqlite_gateway_shun,
    .gateways_tidy = sqlite_gateways_tidy,
    .mount_get = sqlite_mount_get,
    .mount_put = sqlite_mount_put,
    .mount_drop = sqlite_mount_drop,
    .mounts_orphaned = sqlite_mounts_orphaned,
    .ping = sqlite_ping,
    .free = sqlite_free,
};

int meta_sqlite_open(const char *path, struct meta **ret)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); /* else one mutex around every allocation; refused once SQLite runs, which is fine */
    struct sqlite_meta *m = mem_alloc(sizeof *m);
    m->base.ops = &sqlite_ops;
    m->path = mem_strdup(path);
    pthread_mutex_init(&m->pool_lock, NULL);
    pthread_mutex_init(&m->write_lock, NULL);
    int err = conn_open(path, &m->writer);
    if (!err) {
        m->writer->owner = m;
        err = migrate(m);
    }
    if (!err)
        err = sqlite_generation_check(m);
    if (!err)
        err = sqlite_checkpointer_start(m);
    if (!err)
        err = sqlite_flusher_start(m);
    if (err) {
        log_error("metadata store: cannot open %s: %s", path, strerror(-err));
        sqlite_free(&m->base);
        return err;
    }
    *ret = &m->base;
    return 0;
}
