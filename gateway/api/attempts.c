#include "gateway/api/attempts.h"
#include "common/buf.h"
#include "common/hash.h"
#include "common/mem.h"
#include "gateway/server/limits.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#define WAYS 4
#define SETS 1024

/* How many failures a bucket holds, and how long one takes to drain. */
static const struct rule {
    char kind;
    int burst;
    int64_t drain_ms;
} rules[] = {{'b', 10, 6000}, {'a', 60, 1000}, {'u', 100, 3000}};
#define N_RULES (sizeof rules / sizeof *rules)

struct bucket {
    uint64_t key; /* 0: free */
    int64_t full_until; /* now_ms at which it will be empty; level = (full_until - now) / drain_ms */
    int16_t unsaid;     /* what was added since it was last said; less than nothing: taken back */
    uint8_t rule;
    bool due;           /* it is to be said */
};
struct attempts {
    pthread_mutex_t lock; /* guards buckets */
    uint8_t salt[16];
    unsigned n_due;
    struct bucket buckets[SETS][WAYS];
};

struct attempts *attempts_new(const uint8_t secret[32])
{
    static const char purpose[] = "cairn log-in attempts 1";
    struct attempts *a = mem_alloc(sizeof *a);
    CLEANUP_BUF struct buf b = {0};
    struct hash h;
    pthread_mutex_init(&a->lock, NULL);
    buf_append(&b, purpose, sizeof purpose);
    buf_append(&b, secret, 32);
    hash_bytes(b.data, b.len, &h);
    memcpy(a->salt, h.b, sizeof a->salt);
    return a;
}

void attempts_free(struct attempts *a)
{
    if (!a)
        return;
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static uint64_t key_of(const struct attempts *a, const struct rule *r, const char *address, const char *user)
{
    CLEANUP_BUF struct buf b = {0};
    buf_append(&b, a->salt, sizeof a->salt);
    buf_append(&b, &r->kind, 1);
    if (r->kind != 'u')
        buf_append_str(&b, address);
    buf_append(&b, "", 1);
    if (r->kind != 'a')
        buf_append_str(&b, user);
    return hash_xxh3(b.data, b.len) | 1;
}

static struct bucket *set_of(struct attempts *a, uint64_t key)
{
    return a->buckets[(key >> 1) % SETS];
}

/* The key's bucket; else the emptiest of its set, taken over. */
static struct bucket *bucket_of(struct attempts *a, uint64_t key)
{
    struct bucket *set = set_of(a, key), *best = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
        if (set[i].full_until < best->full_until)
            best = &set[i];
    }
    a->n_due -= best->due;
    *best = (struct bucket){.key = key};
    return best;
}

/* Adds n to the bucket of each rule. */
static void add(struct attempts *a, const uint64_t keys[N_RULES], int n, int64_t now_ms)
{
    for (size_t i = 0; i < N_RULES; i++) {
        struct bucket *b = bucket_of(a, keys[i]);
        b->full_until = (b->full_until > now_ms ? b->full_until : now_ms) + n * rules[i].drain_ms;
        b->rule = (uint8_t)i;
        if (abs(b->unsaid) < INT16_MAX)
            b->unsaid = (int16_t)(b->unsaid + n);
        a->n_due += !b->due;
        b->due = true;
    }
}

unsigned attempts_begin(struct attempts *a, const char *address, const char *user, int64_t now_ms)
{
    uint64_t keys[N_RULES];
    int64_t wait_ms = 0;
    for (size_t i = 0; i < N_RULES; i++)
        keys[i] = key_of(a, &rules[i], address, user);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&a->lock);
    for (size_t i = 0; i < N_RULES; i++) {
        int64_t over = bucket_of(a, keys[i])->full_until - now_ms - (rules[i].burst - 1) * rules[i].drain_ms;
        if (over > wait_ms)
            wait_ms = over;
    }
    if (wait_ms > 0)
        return (unsigned)((wait_ms + 999) / 1000);
    add(a, keys, 1, now_ms);
    return 0;
}

void attempts_succeeded(struct attempts *a, const char *address, const char *user)
{
    uint64_t keys[N_RULES];
    for (size_t i = 0; i < N_RULES; i++)
        keys[i] = key_of(a, &rules[i], address, user);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&a->lock);
    add(a, keys, -1, INT64_MIN);
}

/* ---- together with others ---- */

void attempts_spent(struct attempts *a, struct buf *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&a->lock);
    for (size_t i = 0; i < SETS * WAYS && a->n_due; i++) {
        struct bucket *b = &a->buckets[i / WAYS][i % WAYS];
        if (!b->due)
            continue;
        const struct rule *r = &rules[b->rule];
        struct limits_spent s = {.per_second = 1000.0 / (double)r->drain_ms, .burst = r->burst, .n = b->unsaid};
        snprintf(s.key, sizeof s.key, "%c%016" PRIx64, r->kind, b->key);
        buf_append(ret, &s, sizeof s);
        b->unsaid = 0;
        b->due = false;
        a->n_due--;
    }
}

void attempts_learn(struct attempts *a, const char *text, double room, int64_t now_ms)
{
    uint64_t key = strtoull(text + 1, NULL, 16);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&a->lock);
    struct bucket *set = set_of(a, key);
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].key != key)
            continue;
        const struct rule *r = &rules[set[i].rule];
        int64_t until = now_ms + (int64_t)ceil((r->burst - room + set[i].unsaid) * (double)r->drain_ms);
        if (until > set[i].full_until)
            set[i].full_until = until;
    }
}
