/* Shared by redis_net.c (nodes, slots, connections in use), redis_keeper.c (who finds out what is there) and redis_run.c (commands and their answers). */
#ifndef CAIRN_GATEWAY_ADAPTERS_REDIS_NET_INTERNAL_H
#define CAIRN_GATEWAY_ADAPTERS_REDIS_NET_INTERNAL_H
#include "common/cleanup.h"
#include "gateway/adapters/redis_net.h"
#include <netdb.h>

#define REDIS_TIMEOUT_MS CACHE_PATIENCE_MS /* of connecting, and of each answer */
#define REDIS_SLOTS 16384
#define REDIS_NODES_MAX 1000
#define REDIS_IDLE_MAX 32 /* connections kept to a node */
#define REDIS_SLOW_MS 100 /* for so long nothing hasty is asked of it */
#define NO_NODE UINT16_MAX

struct redis_node { /* never freed before the net */
    struct url_address at;
    bool seed; /* named by the URL */
    /* under net->lock */
    char numeric[NI_MAXHOST]; /* "" until the name was resolved */
    bool up;       /* the circuit is closed: requests may use it */
    bool primary;
    bool serves;   /* has slots */
    int64_t slow_until; /* boot ms: it kept somebody in a haste waiting */
    redisContext *idle[REDIS_IDLE_MAX];
    unsigned n_idle;
    /* the keeper's alone */
    redisContext *probe;
    bool told; /* that it is away has been logged */
};

enum redis_mode { REDIS_UNKNOWN, REDIS_SINGLE, REDIS_CLUSTER };
struct redis_net {
    struct redis_url url;
    pthread_t keeper;
    pthread_mutex_t lock; /* guards all below; never held across a call to Redis */
    pthread_cond_t wake; 
    struct redis_node *nodes[REDIS_NODES_MAX];
    unsigned n_nodes;
    enum redis_mode mode;
    uint16_t slots[REDIS_SLOTS]; /* index into nodes */
    unsigned rounds;             /* the keeper has finished */
    bool hurry, stale, ending;   /* hurry: a round now; stale: the slots are to be asked for */
};

/* ---- redis_net.c ---- */
/* The node of this address, made where it is new; NULL where there are too many. Called with the lock held. */
struct redis_node *redis_node_at(struct redis_net *net, const struct url_address *at, uint16_t *ret_index);
/* Who has the key; NULL: nobody that is there. */
struct redis_node *redis_route(struct redis_net *net, const char *key);
/* Connects, logs in, chooses the database. NULL with *ret_why filled. Blocks up to a few times ms. */
redisContext *redis_connect(const struct redis_url *url, const char *numeric, uint16_t port, unsigned ms, char ret_why[160]);
/* A connection of one's own; NULL: the node is away, or too slow for who is in a haste. *ret_used: it has waited for a while, and may have been closed by the other side. */
redisContext *redis_take(struct redis_net *net, struct redis_node *node, bool fresh, bool hasty, bool *ret_used);
void redis_put_back(struct redis_net *net, struct redis_node *node, redisContext *ctx);
/* It did not answer in haste: the keeper finds out whether it is away. */
void redis_node_slow(struct redis_net *net, struct redis_node *node);
/* It did not answer: nobody asks it any more until the keeper has found it again. */
void redis_node_lost(struct redis_net *net, struct redis_node *node);
/* Closes what waits. Called without the lock. */
void redis_close_idle(struct redis_net *net, struct redis_node *node);
void redis_hurry(struct redis_net *net, bool stale);

/* ---- redis_keeper.c ---- */
void *redis_keeper(void *net);
#endif
