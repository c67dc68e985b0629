#include "gateway/adapters/redis_net_internal.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FIRST_ROUND_MS 1000

/* ---- slots ---- */

unsigned redis_slot(const char *key)
{
    const char *open = strchr(key, '{'), *close = open ? strchr(open, '}') : NULL;
    size_t n = strlen(key);
    if (close && close > open + 1) {
        key = open + 1;
        n = (size_t)(close - key);
    }
    unsigned crc = 0;
    for (size_t i = 0; i < n; i++) {
        crc ^= (unsigned)(unsigned char)key[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x8000 ? (crc << 1 ^ 0x1021) & 0xffff : crc << 1;
    }
    return crc % REDIS_SLOTS;
}

struct redis_node *redis_node_at(struct redis_net *net, const struct url_address *at, uint16_t *ret_index)
{
    for (unsigned i = 0; i < net->n_nodes; i++)
        if (net->nodes[i]->at.port == at->port && strcmp(net->nodes[i]->at.host, at->host) == 0) {
            *ret_index = (uint16_t)i;
            return net->nodes[i];
        }
    if (net->n_nodes == REDIS_NODES_MAX)
        return NULL;
    struct redis_node *node = mem_alloc(sizeof *node);
    struct in6_addr any;
    node->at = *at;
    if (inet_pton(AF_INET, at->host, &any) == 1 || inet_pton(AF_INET6, at->host, &any) == 1) {
        /* told by another node, so probably there; a name has to be resolved first */
        memcpy(node->numeric, at->host, strlen(at->host) + 1);
        node->up = node->primary = true;
    }
    *ret_index = (uint16_t)net->n_nodes;
    net->nodes[net->n_nodes++] = node;
    return node;
}

struct redis_node *redis_route(struct redis_net *net, const char *key)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&net->lock);
    if (net->mode == REDIS_CLUSTER) {
        uint16_t i = net->slots[redis_slot(key)];
        return i != NO_NODE && net->nodes[i]->up ? net->nodes[i] : NULL;
    }
    for (unsigned i = 0; i < net->n_nodes; i++)
        if (net->nodes[i]->up && net->nodes[i]->primary)
            return net->nodes[i];
    return NULL;
}

int redis_net_state(struct redis_net *net)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&net->lock);
    if (net->mode == REDIS_CLUSTER) {
        for (unsigned i = 0; i < REDIS_SLOTS; i++)
            if (net->slots[i] == NO_NODE || !net->nodes[net->slots[i]]->up)
                return -EHOSTUNREACH;
        return 0;
    }
    for (unsigned i = 0; i < net->n_nodes; i++)
        if (net->nodes[i]->up && net->nodes[i]->primary)
            return 0;
    return -EHOSTUNREACH;
}

/* ---- connections ---- */

/* A command of the greeting: true where it was not answered with an error. */
static bool greet(redisContext *ctx, int argc, const char **argv, char why[160])
{
    redisReply *r = redisCommandArgv(ctx, argc, argv, NULL);
    bool fine = r && r->type != REDIS_REPLY_ERROR;
    if (!fine)
        snprintf(why, 160, "%s: %s", argv[0], r ? r->str : ctx->errstr);
    if (r)
        freeReplyObject(r);
    return fine;
}

static bool greet_all(redisContext *ctx, const struct redis_url *url, char why[160])
{
    const char *auth[] = {"AUTH", url->user ? url->user : url->password, url->password};
    char db[12];
    const char *select[] = {"SELECT", db};
    snprintf(db, sizeof db, "%u", url->db);
    return (!url->password || greet(ctx, url->user ? 3 : 2, auth, why)) && (!url->db || greet(ctx, 2, select, why));
}

redisContext *redis_connect(const struct redis_url *url, const char *numeric, uint16_t port, unsigned ms, char ret_why[160])
{
    const struct timeval timeout = {.tv_usec = ms * 1000};
    redisContext *ctx = redisConnectWithTimeout(numeric, port, timeout);
    if (!ctx || ctx->err) {
        snprintf(ret_why, 160, "%s", ctx ? ctx->errstr : "no memory");
    } else if (fcntl(ctx->fd, F_SETFD, FD_CLOEXEC) == 0 && redisSetTimeout(ctx, timeout) == REDIS_OK && greet_all(ctx, url, ret_why)) {
        redisEnableKeepAlive(ctx);
        return ctx;
    }
    if (ctx)
        redisFree(ctx);
    return NULL;
}

void redis_hurry(struct redis_net *net, bool stale)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&net->lock);
    net->hurry = true;
    net->stale |= stale;
    pthread_cond_broadcast(&net->wake);
}

void redis_node_slow(struct redis_net *net, struct redis_node *node)
{
    pthread_mutex_lock(&net->lock);
    node->slow_until = clock_boot_ms() + REDIS_SLOW_MS;
    pthread_mutex_unlock(&net->lock);
    redis_hurry(net, false);
}

redisContext *redis_take(struct redis_net *net, struct redis_node *node, bool fresh, bool hasty, bool *ret_used)
{
    char numeric[NI_MAXHOST], why[160];
    redisContext *ctx = NULL;
    int64_t now = hasty ? clock_boot_ms() : 0;
    pthread_mutex_lock(&net->lock);
    bool up = node->up && !(hasty && now < node->slow_until);
    memcpy(numeric, node->numeric, sizeof numeric);
    if (up && !fresh && node->n_idle)
        ctx = node->idle[--node->n_idle];
    pthread_mutex_unlock(&net->lock);
    *ret_used = ctx != NULL;
    if (ctx || !up)
        return ctx;
    ctx = redis_connect(&net->url, numeric, node->at.port, hasty ? REDIS_HASTE_MS : REDIS_TIMEOUT_MS, why);
    if (!ctx && hasty)
        redis_node_slow(net, node);
    return ctx;
}

void redis_put_back(struct redis_net *net, struct redis_node *node, redisContext *ctx)
{
    pthread_mutex_lock(&net->lock);
    if (node->up && node->n_idle < REDIS_IDLE_MAX) {
        node->idle[node->n_idle++] = ctx;
        ctx = NULL;
    }
    pthread_mutex_unlock(&net->lock);
    if (ctx)
        redisFree(ctx);
}

void redis_close_idle(struct redis_net *net, struct redis_node *node)
{
    redisContext *idle[REDIS_IDLE_MAX];
    pthread_mutex_lock(&net->lock);
    unsigned n = node->n_idle;
    memcpy(idle, node->idle, sizeof idle);
    node->n_idle = 0;
    pthread_mutex_unlock(&net->lock);
    while (n > 0)
        redisFree(idle[--n]);
}

void redis_node_lost(struct redis_net *net, struct redis_node *node)
{
    pthread_mutex_lock(&net->lock);
    node->up = false;
    pthread_mutex_unlock(&net->lock);
    redis_close_idle(net, node);
    redis_hurry(net, true);
}

/* ---- life ---- */

struct redis_net *redis_net_new(struct redis_url *url)
{
    struct redis_net *net = mem_alloc(sizeof *net);
    net->url = *url;
    *url = (struct redis_url){0};
    memset(net->slots, 0xff, sizeof net->slots);
    pthread_mutex_init(&net->lock, NULL);
    cond_init(&net->wake);
    for (size_t i = 0; i < net->url.n; i++) {
        uint16_t index;
        struct redis_node *node = redis_node_at(net, &net->url.at[i], &index);
        node->seed = true;
        node->up = false; /* until it has been asked */
    }
    if (pthread_create(&net->keeper, NULL, redis_keeper, net) != 0)
        abort();
    struct timespec until = cond_deadline(FIRST_ROUND_MS);
    pthread_mutex_lock(&net->lock);
    while (net->rounds == 0 && pthread_cond_timedwait(&net->wake, &net->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&net->lock);
    return net;
}

void redis_net_free(struct redis_net *net)
{
    pthread_mutex_lock(&net->lock);
    net->ending = true;
    pthread_cond_broadcast(&net->wake);
    pthread_mutex_unlock(&net->lock);
    pthread_join(net->keeper, NULL);
    for (unsigned i = 0; i < net->n_nodes; i++) {
        redis_close_idle(net, net->nodes[i]);
        if (net->nodes[i]->probe)
            redisFree(net->nodes[i]->probe);
        free(net->nodes[i]);
    }
    pthread_cond_destroy(&net->wake);
    pthread_mutex_destroy(&net->lock);
    redis_url_fini(&net->url);
    free(net);
}
