/* Commands and their answers: each goes to the node of its key, and after it where the slot has moved (MOVED, ASK). */
#include "common/mem.h"
#include "gateway/adapters/redis_net_internal.h"

#include <errno.h>
#include <string.h>

#define REDIRECTS_MAX 4

void redis_command_fini(struct redis_command *c)
{
    if (c->reply)
        freeReplyObject(c->reply);
    c->reply = NULL;
}

/* ---- one connection ---- */

/* Sends all, then reads all. false: the connection is of no more use; *ret_late: since it did not answer in time. */
static bool talk(redisContext *ctx, struct redis_command **c, size_t n, bool asking, bool *ret_late)
{
    for (size_t i = 0; i < n; i++) {
        if (asking)
            redisAppendCommand(ctx, "ASKING");
        redisAppendCommandArgv(ctx, c[i]->argc, c[i]->argv, c[i]->len);
    }
    for (size_t i = 0; i < n; i++) {
        void *ignored = NULL, *reply = NULL;
        errno = 0;
        bool answered = (!asking || redisGetReply(ctx, &ignored) == REDIS_OK) && redisGetReply(ctx, &reply) == REDIS_OK;
        *ret_late = !answered && ctx->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK);
        if (ignored)
            freeReplyObject(ignored);
        if (!answered)
            return false;
        c[i]->reply = reply;
    }
    return true;
}

static void set_patience(redisContext *ctx, unsigned ms)
{
    redisSetTimeout(ctx, (struct timeval){.tv_usec = ms * 1000});
}

/* 0, or -EHOSTUNREACH: the node is lost to all until it is found again; or, where this was hasty, it is too slow for that. */
static int exchange(struct redis_net *net, struct redis_node *node, struct redis_command **c, size_t n, bool asking)
{
    bool used = true, late = false, hasty = c[0]->hasty, asked = false;
    for (int attempt = 0; attempt < 2 && used && !late; attempt++) {
        redisContext *ctx = redis_take(net, node, attempt > 0, hasty, &used);
        if (ctx && hasty)
            set_patience(ctx, REDIS_HASTE_MS);
        asked |= ctx != NULL;
        if (ctx && talk(ctx, c, n, asking, &late)) {
            if (hasty)
                set_patience(ctx, REDIS_TIMEOUT_MS);
            redis_put_back(net, node, ctx);
            return 0;
        }
        if (ctx)
            redisFree(ctx);
        for (size_t i = 0; i < n; i++)
            redis_command_fini(c[i]);
    }
    if (!hasty)
        redis_node_lost(net, node);
    else if (asked)
        redis_node_slow(net, node);
    return -EHOSTUNREACH;
}

/* ---- where the slot is somewhere else ---- */

static bool begins(const redisReply *r, const char *word)
{
    return r->type == REDIS_REPLY_ERROR && strncmp(r->str, word, strlen(word)) == 0;
}

/* "MOVED 3999 127.0.0.1:6381", "ASK 3999 …": the node; host empty: the one that answered. NULL: not understood. */
static struct redis_node *redirect(struct redis_net *net, const redisReply *r, const struct redis_node *from, bool moved)
{
    struct url_address at = {0};
    char *end;
    const char *slot_text = strchr(r->str, ' '), *where = slot_text ? strchr(slot_text + 1, ' ') : NULL, *colon = where ? strrchr(where, ':') : NULL;
    if (!colon || (size_t)(colon - where - 1) >= sizeof at.host)
        return NULL;
    unsigned long slot = strtoul(slot_text + 1, NULL, 10), port = strtoul(colon + 1, &end, 10);
    if (slot >= REDIS_SLOTS || port == 0 || port > 65535)
        return NULL;
    at.port = (uint16_t)port;
    memcpy(at.host, where + 1, (size_t)(colon - where - 1));
    if (!at.host[0])
        at = (struct url_address){.port = at.port};
    uint16_t index;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&net->lock);
    if (!at.host[0])
        memcpy(at.host, from->at.host, sizeof at.host);
    struct redis_node *node = redis_node_at(net, &at, &index);
    if (node && moved) {
        net->slots[slot] = index;
        net->mode = REDIS_CLUSTER;
        node->serves = true;
    }
    return node;
}

/* Its reply sends it elsewhere: follows. 0 with an answer, or -EHOSTUNREACH. *node: who answered. */
static int follow(struct redis_net *net, struct redis_command *c, struct redis_node **node)
{
    for (int i = 0; i < REDIRECTS_MAX; i++) {
        bool moved = begins(c->reply, "MOVED "), ask = begins(c->reply, "ASK ");
        if (!moved && !ask)
            return 0;
        *node = redirect(net, c->reply, *node, moved);
        redis_command_fini(c);
        redis_hurry(net, moved);
        if (!*node || exchange(net, *node, &c, 1, ask) != 0)
            return -EHOSTUNREACH;
    }
    redis_command_fini(c);
    return -EHOSTUNREACH;
}

/* Answers that mean: not here, not now. */
static int settle(struct redis_net *net, struct redis_command *c, struct redis_node *node)
{
    int err = follow(net, c, &node);
    if (err)
        return err;
    bool demoted = begins(c->reply, "READONLY");
    if (!demoted && !begins(c->reply, "LOADING") && !begins(c->reply, "CLUSTERDOWN") && !begins(c->reply, "MASTERDOWN") && !begins(c->reply, "TRYAGAIN"))
        return 0;
    if (demoted)
        redis_node_lost(net, node);
    else
        redis_hurry(net, true);
    redis_command_fini(c);
    return -EHOSTUNREACH;
}

/* ---- all ---- */

int redis_run(struct redis_net *net, struct redis_command *c, size_t n)
{
    CLEANUP_FREE struct redis_node **nodes = mem_calloc(n, sizeof *nodes);
    CLEANUP_FREE struct redis_command **together = mem_calloc(n, sizeof *together);
    int result = 0;
    for (size_t i = 0; i < n; i++)
        nodes[i] = redis_route(net, c[i].key);
    for (size_t i = 0; i < n; i++) {
        struct redis_node *node = nodes[i];
        size_t k = 0;
        if (!node) {
            if (!c[i].reply)
                result = -EHOSTUNREACH;
            continue;
        }
        for (size_t j = i; j < n; j++)
            if (nodes[j] == node) {
                together[k++] = &c[j];
                nodes[j] = NULL;
            }
        int err = exchange(net, node, together, k, false);
        for (size_t j = 0; j < k && err == 0; j++)
            if (settle(net, together[j], node) != 0)
                result = -EHOSTUNREACH;
        if (err)
            result = err;
    }
    return result;
}
