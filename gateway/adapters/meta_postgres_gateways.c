/* What gateways that share the store know of each other: interests, who lives, and whose mounts are whose. Each shard knows it of its own drives. */
#include "common/mem.h"
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>

#define MS INT64_C(1000000) /* in ns */
#define GATEWAY_FORGET_NS (INT64_C(3600) * 1000000000)

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
    size_t n;
    uint64_t *seqs; /* UINT64_MAX: not renewed yet */
};

static size_t put_open(struct pg_query *q, const struct renewal *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->seqs[i] == UINT64_MAX;
    pg_put_array(q, PG_ID, n);
    for (size_t i = 0; i < r->n; i++)
        if (r->seqs[i] == UINT64_MAX)
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

/* Those whose row nobody holds at the moment, all in one go: none of them waits for another. */
static int renew_free(struct meta *m, size_t shard, const struct renewal *r)
{
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c,
             "WITH d AS (SELECT id, seq FROM drive WHERE id = ANY($1::uuid[]) AND " NOT_SHUNNED " ORDER BY id FOR SHARE SKIP LOCKED), "
             "p AS (" PUT_INTEREST ") SELECT id, seq FROM d");
    size_t n = put_open(&q, r);
    pg_put_id(&q, r->gateway);
    pg_put_text(&q, r->url);
    pg_put_int(&q, r->ms * MS);
    return n ? take_seqs(&q, r) : 0;
}

/* One whose row was held: it is waited for. */
static int renew_busy(struct meta *m, const struct renewal *r, size_t i)
{
    PG_HERE(c, m, &r->drives[i]);
    PG_QUERY(q, c, "WITH d AS (SELECT id, seq FROM drive WHERE id = $1 AND " NOT_SHUNNED " FOR SHARE), p AS (" PUT_INTEREST ") SELECT id, seq FROM d");
    pg_put_id(&q, &r->drives[i]);
    pg_put_id(&q, r->gateway);
    pg_put_text(&q, r->url);
    pg_put_int(&q, r->ms * MS);
    return take_seqs(&q, r);
}

/* Where the seqs of these drives were given on another cluster or timeline, a new generation starts at once: mounts must not go on from what may be lost. */
static int start_generations(struct meta *m, size_t shard, const struct renewal *r)
{
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c,
             "UPDATE drive SET prior_end = seq, seq = ((seq >> 40) + 1) << 40, lineage = $2, generation_at = " PG_NOW_NS " WHERE id = ANY($1::uuid[]) AND lineage <> $2");
    size_t n = put_open(&q, r);
    pg_put_text(&q, c ? c->lineage : "");
    return n ? pg_run(&q) : 0;
}

int postgres_interests_renew(struct meta *m, const struct uuid *gateway, const char *url, unsigned ms, const struct uuid *drives, size_t n, uint64_t *ret_seqs)
{
    struct renewal r = {gateway, url, ms, drives, n, ret_seqs};
    int err = 0;
    size_t shards = pg_shards_count(postgres_of(m)->shards);
    for (size_t i = 0; i < n; i++)
        ret_seqs[i] = UINT64_MAX;
    for (size_t i = 0; i < shards && !err; i++)
        err = start_generations(m, i, &r);
    for (size_t i = 0; i < shards && !err; i++)
        err = renew_free(m, i, &r);
    for (size_t i = 0; i < n && !err; i++) {
        if (ret_seqs[i] == UINT64_MAX)
            err = renew_busy(m, &r, i);
        if (ret_seqs[i] == UINT64_MAX)
            pg_shards_forget(postgres_of(m)->shards, &drives[i]); /* it may have moved: next time */
    }
    return err;
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

/* Runs a statement on each shard whose arguments are an id (where there is one) and numbers. */
static int on_shards(struct meta *m, const char *sql, const struct uuid *id, const int64_t *numbers, size_t n)
{
    int err = 0;
    size_t shards = pg_shards_count(postgres_of(m)->shards);
    for (size_t i = 0; i < shards; i++) { /* all of them: one that is away does not keep the others from being told */
        PG_SHARD(c, m, i);
        CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(c, sql);
        if (id)
            pg_put_id(&q, id);
        for (size_t k = 0; k < n; k++)
            pg_put_int(&q, numbers[k]);
        int failed = pg_run(&q);
        if (failed)
            err = failed;
    }
    return err;
}

int postgres_interests_drop_all(struct meta *m, const struct uuid *gateway)
{
    static const char sql[] = "DELETE FROM interest WHERE gateway = $1";
    return on_shards(m, sql, gateway, NULL, 0);
}

int postgres_gateway_heard(struct meta *m, const struct uuid *gateway)
{
    static const char sql[] = "INSERT INTO gateway (id, heard, shunned) VALUES ($1, " PG_NOW_NS ", 0) ON CONFLICT (id) DO UPDATE SET heard = excluded.heard";
    return on_shards(m, sql, gateway, NULL, 0);
}

int postgres_gateway_shun(struct meta *m, const struct uuid *gateway, unsigned ms)
{
    static const char sql[] = "INSERT INTO gateway (id, heard, shunned) VALUES ($1, 0, " PG_NOW_NS " + $2::bigint) ON CONFLICT (id) DO UPDATE SET shunned = excluded.shunned";
    return on_shards(m, sql, gateway, (const int64_t[]){ms * MS}, 1);
}

int postgres_gateways_tidy(struct meta *m)
{
    static const char interests[] = "DELETE FROM interest WHERE until < " PG_NOW_NS " - $1";
    static const char gateways[] = "DELETE FROM gateway g WHERE heard < " PG_NOW_NS " - $1 AND shunned < " PG_NOW_NS
                                   " AND NOT EXISTS (SELECT 1 FROM mount WHERE gateway = g.id)";
    int err = on_shards(m, interests, NULL, (const int64_t[]){INTEREST_FORGET_NS}, 1);
    return err ? err : on_shards(m, gateways, NULL, (const int64_t[]){GATEWAY_FORGET_NS}, 1);
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

int postgres_mount_get(struct meta *m, const struct uuid *drive, const struct uuid *session, struct mount_row *ret)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "SELECT " MOUNT_COLUMNS " FROM mount m LEFT JOIN gateway g ON g.id = m.gateway WHERE m.drive = $1 AND m.session = $2");
    pg_put_id(&q, drive);
    pg_put_id(&q, session);
    int err = pg_one(&q);
    if (!err)
        get_mount(&q, ret);
    return err;
}

int postgres_mount_put(struct meta *m, const struct mount_row *r)
{
    PG_HERE(c, m, &r->drive);
    PG_QUERY(q, c,
             "INSERT INTO mount (drive, session, user_id, gateway) VALUES ($1, $2, $3, $4) "
             "ON CONFLICT (drive, session) DO UPDATE SET user_id = excluded.user_id, gateway = excluded.gateway");
    pg_put_id(&q, &r->drive);
    pg_put_id(&q, &r->session);
    pg_put_id(&q, &r->user);
    pg_put_id(&q, &r->gateway);
    return pg_run(&q);
}

int postgres_mount_drop(struct meta *m, const struct uuid *drive, const struct uuid *session)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "DELETE FROM mount WHERE drive = $1 AND session = $2");
    pg_put_id(&q, drive);
    pg_put_id(&q, session);
    int err = pg_run(&q);
    return err ? err : pg_changes(&q) ? 0 : -ENOENT;
}

int postgres_mounts_orphaned(struct meta *m, unsigned ms, unsigned limit, int (*each)(void *ctx, const struct mount_row *r), void *ctx)
{
    int err = 0;
    size_t shards = pg_shards_count(postgres_of(m)->shards);
    for (size_t i = 0; i < shards && limit && !err; i++) {
        PG_SHARD(c, m, i);
        PG_QUERY(q, c,
                 "SELECT " MOUNT_COLUMNS " FROM mount m LEFT JOIN gateway g ON g.id = m.gateway WHERE g.heard IS NULL OR g.heard < " PG_NOW_NS " - $1 LIMIT $2");
        pg_put_int(&q, ms * MS);
        pg_put_int(&q, limit);
        while ((err = pg_step(&q)) == 1) {
            struct mount_row r;
            get_mount(&q, &r);
            limit--;
            if ((err = each(ctx, &r)) != 0)
                break;
        }
    }
    return err;
}
