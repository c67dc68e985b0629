#include "gateway/adapters/meta_postgres.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/url.h"

#include <errno.h>
#include <string.h>

extern const char *const migrations_postgres[]; /* gateway/migrations/postgres/NNNN.sql, in order */

/* ---- connections ---- */

struct pg_conn *postgres_catalogue(struct meta *m)
{
    int err;
    return pg_conn_get(postgres_of(m)->catalogue, &err);
}

struct pg_conn *postgres_here(struct meta *m, const struct uuid *drive)
{
    struct postgres_tx *own = postgres_writing(m);
    if (own && uuid_equal(&own->base.drive.id, drive))
        return own->c;
    int err;
    struct pg_pool *p = pg_shards_of_drive(postgres_of(m)->shards, drive, &err);
    if (!p && err == -ENOENT)
        p = postgres_of(m)->catalogue; /* which has no rows of it */
    return p ? pg_conn_get(p, &err) : NULL;
}

struct pg_conn *postgres_shard(struct meta *m, size_t i)
{
    int err;
    return pg_conn_get(pg_shards_at(postgres_of(m)->shards, i), &err);
}

int postgres_run_kept(struct pg_query *q)
{
    int err = pg_one(q);
    if (err)
        return err;
    bool here = pg_bool(q), done = pg_bool(q);
    return !here ? -ENOENT : done ? 0 : -ESRCH;
}

int postgres_each_shard(struct meta *m, int (*fn)(struct meta *m, size_t shard, void *ctx), void *ctx)
{
    int err = 0, done = 0;
    for (size_t i = 0; i < pg_shards_count(postgres_of(m)->shards) && done <= 0; i++) {
        done = fn(m, i, ctx);
        err = done < 0 ? done : err;
    }
    return err;
}

int postgres_by_shard(struct meta *m, const struct uuid *(*drive_of)(const void *list, size_t i), const void *list, size_t n,
                      int (*fn)(struct pg_conn *c, const void *list, const size_t *which, size_t n))
{
    CLEANUP_FREE struct pg_pool **pools = mem_calloc(n + 1, sizeof *pools);
    CLEANUP_FREE size_t *which = mem_calloc(n + 1, sizeof *which);
    int err = 0, failed;
    for (size_t i = 0; i < n; i++) {
        pools[i] = pg_shards_of_drive(postgres_of(m)->shards, drive_of(list, i), &failed);
        err = failed && failed != -ENOENT ? failed : err;
    }
    for (size_t i = 0; i < n; i++) {
        struct pg_pool *pool = pools[i];
        size_t k = 0;
        for (size_t j = i; pool && j < n; j++)
            if (pools[j] == pool) {
                which[k++] = j;
                pools[j] = NULL;
            }
        CLEANUP(postgres_scope_end) struct pg_conn *c = k ? pg_conn_get(pool, &failed) : NULL;
        failed = k ? fn(c, list, which, k) : 0;
        err = failed ? failed : err;
    }
    return err;
}

void postgres_scope_end(struct pg_conn **c)
{
    if (*c && !(*c)->in_tx) /* else it is a transaction's, which goes on */
        pg_conn_put(*c);
}

/* ---- schema ---- */

#define MIGRATING "5230684199221" /* an advisory lock that only migrations take */

static int64_t known_version(void)
{
    int64_t n = 0;
    while (migrations_postgres[n])
        n++;
    return n;
}

static int schema_version(struct pg_conn *c, int64_t *ret)
{
    *ret = 0;
    {
        PG_QUERY(q, c, "SELECT to_regclass('schema_version') IS NOT NULL");
        int err = pg_one(&q);
        if (err || !pg_bool(&q))
            return err;
    }
    PG_QUERY(q, c, "SELECT coalesce(max(version), 0) FROM schema_version");
    int err = pg_one(&q);
    if (!err)
        *ret = pg_int(&q);
    return err;
}

/* Under the lock: what others did meanwhile is not done again. */
static int migrate_locked(struct pg_conn *c)
{
    int64_t at;
    int err = schema_version(c, &at);
    for (; !err && at < known_version(); at++) {
        log_info("database: migrating the schema to version %lld", (long long)at + 1);
        CLEANUP_FREE char *sql = mem_printf("BEGIN; SET LOCAL statement_timeout = 0; CREATE TABLE IF NOT EXISTS schema_version (version bigint PRIMARY KEY);\n%s\n;"
                                            "INSERT INTO schema_version (version) VALUES (%lld); COMMIT",
                                            migrations_postgres[at], (long long)at + 1);
        err = pg_script(c, sql);
    }
    return err;
}

int postgres_migrate(struct pg_pool *p)
{
    int err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(p, &err);
    int64_t at;
    if (!err)
        err = schema_version(c, &at);
    if (err || at == known_version())
        return err;
    if (at > known_version()) {
        log_error("the database has schema %lld, made by a newer version; this one knows %lld", (long long)at, (long long)known_version());
        return -EPROTONOSUPPORT;
    }
    err = pg_script(c, "SET lock_timeout = 0; SET statement_timeout = 0; SELECT pg_advisory_lock(" MIGRATING ")");
    if (!err)
        err = migrate_locked(c);
    pg_conn_drop(c); /* and with it the lock, and whatever was left half done */
    return err;
}

/* ---- life ---- */

static int postgres_ping(struct meta *m)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT 1::bigint");
    return pg_one(&q);
}

static void postgres_free(struct meta *meta)
{
    struct postgres_meta *m = postgres_of(meta);
    pg_shards_free(m->shards);
    free(m);
}

static const struct meta_ops postgres_ops = {
    .user_add = postgres_user_add,
    .user_by_name = postgres_user_by_name,
    .user_by_id = postgres_user_by_id,
    .user_update = postgres_user_update,
    .user_list = postgres_user_list,
    .session_add = postgres_session_add,
    .session_by_id = postgres_session_by_id,
    .session_update = postgres_session_update,
    .session_list = postgres_session_list,
    .drive_add = postgres_drive_add,
    .drive_by_id = postgres_drive_by_id,
    .drive_list = postgres_drive_list,
    .drive_rename = postgres_drive_rename,
    .drive_quota = postgres_drive_quota,
    .member_set = postgres_member_set,
    .member_role = postgres_member_role,
    .member_list = postgres_member_list,
    .secret = postgres_secret,
    .inodes_reserve = postgres_inodes_reserve,
    .shard_add = postgres_shard_add,
    .shard_list = postgres_shard_list,
    .drive_move = postgres_drive_move,
    .begin = postgres_begin,
    .snapshot = postgres_snapshot,
    .snapshot_entry = postgres_snapshot_entry,
    .lookup = postgres_lookup,
    .load = postgres_load,
    .store = postgres_store,
    .commit = postgres_commit,
    .rollback = postgres_rollback,
    .entry = postgres_entry,
    .entries = postgres_entries,
    .inode = postgres_inode,
    .entry_of_ino = postgres_entry_of_ino,
    .entry_history = postgres_entry_history,
    .entries_dead = postgres_entries_dead,
    .symlink_target = postgres_symlink_target,
    .xattrs = postgres_xattrs,
    .version = postgres_version,
    .versions = postgres_versions,
    .chunk_map = postgres_chunk_map,
    .changes = postgres_changes,
    .deletions = postgres_deletions,
    .seq_at = postgres_seq_at,
    .applied_get = postgres_applied_get,
    .applied_last = postgres_applied_last,
    .applied_put = postgres_applied_put,
    .applied_confirm = postgres_applied_confirm,
    .locks = postgres_locks,
    .inodes_each = postgres_inodes_each,
    .dentries_each = postgres_dentries_each,
    .versions_each = postgres_versions_each,
    .segments_each = postgres_segments_each,
    .chunks_each = postgres_chunks_each,
    .lock_sessions = postgres_lock_sessions,
    .outbox_claim = postgres_outbox_claim,
    .outbox_remove = postgres_outbox_remove,
    .cursor_get = postgres_cursor_get,
    .cursor_put = postgres_cursor_put,
    .turn_take = postgres_turn_take,
    .chunk_get = postgres_chunk_get,
    .chunks_find = postgres_chunks_find,
    .chunks_known = postgres_chunks_known,
    .chunks_add = postgres_chunks_add,
    .chunks_inline = postgres_chunks_inline,
    .inline_drives = postgres_inline_drives,
    .chunks_moved = postgres_chunks_moved,
    .pendings_add = postgres_pendings_add,
    .pendings = postgres_pendings,
    .pendings_settle = postgres_pendings_settle,
    .pendings_over = postgres_pendings_over,
    .pendings_forget = postgres_pendings_forget,
    .pendings_each = postgres_pendings_each,
    .chunks_unverified = postgres_chunks_unverified,
    .chunk_judge = postgres_chunk_judge,
    .upload_add = postgres_upload_add,
    .upload_get = postgres_upload_get,
    .upload_update = postgres_upload_update,
    .upload_chunks_put = postgres_upload_chunks_put,
    .upload_chunks = postgres_upload_chunks,
    .uploads_expire = postgres_uploads_expire,
    .drives_each = postgres_drives_each,
    .changes_trim = postgres_changes_trim,
    .interest_put = postgres_interest_put,
    .interests_renew = postgres_interests_renew,
    .interest_drop = postgres_interest_drop,
    .interests_drop_all = postgres_interests_drop_all,
    .gateway_heard = postgres_gateway_heard,
    .gateway_shun = postgres_gateway_shun,
    .gateways_tidy = postgres_gateways_tidy,
    .mount_get = postgres_mount_get,
    .mount_put = postgres_mount_put,
    .mount_drop = postgres_mount_drop,
    .mounts_orphaned = postgres_mounts_orphaned,
    .ping = postgres_ping,
    .free = postgres_free,
};

const char *postgres_url_wrong(const char *url)
{
    char *why = NULL;
    PQconninfoOption *o = PQconninfoParse(url, &why);
    PQfreemem(why);
    PQconninfoFree(o);
    return o ? NULL : "must be postgres://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…]/DATABASE[?OPTION=VALUE…]";
}

int meta_postgres_open(const char *url, struct meta **ret)
{
    struct postgres_meta *m = mem_alloc(sizeof *m);
    m->base.ops = &postgres_ops;
    m->base.shared = true;
    int err = pg_shards_open(url, &m->shards);
    if (err) {
        CLEANUP_FREE char *shown = url_shown(url);
        log_error("metadata store: cannot open %s: %s", shown, strerror(-err));
        free(m);
        return err;
    }
    m->catalogue = pg_shards_catalogue(m->shards);
    *ret = &m->base;
    return 0;
}
