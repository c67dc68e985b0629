/* Upload sessions: each lies in its drive's shard. Those that ask for one by its id alone ask each shard: there are few. */
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <time.h>

#define AT_ONCE 10000
#define ARRIVING_TRIES 500 /* a drive that is being moved is in no shard for a moment */
#define ARRIVING_NS 20000000
#define KEPT_NS (INT64_C(7) * 24 * 3600 * 1000000000) /* how long one that has ended can still be asked about */

#define UPLOAD_COLUMNS                                                                                                             \
    "id, user_id, drive, parent, name, path, size, chunk_size, mode, base, sha256, state, answer, device, created, expires, received"

static void get_upload(struct pg_query *q, struct upload_row *ret)
{
    char state[2];
    pg_id(q, &ret->id);
    pg_id(q, &ret->user);
    pg_id(q, &ret->drive);
    ret->parent = pg_int(q);
    pg_text(q, ret->name, sizeof ret->name);
    ret->path = pg_str(q);
    ret->size = pg_int(q);
    ret->chunk_size = pg_u32(q);
    ret->mode = pg_u32(q);
    ret->has_base = !pg_is_null(q);
    ret->base = pg_int(q);
    pg_hash(q, &ret->sha256);
    pg_text(q, state, sizeof state);
    ret->state = state[0];
    ret->answer = pg_str(q);
    pg_text(q, ret->device, sizeof ret->device);
    ret->created = pg_int(q);
    ret->expires = pg_int(q);
    ret->received = pg_int(q);
}

static int add_here(struct meta *m, const struct upload_row *u)
{
    PG_HERE(c, m, &u->drive);
    PG_QUERY(q, c,
             "WITH " PG_KEPT("$3") ", i AS (INSERT INTO upload_session (" UPLOAD_COLUMNS ") SELECT $1::uuid, $2::uuid, d.id, $4::bigint, $5::bytea, $6::text, $7::bigint, $8::bigint, "
             "$9::bigint, $10::bigint, $11::bytea, $12::text, $13::text, $14::text, $15::bigint, $16::bigint, 0 FROM d ON CONFLICT (drive, id) DO NOTHING RETURNING 1)"
             PG_KEPT_SAYS("i"));
    pg_put_id(&q, &u->id);
    pg_put_id(&q, &u->user);
    pg_put_id(&q, &u->drive);
    pg_put_seq(&q, u->parent);
    pg_put_name(&q, u->name);
    pg_put_text(&q, u->path);
    pg_put_seq(&q, u->size);
    pg_put_int(&q, u->chunk_size);
    pg_put_int(&q, u->mode);
    if (u->has_base)
        pg_put_seq(&q, u->base);
    else
        pg_put_null(&q);
    pg_put_hash_or_null(&q, &u->sha256);
    const char state[2] = {u->state, 0};
    pg_put_text(&q, state);
    pg_put_text(&q, u->answer);
    pg_put_text(&q, u->device);
    pg_put_int(&q, u->created);
    pg_put_int(&q, u->expires);
    int err = postgres_run_kept(&q);
    return err != -ESRCH ? err : q.tries ? 0 : -EEXIST;
}

int postgres_upload_add(struct meta *m, const struct upload_row *u)
{
    return PG_SEARCH(m, &u->drive, add_here(m, u));
}

static int get_on(struct pg_conn *c, const struct uuid *id, struct upload_row *ret)
{
    PG_QUERY(q, c, "SELECT " UPLOAD_COLUMNS " FROM upload_session u WHERE id = $1 AND " PG_ALIVE("u"));
    pg_put_id(&q, id);
    int err = pg_one(&q);
    if (!err)
        get_upload(&q, ret);
    return err;
}

static int put_state(struct pg_conn *c, const struct upload_row *u)
{
    PG_QUERY(q, c,
             "WITH " PG_KEPT("$1") ", i AS (UPDATE upload_session u SET state = $3, answer = $4, expires = $5 FROM d WHERE u.drive = d.id AND u.id = $2 RETURNING 1)" PG_KEPT_SAYS("i"));
    const char state[2] = {u->state, 0};
    pg_put_id(&q, &u->drive);
    pg_put_id(&q, &u->id);
    pg_put_text(&q, state);
    pg_put_text(&q, u->answer);
    pg_put_int(&q, u->expires);
    return postgres_run_kept(&q);
}

static int update_here(struct meta *m, const struct upload_row *u)
{
    PG_HERE(c, m, &u->drive);
    return put_state(c, u);
}

struct asking {
    int (*fn)(struct pg_conn *c, void *ctx);
    void *ctx;
    int found; /* -ENOENT, 0, or the error of one */
};

static int ask_shard(struct meta *m, size_t shard, void *ctx)
{
    struct asking *a = ctx;
    PG_SHARD(c, m, shard);
    int err = a->fn(c, a->ctx);
    a->found = err == -ENOENT ? a->found : err;
    return err == 0;
}

static int look_for_arriving(struct pg_conn *c, void *ctx)
{
    PG_QUERY(q, c, "SELECT 1::bigint FROM upload_session u JOIN arriving a ON a.id = u.drive WHERE u.id = $1");
    pg_put_id(&q, ctx);
    return pg_one(&q);
}

static int ask_all(struct meta *m, int (*fn)(struct pg_conn *c, void *ctx), void *ctx)
{
    struct asking a = {fn, ctx, -ENOENT};
    postgres_each_shard(m, ask_shard, &a);
    return a.found;
}

/* Runs `fn` on the thread's own transaction, and on each shard, until one does not say -ENOENT. One that is away may have it, and so may one that was added since.
   All are asked twice at least: while they were, its drive may have moved from one that was not asked yet to one that was. */
static int on_each_shard(struct meta *m, const struct uuid *id, int (*fn)(struct pg_conn *c, void *ctx), void *ctx)
{
    struct postgres_tx *own = postgres_writing(m);
    struct uuid upload = *id;
    int err = own ? fn(own->c, ctx) : -ENOENT, away = 0;
    for (unsigned i = 0; err == -ENOENT && i < ARRIVING_TRIES; i++) {
        err = ask_all(m, fn, ctx);
        if (err == -ENOENT && i == 0)
            away = pg_shards_refresh(postgres_of(m)->shards);
        else if (err == -ENOENT && ask_all(m, look_for_arriving, &upload) == -ENOENT)
            return away ? away : err;
        if (err == -ENOENT && i)
            nanosleep(&(struct timespec){.tv_nsec = ARRIVING_NS}, NULL);
    }
    return err == -ENOENT ? -EHOSTUNREACH : err;
}

struct wanted {
    const struct uuid *id;
    struct upload_row *ret;
};

static int get_wanted(struct pg_conn *c, void *ctx)
{
    struct wanted *w = ctx;
    return get_on(c, w->id, w->ret);
}

int postgres_upload_get(struct meta *m, const struct uuid *id, struct upload_row *ret)
{
    *ret = (struct upload_row){0};
    struct wanted w = {id, ret};
    return on_each_shard(m, id, get_wanted, &w);
}

int postgres_upload_update(struct meta *m, struct meta_tx *tx, const struct upload_row *u)
{
    if (tx)
        return tx->writing ? postgres_found(put_state(pg_conn_of(tx), u)) : -EINVAL;
    return postgres_found(PG_SEARCH(m, &u->drive, update_here(m, u)));
}

/* ---- chunks of a session ---- */

struct put {
    const struct uuid *id;
    const struct upload_chunk_row *chunks;
    size_t n;
    int64_t expires;
    uint64_t *ret_received;
};

static int put_chunks(struct pg_conn *c, void *ctx)
{
    const struct put *p = ctx;
    PG_QUERY(q, c,
             "WITH " PG_KEPT("(SELECT drive FROM upload_session WHERE id = $1)") ", "
             "s AS (SELECT u.drive, u.id FROM d JOIN upload_session u ON u.drive = d.id WHERE u.id = $1 AND u.state = 'a' FOR UPDATE OF u), "
             "k AS (INSERT INTO upload_chunk (drive, upload, n, size, sha256, received) SELECT s.drive, s.id, w.n, w.size, w.sha256, w.received FROM s CROSS JOIN "
             "(SELECT DISTINCT ON (n) n, size, sha256, received FROM unnest($2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[]) "
             "WITH ORDINALITY AS u(n, size, sha256, received, i) ORDER BY n, i DESC) w "
             "ON CONFLICT (drive, upload, n) DO UPDATE SET size = excluded.size, sha256 = excluded.sha256, received = excluded.received RETURNING xmax = 0 AS fresh) "
             "UPDATE upload_session t SET received = t.received + (SELECT count(*) FROM k WHERE fresh), expires = $6 FROM s "
             "WHERE t.drive = s.drive AND t.id = s.id RETURNING t.received");
    pg_put_id(&q, p->id);
    PG_INTS(&q, p->n, p->chunks[i].n);
    PG_SIGNED(&q, p->n, p->chunks[i].size);
    PG_COLUMN(&q, PG_BYTES, p->n, pg_add_hash(&q, &p->chunks[i].sha256));
    PG_SIGNED(&q, p->n, p->chunks[i].received);
    pg_put_int(&q, p->expires);
    int err = pg_one(&q);
    if (!err)
        *p->ret_received = pg_int(&q);
    return err;
}

int postgres_upload_chunks_put(struct meta *m, const struct uuid *id, const struct upload_chunk_row *c, size_t n, int64_t expires,
                               uint64_t *ret_received)
{
    struct put p = {id, c, n, expires, ret_received};
    return on_each_shard(m, id, put_chunks, &p);
}

struct listing {
    const struct uuid *id;
    int (*each)(void *ctx, const struct upload_chunk_row *c);
    void *ctx;
};

/* -ENOENT: there is no such session here. */
static int list_chunks(struct pg_conn *c, void *ctx)
{
    const struct listing *l = ctx;
    PG_QUERY(q, c,
             "SELECT k.n, k.size, k.sha256, k.received FROM upload_session s LEFT JOIN upload_chunk k ON k.drive = s.drive AND k.upload = s.id "
             "WHERE s.id = $1 AND " PG_ALIVE("s") " ORDER BY k.n");
    pg_put_id(&q, l->id);
    int err, found = -ENOENT;
    while ((err = pg_step(&q)) == 1) {
        struct upload_chunk_row k;
        found = 0;
        if (pg_is_null(&q)) /* it has none */
            continue;
        k.n = pg_int(&q);
        k.size = pg_u32(&q);
        pg_hash(&q, &k.sha256);
        k.received = pg_int(&q);
        if ((err = l->each(l->ctx, &k)) != 0)
            break;
    }
    return err ? err : found;
}

int postgres_upload_chunks(struct meta *m, const struct uuid *id, int (*each)(void *ctx, const struct upload_chunk_row *c), void *ctx)
{
    struct listing l = {id, each, ctx};
    int err = on_each_shard(m, id, list_chunks, &l);
    return err == -ENOENT ? 0 : err;
}

/* ---- expiry ---- */

struct expiry {
    int64_t now;
    unsigned count;
};

/* Some at a time, so that none of the statements takes long: $1 a time, $2 how many. */
static int in_steps(struct pg_conn *c, const char *sql, int64_t before)
{
    int err = 0;
    for (bool more = true; more && !err;) {
        CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(c, sql);
        pg_put_int(&q, before);
        pg_put_int(&q, AT_ONCE);
        err = pg_run(&q);
        more = pg_changes(&q) > 0;
    }
    return err;
}

static int expire_in(struct meta *m, size_t shard, void *ctx)
{
    static const char empty[] =
        "DELETE FROM upload_chunk k USING (SELECT c.drive, c.upload, c.n FROM upload_session s JOIN upload_chunk c ON c.drive = s.drive AND c.upload = s.id "
        "WHERE s.expires <= $1 AND s.state <> 'a' LIMIT $2) g WHERE k.drive = g.drive AND k.upload = g.upload AND k.n = g.n";
    static const char forget[] =
        "DELETE FROM upload_session s USING (SELECT drive, id FROM upload_session WHERE expires <= $1 ORDER BY expires LIMIT $2) g WHERE s.drive = g.drive AND s.id = g.id";
    struct expiry *e = ctx;
    PG_SHARD(c, m, shard);
    PG_QUERY(expire, c, "UPDATE upload_session u SET state = 'e' WHERE expires <= $1 AND state = 'a' AND " PG_ALIVE("u"));
    pg_put_int(&expire, e->now);
    int err = pg_run(&expire);
    if (err)
        return err;
    e->count += (unsigned)pg_changes(&expire);
    err = in_steps(c, empty, e->now);
    return err ? err : in_steps(c, forget, e->now - KEPT_NS);
}

int postgres_uploads_expire(struct meta *m, int64_t now, unsigned *ret_count)
{
    struct expiry e = {now, 0};
    int err = postgres_each_shard(m, expire_in, &e);
    *ret_count = e.count;
    return err;
}
