/* The thread that knows which nodes are there: requests only read what it found out. */
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/redis_net_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define ROUND_MS 1000
#define ROUND_AWAY_MS 250  /* while a node is away, and the least between two rounds */
#define SLOTS_EVERY 15     /* rounds, without a reason */

/* ---- one node ---- */

/* Some of the addresses of a name; each is tried. Blocks for as long as the resolver does. */
static redisContext *connect_name(const struct redis_url *url, const struct url_address *at, char numeric[NI_MAXHOST], char why[160])
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG}, *list = NULL;
    redisContext *ctx = NULL;
    int err = getaddrinfo(at->host, NULL, &hints, &list);
    if (err)
        snprintf(why, 160, "%s", gai_strerror(err));
    for (struct addrinfo *a = err ? NULL : list; a && !ctx; a = a->ai_next)
        if (getnameinfo(a->ai_addr, a->ai_addrlen, numeric, NI_MAXHOST, NULL, 0, NI_NUMERICHOST) == 0)
            ctx = redis_connect(url, numeric, at->port, REDIS_TIMEOUT_MS, why);
    if (list)
        freeaddrinfo(list);
    return ctx;
}

/* 1: it is a primary, 0: it is another's replica, negative: it does not answer. */
static int ask_role(redisContext *ctx, char why[160])
{
    redisReply *r = redisCommand(ctx, "ROLE");
    int role = -1;
    if (!r)
        snprintf(why, 160, "%s", ctx->errstr);
    else if (r->type == REDIS_REPLY_ARRAY && r->elements > 0 && r->element[0]->type == REDIS_REPLY_STRING)
        role = strcmp(r->element[0]->str, "master") == 0;
    else if (r->type == REDIS_REPLY_ERROR && strncmp(r->str, "NOAUTH", 6) == 0)
        snprintf(why, 160, "%s", r->str); /* it does not know this connection any more */
    else
        role = 1; /* an account that may not ask */
    if (r)
        freeReplyObject(r);
    return role;
}

/* Asks on the connection of before, then on a new one. */
static int probe(struct redis_net *net, struct redis_node *node, char numeric[NI_MAXHOST], char why[160])
{
    int role = node->probe ? ask_role(node->probe, why) : -1;
    if (role >= 0)
        return role;
    if (node->probe)
        redisFree(node->probe);
    node->probe = connect_name(&net->url, &node->at, numeric, why);
    role = node->probe ? ask_role(node->probe, why) : -1;
    if (node->probe && role < 0) {
        redisFree(node->probe);
        node->probe = NULL;
    }
    return role;
}

static void check(struct redis_net *net, struct redis_node *node)
{
    char numeric[NI_MAXHOST] = "", why[160] = "";
    int role = probe(net, node, numeric, why);
    pthread_mutex_lock(&net->lock);
    bool changed = node->up != (role >= 0);
    node->up = role >= 0;
    node->primary = role == 1;
    if (numeric[0])
        memcpy(node->numeric, numeric, sizeof node->numeric);
    net->stale |= changed;
    pthread_mutex_unlock(&net->lock);
    if (role < 0)
        redis_close_idle(net, node);
    if (role < 0 && !node->told)
        log_warn("redis %s:%u is away: %s", node->at.host, node->at.port, why);
    else if (role >= 0 && node->told)
        log_info("redis %s:%u is there again", node->at.host, node->at.port);
    node->told = role < 0;
}

/* ---- the slots ---- */

static bool is_int(const redisReply *r)
{
    return r->type == REDIS_REPLY_INTEGER;
}

/* [first, last, [host, port, …], …]; a host that is not said is the one that was asked. */
static bool take_range(struct redis_net *net, const redisReply *r, const struct redis_node *asked, uint16_t slots[REDIS_SLOTS])
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements < 3 || !is_int(r->element[0]) || !is_int(r->element[1]))
        return false;
    const redisReply *owner = r->element[2];
    long long first = r->element[0]->integer, last = r->element[1]->integer;
    if (first < 0 || last >= REDIS_SLOTS || owner->type != REDIS_REPLY_ARRAY || owner->elements < 2 || !is_int(owner->element[1]))
        return false;
    struct url_address at = {.port = (uint16_t)owner->element[1]->integer};
    const char *host = owner->element[0]->type == REDIS_REPLY_STRING ? owner->element[0]->str : "";
    if (strlen(host) >= sizeof at.host)
        return false;
    snprintf(at.host, sizeof at.host, "%s", host[0] && strcmp(host, "?") != 0 ? host : asked->at.host);
    uint16_t index;
    if (!redis_node_at(net, &at, &index))
        return false;
    for (long long i = first; i <= last; i++)
        slots[i] = index;
    return true;
}

static void take_slots(struct redis_net *net, const redisReply *r, const struct redis_node *asked)
{
    CLEANUP_FREE uint16_t *slots = mem_alloc_raw(sizeof net->slots);
    memset(slots, 0xff, sizeof net->slots);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&net->lock);
    for (size_t i = 0; i < r->elements; i++)
        if (!take_range(net, r->element[i], asked, slots))
            return;
    net->mode = REDIS_CLUSTER;
    net->stale = false;
    memcpy(net->slots, slots, sizeof net->slots);
    for (unsigned i = 0; i < net->n_nodes; i++)
        net->nodes[i]->serves = false;
    for (unsigned i = 0; i < REDIS_SLOTS; i++)
        if (slots[i] != NO_NODE)
            net->nodes[slots[i]]->serves = true;
}

/* Asks a node that is there. false: it did not tell. */
static bool ask_slots(struct redis_net *net, struct redis_node *node)
{
    redisReply *r = node->probe ? redisCommand(node->probe, "CLUSTER SLOTS") : NULL;
    bool told = false;
    if (r && r->type == REDIS_REPLY_ARRAY && r->elements > 0) {
        take_slots(net, r, node);
        told = true;
    } else if (r && r->type == REDIS_REPLY_ERROR) {
        /* "This instance has cluster support disabled" */
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&net->lock);
        net->mode = REDIS_SINGLE;
        net->stale = false;
        told = true;
    }
    if (r) {
        freeReplyObject(r);
    } else if (node->probe) {
        redisFree(node->probe);
        node->probe = NULL;
    }
    return told;
}

/* ---- rounds ---- */

static bool of_interest(const struct redis_net *net, const struct redis_node *node)
{
    return node->seed || node->serves || net->mode != REDIS_CLUSTER;
}

/* The nodes of now, so that the lock is not held while they are asked; caller frees. */
static struct redis_node **nodes_now(struct redis_net *net, unsigned *ret_n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&net->lock);
    struct redis_node **list = mem_calloc(net->n_nodes, sizeof(struct redis_node *));
    *ret_n = 0;
    for (unsigned i = 0; i < net->n_nodes; i++)
        if (of_interest(net, net->nodes[i]))
            list[(*ret_n)++] = net->nodes[i];
    return list;
}

static void round_of(struct redis_net *net)
{
    unsigned n;
    CLEANUP_FREE struct redis_node **nodes = nodes_now(net, &n);
    for (unsigned i = 0; i < n; i++)
        check(net, nodes[i]);
    pthread_mutex_lock(&net->lock);
    bool ask = net->stale || net->mode == REDIS_UNKNOWN || net->rounds % SLOTS_EVERY == 0;
    pthread_mutex_unlock(&net->lock);
    for (unsigned i = 0; i < n && ask; i++)
        ask = !ask_slots(net, nodes[i]);
}

static bool all_up(const struct redis_net *net)
{
    for (unsigned i = 0; i < net->n_nodes; i++)
        if (of_interest(net, net->nodes[i]) && !net->nodes[i]->up)
            return false;
    return true;
}

void *redis_keeper(void *arg)
{
    struct redis_net *net = arg;
    pthread_mutex_lock(&net->lock);
    while (!net->ending) {
        bool first = net->rounds == 0;
        net->hurry = false;
        pthread_mutex_unlock(&net->lock);
        round_of(net);
        pthread_mutex_lock(&net->lock);
        net->rounds++;
        if (first)
            pthread_cond_broadcast(&net->wake);
        struct timespec soonest = cond_deadline(ROUND_AWAY_MS), latest = cond_deadline(all_up(net) ? ROUND_MS : ROUND_AWAY_MS);
        while (!net->ending && !net->hurry && pthread_cond_timedwait(&net->wake, &net->lock, &latest) != ETIMEDOUT)
            ;
        while (!net->ending && net->hurry && pthread_cond_timedwait(&net->wake, &net->lock, &soonest) != ETIMEDOUT)
            ;
    }
    pthread_mutex_unlock(&net->lock);
    return NULL;
}
