/* Objects that clients bring into the store, and chunks that nobody has checked yet. */
#include "gateway/adapters/meta_postgres.h"
#include "common/mem.h"

#include <errno.h>

#define PENDING_COLUMNS(t) t "drive, " t "pack, " t "hash, " t "size, " t "stored_size, " t "codec, " t "user_id, " t "expires"

static void get_pending(struct pg_query *q, struct pending_row *ret)
{
    *ret = (struct pending_row){0};
    pg_id(q, &ret->drive);
    pg_text(q, ret->chunk.pack, sizeof ret->chunk.pack);
    pg_hash(q, &ret->chunk.hash);
    ret->chunk.size = pg_u32(q);
    ret->chunk.stored_size = pg_u32(q);
    ret->chunk.codec = (enum codec)pg_int(q);
    pg_id(q, &ret->user);
    ret->expires = pg_int(q);
}

static int each_pending(struct pg_query *q, int (*each)(void *ctx, const struct pending_row *p), void *ctx)
{
    int err;
    while ((err = pg_step(q)) == 1) {
        struct pending_row p;
        get_pending(q, &p);
        if ((err = each(ctx, &p)) != 0)
            break;
    }
    return err;
}

static void put_packs(struct pg_query *q, const struct pending_row *p, size_t n)
{
    PG_COLUMN(q, PG_TEXT, n, pg_add_text(q, p[i].chunk.pack));
}

static void put_hashes(struct pg_query *q, const struct pending_row *p, size_t n)
{
    PG_COLUMN(q, PG_BYTES, n, pg_add_hash(q, &p[i].chunk.hash));
}

static int add_here(struct meta *m, const struct pending_row *p, size_t n)
{
    PG_HERE(c, m, &p->drive);
    PG_QUERY(q, c,
             "WITH " PG_KEPT("$1") ", i AS (INSERT INTO pending_pack (drive, pack, hash, size, stored_size, codec, user_id, expires) SELECT d.id, w.* FROM d CROSS JOIN "
             "unnest($2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::uuid[], $8::bigint[]) AS w ON CONFLICT (drive, pack) DO NOTHING RETURNING 1)"
             PG_KEPT_SAYS("i"));
    pg_put_id(&q, &p->drive);
    put_packs(&q, p, n);
    put_hashes(&q, p, n);
    PG_SIGNED(&q, n, p[i].chunk.size);
    PG_SIGNED(&q, n, p[i].chunk.stored_size);
    PG_SIGNED(&q, n, p[i].chunk.codec);
    PG_COLUMN(&q, PG_ID, n, pg_add_id(&q, &p[i].user));
    PG_SIGNED(&q, n, p[i].expires);
    int err = postgres_run_kept(&q);
    return err != -ESRCH ? err : q.tries ? 0 : -EEXIST;
}

int postgres_pendings_add(struct meta *m, const struct pending_row *p, size_t n)
{
    return n ? PG_SEARCH(m, &p->drive, add_here(m, p, n)) : 0;
}

/* -ENOENT: the drive is not here. */
static int pendings_here(struct meta *m, const struct uuid *drive, const char *prefix, int (*each)(void *ctx, const struct pending_row *p), void *ctx)
{
    PG_HERE(c, m, drive);
    CLEANUP_FREE char *end = mem_printf("%s\x7f", prefix); /* beyond whatever a key may go on with */
    PG_QUERY(q, c,
             "SELECT " PENDING_COLUMNS("p.") " FROM drive d LEFT JOIN pending_pack p ON p.drive = d.id AND p.pack >= $2 AND p.pack < $3 WHERE d.id = $1 ORDER BY p.pack");
    pg_put_id(&q, drive);
    pg_put_text(&q, prefix);
    pg_put_text(&q, end);
    int err = pg_one(&q);
    if (err)
        return err;
    if (pg_is_null(&q)) /* it has none */
        return 0;
    q.row--; /* that one again, with the others */
    return each_pending(&q, each, ctx);
}

int postgres_pendings(struct meta *m, const struct uuid *drive, const char *prefix, int (*each)(void *ctx, const struct pending_row *p), void *ctx)
{
    int err = PG_SEARCH(m, drive, pendings_here(m, drive, prefix, each, ctx));
    return err == -ENOENT ? 0 : err;
}

int postgres_pendings_each(struct meta_tx *tx, int (*each)(void *ctx, const struct pending_row *p), void *ctx)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT " PENDING_COLUMNS("") " FROM pending_pack WHERE drive = $1 ORDER BY pack");
    pg_put_id(&q, &tx->drive.id);
    return each_pending(&q, each, ctx);
}

/* ---- settling ---- */

/* What would become of each: ret[i] as pendings_settle says. */
static int judge(struct pg_conn *c, const struct pending_row *p, size_t n, int64_t now, int *ret)
{
    PG_QUERY(q, c,
             "SELECT w.n, EXISTS (SELECT 1 FROM pending_pack p WHERE p.drive = $1 AND p.pack = w.pack AND p.hash = w.hash AND p.expires >= $4), "
             "EXISTS (SELECT 1 FROM chunk c WHERE c.drive = $1 AND c.hash = w.hash AND c.unverified_by IS NOT NULL) "
             "FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS w(pack, hash, n)");
    pg_put_id(&q, &p->drive);
    put_packs(&q, p, n);
    put_hashes(&q, p, n);
    pg_put_int(&q, now);
    int err;
    while ((err = pg_step(&q)) == 1) {
        int64_t i = pg_int(&q) - 1;
        bool pending = pg_bool(&q), unverified = pg_bool(&q);
        ret[i] = !pending ? -ENOENT : unverified && !uuid_is_zero(&p[i].chunk.unverified_by) ? -EBUSY : 0;
    }
    return err;
}

/* -ENOENT: the drive is not here. */
static int settle(struct pg_conn *c, const struct pending_row *p, size_t n, int64_t now, int *ret)
{
    PG_QUERY(kept, c, "SELECT 1::bigint FROM drive WHERE id = $1 FOR KEY SHARE");
    pg_put_id(&kept, &p->drive);
    pg_send(&kept);
    PG_QUERY(turn, c, "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 5))"); /* of one drive one at a time */
    pg_put_id(&turn, &p->drive);
    pg_later(&turn);
    int err = judge(c, p, n, now, ret);
    if (!err)
        err = pg_one(&kept);
    CLEANUP_FREE struct chunk_row *right = mem_calloc(n, sizeof *right);
    size_t n_right = 0;
    for (size_t i = 0; i < n && !err; i++)
        if (ret[i] == 0)
            right[n_right++] = p[i].chunk;
    if (err || n_right == 0)
        return err;
    CLEANUP(pg_query_end) struct pg_query add = pg_query_begin(c, pg_chunks_add_sql);
    err = pg_put_chunks(&add, &p->drive, right, n_right, now);
    return err ? err : pg_run(&add);
}

static int settle_here(struct meta *m, const struct pending_row *p, size_t n, int64_t now, int *ret)
{
    int err = 0;
    for (unsigned tries = 0; tries < 3; tries++) {
        PG_HERE(c, m, &p->drive);
        if (!c)
            return -EHOSTUNREACH;
        if (c->in_tx) /* the thread's own */
            return settle(c, p, n, now, ret);
        pg_tx_begin(c);
        err = pg_tx_end(c, settle(c, p, n, now, ret));
        if (err != -EAGAIN)
            return err;
    }
    return err;
}

int postgres_pendings_settle(struct meta *m, const struct pending_row *p, size_t n, int64_t now, int *ret)
{
    int err = n ? PG_SEARCH(m, &p->drive, settle_here(m, p, n, now, ret)) : 0;
    return err == -ENOENT ? 0 : err; /* of a drive that is nowhere, nothing is pending: each says so */
}

/* ---- those that were never settled ---- */

struct over {
    int64_t before;
    unsigned limit, n;
    struct pending_row *rows;
};

static int over_in(struct meta *m, size_t shard, void *ctx)
{
    struct over *o = ctx;
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c, "SELECT " PENDING_COLUMNS("") " FROM pending_pack p WHERE expires < $1 AND " PG_ALIVE("p") " ORDER BY expires LIMIT $2");
    pg_put_int(&q, o->before);
    pg_put_int(&q, o->limit - o->n);
    int err;
    while ((err = pg_step(&q)) == 1)
        get_pending(&q, &o->rows[o->n++]);
    return err ? err : o->n == o->limit;
}

int postgres_pendings_over(struct meta *m, int64_t before, unsigned limit, struct pending_row *ret, unsigned *ret_n)
{
    struct over o = {before, limit, 0, ret};
    int err = postgres_each_shard(m, over_in, &o);
    *ret_n = o.n;
    return o.n ? 0 : err; /* those that were found are seen to, whatever another shard says */
}

static const struct uuid *pending_drive(const void *list, size_t i)
{
    return &((const struct pending_row *)list)[i].drive;
}

static int forget_in(struct pg_conn *c, const void *list, const size_t *which, size_t n)
{
    const struct pending_row *p = list;
    PG_QUERY(q, c, "DELETE FROM pending_pack p USING unnest($1::uuid[], $2::text[]) AS w(drive, pack) WHERE p.drive = w.drive AND p.pack = w.pack");
    PG_COLUMN(&q, PG_ID, n, pg_add_id(&q, &p[which[i]].drive));
    PG_COLUMN(&q, PG_TEXT, n, pg_add_text(&q, p[which[i]].chunk.pack));
    return pg_run(&q);
}

int postgres_pendings_forget(struct meta *m, const struct pending_row *p, size_t n)
{
    return postgres_by_shard(m, pending_drive, p, n, forget_in);
}

/* ---- chunks that nobody has checked ---- */

struct unverified {
    unsigned limit, found;
    int (*each)(void *ctx, const struct uuid *drive, const struct chunk_row *c);
    void *ctx;
    int ended; /* what each returned */
};

static int unverified_in(struct meta *m, size_t shard, void *ctx)
{
    struct unverified *u = ctx;
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c,
             "SELECT drive, hash, size, stored_size, codec, pack, place, unverified_by FROM chunk c WHERE unverified_by IS NOT NULL AND NOT damaged "
             "AND " PG_ALIVE("c") " ORDER BY drive, hash LIMIT $1");
    pg_put_int(&q, u->limit - u->found);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct uuid drive;
        struct chunk_row k = {0};
        pg_id(&q, &drive);
        pg_hash(&q, &k.hash);
        k.size = pg_u32(&q);
        k.stored_size = pg_u32(&q);
        k.codec = (enum codec)pg_int(&q);
        pg_text(&q, k.pack, sizeof k.pack);
        k.offset = pg_int(&q);
        pg_id(&q, &k.unverified_by);
        u->found++;
        if ((u->ended = u->each(u->ctx, &drive, &k)) != 0)
            return 1;
    }
    return err ? err : u->found == u->limit;
}

int postgres_chunks_unverified(struct meta *m, unsigned limit, int (*each)(void *ctx, const struct uuid *drive, const struct chunk_row *c), void *ctx)
{
    struct unverified u = {limit, 0, each, ctx, 0};
    int err = postgres_each_shard(m, unverified_in, &u);
    return u.ended ? u.ended : u.found ? 0 : err;
}

int postgres_chunk_judge(struct meta *m, const struct uuid *drive, const struct chunk_row *k, bool right)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "UPDATE chunk SET unverified_by = CASE WHEN $4 THEN NULL ELSE unverified_by END, damaged = NOT $4 "
             "WHERE drive = $1 AND hash = $2 AND pack = $3 AND unverified_by IS NOT NULL");
    pg_put_id(&q, drive);
    pg_put_hash(&q, &k->hash);
    pg_put_text(&q, k->pack);
    pg_put_bool(&q, right);
    return pg_run(&q);
}
