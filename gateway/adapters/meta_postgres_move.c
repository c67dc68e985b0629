/* Moves a drive to another shard while it is in use.

   1. In a snapshot of the old shard, what is large is copied: writers go on.
   2. The drive's row is locked, as any writer does it; writers wait. What has changed since (the rows' xmin says so) and what is small is copied.
   3. The copy is committed, with the drive's row in `arriving`: it is not in use there yet. Then, on the old shard, the row is deleted: whoever comes there from now on finds no drive,
      asks the catalogue, and finds the new place, which is written when the row has come from `arriving` into `drive`. A writer's transaction is thus on one side or the other, whole; so is
      what is written beside the drive's lock, which asks for the row as well (PG_KEPT).
   4. After a while (readers may believe in the old place for some seconds) the old rows go.

   A drive has one move at a time, up to the end of the last step: an advisory lock in the catalogue says so, which ends with its connection.

   Between the deletion and the catalogue the drive is in neither place: who looks for it sees that it is being moved, and waits. Ended just there, it is away until the move is called
   again, which finds it in the new shard; ended earlier, it is where it was. */
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LINGER_S 10 /* more than a gateway believes in a place (meta_postgres_shards.c) */

/* Large, and rows in them are rarely or never deleted: copied in the snapshot, then what has changed. dentry_past before dentry: it says what to delete there. */
static const char *const large[] = {"inode", "inode_past", "dentry_past", "dentry", "xattr_past", "version", "segment", "cut", "chunk", "chunk_bytes", "change", "moment"};
/* Copied under the lock. */
static const char *const small[] = {"xattr", "lock", "mount", "interest", "applied", "cursor", "upload_session", "upload_chunk", "pending_pack", "outbox", "committed"};
/* Of those, what must not be found on the old shard any more. */
static const char *const taken[] = {"lock", "mount", "interest", "upload_chunk", "upload_session", "pending_pack", "outbox"};
#define COUNT(a) (sizeof(a) / sizeof *(a))

struct move {
    PGconn *from, *to; /* of its own, without pipelines and time-outs */
    PGconn *lock;      /* to the catalogue: while it lasts, nobody else moves this drive */
    char drive[UUID_TEXT];
    int64_t seq;      /* the drive's in the snapshot */
    char *snapshot;   /* the oldest transaction that may not have ended then */
};

/* ---- statements ---- */

static int failed(PGconn *c, const char *what)
{
    log_error("moving a drive: %.60s: %s", what, PQerrorMessage(c));
    return PQstatus(c) == CONNECTION_OK ? -EIO : -EHOSTUNREACH;
}

static int run(PGconn *c, const char *sql)
{
    PGresult *res = PQexec(c, sql);
    ExecStatusType status = PQresultStatus(res);
    PQclear(res);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : failed(c, sql);
}

static int runf(PGconn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int runf(PGconn *c, const char *fmt, ...)
{
    CLEANUP_FREE char *sql = NULL;
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&sql, fmt, args) < 0)
        sql = NULL;
    va_end(args);
    return sql ? run(c, sql) : -ENOMEM;
}

/* The first n columns of the only row, owned by the caller; "" where they are NULL. -ENOENT: there is none. */
static int read_row(PGconn *c, const char *sql, char **ret, int n)
{
    PGresult *res = PQexec(c, sql);
    int err = PQresultStatus(res) != PGRES_TUPLES_OK ? failed(c, sql) : PQntuples(res) == 0 ? -ENOENT : 0;
    for (int i = 0; i < n; i++)
        ret[i] = err ? NULL : mem_strdup(PQgetvalue(res, 0, i));
    PQclear(res);
    return err;
}

/* ---- copying ---- */

static int copy_ended(PGconn *c)
{
    int err = 0;
    for (PGresult *res; (res = PQgetResult(c)) != NULL; PQclear(res))
        if (PQresultStatus(res) != PGRES_COMMAND_OK && !err)
            err = failed(c, "COPY");
    return err;
}

static int copy_started(PGconn *c, const char *sql, ExecStatusType want)
{
    PGresult *res = PQexec(c, sql);
    int err = PQresultStatus(res) == want ? 0 : failed(c, sql);
    PQclear(res);
    return err;
}

static int pump(struct move *m)
{
    char *data;
    int n, err = 0;
    while ((n = PQgetCopyData(m->from, &data, 0)) > 0) {
        if (!err && PQputCopyData(m->to, data, n) != 1)
            err = failed(m->to, "COPY");
        PQfreemem(data);
    }
    if (n == -2 && !err)
        err = failed(m->from, "COPY");
    if (PQputCopyEnd(m->to, err ? "given up" : NULL) != 1 && !err)
        err = failed(m->to, "COPY");
    int ended = copy_ended(m->from);
    int taken_in = copy_ended(m->to);
    return err ? err : ended ? ended : taken_in;
}

static int copy(struct move *m, const char *select, const char *into)
{
    CLEANUP_FREE char *out = mem_printf("COPY (%s) TO STDOUT (FORMAT binary)", select), *in = mem_printf("COPY %s FROM STDIN (FORMAT binary)", into);
    int err = copy_started(m->from, out, PGRES_COPY_OUT);
    if (err)
        return err;
    err = copy_started(m->to, in, PGRES_COPY_IN);
    if (!err)
        return pump(m);
    for (char *data; PQgetCopyData(m->from, &data, 0) > 0;)
        PQfreemem(data);
    copy_ended(m->from);
    return err;
}

/* A table's columns, as lists for SQL: all, those of its key, and the others as assignments from `excluded`. */
struct columns {
    char *list[3];
};

static void columns_fini(struct columns *c)
{
    for (size_t i = 0; i < 3; i++)
        free(c->list[i]);
}

static int columns_of(struct move *m, const char *table, struct columns *ret)
{
    CLEANUP_FREE char *sql = mem_printf(
        "SELECT string_agg(name, ', ' ORDER BY n), string_agg(name, ', ' ORDER BY n) FILTER (WHERE key), string_agg(name || ' = excluded.' || name, ', ') FILTER (WHERE NOT key) "
        "FROM (SELECT quote_ident(a.attname) AS name, a.attnum AS n, a.attnum = ANY (i.indkey) AS key FROM pg_attribute a JOIN pg_index i ON i.indrelid = a.attrelid "
        "AND i.indisprimary WHERE a.attrelid = '%s'::regclass AND a.attnum > 0 AND NOT a.attisdropped) c", table);
    return read_row(m->to, sql, ret->list, 3);
}

static int copy_all(struct move *m, const char *table)
{
    CLEANUP(columns_fini) struct columns c = {0};
    int err = columns_of(m, table, &c);
    if (err)
        return err;
    CLEANUP_FREE char *select = mem_printf("SELECT %s FROM %s WHERE drive = '%s'", c.list[0], table, m->drive);
    CLEANUP_FREE char *into = mem_printf("%s (%s)", table, c.list[0]);
    return copy(m, select, into);
}

/* Rows that were written since the snapshot, over those that are there. */
static int copy_changed(struct move *m, const char *table)
{
    CLEANUP(columns_fini) struct columns c = {0};
    int err = columns_of(m, table, &c);
    if (!err)
        err = runf(m->to, "CREATE TEMPORARY TABLE moved_%s (LIKE %s) ON COMMIT DROP", table, table);
    if (err)
        return err;
    CLEANUP_FREE char *select = mem_printf("SELECT %s FROM %s WHERE drive = '%s' AND age(xmin) <= age('%s'::xid8::xid)", c.list[0], table, m->drive, m->snapshot);
    CLEANUP_FREE char *into = mem_printf("moved_%s (%s)", table, c.list[0]);
    err = copy(m, select, into);
    bool all_key = !c.list[2] || !*c.list[2];
    return err ? err : runf(m->to, "INSERT INTO %s (%s) SELECT %s FROM moved_%s ON CONFLICT (%s) DO %s%s", table, c.list[0], c.list[0], table, c.list[1],
                            all_key ? "NOTHING" : "UPDATE SET ", all_key ? "" : c.list[2]);
}

/* ---- the steps ---- */

#define STILL_THERE "SELECT 1" /* of the connection that has the lock */

static int clear(PGconn *c, const struct move *m, const char *const *tables, size_t n)
{
    int err = 0;
    for (size_t i = 0; i < n && !err; i++)
        err = runf(c, "DELETE FROM %s WHERE drive = '%s'", tables[i], m->drive);
    return err;
}

/* What the drive has left behind, unless it is there again. */
static int clear_left(const struct move *m, const char *const *tables, size_t n)
{
    int err = 0;
    for (size_t i = 0; i < n && !err; i++)
        err = runf(m->from, "DELETE FROM %s WHERE drive = '%s' AND NOT EXISTS (SELECT 1 FROM drive WHERE id = '%s')", tables[i], m->drive, m->drive);
    return err;
}

static int begin_snapshot(struct move *m)
{
    char *row[2];
    CLEANUP_FREE char *sql = mem_printf("SELECT seq, pg_snapshot_xmin(pg_current_snapshot()) FROM drive WHERE id = '%s'", m->drive);
    int err = run(m->from, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    if (!err)
        err = read_row(m->from, sql, row, 2);
    if (err)
        return err;
    m->seq = strtoll(row[0], NULL, 10);
    free(row[0]);
    m->snapshot = row[1];
    return 0;
}

/* What an earlier attempt left is removed first. */
static int copy_large(struct move *m)
{
    int err = begin_snapshot(m);
    if (!err)
        err = run(m->to, "BEGIN");
    if (!err)
        err = clear(m->to, m, large, COUNT(large));
    if (!err)
        err = clear(m->to, m, small, COUNT(small));
    if (!err)
        err = runf(m->to, "DELETE FROM drive WHERE id = '%s'; DELETE FROM arriving WHERE id = '%s'", m->drive, m->drive);
    for (size_t i = 0; i < COUNT(large) && !err; i++)
        err = copy_all(m, large[i]);
    if (!err)
        err = run(m->to, "COMMIT");
    return err ? err : run(m->from, "COMMIT");
}

/* What was deleted since the snapshot. */
static int delete_gone(struct move *m)
{
    int err = runf(m->to, "DELETE FROM dentry d USING dentry_past p WHERE p.drive = '%s' AND p.died > %lld AND d.drive = p.drive AND d.parent = p.parent AND d.name = p.name "
                          "AND d.born = p.born", m->drive, (long long)m->seq);
    if (!err)
        err = runf(m->to, "DELETE FROM chunk_bytes b WHERE b.drive = '%s' AND NOT EXISTS (SELECT 1 FROM chunk c WHERE c.drive = b.drive AND c.hash = b.hash AND c.pack IS NULL "
                          "AND c.place = b.id)", m->drive);
    return err ? err : runf(m->to, "DELETE FROM change WHERE drive = '%s' AND seq <= (SELECT oldest_change FROM arriving WHERE id = '%s')", m->drive, m->drive);
}

/* The drive's own row: its seqs go on where they were, though on another cluster. */
static int copy_drive(struct move *m)
{
    CLEANUP(columns_fini) struct columns c = {0};
    int err = columns_of(m, "drive", &c);
    if (err)
        return err;
    CLEANUP_FREE char *select = mem_printf("SELECT %s FROM drive WHERE id = '%s'", c.list[0], m->drive), *into = mem_printf("arriving (%s)", c.list[0]);
    err = copy(m, select, into);
    if (!err)
        err = runf(m->to, "UPDATE arriving SET lineage = (" PG_LINEAGE_SQL ") WHERE id = '%s'", m->drive);
    if (!err) /* the ids that came along must not be given out again */
        err = runf(m->to, "SELECT setval('chunk_bytes_id', greatest((SELECT last_value FROM chunk_bytes_id), (SELECT coalesce(max(id), 1) FROM chunk_bytes WHERE drive = '%s')))",
                   m->drive);
    return err;
}

/* Those that have its mounts live here as well. */
static int copy_gateways(struct move *m)
{
    CLEANUP_FREE char *select = mem_printf("SELECT id, heard, shunned FROM gateway WHERE id IN (SELECT gateway FROM mount WHERE drive = '%s' UNION SELECT gateway FROM interest "
                                           "WHERE drive = '%s')", m->drive, m->drive);
    int err = run(m->to, "CREATE TEMPORARY TABLE moved_gateway (LIKE gateway) ON COMMIT DROP");
    if (!err)
        err = copy(m, select, "moved_gateway (id, heard, shunned)");
    return err ? err : run(m->to, "INSERT INTO gateway (id, heard, shunned) SELECT id, heard, shunned FROM moved_gateway ON CONFLICT (id) DO NOTHING");
}

/* While writers wait: if one of the servers cannot be heard, or this process, the other lets go by itself. */
#define BEGIN_LOCKED "BEGIN; SET LOCAL statement_timeout = '20s'; SET LOCAL idle_in_transaction_session_timeout = '20s'"

static int copy_rest(struct move *m)
{
    char *there;
    CLEANUP_FREE char *lock = mem_printf("SELECT 1 FROM drive WHERE id = '%s' FOR UPDATE", m->drive);
    int err = run(m->from, BEGIN_LOCKED);
    if (!err)
        err = read_row(m->from, lock, &there, 1);
    if (err)
        return err;
    free(there);
    err = run(m->to, BEGIN_LOCKED);
    for (size_t i = 0; i < COUNT(large) && !err; i++)
        err = copy_changed(m, large[i]);
    for (size_t i = 0; i < COUNT(small) && !err; i++)
        err = copy_all(m, small[i]);
    if (!err)
        err = copy_drive(m);
    if (!err)
        err = delete_gone(m);
    if (!err)
        err = copy_gateways(m);
    if (!err)
        err = run(m->lock, STILL_THERE);
    if (!err) /* all but committed: what could still fail, fails here */
        err = clear(m->from, m, taken, COUNT(taken));
    if (!err)
        err = runf(m->from, "DELETE FROM drive WHERE id = '%s'", m->drive);
    if (!err)
        err = run(m->to, "COMMIT");
    return err ? err : run(m->from, "COMMIT");
}

/* From now on it is in use here. Also where that was done before. */
static int arrive(const struct move *m)
{
    return runf(m->to, "INSERT INTO drive SELECT * FROM arriving WHERE id = '%s' ON CONFLICT (id) DO NOTHING; DELETE FROM arriving WHERE id = '%s'", m->drive, m->drive);
}

static int write_place(struct meta *meta, const struct uuid *drive, const char *shard)
{
    PG_CATALOGUE(c, meta);
    PG_QUERY(q, c, "UPDATE placement SET shard = $2, moving_to = NULL WHERE drive = $1");
    pg_put_id(&q, drive);
    pg_put_text(&q, shard);
    int err = pg_run(&q);
    return err ? err : pg_changes(&q) ? 0 : -ENOENT;
}

static int write_move(struct meta *meta, const struct uuid *drive, const char *shard)
{
    PG_CATALOGUE(c, meta);
    PG_QUERY(q, c, "UPDATE placement SET moving_to = $2 WHERE drive = $1");
    pg_put_id(&q, drive);
    pg_put_text(&q, shard);
    return pg_run(&q);
}

/* table: drive, or arriving */
static int has_drive(PGconn *c, const struct move *m, const char *table, bool *ret)
{
    char *row = NULL;
    CLEANUP_FREE char *sql = mem_printf("SELECT 1 FROM %s WHERE id = '%s'", table, m->drive);
    int err = read_row(c, sql, &row, 1);
    *ret = err == 0;
    free(row);
    return err == -ENOENT ? 0 : err;
}

static int linger_and_clear(const struct move *m)
{
    sleep(LINGER_S);
    int err = run(m->lock, STILL_THERE);
    if (!err)
        err = clear_left(m, large, COUNT(large));
    if (!err)
        err = clear_left(m, small, COUNT(small));
    return err ? err : runf(m->from, "DELETE FROM arriving WHERE id = '%s'", m->drive);
}

/* The drive is whole in `to`, and nowhere else in use. */
static int settle_in(struct move *m, struct meta *meta, const struct uuid *drive, const char *shard)
{
    int err = arrive(m);
    if (!err)
        err = write_place(meta, drive, shard);
    pg_shards_forget(postgres_of(meta)->shards, drive);
    return err;
}

static int move_on(struct move *m, struct meta *meta, const struct uuid *drive, const char *shard)
{
    int err = copy_large(m);
    if (!err)
        err = write_move(meta, drive, shard);
    if (!err)
        err = copy_rest(m);
    if (!err)
        err = settle_in(m, meta, drive, shard);
    return err ? err : linger_and_clear(m);
}

static PGconn *connect_to(struct pg_pool *p)
{
    PGconn *c = pg_plain(p->url, NULL);
    if (PQstatus(c) == CONNECTION_OK && run(c, "SET client_min_messages = error; SET lock_timeout = '30s'; SET enable_seqscan = off; SET tcp_keepalives_idle = 30; "
                                               "SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3") == 0)
        return c;
    PQfinish(c);
    return NULL;
}

static int lock_moves(struct move *m, struct pg_pool *catalogue)
{
    char *row;
    CLEANUP_FREE char *sql = mem_printf("SELECT 1 WHERE pg_try_advisory_lock(hashtextextended('%s', 6))", m->drive);
    m->lock = connect_to(catalogue);
    int err = m->lock ? read_row(m->lock, sql, &row, 1) : -EHOSTUNREACH;
    if (err)
        return err == -ENOENT ? -EBUSY : err;
    free(row);
    return 0;
}

static void disconnect(struct move *m)
{
    PQfinish(m->from);
    PQfinish(m->to);
    m->from = m->to = NULL;
}

static int connect_both(struct move *m, struct pg_pool *from, struct pg_pool *to)
{
    disconnect(m);
    m->from = connect_to(from);
    m->to = m->from ? connect_to(to) : NULL;
    return m->to ? 0 : -EHOSTUNREACH;
}

/* The drive is where it is to be, and in use. A move that was ended may have left rows in any other shard. */
static int clear_behind(struct move *m, struct pg_shards *shards, struct pg_pool *home)
{
    CLEANUP_FREE char *sql = mem_printf("SELECT 1 FROM inode WHERE drive = '%s' LIMIT 1", m->drive);
    bool here = false;
    int err = connect_both(m, home, home);
    if (!err)
        err = has_drive(m->to, m, "drive", &here);
    if (err || !here)
        return err ? err : -ENOENT;
    for (size_t i = 0; i < pg_shards_count(shards) && !err; i++) {
        char *row = NULL;
        if (pg_shards_at(shards, i) == home)
            continue;
        err = connect_both(m, pg_shards_at(shards, i), home);
        err = err ? err : read_row(m->from, sql, &row, 1);
        err = err == -ENOENT ? 0 : err ? err : linger_and_clear(m);
        free(row);
    }
    return err;
}

/* Where the last one was ended when the drive had left, but not arrived, it arrives first, wherever it is to go now. */
static int finish_last(struct move *m, struct meta *meta, const struct uuid *drive, struct pg_pool *from)
{
    char *name = NULL;
    bool here, there = false, arriving = false;
    CLEANUP_FREE char *sql = mem_printf("SELECT moving_to FROM placement WHERE drive = '%s' AND moving_to IS NOT NULL", m->drive);
    int err = read_row(m->lock, sql, &name, 1);
    CLEANUP_FREE char *shard = name;
    if (err)
        return err == -ENOENT ? 0 : err;
    struct pg_pool *to = pg_shards_named(postgres_of(meta)->shards, shard);
    err = to ? connect_both(m, from, to) : -EHOSTUNREACH;
    if (!err)
        err = has_drive(m->from, m, "drive", &here);
    if (err || here)
        return err;
    err = has_drive(m->to, m, "drive", &there);
    if (!err)
        err = has_drive(m->to, m, "arriving", &arriving);
    return err || (!there && !arriving) ? err : settle_in(m, meta, drive, shard);
}

/* Under the lock: nobody else changes where the drive is. */
static int move_locked(struct move *m, struct meta *meta, const struct uuid *drive, const char *shard)
{
    struct pg_shards *shards = postgres_of(meta)->shards;
    bool here;
    int err;
    pg_shards_forget(shards, drive);
    struct pg_pool *from = pg_shards_of_drive(shards, drive, &err), *to = from ? pg_shards_named(shards, shard) : NULL;
    if (!from || !to)
        return from ? -ENODEV : err;
    err = finish_last(m, meta, drive, from);
    if (err)
        return err;
    from = pg_shards_of_drive(shards, drive, &err);
    if (!from || from == to)
        return from ? clear_behind(m, shards, to) : err;
    err = connect_both(m, from, to);
    if (!err)
        err = has_drive(m->from, m, "drive", &here);
    return err ? err : here ? move_on(m, meta, drive, shard) : -ENOENT;
}

int postgres_drive_move(struct meta *meta, const struct uuid *drive, const char *shard)
{
    struct move m = {0};
    uuid_text(drive, m.drive);
    int err = lock_moves(&m, postgres_of(meta)->catalogue);
    if (!err)
        err = move_locked(&m, meta, drive, shard);
    disconnect(&m);
    PQfinish(m.lock);
    free(m.snapshot);
    return err;
}
