#include "gateway/api/token_cache.h"
#include "common/mem.h"

#include <pthread.h>
#include <string.h>

#define WAYS 4
#define SETS 1024
#define STRIPES 16

struct slot {
    struct hash token;
    struct principal who;
    int64_t expires_s; /* 0: free */
    int64_t checked_ms;
};
struct token_cache {
    pthread_mutex_t lock[STRIPES]; /* lock[set % STRIPES] guards slots[set] */
    struct slot slots[SETS][WAYS];
};

struct token_cache *token_cache_new(void)
{
    struct token_cache *c = mem_alloc(sizeof *c);
    for (size_t i = 0; i < STRIPES; i++)
        pthread_mutex_init(&c->lock[i], NULL);
    return c;
}

void token_cache_free(struct token_cache *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < STRIPES; i++)
        pthread_mutex_destroy(&c->lock[i]);
    free(c);
}

static size_t set_of(const struct hash *token)
{
    return (token->b[0] | (size_t)token->b[1] << 8) % SETS;
}

enum token_state token_cache_get(struct token_cache *c, const struct hash *token, int64_t now_ms, int64_t now_s, struct principal *ret)
{
    size_t set = set_of(token);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock[set % STRIPES]);
    for (size_t i = 0; i < WAYS; i++) {
        const struct slot *s = &c->slots[set][i];
        if (s->expires_s <= now_s || !hash_equal(&s->token, token))
            continue;
        *ret = s->who;
        return now_ms - s->checked_ms < TOKEN_FRESH_MS ? TOKEN_FRESH : TOKEN_STALE;
    }
    return TOKEN_UNKNOWN;
}

void token_cache_put(struct token_cache *c, const struct hash *token, const struct principal *p, int64_t expires_s, int64_t now_ms)
{
    size_t set = set_of(token);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock[set % STRIPES]);
    struct slot *best = &c->slots[set][0];
    for (size_t i = 0; i < WAYS; i++) {
        struct slot *s = &c->slots[set][i];
        if (s->expires_s && hash_equal(&s->token, token)) {
            best = s;
            break;
        }
        if (s->checked_ms < best->checked_ms)
            best = s;
    }
    *best = (struct slot){.token = *token, .who = *p, .expires_s = expires_s, .checked_ms = now_ms};
}

void token_cache_forget(struct token_cache *c, const struct uuid *user, const struct uuid *session)
{
    for (size_t set = 0; set < SETS; set++) {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock[set % STRIPES]);
        for (size_t i = 0; i < WAYS; i++) {
            struct slot *s = &c->slots[set][i];
            if (s->expires_s && uuid_equal(&s->who.user, user) && (!session || uuid_equal(&s->who.session, session)))
                *s = (struct slot){0};
        }
    }
}
