/* Transactions on a drive. A writer holds the drive's row from begin to commit. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <time.h>

#define RESOLVE_MS 10000 /* how long a commit whose end was not seen is asked about; of a silent server not at all */
#define GENERATION(seq) ((seq) >> 40)
#define LOST_INTEREST_NS INT64_C(4000000000) /* longer than an interest holds (core/order.h) */

static _Thread_local struct postgres_tx *writing; /* of this thread */

struct postgres_tx *postgres_writing(const struct meta *m)
{
    return writing && writing->base.meta == m ? writing : NULL;
}

static struct postgres_tx *tx_new(struct meta *m, struct pg_conn *c, const struct drive_row *d, int64_t now, bool is_writing)
{
    struct postgres_tx *tx = mem_alloc(sizeof *tx);
    tx->base = (struct meta_tx){.meta = m, .drive = *d, .now = now > d->last_time ? now : d->last_time, .writing = is_writing};
    tx->c = c;
    tx->stored_seq = d->seq;
    tx->stored_time = d->last_time;
    return tx;
}

static struct pg_conn *connect_drive(struct meta *m, const struct uuid *drive, int *ret_err)
{
    struct pg_pool *pool = pg_shards_of_drive(postgres_of(m)->shards, drive, ret_err);
    return pool ? pg_conn_get(pool, ret_err) : NULL;
}

static void run_later(struct pg_conn *c, const char *sql)
{
    CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(c, sql);
    pg_later(&q);
}

/* Ends what was begun, without waiting for it. */
static void leave(struct pg_conn *c)
{
    if (c->n_sent)
        pg_wait(c); /* in a batch that failed, ROLLBACK would be skipped with the rest */
    if (c->pq) {
        run_later(c, "ROLLBACK");
        pg_leave(c);
    }
    pg_conn_put(c);
}

void pg_tx_begin(struct pg_conn *c)
{
    c->in_tx = c->writing = true;
    run_later(c, "BEGIN");
}

int pg_tx_end(struct pg_conn *c, int err)
{
    err = c->failed ? c->failed : err;
    if (!err) {
        run_later(c, "COMMIT");
        err = pg_wait(c);
    }
    if (err && c->pq) {
        if (c->n_sent)
            pg_wait(c);
        run_later(c, "ROLLBACK");
        pg_leave(c);
    }
    c->failed = 0;
    c->in_tx = c->writing = false;
    return err == -EHOSTUNREACH ? -EAGAIN : err;
}

/* ---- beginning ---- */

/* What is known once the drive's row is locked. */
struct begun {
    struct drive_row drive;
    int64_t now;
    int64_t generation_at;
    bool other; /* the seqs were given on another cluster or timeline */
    struct interest_row *interests;
    size_t n_interests;
};

static int take_interests(struct pg_query *q, struct begun *ret)
{
    int err;
    while ((err = pg_step(q)) == 1) {
        ret->interests = mem_realloc(ret->interests, (ret->n_interests + 1) * sizeof *ret->interests);
        struct interest_row *r = &ret->interests[ret->n_interests++];
        pg_id(q, &r->gateway);
        pg_text(q, r->url, sizeof r->url);
        r->until = pg_int(q);
    }
    return err;
}

/* On the former cluster or timeline a gateway may have written an interest that is lost, as commits are: this stands for it, as long as it can hold. Nobody answers for
   it, so it is waited for. */
static void add_lost_interest(struct postgres_tx *tx)
{
    struct meta_tx *b = &tx->base;
    if (!tx->generation_at || b->now - tx->generation_at > LOST_INTEREST_NS)
        return;
    b->interests = mem_realloc(b->interests, (b->n_interests + 1) * sizeof *b->interests);
    b->interests[b->n_interests++] = (struct interest_row){.until = tx->generation_at};
}

static int lock_drive(struct pg_conn *c, const struct uuid *drive, struct begun *ret)
{
    run_later(c, "BEGIN");
    run_later(c, "SET LOCAL idle_in_transaction_session_timeout = '2s'"); /* a gateway that is frozen must not stop a drive */
    PG_QUERY(q, c, "SELECT " PG_DRIVE_COLUMNS ", " PG_NOW_NS ", lineage <> $2, generation_at FROM drive WHERE id = $1 FOR NO KEY UPDATE");
    pg_put_id(&q, drive);
    pg_put_text(&q, c->lineage);
    pg_send(&q);
    PG_QUERY(interests, c, "SELECT gateway, url, until FROM interest WHERE drive = $1 AND until > " PG_NOW_NS " - $2"); /* after the lock, in a snapshot of its own */
    pg_put_id(&interests, drive);
    pg_put_int(&interests, INTEREST_FORGET_NS);
    pg_send(&interests);
    int err = pg_one(&q);
    if (err)
        return err;
    pg_get_drive(&q, &ret->drive);
    ret->now = pg_int(&q);
    ret->other = pg_bool(&q);
    ret->generation_at = pg_int(&q);
    return take_interests(&interests, ret);
}

/* Begun on a connection that was kept and turns out to be broken, it is begun again on a new one: nothing has happened yet. */
static int begin_on(struct pg_conn *c, const struct uuid *drive, struct begun *ret)
{
    c->in_tx = true;
    int err = lock_drive(c, drive, ret);
    if (err != -EHOSTUNREACH || pg_conn_again(c))
        return err;
    c->in_tx = true;
    return lock_drive(c, drive, ret);
}

/* Seqs of the old one may have been given to changes that are lost: none of them is given again. */
static void start_generation(struct postgres_tx *tx)
{
    struct drive_row *d = &tx->base.drive;
    d->prior_end = d->seq;
    d->seq = (GENERATION(d->seq) + 1) << 40;
    tx->generation_at = tx->base.now;
    tx->stored_seq = d->seq; /* the moment that is stored with the first change of it */
}

static int begin_once(struct meta *m, const struct uuid *drive, struct meta_tx **ret)
{
    int err;
    struct pg_conn *c = connect_drive(m, drive, &err);
    if (!c)
        return err;
    struct begun b = {.n_interests = 0};
    err = begin_on(c, drive, &b);
    if (err) {
        free(b.interests);
        leave(c);
        return err;
    }
    c->writing = true;
    struct postgres_tx *tx = tx_new(m, c, &b.drive, b.now, true);
    tx->base.interests = b.interests;
    tx->base.n_interests = b.n_interests;
    uuid_new(&tx->id);
    tx->generation_at = b.generation_at;
    if (b.other)
        start_generation(tx);
    add_lost_interest(tx);
    writing = tx;
    *ret = &tx->base;
    return 0;
}

int postgres_begin(struct meta *m, const struct uuid *drive, struct meta_tx **ret)
{
    if (postgres_writing(m))
        return -EDEADLK;
    return PG_SEARCH(m, drive, begin_once(m, drive, ret));
}

/* An entry that is asked for along with the snapshot. */
struct wanted {
    uint64_t parent;
    const char *name;
    struct entry_row *ret;
};

/* w may be NULL. */
static int snapshot_on(struct pg_conn *c, const struct uuid *drive, const struct wanted *w, struct drive_row *ret, int64_t *ret_now)
{
    c->in_tx = true;
    run_later(c, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    PG_QUERY(q, c, "SELECT " PG_DRIVE_COLUMNS ", " PG_NOW_NS " FROM drive WHERE id = $1");
    pg_put_id(&q, drive);
    pg_send(&q);
    CLEANUP(pg_query_end) struct pg_query e = {0};
    if (w) {
        e = pg_entry_query(c, drive, w->parent, w->name);
        pg_send(&e);
    }
    int err = pg_one(&q);
    if (err)
        return err;
    pg_get_drive(&q, ret);
    *ret_now = pg_int(&q);
    err = w ? pg_entry_take(&e, w->ret) : 0;
    return err == -ENOENT ? 0 : err;
}

static int snapshot_once(struct meta *m, const struct uuid *drive, const struct wanted *w, struct meta_tx **ret)
{
    int err;
    struct pg_conn *c = connect_drive(m, drive, &err);
    if (!c)
        return err;
    struct drive_row d;
    int64_t now;
    err = snapshot_on(c, drive, w, &d, &now);
    if (err == -EHOSTUNREACH && pg_conn_again(c) == 0)
        err = snapshot_on(c, drive, w, &d, &now);
    if (err) {
        leave(c);
        return err;
    }
    *ret = &tx_new(m, c, &d, now, false)->base;
    return 0;
}

int postgres_snapshot(struct meta *m, const struct uuid *drive, struct meta_tx **ret)
{
    struct postgres_tx *own = postgres_writing(m);
    if (own && uuid_equal(&own->base.drive.id, drive)) { /* within its own writing transaction, a thread sees that */
        struct postgres_tx *tx = tx_new(m, own->c, &own->base.drive, own->base.now, false);
        tx->joined = true;
        *ret = &tx->base;
        return 0;
    }
    return PG_SEARCH(m, drive, snapshot_once(m, drive, NULL, ret));
}

int postgres_snapshot_entry(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, struct meta_tx **ret, struct entry_row *ret_entry)
{
    const struct wanted w = {parent, name, ret_entry};
    *ret_entry = (struct entry_row){0};
    if (!postgres_writing(m))
        return PG_SEARCH(m, drive, snapshot_once(m, drive, &w, ret));
    int err = postgres_snapshot(m, drive, ret);
    if (err)
        return err;
    err = postgres_entry(*ret, parent, name, 0, ret_entry);
    if (err == 0 || err == -ENOENT)
        return 0;
    postgres_rollback(*ret);
    return err;
}

/* ---- ending ---- */

static void end(struct postgres_tx *tx)
{
    if (tx->base.writing)
        writing = NULL;
    if (!tx->joined)
        leave(tx->c);
    free(tx->base.interests);
    free(tx);
}

void postgres_rollback(struct meta_tx *tx)
{
    end(postgres_tx_of(tx));
}

/* Whether it was committed: 0 yes, -EAGAIN no, -EHOSTUNREACH not known. The drive's row is waited for, which that transaction holds for as long as it
   is not decided. */
static int look(struct pg_conn *c, const struct postgres_tx *tx)
{
    c->in_tx = true;
    c->writing = false;
    run_later(c, "BEGIN");
    PG_QUERY(lock, c, "SELECT 1::bigint FROM drive WHERE id = $1 FOR NO KEY UPDATE");
    pg_put_id(&lock, &tx->base.drive.id);
    pg_later(&lock);
    PG_QUERY(q, c, "SELECT 1::bigint FROM committed WHERE drive = $1 AND tx = $2");
    pg_put_id(&q, &tx->base.drive.id);
    pg_put_id(&q, &tx->id);
    int err = pg_one(&q);
    return err == -ENOENT ? -EAGAIN : err ? -EHOSTUNREACH : 0;
}

static int resolve(struct postgres_tx *tx)
{
    int64_t deadline = clock_boot_ms() + RESOLVE_MS;
    int err = -EHOSTUNREACH;
    log_warn("database: lost while a transaction was committed; asking whether it was");
    while (err != 0 && err != -EAGAIN && clock_boot_ms() < deadline && !pg_is_silent(&tx->c->pool->silence)) {
        err = pg_conn_again(tx->c);
        if (!err)
            err = look(tx->c, tx);
        if (err && err != -EAGAIN)
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    log_warn("database: that transaction was %s", err == 0 ? "committed" : err == -EAGAIN ? "not committed" : "perhaps committed: there is still no server");
    return err;
}

static int commit_now(struct postgres_tx *tx)
{
    struct pg_conn *c = tx->c;
    PG_QUERY(mark, c, "INSERT INTO committed (drive, tx, at) VALUES ($1, $2, $3)");
    pg_put_id(&mark, &tx->base.drive.id);
    pg_put_id(&mark, &tx->id);
    pg_put_int(&mark, tx->base.now);
    pg_later(&mark);
    run_later(c, "COMMIT");
    if (c->failed)
        return c->failed;
    int err = pg_wait(c);
    return c->pq || !err ? err : resolve(tx);
}

int postgres_commit(struct meta_tx *base)
{
    struct postgres_tx *tx = postgres_tx_of(base);
    struct pg_conn *c = tx->c;
    int err = 0;
    if (base->writing)
        err = c->failed ? c->failed : commit_now(tx);
    if (err || !base->writing) {
        end(tx);
        return err;
    }
    writing = NULL;
    if (c->pq && c->in_tx && PQtransactionStatus(c->pq) != PQTRANS_IDLE)
        leave(c); /* it was found out in a transaction of its own */
    else
        pg_conn_put(c);
    free(base->interests);
    free(tx);
    return 0;
}
