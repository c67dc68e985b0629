/* The way to Redis: which nodes there are, which of them has a key, connections to them, and what to do when one is away. Within adapters/.

   A request's thread never looks for a node: it uses one that is known to be there, or fails at once. A thread of our own, the keeper, asks every
   node about once a second, resolves its name, tries those that are away again, and learns which node serves which hash slots. */
#ifndef CAIRN_GATEWAY_ADAPTERS_REDIS_NET_H
#define CAIRN_GATEWAY_ADAPTERS_REDIS_NET_H
#include "common/url.h"
#include "gateway/ports/cache.h"
#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#define REDIS_SEEDS_MAX 32
struct redis_url {
    char *text; /* what user and password point into */
    char *user, *password; /* NULL none */
    unsigned db;
    struct url_address at[REDIS_SEEDS_MAX];
    size_t n;
};
/* NULL and *ret filled, or what the URL should be: a static text, and nothing to free. */
const char *redis_url_parse(const char *url, struct redis_url *ret);
void redis_url_fini(struct redis_url *u);

#define REDIS_ARGS_MAX 12
#define REDIS_HASTE_MS CACHE_HASTE_MS
struct redis_command {
    const char *key; /* tells the node */
    int argc;
    const char *argv[REDIS_ARGS_MAX]; /* the caller's, until it was run */
    size_t len[REDIS_ARGS_MAX];
    bool hasty;        /* not worth a wait: REDIS_HASTE_MS at most, and nothing for a while where that was not enough */
    redisReply *reply; /* NULL until answered; freed by redis_command_fini. May be an error of Redis' own. */
};
void redis_command_fini(struct redis_command *c);

struct redis_net;
/* Takes url. Returns when each node was tried once (a second at most), whatever came of it. */
struct redis_net *redis_net_new(struct redis_url *url);
void redis_net_free(struct redis_net *net);
/* Runs the commands, all of them hasty or none: those for one node travel together. 0 where all were answered; -EHOSTUNREACH: some were not (reply NULL), the others were. */
int redis_run(struct redis_net *net, struct redis_command *c, size_t n);
/* 0 if every hash slot (every key) has a node that is there. Never blocks. */
int redis_net_state(struct redis_net *net);
/* The hash slot of a key: CRC16 (XMODEM) mod 16384, of the part in the first braces where there is one that is not empty. */
unsigned redis_slot(const char *key);
#endif
