/* Who is connected to which gateway. Each gateway puts its own devices into the cache and says once a second that it lives. One that falls silent takes its devices with it:
   each other gateway that notices tells its own listeners that they are offline, and that they are online again where it was only held up. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/api/hub.h"
#include "gateway/api/shared_internal.h"

#include <string.h>

#define BEAT_MS 1000
#define SILENT_MS 5000          /* after this the others take it for gone */
#define PUT_EVERY_MS 300000     /* its devices again: the cache may have dropped some */
#define PUT_FOR_MS 900000
#define FORGET_SILENT_MS 20000  /* then its devices are removed; before, every other gateway has told of them */
#define TOGETHER 200

static struct cache *cache_of(struct shared *s)
{
    return s->app->cache;
}

/* ---- those at this gateway ---- */

/* true: it was the first connection, or the last one. */
static bool count_here(struct shared *s, const struct presence *p, bool online)
{
    struct here key = {.user = p->user}, *h;
    memcpy(key.device, p->device, sizeof key.device);
    HASH_FIND(hh, s->here, &key.user, HERE_KEY_LEN, h);
    if (!h && !online)
        return false;
    if (!h) {
        h = mem_alloc(sizeof *h);
        *h = key;
        h->row = *p;
        HASH_ADD(hh, s->here, user, HERE_KEY_LEN, h);
    }
    h->connections = online ? h->connections + 1 : h->connections - 1;
    unsigned n = h->connections;
    if (n == 0) {
        HASH_DEL(s->here, h);
        free(h);
    }
    return online ? n == 1 : n == 0;
}

void shared_presence(struct shared *s, const struct principal *who, bool online)
{
    if (!s)
        return;
    struct coming c = {.device = {.user = who->user, .gateway = s->gateway, .since = clock_wall_ns()}, .online = online};
    snprintf(c.device.name, sizeof c.device.name, "%s", who->name);
    snprintf(c.device.device, sizeof c.device.device, "%s", who->device);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (s->ending || !count_here(s, &c.device, online))
        return;
    buf_append(&s->queue, &c, sizeof c);
    pthread_cond_signal(&s->wake);
}

void shared_presence_free(struct shared *s)
{
    struct here *h, *next_here;
    struct other *o, *next_other;
    HASH_ITER(hh, s->here, h, next_here) {
        HASH_DEL(s->here, h);
        free(h);
    }
    HASH_ITER(hh, s->others, o, next_other) {
        HASH_DEL(s->others, o);
        free(o);
    }
}

/* ---- devices and where they are ---- */

/* Some devices, and which of them are at a living gateway. */
struct lookup {
    const struct presence *list;
    bool *there;
    size_t n;
};

static int note_there(void *ctx, const struct presence *p)
{
    struct lookup *l = ctx;
    for (size_t i = 0; i < l->n; i++)
        if (uuid_equal(&l->list[i].user, &p->user) && strcmp(l->list[i].device, p->device) == 0)
            l->there[i] = true;
    return 0;
}

static void look_up(struct shared *s, struct lookup *l)
{
    CLEANUP_FREE struct uuid *users = mem_calloc(l->n, sizeof *users);
    for (size_t i = 0; i < l->n; i++)
        users[i] = l->list[i].user;
    cache_of(s)->ops->present_list(cache_of(s), users, l->n, note_there, l);
}

/* They have gone from their gateway: offline, those that are at no other. */
static void tell_gone(struct shared *s, const struct presence *p, size_t n, bool everywhere)
{
    CLEANUP_FREE bool *there = mem_calloc(n, sizeof *there);
    struct lookup l = {p, there, n};
    if (cache_of(s)->shared) /* else there is no other gateway */
        look_up(s, &l);
    for (size_t i = 0; i < n; i++)
        if (!there[i])
            hub_announce(s->app->hub, &p[i], false, everywhere);
}

/* ---- what came and went here ---- */

/* Some of one kind. */
static void work(struct shared *s, const struct presence *p, size_t n, bool online)
{
    struct cache *c = cache_of(s);
    if (online) {
        c->ops->present_put(c, p, n, PUT_FOR_MS);
        for (size_t i = 0; i < n; i++)
            hub_announce(s->app->hub, &p[i], true, true);
    } else {
        c->ops->present_remove(c, p, n);
        tell_gone(s, p, n, true);
    }
}

void shared_presence_queue(struct shared *s)
{
    struct buf queue;
    struct presence some[TOGETHER];
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    queue = s->queue;
    s->queue = (struct buf){0};
    pthread_mutex_unlock(&s->lock);
    const struct coming *list = (const struct coming *)(const void *)queue.data;
    for (size_t i = 0, all = queue.len / sizeof *list; i < all; i++) {
        some[n++] = list[i].device;
        if (n < TOGETHER && i + 1 < all && list[i + 1].online == list[i].online)
            continue;
        work(s, some, n, list[i].online);
        n = 0;
    }
    buf_fini(&queue);
}

/* ---- the heart-beat ---- */

static void put_all(struct shared *s)
{
    CLEANUP_BUF struct buf all = {0};
    struct here *h, *next;
    pthread_mutex_lock(&s->lock);
    HASH_ITER(hh, s->here, h, next)
        buf_append(&all, &h->row, sizeof h->row);
    pthread_mutex_unlock(&s->lock);
    if (all.len)
        cache_of(s)->ops->present_put(cache_of(s), (const struct presence *)(const void *)all.data, all.len / sizeof(struct presence), PUT_FOR_MS);
}

static void see(void *ctx, const struct uuid *gateway, bool alive)
{
    struct shared *s = ctx;
    struct other *o;
    if (uuid_equal(gateway, &s->gateway))
        return;
    HASH_FIND(hh, s->others, gateway, sizeof *gateway, o);
    if (!o) {
        o = mem_alloc(sizeof *o);
        *o = (struct other){.id = *gateway, .alive = true, .told = !alive}; /* one that was silent before we came is others' to tell of */
        HASH_ADD(hh, s->others, id, sizeof o->id, o);
    }
    o->seen = true;
    if (o->alive && !alive)
        o->silent_since = clock_boot_ms();
    o->alive = alive;
}

static int collect(void *ctx, const struct presence *p)
{
    buf_append(ctx, p, sizeof *p);
    return 0;
}

static void look_at(struct shared *s, struct other *o, int64_t now_ms)
{
    CLEANUP_BUF struct buf devices = {0};
    bool gone = !o->alive && !o->told, back = o->alive && o->told, forgotten = !o->alive && now_ms - o->silent_since >= FORGET_SILENT_MS;
    if (!gone && !back && !forgotten)
        return;
    if (cache_of(s)->ops->present_at(cache_of(s), &o->id, collect, &devices))
        return; /* the next round */
    o->told = !o->alive;
    const struct presence *list = (const struct presence *)(const void *)devices.data;
    for (size_t at = 0, n = devices.len / sizeof *list, some; at < n; at += some) {
        some = n - at < TOGETHER ? n - at : TOGETHER;
        if (gone && s->app->hub->subscribers[TOPIC_PRESENCE])
            tell_gone(s, list + at, some, false);
        for (size_t i = at; i < at + some && back; i++)
            hub_announce(s->app->hub, &list[i], true, false);
        if (forgotten)
            cache_of(s)->ops->present_remove(cache_of(s), list + at, some);
    }
}

static void look_at_others(struct shared *s, int64_t now_ms)
{
    struct other *o, *next;
    HASH_ITER(hh, s->others, o, next)
        o->seen = false;
    if (cache_of(s)->ops->gateways(cache_of(s), see, s))
        return;
    HASH_ITER(hh, s->others, o, next) {
        if (o->seen) {
            look_at(s, o, now_ms);
            continue;
        }
        HASH_DEL(s->others, o);
        free(o);
    }
}

void shared_presence_beat(struct shared *s, int64_t now_ms)
{
    struct cache *c = cache_of(s);
    bool known;
    if (now_ms < s->beat_at)
        return;
    s->beat_at = now_ms + BEAT_MS;
    if (c->ops->gateway_alive(c, &s->gateway, SILENT_MS, &known))
        return;
    if (!known || now_ms >= s->put_at) {
        put_all(s);
        s->put_at = now_ms + PUT_EVERY_MS;
    }
    if (c->shared)
        look_at_others(s, now_ms);
}

void shared_presence_end(struct shared *s)
{
    shared_presence_queue(s);
    cache_of(s)->ops->gateway_alive(cache_of(s), &s->gateway, 0, NULL);
}

/* ---- who is there ---- */

static int order(const void *a, const void *b)
{
    const struct presence *p = a, *q = b;
    int by_name = strcmp(p->name, q->name), by_device = strcmp(p->device, q->device);
    return by_name ? by_name : by_device ? by_device : p->since < q->since ? -1 : p->since > q->since;
}

static void collect_here(struct shared *s, const struct uuid *users, size_t n, struct buf *ret)
{
    struct here *h, *next;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    HASH_ITER(hh, s->here, h, next) {
        bool wanted = false;
        for (size_t i = 0; i < n && !wanted; i++)
            wanted = uuid_equal(&users[i], &h->user);
        if (wanted)
            buf_append(ret, &h->row, sizeof h->row);
    }
}

struct presence *shared_present(struct shared *s, const struct uuid *users, size_t n, size_t *ret_n, bool *ret_partial)
{
    struct buf found = {0};
    *ret_partial = cache_of(s)->ops->present_list(cache_of(s), users, n, collect, &found) != 0;
    if (*ret_partial)
        collect_here(s, users, n, &found);
    struct presence *list = (struct presence *)(void *)found.data;
    size_t all = found.len / sizeof *list, kept = 0;
    if (all)
        qsort(list, all, sizeof *list, order);
    for (size_t i = 0; i < all; i++)
        if (kept == 0 || strcmp(list[kept - 1].name, list[i].name) != 0 || strcmp(list[kept - 1].device, list[i].device) != 0)
            list[kept++] = list[i];
    *ret_n = kept;
    return list;
}
