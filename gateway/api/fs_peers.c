/* Streams where other gateways commit, too: the promise that this gateway has of the store, and what it hears of the others (docs/decisions/0017, 0020). */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/streams_internal.h"

#include <errno.h>
#include <string.h>

#define RENEW_TICK_MS 200
#define RENEW_MAX 512     /* drives at a time */
#define FETCH_MAX 1000    /* changes; who missed more catches up by itself */
#define LIVES_TICK_MS 5000
#define TIDY_MS 60000
#define GENERATION(seq) ((seq) >> 40)

/* ---- hearing ---- */

void on_peer_inval(void *ctx, const struct uuid *gateway, struct inval *v)
{
    struct streams *s = ctx;
    struct parcel *p = parcel_new(s, v);
    p->from = *gateway;
    if (p->inval.first)
        feed_moved(s->app->hub, &p->inval.drive, p->inval.last); /* watchers of it need not wait for the message */
    interest_flush(s, &p->inval.drive);
    parcel_order(p);
    stream_tick_soon(s);
}

void on_peer_unlocked(void *ctx, const struct uuid *drive, uint64_t ino)
{
    stream_unlocked(ctx, drive, ino);
}

void on_order_cap(void *ctx, const struct uuid *drive, int64_t until)
{
    struct streams *s = ctx;
    if (s->shared)
        coherence_cap(s->coherence, drive, until, clock_boot_ms());
}

/* ---- what is missing is read ---- */

struct fetch {
    struct streams *streams;
    struct uuid drive;
    uint64_t since, upto;
    int err;
    bool cut; /* it cannot be told one by one */
    struct parcel *parcels[FETCH_MAX];
    size_t n;
};

static void fetch_done(void *arg)
{
    struct fetch *f = arg;
    struct streams *s = f->streams;
    if (f->cut)
        streams_cut(s, &f->drive);
    for (size_t i = 0; i < f->n; i++)
        parcel_order(f->parcels[i]);
    order_fetched(s->order, &f->drive, f->upto, f->err == 0, clock_boot_ms());
    stream_tick_soon(s);
    free(f);
}

static int fetch_one(void *ctx, const struct change_row *c)
{
    struct fetch *f = ctx;
    CLEANUP_JSON json_t *touch = c->touch ? jsonx_parse(c->touch, strlen(c->touch), NULL) : NULL;
    const char *by;
    if (f->n == FETCH_MAX || !touch) {
        f->cut = true;
        return 1;
    }
    struct inval v = {.drive = f->drive, .first = c->seq, .last = c->seq, .n = 1, .works = mem_alloc(sizeof *v.works)};
    v.works[0] = (struct inval_work){.seq = c->seq, .touches = mem_strdup(c->touch)};
    if (jsonx_str(touch, "by", &by) == 0)
        uuid_parse(by, &v.works[0].session);
    f->parcels[f->n++] = parcel_new(f->streams, &v);
    return 0;
}

/* Worker. */
static void fetch_read(void *arg)
{
    struct fetch *f = arg;
    struct meta *m = f->streams->app->meta;
    struct meta_tx *tx;
    f->err = m->ops->snapshot(m, &f->drive, &tx);
    if (!f->err) {
        f->upto = tx->drive.seq;
        /* What was told of a generation that has ended may not have happened: docs/protocol.md, changes?since. */
        f->cut = tx->drive.oldest_change > f->since || GENERATION(tx->drive.seq) != GENERATION(f->since);
        if (!f->cut) {
            int err = m->ops->changes(tx, f->since, FETCH_MAX + 1, fetch_one, f);
            f->err = err < 0 ? err : 0;
        }
        m->ops->rollback(tx);
    }
    http_server_post(f->streams->app->server, fetch_done, f);
}

/* Loop. What nobody had to hear of here may be all that is missing. */
static void fetch_begin(void *arg)
{
    struct fetch *f = arg;
    struct streams *s = f->streams;
    uint64_t before = order_position(s->order, &f->drive);
    interest_flush(s, &f->drive);
    if (order_position(s->order, &f->drive) == before) {
        pool_run(http_server_pool(s->app->server), fetch_read, f);
        return;
    }
    order_fetched(s->order, &f->drive, 0, true, clock_boot_ms());
    stream_tick_soon(s);
    free(f);
}

void on_order_fetch(void *ctx, const struct uuid *drive, uint64_t since)
{
    struct streams *s = ctx;
    struct fetch *f = mem_alloc(sizeof *f);
    f->streams = s;
    f->drive = *drive;
    f->since = since;
    http_server_post(s->app->server, fetch_begin, f);
}

/* ---- the promise is renewed ---- */

struct renewal {
    struct streams *streams;
    int64_t until;
    int err;
    size_t n;
    struct uuid drives[RENEW_MAX];
    uint64_t seqs[RENEW_MAX];
};

static void renew_due(struct streams *s);

/* For so long this gateway could not promise anything of the drive that others may have taken it for dead, and ended its mounts' locks there. */
static void cut_if_lost(struct streams *s, const struct uuid *drive, int64_t until)
{
    int64_t cap = order_cap(s->order, drive);
    if (!cap || until - cap <= SESSION_LOST_MS - LIVES_TICK_MS)
        return;
    log_warn("the shard of a drive was away for too long: its mounts are to come again, and learn whether they still have their locks");
    streams_cut(s, drive);
}

static void renewed(void *arg)
{
    struct renewal *r = arg;
    struct streams *s = r->streams;
    s->renewing = false;
    if (r->n == RENEW_MAX)
        renew_due(s); /* there may be more */
    for (size_t i = 0; !r->err && i < r->n; i++) {
        if (r->seqs[i] == UINT64_MAX)
            continue;
        cut_if_lost(s, &r->drives[i], r->until);
        interest_flush(s, &r->drives[i]);
        order_granted(s->order, &r->drives[i], r->seqs[i], r->until, clock_boot_ms());
    }
    stream_tick_soon(s);
    free(r);
}

/* Worker. It counts from before the rows are written. */
static void renew(void *arg)
{
    struct renewal *r = arg;
    struct app *app = r->streams->app;
    r->until = clock_boot_ms() + INTEREST_MS;
    r->err = app->meta->ops->interests_renew(app->meta, &app->gateway, app->advertised, INTEREST_MS, r->drives, r->n, r->seqs);
    http_server_post(app->server, renewed, r);
}

static void renew_due(struct streams *s)
{
    if (s->renewing || !s->first)
        return;
    struct renewal *r = mem_alloc(sizeof *r);
    r->streams = s;
    r->n = order_due(s->order, clock_boot_ms(), r->drives, RENEW_MAX);
    if (!r->n) {
        free(r);
        return;
    }
    s->renewing = true;
    pool_run(http_server_pool(s->app->server), renew, r);
}

static void renew_tick(void *arg)
{
    struct streams *s = arg;
    http_server_timer(s->app->server, RENEW_TICK_MS, renew_tick, s);
    renew_due(s);
}

/* ---- that this gateway lives, and others do not ---- */

static void cut_all(void *arg)
{
    struct streams *s = arg;
    log_warn("this gateway was not heard for too long: its mounts are to come again, and learn whether they still have their locks");
    streams_cut(s, NULL);
}

static int end_orphan(void *ctx, const struct mount_row *r)
{
    mount_end_orphan(ctx, r);
    return 0;
}

static void lives_tick(void *arg);

static void lives_again(void *arg)
{
    struct streams *s = arg;
    http_server_timer(s->app->server, LIVES_TICK_MS, lives_tick, s);
}

/* Worker. */
static void say_lives(void *arg)
{
    struct streams *s = arg;
    struct meta *m = s->app->meta;
    int64_t now = clock_boot_ms();
    if (m->ops->gateway_heard(m, &s->app->gateway) == 0) {
        if (now - s->heard_at > SESSION_LOST_MS - LIVES_TICK_MS) {
            http_server_post(s->app->server, cut_all, s);
            s->heard_since = now;
        }
        s->heard_at = now;
        /* After an outage of the store nobody was heard: who lives has time to say so. */
        if (now - s->heard_since > ORPHAN_MS)
            m->ops->mounts_orphaned(m, ORPHAN_MS, 1000, end_orphan, s);
        if (now - s->tidied_at > TIDY_MS) {
            m->ops->gateways_tidy(m);
            s->tidied_at = now;
        }
    }
    http_server_post(s->app->server, lives_again, s);
}

static void lives_tick(void *arg)
{
    struct streams *s = arg;
    pool_run(http_server_pool(s->app->server), say_lives, s);
}

void promises_start(void *arg)
{
    struct streams *s = arg;
    s->heard_at = s->heard_since = clock_boot_ms();
    lives_tick(s);
    renew_tick(s);
}

/* ---- the end ---- */

static void rows_gone(void *arg)
{
    struct streams *s = arg;
    peers_bye(s->app->peers);
    s->leaving = LEAVING_SAID;
}

/* Worker. */
static void drop_rows(void *arg)
{
    struct streams *s = arg;
    s->app->meta->ops->interests_drop_all(s->app->meta, &s->app->gateway); /* if it fails, the others wait until they are out */
    http_server_post(s->app->server, rows_gone, s);
}

bool streams_may_end(struct streams *s)
{
    if (!s->shared || s->leaving == LEAVING_SAID)
        return !s->shared || peers_are_quiet(s->app->peers);
    if (s->leaving == LEAVING_NOT && !s->first && !s->farewells) {
        s->leaving = LEAVING_ROWS;
        pool_run(http_server_pool(s->app->server), drop_rows, s);
    }
    return false;
}
