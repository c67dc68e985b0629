/* What happens between a commit and its answer: those who hold a lease are told, here and at the other gateways, and waited for.

   Most commits have nobody to wait for, and are answered right on the queue's worker. Else the whole group goes to the event loop, which owns coherence, in one message;
   the loop sees groups, and streams joining between them, in the order of the drive's queue. There each group becomes parcels: numbers of the drive with what they stand for, which
   core/order.c puts in line with those that other gateways tell (fs_peers.c). */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/streams_internal.h"
#include "gateway/core/apply.h"

#include <string.h>

/* ---- interests ---- */

static struct interest *interest_find(struct streams *s, const struct uuid *drive)
{
    struct interest *i;
    HASH_FIND(hh, s->interests, drive, sizeof *drive, i);
    return i;
}

void interest_add(struct streams *s, const struct uuid *drive, const struct uuid *session)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct interest *i = interest_find(s, drive);
    if (!i) {
        i = mem_alloc(sizeof *i);
        i->drive = *drive;
        HASH_ADD(hh, s->interests, drive, sizeof i->drive, i);
    }
    uuid_list_add(&i->sessions, session);
}

static void interest_free(struct streams *s, struct interest *i)
{
    HASH_DEL(s->interests, i);
    uuid_list_fini(&i->sessions);
    free(i);
}

void interest_drop(struct streams *s, const struct uuid *drive, const struct uuid *session)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct interest *i = interest_find(s, drive);
    for (size_t k = 0; i && k < i->sessions.n; k++) {
        if (!uuid_equal(&i->sessions.ids[k], session))
            continue;
        i->sessions.ids[k] = i->sessions.ids[--i->sessions.n];
        if (i->sessions.n == 0)
            interest_free(s, i);
        return;
    }
}

void interests_free(struct streams *s)
{
    struct interest *i, *next;
    HASH_ITER(hh, s->interests, i, next)
        interest_free(s, i);
}

/* Whether anybody here but the works' own sessions must hear of them. */
static bool others_listen(const struct interest *i, const struct drive_work *works)
{
    for (const struct drive_work *w = works; w; w = w->next) {
        if (stream_is_join(w))
            return true;
        for (size_t k = 0; k < i->sessions.n; k++)
            if (!uuid_equal(&i->sessions.ids[k], &w->actor.session))
                return true;
    }
    return false;
}

/* Nobody at this gateway need hear of these works: their numbers are remembered, so that there is no gap in front of what comes next. */
static bool pass_quietly(struct streams *s, const struct uuid *drive, const struct drive_work *works)
{
    uint64_t first, last = drive_works_range(works, &first);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct interest *i = interest_find(s, drive);
    if (!i)
        return true;
    if (others_listen(i, works))
        return false;
    if (!last)
        return true;
    if (i->quiet_last && i->quiet_last + 1 != first)
        return false; /* what is between them is another gateway's */
    if (!i->quiet_last)
        i->quiet_first = first;
    i->quiet_last = last;
    return true;
}

void interest_flush(struct streams *s, const struct uuid *drive)
{
    uint64_t first = 0, last = 0;
    pthread_mutex_lock(&s->lock);
    struct interest *i = interest_find(s, drive);
    if (i) {
        first = i->quiet_first;
        last = i->quiet_last;
        i->quiet_first = i->quiet_last = 0;
    }
    pthread_mutex_unlock(&s->lock);
    if (last)
        parcel_order(parcel_new(s, &(struct inval){.drive = *drive, .first = first, .last = last}));
}

/* ---- parcels ---- */

struct parcel *parcel_new(struct streams *s, struct inval *take)
{
    struct parcel *p = mem_alloc(sizeof *p + take->n * sizeof *p->told);
    p->streams = s;
    p->inval = *take;
    *take = (struct inval){0};
    p->refs = 1 + p->inval.n;
    for (size_t i = 0; i < p->inval.n; i++)
        p->told[i] = (struct told){.parcel = p, .what = &p->inval.works[i], .waits = 1};
    return p;
}

static void parcel_unref(struct parcel *p)
{
    if (--p->refs)
        return;
    if (!uuid_is_zero(&p->from))
        peers_ack(p->streams->app->peers, &p->from, p->inval.id);
    inval_fini(&p->inval);
    free(p);
}

static void finish_work(void *work)
{
    drive_work_finish(work);
}

void told_settle(struct told *t)
{
    if (--t->waits)
        return;
    if (t->work && t->work->done_anywhere)
        drive_work_finish(t->work);
    else if (t->work)
        pool_run(http_server_pool(t->parcel->streams->app->server), finish_work, t->work);
    parcel_unref(t->parcel);
}

void parcel_settle(void *streams, void *parcel)
{
    (void)streams;
    struct parcel *p = parcel;
    for (size_t i = 0; i < p->inval.n; i++)
        told_settle(&p->told[i]);
    parcel_unref(p);
}

void parcel_order(struct parcel *p)
{
    struct streams *s = p->streams;
    struct uuid drive = p->inval.drive;
    order_add(s->order, &drive, p->inval.first, p->inval.last, p, clock_boot_ms());
}

void parcel_release(void *ctx, const struct uuid *drive, void *parcel, enum order_how how)
{
    struct streams *s = ctx;
    struct parcel *p = parcel;
    int64_t now = clock_boot_ms();
    for (size_t i = 0; i < p->inval.n; i++) {
        struct told *t = &p->told[i];
        const char *touches = how == ORDER_TELL && t->what->touches && t->what->touches[0] ? t->what->touches : NULL;
        if (how == ORDER_FREE)
            told_settle(t);
        else
            coherence_publish(s->coherence, drive, &t->what->session, t->what->seq, touches, t, now);
    }
    parcel_unref(p);
}

/* The gateways that are waited for are told first: nothing of the parcel is settled before all who must hear are known. */
static void parcel_tell(struct parcel *p, const struct drive_others *others)
{
    struct streams *s = p->streams;
    struct peer_text *text = others->n ? peer_text_new(s->app->peers, &p->inval) : NULL;
    int64_t now = clock_boot_ms();
    for (size_t i = 0; i < others->n; i++) {
        if (!peers_tell(s->app->peers, &others->rows[i], &p->inval.drive, others->read_at, text, p, now))
            continue;
        p->refs++;
        for (size_t k = 0; k < p->inval.n; k++)
            p->told[k].waits++;
    }
    if (text)
        peer_text_unref(text);
}

/* ---- groups ---- */

struct group {
    struct streams *streams;
    struct uuid drive;
    struct drive_others others; /* but for this gateway */
    struct drive_work **joins;
    size_t n_joins;
    struct parcel **parcels;
    size_t n_parcels;
};

static bool collect_touches(const struct drive_work *w, struct buf *ret)
{
    for (size_t i = 0; w->error == 0 && i < w->n_ops; i++) {
        const struct op_result *r = &w->results[i];
        if (r->error || (!r->n_attrs && !r->n_names && !r->content_ino && !r->xattr_ino))
            continue;
        CLEANUP_JSON json_t *touch = apply_touch(r, &w->actor.session);
        if (ret->len)
            buf_append(ret, ",", 1);
        jsonx_dump(touch, ret);
    }
    return ret->len > 0;
}

/* Loop. Streams that join with this group do so first: what they are welcomed with is the seq before it. */
static void publish_group(void *arg)
{
    struct group *g = arg;
    struct streams *s = g->streams;
    interest_flush(s, &g->drive);
    for (size_t i = 0; i < g->n_joins; i++)
        stream_join(g->joins[i]);
    for (size_t i = 0; i < g->n_parcels; i++) {
        parcel_tell(g->parcels[i], &g->others);
        parcel_order(g->parcels[i]);
    }
    stream_tick_soon(s);
    free(g->others.rows);
    free(g->joins);
    free(g->parcels);
    free(g);
}

static void finish_all(struct drive_work *works)
{
    for (struct drive_work *w = works, *next; w; w = next) {
        next = w->next; /* done may free the work */
        drive_work_finish(w);
    }
}

static void add_parcel(struct group *g, struct inval *v, struct drive_work **works)
{
    struct parcel *p = g->parcels[g->n_parcels++] = parcel_new(g->streams, v);
    for (size_t i = 0; i < p->inval.n; i++)
        p->told[i].work = works[i];
}

/* A repeat of a batch has no results, but what the first was told may still be on its way: it waits like it, everywhere. */
static void add_repeat(struct group *g, struct drive_work *w)
{
    struct inval v = {.drive = g->drive, .last = w->last_seq, .n = 1, .works = mem_alloc(sizeof *v.works)};
    v.works[0] = (struct inval_work){.session = w->actor.session, .seq = w->last_seq};
    add_parcel(g, &v, &w);
}

/* Works that touch nobody's knowledge are finished here. */
static struct group *group_new(struct streams *s, const struct uuid *drive, struct drive_work *works, struct drive_others *take)
{
    size_t n = 0;
    for (const struct drive_work *w = works; w; w = w->next)
        n++;
    struct group *g = mem_alloc(sizeof *g);
    *g = (struct group){.streams = s, .drive = *drive, .others = *take, .joins = mem_calloc(n, sizeof *g->joins), .parcels = mem_calloc(n + 1, sizeof *g->parcels)};
    CLEANUP_FREE struct drive_work **told = mem_calloc(n, sizeof *told);
    struct inval v = {.drive = *drive, .works = mem_calloc(n, sizeof *v.works)};
    v.last = drive_works_range(works, &v.first);
    for (struct drive_work *w = works, *next; w; w = next) {
        CLEANUP_BUF struct buf touches = {0};
        next = w->next;
        if (stream_is_join(w)) {
            g->joins[g->n_joins++] = w;
        } else if (collect_touches(w, &touches)) {
            told[v.n] = w;
            v.works[v.n++] = (struct inval_work){.session = w->actor.session, .seq = w->last_seq, .touches = buf_detach(&touches)};
        } else if (w->error == 1 && w->last_seq) {
            add_repeat(g, w);
        } else {
            drive_work_finish(w);
        }
    }
    if (v.last)
        add_parcel(g, &v, told);
    else
        inval_fini(&v);
    return g;
}

/* ---- locks that were released ---- */

struct unlocked {
    struct streams *streams;
    struct uuid drive;
    uint64_t ino;
    struct drive_others others;
};

static void tell_unlocked(void *arg)
{
    struct unlocked *u = arg;
    stream_unlocked(u->streams, &u->drive, u->ino);
    for (size_t i = 0; i < u->others.n; i++)
        peers_tell_unlocked(u->streams->app->peers, &u->others.rows[i], &u->drive, u->ino);
    free(u->others.rows);
    free(u);
}

static struct drive_others others_dup(const struct drive_others *others)
{
    struct drive_others copy = *others;
    copy.rows = others->n ? mem_dup(others->rows, others->n * sizeof *others->rows) : NULL;
    return copy;
}

static void post_unlocked(struct streams *s, const struct uuid *drive, const struct drive_work *works, const struct drive_others *others)
{
    for (const struct drive_work *w = works; w; w = w->next)
        for (size_t i = 0; w->error == 0 && i < w->n_ops; i++) {
            if (w->results[i].error || !w->results[i].unlocked)
                continue;
            struct unlocked *u = mem_alloc(sizeof *u);
            *u = (struct unlocked){s, *drive, w->ops[i].kind == OP_LOCK ? w->ops[i].ino : 0, others_dup(others)};
            http_server_post(s->app->server, tell_unlocked, u);
        }
}

/* ---- the listener ---- */

static struct drive_others but_this(const struct streams *s, const struct drive_others *others)
{
    struct drive_others away = others_dup(others);
    away.n = 0;
    for (size_t i = 0; i < others->n; i++)
        if (!uuid_equal(&others->rows[i].gateway, &s->app->gateway))
            away.rows[away.n++] = others->rows[i];
    return away;
}

void streams_committed(struct drive_listener *l, const struct uuid *drive, struct drive_work *works, const struct drive_others *others)
{
    struct streams *s = (struct streams *)l;
    struct drive_others away = but_this(s, others);
    hub_committed(s->app->hub, drive, works);
    post_unlocked(s, drive, works, &away);
    if (!away.n && pass_quietly(s, drive, works)) {
        free(away.rows);
        finish_all(works);
        return;
    }
    struct group *g = group_new(s, drive, works, &away);
    for (size_t i = 0; i < g->n_parcels; i++)
        metric_add(s->m_waited, (double)g->parcels[i]->inval.n);
    http_server_post(s->app->server, publish_group, g);
}
