#include "gateway/api/attempts.h"
#include "common/buf.h"
#include "common/hash.h"
#include "common/mem.h"

#include <openssl/rand.h>
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
};
struct attempts {
    pthread_mutex_t lock; /* guards buckets */
    uint8_t salt[16];     /* else others could choose names that share a bucket */
    struct bucket buckets[SETS][WAYS];
};

struct attempts *attempts_new(void)
{
    struct attempts *a = mem_alloc(sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    RAND_bytes(a->salt, sizeof a->salt);
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

/* The key's bucket; else the emptiest of its set, taken over. */
static struct bucket *bucket_of(struct attempts *a, uint64_t key)
{
    struct bucket *set = a->buckets[(key >> 1) % SETS], *best = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
        if (set[i].full_until < best->full_until)
            best = &set[i];
    }
    *best = (struct bucket){.key = key};
    return best;
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
    for (size_t i = 0; i < N_RULES; i++) {
        struct bucket *b = bucket_of(a, keys[i]);
        b->full_until = (b->full_until > now_ms ? b->full_until : now_ms) + rules[i].drain_ms;
    }
    return 0;
}

void attempts_succeeded(struct attempts *a, const char *address, const char *user)
{
    uint64_t keys[N_RULES];
    for (size_t i = 0; i < N_RULES; i++)
        keys[i] = key_of(a, &rules[i], address, user);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&a->lock);
    for (size_t i = 0; i < N_RULES; i++)
        bucket_of(a, keys[i])->full_until -= rules[i].drain_ms;
}
