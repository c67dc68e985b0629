/* What happens between a commit and its answer: those who hold a lease are told, and waited for.

   Most commits have nobody to wait for, and are answered right on the queue's worker. Else the whole group goes to the event loop, which owns coherence, in one message;
   the loop sees groups, and streams joining between them, in the order of the drive's queue. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/streams_internal.h"
#include "gateway/core/apply.h"

#include <string.h>

/* ---- interests ---- */

void interest_add(struct streams *s, const struct uuid *drive, const struct uuid *session)
{
    struct interest *i;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    HASH_FIND(hh, s->interests, drive, sizeof *drive, i);
    if (!i) {
        i = mem_alloc(sizeof *i);
        i->drive = *drive;
        HASH_ADD(hh, s->interests, drive, sizeof i->drive, i);
    }
    i->sessions = mem_realloc(i->sessions, (i->n + 1) * sizeof *i->sessions);
    i->sessions[i->n++] = *session;
}

static void interest_free(struct streams *s, struct interest *i)
{
    HASH_DEL(s->interests, i);
    free(i->sessions);
    free(i);
}

void interest_drop(struct streams *s, const struct uuid *drive, const struct uuid *session)
{
    struct interest *i;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    HASH_FIND(hh, s->interests, drive, sizeof *drive, i);
    for (size_t k = 0; i && k < i->n; k++) {
        if (!uuid_equal(&i->sessions[k], session))
            continue;
        i->sessions[k] = i->sessions[--i->n];
        if (i->n == 0)
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

/* Whether anybody but the works' own sessions must hear of them. */
static bool others_listen(struct streams *s, const struct uuid *drive, const struct drive_work *works)
{
    struct interest *i;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    HASH_FIND(hh, s->interests, drive, sizeof *drive, i);
    if (!i)
        return false;
    for (const struct drive_work *w = works; w; w = w->next) {
        if (stream_is_join(w))
            return true;
        for (size_t k = 0; k < i->n; k++)
            if (!uuid_equal(&i->sessions[k], &w->actor.session))
                return true;
    }
    return false;
}

/* ---- groups ---- */

struct told {
    struct drive_work *work;
    struct buf touches; /* comma separated */
};
struct group {
    struct streams *streams;
    struct uuid drive;
    size_t n;
    struct told works[];
};

static void collect_touches(const struct drive_work *w, struct buf *ret)
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
}

/* Loop. Streams that join with this group do so first: what they are welcomed with is the seq before it. */
static void publish_group(void *arg)
{
    struct group *g = arg;
    struct streams *s = g->streams;
    int64_t now = clock_boot_ms();
    for (size_t i = 0; i < g->n; i++)
        if (stream_is_join(g->works[i].work)) {
            stream_join(g->works[i].work);
            g->works[i].work = NULL; /* it is freed */
        }
    for (size_t i = 0; i < g->n; i++) {
        struct drive_work *w = g->works[i].work;
        if (w)
            coherence_publish(s->coherence, &g->drive, &w->actor.session, w->last_seq, g->works[i].touches.data, w, now);
        buf_fini(&g->works[i].touches);
    }
    stream_flush_invals(s);
    stream_tick_soon(s);
    free(g);
}

static void finish_all(struct drive_work *works)
{
    for (struct drive_work *w = works, *next; w; w = next) {
        next = w->next; /* done may free the work */
        drive_work_finish(w);
    }
}

/* ---- locks that were released ---- */

struct unlocked {
    struct streams *streams;
    struct uuid drive;
    uint64_t ino;
};

static void tell_unlocked(void *arg)
{
    struct unlocked *u = arg;
    stream_unlocked(u->streams, &u->drive, u->ino);
    free(u);
}

static void post_unlocked(struct streams *s, const struct uuid *drive, const struct drive_work *works)
{
    for (const struct drive_work *w = works; w; w = w->next)
        for (size_t i = 0; w->error == 0 && i < w->n_ops; i++) {
            if (w->results[i].error || !w->results[i].unlocked)
                continue;
            struct unlocked *u = mem_alloc(sizeof *u);
            *u = (struct unlocked){s, *drive, w->ops[i].kind == OP_LOCK ? w->ops[i].ino : 0};
            http_server_post(s->app->server, tell_unlocked, u);
        }
}

/* A repeat of a batch has no results, but what the first was told may still be on its way: it waits like it. */
void streams_committed(struct drive_listener *l, const struct uuid *drive, struct drive_work *works)
{
    struct streams *s = (struct streams *)l;
    hub_committed(s->app->hub, drive, works);
    post_unlocked(s, drive, works);
    if (!others_listen(s, drive, works)) {
        finish_all(works);
        return;
    }
    size_t n = 0;
    for (const struct drive_work *w = works; w; w = w->next)
        n++;
    struct group *g = mem_alloc(sizeof *g + n * sizeof *g->works);
    g->streams = s;
    g->drive = *drive;
    for (struct drive_work *w = works, *next; w; w = next) {
        next = w->next;
        struct told *t = &g->works[g->n];
        t->work = w;
        collect_touches(w, &t->touches);
        if (t->touches.len || stream_is_join(w) || (w->error == 1 && w->last_seq))
            g->n++;
        else
            drive_work_finish(w); /* nobody's knowledge is touched */
    }
    metric_add(s->m_waited, (double)g->n);
    if (g->n)
        http_server_post(s->app->server, publish_group, g);
    else
        free(g);
}
