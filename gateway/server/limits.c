#include "gateway/server/limits.h"
#include "common/cleanup.h"
#include "common/mem.h"

#include <math.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

/* Buckets that are full again say nothing: they are dropped when there are this many, and then at twice what remained. */
#define SWEEP_MIN 4096

struct bucket {
    char key[LIMITS_KEY_MAX];
    double tokens;
    int64_t at_ms; /* when tokens was right */
    double unsaid; /* spent since it was last said */
    bool due;      /* in the list of those to be said */
    struct bucket *prev, *next;
    UT_hash_handle hh;
};

struct limits {
    double rate, burst, say_from;
    pthread_mutex_t lock; /* guards all below */
    struct bucket *buckets, *due;
    unsigned sweep_at;
};

struct limits *limits_new(double per_second)
{
    struct limits *l = mem_alloc(sizeof *l);
    l->rate = per_second;
    l->burst = fmax(1, 2 * per_second);
    l->say_from = fmax(1, per_second / 20);
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
            if (b->due)
                DL_DELETE(l->due, b);
            free(b);
        }
    }
    unsigned left = HASH_COUNT(l->buckets);
    l->sweep_at = left * 2 < SWEEP_MIN ? SWEEP_MIN : left * 2;
}

static void say_later(struct limits *l, struct bucket *b)
{
    if (!b->due)
        DL_APPEND(l->due, b);
    b->due = true;
}

static struct bucket *bucket_of(struct limits *l, const char *name, int64_t now_ms)
{
    struct bucket *b;
    HASH_FIND_STR(l->buckets, name, b);
    if (b)
        return b;
    if (HASH_COUNT(l->buckets) >= l->sweep_at)
        sweep(l, now_ms);
    b = mem_alloc(sizeof *b);
    snprintf(b->key, sizeof b->key, "%s", name);
    b->tokens = l->burst;
    b->at_ms = now_ms;
    HASH_ADD_STR(l->buckets, key, b);
    say_later(l, b); /* so that it soon becomes known what was spent elsewhere */
    return b;
}

unsigned limits_take(struct limits *l, char kind, const char *key, int64_t now_ms)
{
    if (!(l->rate > 0))
        return 0;
    char name[LIMITS_KEY_MAX];
    snprintf(name, sizeof name, "%c%s", kind, key);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&l->lock);
    struct bucket *b = bucket_of(l, name, now_ms);
    refill(l, b, now_ms);
    if (b->tokens >= 1) {
        b->tokens -= 1;
        b->unsaid += 1;
        if (b->unsaid >= l->say_from)
            say_later(l, b);
        return 0;
    }
    double wait = ceil((1 - b->tokens) / l->rate);
    return wait < 1 ? 1 : wait > 3600 ? 3600 : (unsigned)wait;
}

void limits_spent(struct limits *l, struct buf *ret)
{
    struct bucket *b, *next;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&l->lock);
    DL_FOREACH_SAFE(l->due, b, next) {
        struct limits_spent s = {.per_second = l->rate, .burst = l->burst, .n = b->unsaid};
        memcpy(s.key, b->key, sizeof s.key);
        buf_append(ret, &s, sizeof s);
        DL_DELETE(l->due, b);
        b->due = false;
        b->unsaid = 0;
    }
}

void limits_learn(struct limits *l, const char *key, double room, int64_t now_ms)
{
    struct bucket *b;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&l->lock);
    HASH_FIND_STR(l->buckets, key, b);
    if (!b)
        return;
    refill(l, b, now_ms);
    b->tokens = fmin(b->tokens, room - b->unsaid);
}
