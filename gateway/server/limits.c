#include "gateway/server/limits.h"
#include "common/cleanup.h"
#include "common/mem.h"

#include <math.h>
#include <string.h>
#include <uthash.h>

#define KEY_MAX 80
/* Buckets that are full again say nothing: they are dropped when there are this many, and then at twice what remained. */
#define SWEEP_MIN 4096

struct bucket {
    char key[KEY_MAX];
    double tokens;
    int64_t at_ms; /* when tokens was right */
    UT_hash_handle hh;
};

struct limits {
    double rate, burst;
    pthread_mutex_t lock; /* guards all below */
    struct bucket *buckets;
    unsigned sweep_at;
};

struct limits *limits_new(double per_second)
{
    struct limits *l = mem_alloc(sizeof *l);
    l->rate = per_second;
    l->burst = fmax(1, 2 * per_second);
    l->sweep_at = SWEEP_MIN;
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

void limits_free(struct limits *l)
{
    if (!l)
        return;
    struct bucket *b, *next;
    HASH_ITER(hh, l->buckets, b, next) {
        HASH_DEL(l->buckets, b);
        free(b);
    }
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static void refill(const struct limits *l, struct bucket *b, int64_t now_ms)
{
    b->tokens = fmin(l->burst, b->tokens + l->rate * (double)(now_ms - b->at_ms) / 1000);
    b->at_ms = now_ms;
}

static void sweep(struct limits *l, int64_t now_ms)
{
    struct bucket *b, *next;
    HASH_ITER(hh, l->buckets, b, next) {
        refill(l, b, now_ms);
        if (b->tokens >= l->burst) {
            HASH_DEL(l->buckets, b);
            free(b);
        }
    }
    unsigned left = HASH_COUNT(l->buckets);
    l->sweep_at = left * 2 < SWEEP_MIN ? SWEEP_MIN : left * 2;
}

unsigned limits_take(struct limits *l, char kind, const char *key, int64_t now_ms)
{
    if (!(l->rate > 0))
        return 0;
    char name[KEY_MAX] = {kind};
    size_t n = strnlen(key, KEY_MAX - 2);
    memcpy(name + 1, key, n);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&l->lock);
    struct bucket *b;
    HASH_FIND_STR(l->buckets, name, b);
    if (!b) {
        if (HASH_COUNT(l->buckets) >= l->sweep_at)
            sweep(l, now_ms);
        b = mem_alloc(sizeof *b);
        memcpy(b->key, name, sizeof name);
        b->tokens = l->burst;
        b->at_ms = now_ms;
        HASH_ADD_STR(l->buckets, key, b);
    }
    refill(l, b, now_ms);
    if (b->tokens >= 1) {
        b->tokens -= 1;
        return 0;
    }
    double wait = ceil((1 - b->tokens) / l->rate);
    return wait < 1 ? 1 : wait > 3600 ? 3600 : (unsigned)wait;
}
