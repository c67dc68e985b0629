#include "gateway/api/shared.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/mem.h"
#include "gateway/api/attempts.h"
#include "gateway/api/auth.h"
#include "gateway/api/shared_internal.h"
#include "gateway/server/limits.h"

#include <string.h>

#define TICK_MS 50 /* how late others know what was let through here */

/* ---- limits ---- */

struct saying {
    const char *prefix;
    struct buf spent; /* struct limits_spent */
};

static size_t n_spent(const struct saying *s)
{
    return s->spent.len / sizeof(struct limits_spent);
}

static const struct limits_spent *nth(const struct saying *s, size_t i)
{
    return (const struct limits_spent *)(const void *)s->spent.data + i;
}

struct charge_key {
    char text[LIMITS_KEY_MAX + 16];
};

static size_t add_charges(const struct saying *s, struct cache_charge *charges, struct charge_key *keys)
{
    for (size_t i = 0; i < n_spent(s); i++) {
        const struct limits_spent *spent = nth(s, i);
        snprintf(keys[i].text, sizeof keys[i].text, "%s:%s", s->prefix, spent->key);
        charges[i] = (struct cache_charge){.key = keys[i].text, .per_second = spent->per_second, .burst = spent->burst, .n = spent->n};
    }
    return n_spent(s);
}

static void say_spent(struct shared *s)
{
    struct app *app = s->app;
    struct limits *limits = http_server_limits(app->server);
    struct attempts *attempts = auth_attempts(app);
    struct saying requests = {.prefix = "requests"}, logins = {.prefix = "log-ins"};
    limits_spent(limits, &requests.spent);
    attempts_spent(attempts, &logins.spent);
    size_t n = n_spent(&requests) + n_spent(&logins);
    /* with the cache away, what was spent is forgotten there; each gateway's own buckets remember */
    if (n && app->cache->ops->ping(app->cache) == 0) {
        CLEANUP_FREE struct cache_charge *charges = mem_calloc(n, sizeof *charges);
        CLEANUP_FREE struct charge_key *keys = mem_calloc(n, sizeof *keys);
        size_t of_requests = add_charges(&requests, charges, keys);
        add_charges(&logins, charges + of_requests, keys + of_requests);
        app->cache->ops->charge(app->cache, charges, n);
        int64_t now = clock_boot_ms();
        for (size_t i = 0; i < n; i++) {
            if (!charges[i].answered)
                continue;
            if (i < of_requests)
                limits_learn(limits, nth(&requests, i)->key, charges[i].room, now);
            else
                attempts_learn(attempts, nth(&logins, i - of_requests)->key, charges[i].room, now);
        }
    }
    buf_fini(&requests.spent);
    buf_fini(&logins.spent);
}

/* ---- the thread ---- */

static void *run(void *arg)
{
    struct shared *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        pthread_mutex_unlock(&s->lock);
        if (s->app->cache->shared)
            say_spent(s);
        metric_set(s->m_up, s->app->cache->ops->ping(s->app->cache) == 0);
        shared_presence_queue(s);
        shared_presence_beat(s, clock_boot_ms());
        struct timespec until = cond_deadline(TICK_MS);
        pthread_mutex_lock(&s->lock);
        if (!s->ending && s->queue.len == 0)
            pthread_cond_timedwait(&s->wake, &s->lock, &until);
    }
    pthread_mutex_unlock(&s->lock);
    shared_presence_end(s);
    return NULL;
}

struct shared *shared_new(struct app *app)
{
    struct shared *s = mem_alloc(sizeof *s);
    s->app = app;
    uuid_new(&s->gateway);
    s->m_up = metric_get(METRIC_GAUGE, "cairn_cache_up", "", "1: the shared cache is there, all of it");
    pthread_mutex_init(&s->lock, NULL);
    cond_init(&s->wake);
    if (pthread_create(&s->thread, NULL, run, s) != 0)
        abort();
    return s;
}

void shared_stop(struct shared *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
}

void shared_free(struct shared *s)
{
    if (!s)
        return;
    shared_presence_free(s);
    buf_fini(&s->queue);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
