/* Shared by cache_redis.c (values, rates) and cache_redis_presence.c. Within adapters/. */
#ifndef CAIRN_GATEWAY_ADAPTERS_REDIS_CACHE_H
#define CAIRN_GATEWAY_ADAPTERS_REDIS_CACHE_H
#include "gateway/adapters/redis_net.h"
#include "gateway/ports/cache.h"

#define REDIS_PREFIX "cairn:"
#define REDIS_KEY_ROOM (sizeof REDIS_PREFIX + CACHE_KEY_MAX)
#define REDIS_TOGETHER_MAX 500 /* commands sent at once */

/* In Lua, on one key, on the clock of the node that has it. */
struct redis_script {
    const char *text;
    char sha1[41]; /* how Redis knows it */
};
struct redis_cache {
    struct cache c; /* first */
    struct redis_net *net;
    struct redis_script charge, alive, gateways;
};
static inline struct redis_cache *redis_of(struct cache *c)
{
    return (struct redis_cache *)c;
}

/* Begins a command; key stays the caller's. */
void redis_begin(struct redis_command *c, const char *key);
void redis_arg(struct redis_command *c, const void *p, size_t n);
void redis_arg_text(struct redis_command *c, const char *text);
/* The key itself as an argument, with the command's name before it. */
void redis_word(struct redis_command *c, const char *word);
/* A call of the script on the command's key; its own arguments follow. */
void redis_script_args(struct redis_command *c, const struct redis_script *s);
/* Runs them; those whose script (NULL: none) the node does not have yet are sent again with its text. */
int redis_run_all(struct redis_cache *r, const struct redis_script *s, struct redis_command *c, size_t n);
/* The result of one command: 0, -EHOSTUNREACH where it has no reply, -EIO where that is an error. */
int redis_result(const struct redis_command *c);
/* Runs one and ends it. */
int redis_run_one(struct redis_cache *r, const struct redis_script *s, struct redis_command *c);

/* ---- cache_redis_presence.c ---- */
void redis_presence_init(struct redis_cache *r);
int redis_gateway_alive(struct cache *c, const struct uuid *gateway, unsigned ms, bool *ret_known);
int redis_gateways(struct cache *c, void (*each)(void *ctx, const struct uuid *gateway, bool alive), void *ctx);
int redis_present_put(struct cache *c, const struct presence *p, size_t n, unsigned ms);
int redis_present_remove(struct cache *c, const struct presence *p, size_t n);
int redis_present_list(struct cache *c, const struct uuid *users, size_t n, cache_presence_each *each, void *ctx);
int redis_present_at(struct cache *c, const struct uuid *gateway, cache_presence_each *each, void *ctx);
void redis_script_init(struct redis_script *s, const char *text);
#endif
