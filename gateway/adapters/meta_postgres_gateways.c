/* What gateways that share the store know of each other: interests, who lives, and whose mounts are whose. Each shard knows it of its own drives. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define MS INT64_C(1000000) /* in ns */
#define GATEWAY_FORGET_NS (INT64_C(3600) * 1000000000)

/* How long a renewal goes after rows that are held: an interest holds for three seconds (core/order.h), and others wait for theirs. */
#define FREE_TRIES 3
#define FREE_AGAIN_NS 20000000
#define BUSY_MS 700

/* ---- interests ---- */

#define PUT_INTEREST                                                                                                               \
    "INSERT INTO interest (drive, gateway, url, until) SELECT id, $2::uuid, $3::text, " PG_NOW_NS " + $4::bigint FROM d ORDER BY id " \
    "ON CONFLICT (drive, gateway) DO UPDATE SET url = excluded.url, until = greatest(excluded.until, interest.until + 1)"
#define NOT_SHUNNED "NOT EXISTS (SELECT 1 FROM gateway g WHERE g.id = $2 AND g.shunned > " PG_NOW_NS ")"

int postgres_interest_put(struct meta_tx *tx, const struct uuid *gateway, const char *url, unsigned ms)
{
    PG_QUERY(q, pg_conn_of(tx), "WITH d AS (SELECT $1::uuid AS id WHERE " NOT_SHUNNED ") " PUT_INTEREST);
    pg_put_id(&q, &tx->drive.id);
    pg_put_id(&q, gateway);
    pg_put_text(&q, url);
    pg_put_int(&q, ms * MS);
    int err = pg_run(&q);
    return err ? err : pg_changes(&q) ? 0 : -EACCES;
}

struct renewal {
    const struct uuid *gateway;
    const char *url;
    unsigned ms;
    const struct uuid *drives;
    struct pg_pool **pools; /* where each is thought to be; NULL: it is not asked */
    size_t n;
    uint64_t *seqs; /* UINT64_MAX: not renewed yet */
};

static size_t put_open(struct pg_query *q, const struct renewal *r, const struct pg_pool *pool)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->pools[i] == pool && r->seqs[i] == UINT64_MAX;
    pg_put_array(q, PG_ID, n);
    for (size_t i = 0; i < r->n; i++)
        if (r->pools[i] == pool && r->seqs[i] == UINT64_MAX)
            pg_add_id(q, &r->drives[i]);
    return n;
}

static int take_seqs(struct pg_query *q, const struct renewal *r)
{
    int err;
    while ((err = pg_step(q)) == 1) {
        struct uuid drive;
        pg_id(q, &drive);
        uint64_t seq = pg_int(q);
        for (size_t i = 0; i < r->n; i++)
            if (uuid_equal(&r->drives[i], &drive))
                r->seqs[i] = seq;
    }
    return err;
}

/* The server that runs the statement says where it is: on one that was sent again, that may be another one. */
#define HERE "here(lineage) AS MATERIALIZED (" PG_LINEAGE_SQL ")"
#define OF_HERE "lineage = (SELECT lineage FROM here)"

/* Where the seqs of these drives were given on another cluster or timeline, a new generation starts at once: mounts must not go on from what may be lost. */
static int start_generations(const struct renewal *r, struct pg_pool *pool)
{
    int err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(pool, &err);
    PG_QUERY(q, c,
             "WITH " HERE ", d AS (SELECT id FROM drive WHERE id = ANY($1::uuid[]) AND NOT " OF_HERE " FOR UPDATE SKIP LOCKED) "
             "UPDATE drive SET prior_end = seq, seq = ((seq >> 40) + 1) << 40, lineage = here.lineage, generation_at = " PG_NOW_NS " FROM d, here WHERE drive.id = d.id");
    return put_open(&q, r, pool) ? pg_run(&q) : 0;
}

/* Those whose row nobody holds at the moment, all in one go: none of them waits for another. Tells how many there were to do. */
static int renew_free(const struct renewal *r, struct pg_pool *pool, size_t *ret_n)
{
    int err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(pool, &err);
    PG_QUERY(q, c,
             "WITH " HERE ", d AS (SELECT id, seq FROM drive WHERE id = ANY($1::uuid[]) AND " OF_HERE " AND " NOT_SHUNNED " ORDER BY id FOR SHARE SKIP LOCKED), "
             "p AS (" PUT_INTEREST ") SELECT id, seq FROM d");
    *ret_n = put_open(&q, r, pool);
    pg_put_id(&q, r->gateway);
    pg_put_text(&q, r->url);
    pg_put_int(&q, r->ms * MS);
    return *ret_n ? take_seqs(&q, r) : 0;
}

/* A writer has the row for some milliseconds: it is not waited for at once. */
static int renew_in(const struct renewal *r, struct pg_pool *pool)
{
    int err = 0;
    size_t n = r->n;
    for (unsigned i = 0; i < FREE_TRIES && !err && n; i++) {
        if (i)
            nanosleep(&(struct timespec){.tv_nsec = FREE_AGAIN_NS}, NULL);
        err = start_generations(r, pool);
        if (!err)
            err = renew_free(r, pool, &n);
    }
    return err;
}

/* One whose row was held: it is waited for, a moment. */
static int renew_busy(const struct renewal *r, size_t i)
{
    int err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(r->pools[i], &err);
    if (!c)
        return err;
    pg_tx_begin(c);
    PG_QUERY(patience, c, "SET LOCAL lock_timeout = '300ms'");
    pg_later(&patience);
    PG_QUERY(q, c, "WITH " HERE ", d AS (SELECT id, seq FROM drive WHERE id = $1 AND " OF_HERE " AND " NOT_SHUNNED " FOR SHARE), p AS (" PUT_INTEREST ") SELECT id, seq FROM d");
    pg_put_id(&q, &r->drives[i]);
    pg_put_id(&q, r->gateway);
    pg_put_text(&q, r->url);
    pg_put_int(&q, r->ms * MS);
    err = pg_tx_end(c, take_seqs(&q, r));
    if (err)
        r->seqs[i] = UINT64_MAX;
    return err;
}

static int renew_free_ones(const struct renewal *r)
{
    int err = 0;
    for (size_t i = 0; i < r->n; i++) {
        struct pg_pool *pool = r->pools[i];
        size_t k = 0;
        while (r->pools[k] != pool)
            k++;
        int failed = pool && k == i ? renew_in(r, pool) : 0;
        if (!failed)
            continue;
        err = failed;
        for (; k < r->n; k++) /* the others need not wait for it */
            if (r->pools[k] == pool)
                r->pools[k] = NULL;
    }
    return err;
}

static void renew_busy_ones(struct meta *m, const struct renewal *r)
{
    int64_t until = clock_boot_ms() + BUSY_MS;
    for (size_t i = 0; i < r->n && clock_boot_ms() < until; i++)
        if (r->pools[i] && r->seqs[i] == UINT64_MAX && !renew_busy(r, i) && r->seqs[i] == UINT64_MAX)
            pg_shards_forget(postgres_of(m)->shards, &r->drives[i]); /* it may have moved: next time */
}

int postgres_interests_renew(struct meta *m, const struct uuid *gateway, const char *url, unsigned ms, const struct uuid *drives, size_t n, uint64_t *ret_seqs)
{
    CLEANUP_FREE struct pg_pool **pools = mem_calloc(n + 1, sizeof *pools);
    struct renewal r = {gateway, url, ms, drives, pools, n, ret_seqs};
    int err = 0, failed;
    for (size_t i = 0; i < n; i++) {
        ret_seqs[i] = UINT64_MAX;
        pools[i] = pg_shards_last_of_drive(postgres_of(m)->shards, &drives[i], &failed);
        err = failed && failed != -ENOENT ? failed : err;
    }
    failed = renew_free_ones(&r);
    renew_busy_ones(m, &r);
    for (size_t i = 0; i < n; i++)
        if (ret_seqs[i] != UINT64_MAX)
            return 0;
    return failed ? failed : err;
}

int postgres_interest_drop(struct meta *m, const struct uuid *drive, const struct uuid *gateway, int64_t until)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "DELETE FROM interest WHERE drive = $1 AND gateway = $2 AND until = $3");
    pg_put_id(&q, drive);
    pg_put_id(&q, gateway);
    pg_put_int(&q, until);
    return pg_run(&q);
}

/* ---- gateways ---- */

/* A statement whose arguments are an id (where there is one) and a number (where there is one). */
struct told {
    const char *sql;
    const struct uuid *id;
    const int64_t *number;
};

static int tell(struct meta *m, size_t shard, void *ctx)
{
    const struct told *t = ctx;
    PG_SHARD(c, m, shard);
    CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(c, t->sql);
    if (t->id)
        pg_put_id(&q, t->id);
    if (t->number)
        pg_put_int(&q, *t->number);
    return pg_run(&q);
}

int postgres_interests_drop_all(struct meta *m, const struct uuid *gateway)
{
    static const char sql[] = "DELETE FROM interest WHERE gateway = $1";
    return postgres_each_shard(m, tell, &(struct told){sql, gateway, NULL});
}

static int say_heard(struct meta *m, size_t shard, void *ctx)
{
    struct told *t = ctx;
    int err = tell(m, shard, t);
    if (!err)
        pg_shards_told(postgres_of(m)->shards, shard);
    else if (shard > 0)
        log_warn("a shard was not told that this gateway lives: %s", strerror(-err));
    return shard == 0 ? err : 0;
}

int postgres_gateway_heard(struct meta *m, const struct uuid *gateway)
{
    static const char sql[] = "INSERT INTO gateway (id, heard, shunned) VALUES ($1, " PG_NOW_NS ", 0) ON CONFLICT (id) DO UPDATE SET heard = excluded.heard";
    return postgres_each_shard(m, say_heard, &(struct told){sql, gateway, NULL});
}

int postgres_gateway_shun(struct meta *m, const struct uuid *gateway, unsigned ms)
{
    static const char sql[] = "INSERT INTO gateway (id, heard, shunned) VALUES ($1, " PG_NOW_NS ", " PG_NOW_NS " + $2::bigint) ON CONFLICT (id) DO UPDATE SET shunned = excluded.shunned";
    return postgres_each_shard(m, tell, &(struct told){sql, gateway, &(const int64_t){ms * MS}});
}

int postgres_gateways_tidy(struct meta *m)
{
    static const char interests[] = "DELETE FROM interest WHERE until < " PG_NOW_NS " - $1";
    static const char gateways[] = "DELETE FROM gateway g WHERE heard < " PG_NOW_NS " - $1 AND shunned < " PG_NOW_NS
                                   " AND NOT EXISTS (SELECT 1 FROM mount WHERE gateway = g.id)";
    int err = postgres_each_shard(m, tell, &(struct told){interests, NULL, &(const int64_t){INTEREST_FORGET_NS}});
    int failed = postgres_each_shard(m, tell, &(struct told){gateways, NULL, &(const int64_t){GATEWAY_FORGET_NS}});
    return err ? err : failed;
}

/* ---- mounts ---- */

#define MOUNT_COLUMNS "m.drive, m.session, m.user_id, m.gateway, " PG_NOW_NS " - g.heard"

static void get_mount(struct pg_query *q, struct mount_row *ret)
{
    pg_id(q, &ret->drive);
    pg_id(q, &ret->session);
    pg_id(q, &ret->user);
    pg_id(q, &ret->gateway);
    ret->silent = pg_is_null(q) ? INT64_MAX : pg_int(q);
}

static int mount_here(struct meta *m, const struct uuid *drive, const struct uuid *session, struct mount_row *ret)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "SELECT " MOUNT_COLUMNS " FROM drive d LEFT JOIN mount m ON m.drive = d.id AND m.session = $2 LEFT JOIN gateway g ON g.id = m.gateway WHERE d.id = $1");
    pg_put_id(&q, drive);
    pg_put_id(&q, session);
    int err = pg_one(&q);
    if (err)
        return err;
    if (pg_is_null(&q))
        return -ESRCH;
    get_mount(&q, ret);
    return 0;
}

int postgres_mount_get(struct meta *m, const struct uuid *drive, const struct uuid *session, struct mount_row *ret)
{
    return postgres_found(PG_SEARCH(m, drive, mount_here(m, drive, session, ret)));
}

/* A shard that the gateway is new to has not heard of it yet. */
static int put_mount_here(struct meta *m, const struct mount_row *r)
{
    PG_HERE(c, m, &r->drive);
    PG_QUERY(q, c,
             "WITH " PG_KEPT("$1") ", g AS (INSERT INTO gateway (id, heard, shunned) SELECT $4::uuid, " PG_NOW_NS ", 0 FROM d WHERE $4 <> '00000000-0000-0000-0000-000000000000' "
             "ON CONFLICT (id) DO NOTHING), i AS (INSERT INTO mount (drive, session, user_id, gateway) SELECT d.id, $2::uuid, $3::uuid, $4::uuid FROM d "
             "ON CONFLICT (drive, session) DO UPDATE SET user_id = excluded.user_id, gateway = excluded.gateway RETURNING 1)" PG_KEPT_SAYS("i"));
    pg_put_id(&q, &r->drive);
    pg_put_id(&q, &r->session);
    pg_put_id(&q, &r->user);
    pg_put_id(&q, &r->gateway);
    return postgres_run_kept(&q);
}

int postgres_mount_put(struct meta *m, const struct mount_row *r)
{
    return PG_SEARCH(m, &r->drive, put_mount_here(m, r));
}

static int drop_mount_here(struct meta *m, const struct uuid *drive, const struct uuid *session)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "WITH " PG_KEPT("$1") ", i AS (DELETE FROM mount USING d WHERE drive = d.id AND session = $2 RETURNING 1)" PG_KEPT_SAYS("i"));
    pg_put_id(&q, drive);
    pg_put_id(&q, session);
    return postgres_run_kept(&q);
}

int postgres_mount_drop(struct meta *m, const struct uuid *drive, const struct uuid *session)
{
    return postgres_found(PG_SEARCH(m, drive, drop_mount_here(m, drive, session)));
}

struct orphans {
    unsigned ms, limit;
    int (*each)(void *ctx, const struct mount_row *r);
    void *ctx;
    int ended; /* what each returned */
};

/* First the gateways, which are few. */
static int orphans_in(struct meta *m, size_t shard, void *ctx)
{
    struct orphans *o = ctx;
    if (!pg_shards_settled(postgres_of(m)->shards, shard, o->ms))
        return 0;
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c,
             "WITH RECURSIVE has(gateway) AS ((SELECT gateway FROM mount ORDER BY gateway LIMIT 1) UNION ALL "
             "SELECT (SELECT gateway FROM mount WHERE gateway > has.gateway ORDER BY gateway LIMIT 1) FROM has WHERE has.gateway IS NOT NULL), "
             "g AS MATERIALIZED (SELECT has.gateway AS id, g.heard FROM has LEFT JOIN gateway g ON g.id = has.gateway "
             "WHERE g.heard IS NULL OR g.heard < " PG_NOW_NS " - $1) "
             "SELECT " MOUNT_COLUMNS " FROM g JOIN mount m ON m.gateway = g.id WHERE " PG_ALIVE("m") " LIMIT $2");
    pg_put_int(&q, o->ms * MS);
    pg_put_int(&q, o->limit);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct mount_row r;
        get_mount(&q, &r);
        o->limit--;
        if ((o->ended = o->each(o->ctx, &r)) != 0)
            return 1;
    }
    return err ? err : o->limit == 0;
}

int postgres_mounts_orphaned(struct meta *m, unsigned ms, unsigned limit, int (*each)(void *ctx, const struct mount_row *r), void *ctx)
{
    struct orphans o = {ms, limit, each, ctx, 0};
    int err = postgres_each_shard(m, orphans_in, &o);
    return o.ended ? o.ended : err;
}
