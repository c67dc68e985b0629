/* The cache port within one process. */
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/ports/cache.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

/* Rates that are full again, and devices whose time is over, say nothing: they are dropped when there are this many, and then at twice what remained. */
#define SWEEP_MIN 4096

struct value {
    char *key, *bytes;
    size_t len;
    int64_t until; /* boot ms */
    UT_hash_handle hh;
    struct value *prev, *next; /* least recently used first */
};
struct rate {
    char *key;
    double full_at_ms; /* when the key's bucket will be full again: the "theoretical arrival time" of GCRA */
    UT_hash_handle hh;
};
struct device_key {
    struct uuid user, gateway;
    char device[CACHE_DEVICE_MAX + 1];
};
struct device {
    struct device_key key; /* zeroed behind its text: hashed as a whole */
    struct presence row;
    int64_t until;
    UT_hash_handle hh;
};
struct gateway {
    struct uuid id;
    int64_t until;
    UT_hash_handle hh;
};
struct memory {
    struct cache c; /* first */
    size_t max_bytes;
    pthread_mutex_t lock; /* guards all below */
    struct value *values, *lru;
    size_t bytes;
    struct rate *rates;
    struct device *devices;
    struct gateway *gateways;
    unsigned sweep_rates_at, sweep_devices_at;
};

static struct memory *memory_of(struct cache *c)
{
    return (struct memory *)c;
}

/* ---- values ---- */

static size_t cost(const struct value *v)
{
    return sizeof *v + strlen(v->key) + v->len;
}

static void drop(struct memory *m, struct value *v)
{
    m->bytes -= cost(v);
    HASH_DEL(m->values, v);
    DL_DELETE(m->lru, v);
    free(v->key);
    free(v->bytes);
    free(v);
}

static int get(struct cache *c, const char *key, struct buf *ret)
{
    struct memory *m = memory_of(c);
    struct value *v;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    HASH_FIND_STR(m->values, key, v);
    if (v && v->until <= clock_boot_ms()) {
        drop(m, v);
        v = NULL;
    }
    if (!v)
        return -ENOENT;
    DL_DELETE(m->lru, v);
    DL_APPEND(m->lru, v);
    buf_append(ret, v->bytes, v->len);
    return 0;
}

static int put(struct cache *c, const char *key, const void *p, size_t n, unsigned ms)
{
    struct memory *m = memory_of(c);
    struct value *v;
    if (n > CACHE_VALUE_MAX)
        return -E2BIG;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    HASH_FIND_STR(m->values, key, v);
    if (v)
        drop(m, v);
    v = mem_alloc(sizeof *v);
    v->key = mem_strdup(key);
    v->bytes = mem_dup(p, n);
    v->len = n;
    v->until = clock_boot_ms() + ms;
    HASH_ADD_KEYPTR(hh, m->values, v->key, strlen(v->key), v);
    DL_APPEND(m->lru, v);
    m->bytes += cost(v);
    while (m->bytes > m->max_bytes)
        drop(m, m->lru);
    return 0;
}

static int remove_value(struct cache *c, const char *key)
{
    struct memory *m = memory_of(c);
    struct value *v;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    HASH_FIND_STR(m->values, key, v);
    if (v)
        drop(m, v);
    return 0;
}

/* ---- rates ---- */

static void sweep_rates(struct memory *m, double now)
{
    struct rate *r, *next;
    HASH_ITER(hh, m->rates, r, next) {
        if (r->full_at_ms > now)
            continue;
        HASH_DEL(m->rates, r);
        free(r->key);
        free(r);
    }
    unsigned left = HASH_COUNT(m->rates);
    m->sweep_rates_at = left * 2 < SWEEP_MIN ? SWEEP_MIN : left * 2;
}

static struct rate *rate_of(struct memory *m, const char *key, double now)
{
    struct rate *r;
    HASH_FIND_STR(m->rates, key, r);
    if (r)
        return r;
    if (HASH_COUNT(m->rates) >= m->sweep_rates_at)
        sweep_rates(m, now);
    r = mem_alloc(sizeof *r);
    r->key = mem_strdup(key);
    HASH_ADD_KEYPTR(hh, m->rates, r->key, strlen(r->key), r);
    return r;
}

static int charge(struct cache *c, struct cache_charge *list, size_t n)
{
    struct memory *m = memory_of(c);
    double now = (double)clock_boot_ms();
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    for (size_t i = 0; i < n; i++) {
        double each_ms = 1000 / list[i].per_second, burst = list[i].burst;
        struct rate *r = rate_of(m, list[i].key, now);
        double taken = fmax(0, (r->full_at_ms - now) / each_ms) + list[i].n;
        taken = fmin(fmax(0, taken), 2 * burst);
        r->full_at_ms = now + taken * each_ms;
        list[i].room = burst - taken;
        list[i].answered = true;
    }
    return 0;
}

/* ---- presence ---- */

static void drop_gateway(struct memory *m, struct gateway *g)
{
    HASH_DEL(m->gateways, g);
    free(g);
}

static int gateway_alive(struct cache *c, const struct uuid *gateway, unsigned ms, bool *ret_known)
{
    struct memory *m = memory_of(c);
    int64_t now = clock_boot_ms();
    struct gateway *g;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    HASH_FIND(hh, m->gateways, gateway, sizeof *gateway, g);
    if (ret_known)
        *ret_known = g && g->until > now;
    if (!g) {
        g = mem_alloc(sizeof *g);
        g->id = *gateway;
        HASH_ADD(hh, m->gateways, id, sizeof g->id, g);
    }
    g->until = now + ms;
    if (ms == 0)
        drop_gateway(m, g);
    return 0;
}

static int gateways(struct cache *c, void (*each)(void *ctx, const struct uuid *gateway, bool alive), void *ctx)
{
    struct memory *m = memory_of(c);
    int64_t now = clock_boot_ms();
    struct gateway *g, *next;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    HASH_ITER(hh, m->gateways, g, next) {
        if (g->until + CACHE_GATEWAY_GONE_MS <= now)
            drop_gateway(m, g);
        else
            each(ctx, &g->id, g->until > now);
    }
    return 0;
}

static void sweep_devices(struct memory *m, int64_t now)
{
    struct device *d, *next;
    HASH_ITER(hh, m->devices, d, next) {
        if (d->until > now)
            continue;
        HASH_DEL(m->devices, d);
        free(d);
    }
    unsigned left = HASH_COUNT(m->devices);
    m->sweep_devices_at = left * 2 < SWEEP_MIN ? SWEEP_MIN : left * 2;
}

static struct device_key key_of(const struct presence *p)
{
    struct device_key key;
    memset(&key, 0, sizeof key);
    key.user = p->user;
    key.gateway = p->gateway;
    memcpy(key.device, p->device, strnlen(p->device, CACHE_DEVICE_MAX));
    return key;
}

static int present_put(struct cache *c, const struct presence *p, size_t n, unsigned ms)
{
    struct memory *m = memory_of(c);
    int64_t now = clock_boot_ms();
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    for (size_t i = 0; i < n; i++) {
        struct device_key key = key_of(&p[i]);
        struct device *d;
        HASH_FIND(hh, m->devices, &key, sizeof key, d);
        if (!d) {
            if (HASH_COUNT(m->devices) >= m->sweep_devices_at)
                sweep_devices(m, now);
            d = mem_alloc(sizeof *d);
            d->key = key;
            HASH_ADD(hh, m->devices, key, sizeof d->key, d);
        }
        d->row = p[i];
        d->until = now + ms;
    }
    return 0;
}

static int present_remove(struct cache *c, const struct presence *p, size_t n)
{
    struct memory *m = memory_of(c);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->lock);
    for (size_t i = 0; i < n; i++) {
        struct device_key key = key_of(&p[i]);
        struct device *d;
        HASH_FIND(hh, m->devices, &key, sizeof key, d);
        if (d) {
            HASH_DEL(m->devices, d);
            free(d);
        }
    }
    return 0;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct uuid));
}

static bool gateway_lives(struct memory *m, const struct uuid *id, int64_t now)
{
    struct gateway *g;
    HASH_FIND(hh, m->gateways, id, sizeof *id, g);
    return g && g->until > now;
}

/* Calls each for copies of the rows in found, which it ends. */
static int tell(struct buf *found, cache_presence_each *each, void *ctx)
{
    int stop = 0;
    for (size_t at = 0; at < found->len && !stop; at += sizeof(struct presence))
        stop = each(ctx, (const struct presence *)(const void *)(found->data + at));
    buf_fini(found);
    return stop;
}

static int present_list(struct cache *c, const struct uuid *users, size_t n, cache_presence_each *each, void *ctx)
{
    struct memory *m = memory_of(c);
    struct buf found = {0}; /* each is called without the lock */
    CLEANUP_FREE struct uuid *sorted = mem_dup(users, n * sizeof *users);
    int64_t now = clock_boot_ms();
    struct device *d, *next;
    qsort(sorted, n, sizeof *sorted, compare);
    pthread_mutex_lock(&m->lock);
    HASH_ITER(hh, m->devices, d, next)
        if (d->until > now && bsearch(&d->row.user, sorted, n, sizeof *sorted, compare) && gateway_lives(m, &d->row.gateway, now))
            buf_append(&found, &d->row, sizeof d->row);
    pthread_mutex_unlock(&m->lock);
    return tell(&found, each, ctx);
}

static int present_at(struct cache *c, const struct uuid *gateway, cache_presence_each *each, void *ctx)
{
    struct memory *m = memory_of(c);
    struct buf found = {0};
    int64_t now = clock_boot_ms();
    struct device *d, *next;
    pthread_mutex_lock(&m->lock);
    HASH_ITER(hh, m->devices, d, next)
        if (d->until > now && uuid_equal(&d->row.gateway, gateway))
            buf_append(&found, &d->row, sizeof d->row);
    pthread_mutex_unlock(&m->lock);
    return tell(&found, each, ctx);
}

/* ---- life ---- */

static int ping(struct cache *c)
{
    (void)c;
    return 0;
}

static void memory_free(struct cache *c)
{
    struct memory *m = memory_of(c);
    while (m->lru)
        drop(m, m->lru);
    sweep_rates(m, INFINITY);
    sweep_devices(m, INT64_MAX);
    struct gateway *g, *next;
    HASH_ITER(hh, m->gateways, g, next)
        drop_gateway(m, g);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static const struct cache_ops memory_ops = {
    .get = get,
    .put = put,
    .remove = remove_value,
    .charge = charge,
    .gateway_alive = gateway_alive,
    .gateways = gateways,
    .present_put = present_put,
    .present_remove = present_remove,
    .present_list = present_list,
    .present_at = present_at,
    .ping = ping,
    .free = memory_free,
};

struct cache *cache_memory_new(size_t max_bytes)
{
    struct memory *m = mem_alloc(sizeof *m);
    m->c.ops = &memory_ops;
    m->max_bytes = max_bytes;
    m->sweep_rates_at = m->sweep_devices_at = SWEEP_MIN;
    pthread_mutex_init(&m->lock, NULL);
    return &m->c;
}
