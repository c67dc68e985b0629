#include "gateway/server/router.h"
#include "common/log.h"
#include "common/mem.h"

#include <string.h>

struct node {
    char *segment; /* NULL: `{}` */
    size_t len;
    struct node *children, *next;
    struct node *param;
    struct route_entry *entries[HTTP_METHODS];
    unsigned allow;
};

struct router {
    struct node root;
};

const char *http_method_name(int method)
{
    static const char *const names[HTTP_METHODS] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"};
    return method >= 0 && method < HTTP_METHODS ? names[method] : "other";
}

/* The segment at *p, which stands on a '/', and *p behind it. */
static struct span next_segment(const char **p)
{
    struct span s = {*p + 1, strcspn(*p + 1, "/")};
    *p = s.p + s.n;
    return s;
}

static bool same(const struct node *n, struct span s)
{
    return n->len == s.n && memcmp(n->segment, s.p, s.n) == 0;
}

static struct node *child_get(struct node *at, struct span s)
{
    bool param = s.n == 2 && memcmp(s.p, "{}", 2) == 0;
    struct node **slot = param ? &at->param : &at->children;
    if (!param)
        while (*slot && !same(*slot, s))
            slot = &(*slot)->next;
    if (!*slot) {
        *slot = mem_alloc(sizeof **slot);
        (*slot)->len = s.n;
        if (!param)
            (*slot)->segment = mem_dup(s.p, s.n);
    }
    return *slot;
}

static bool route_add(struct router *r, const struct route *route)
{
    const char *p = route->pattern;
    if (*p != '/')
        return false;
    struct node *at = &r->root;
    unsigned params = 0;
    while (*p) {
        at = child_get(at, next_segment(&p));
        if (!at->segment && ++params > CALL_PARAMS_MAX)
            return false;
    }
    if (at->entries[route->method])
        return false;
    struct route_entry *e = mem_alloc(sizeof *e);
    e->route = *route;
    CLEANUP_FREE char *labels = mem_printf("method=\"%s\",route=\"%s\"", http_method_name(route->method), route->pattern);
    e->seconds = metric_get(METRIC_HISTOGRAM, "cairn_http_request_seconds", labels, "Time from a request's head to the end of its answer.");
    at->entries[route->method] = e;
    at->allow |= 1u << route->method;
    if (route->method == HTTP_GET)
        at->allow |= 1u << HTTP_HEAD;
    return true;
}

struct router *router_new(const struct route *routes, size_t n)
{
    struct router *r = mem_alloc(sizeof *r);
    for (size_t i = 0; i < n; i++)
        if (!route_add(r, &routes[i])) {
            log_error("route %s %s is malformed or there already", http_method_name(routes[i].method), routes[i].pattern);
            router_free(r);
            return NULL;
        }
    return r;
}

static void node_fini(struct node *n)
{
    for (struct node *c = n->children, *next; c; c = next) {
        next = c->next;
        node_fini(c);
        free(c);
    }
    if (n->param) {
        node_fini(n->param);
        free(n->param);
    }
    for (int i = 0; i < HTTP_METHODS; i++)
        free(n->entries[i]);
    free(n->segment);
}

void router_free(struct router *r)
{
    if (!r)
        return;
    node_fini(&r->root);
    free(r);
}

/* Depth is bounded by that of the tree. */
static const struct node *descend(const struct node *at, const char *p, struct route_match *ret)
{
    if (!*p)
        return at->allow ? at : NULL;
    struct span s = next_segment(&p);
    for (const struct node *c = at->children; c; c = c->next)
        if (same(c, s)) {
            const struct node *hit = descend(c, p, ret);
            if (hit)
                return hit;
            break;
        }
    if (!at->param || s.n == 0)
        return NULL;
    unsigned n = ret->n_params;
    ret->params[ret->n_params++] = s;
    const struct node *hit = descend(at->param, p, ret);
    if (!hit)
        ret->n_params = n;
    return hit;
}

void router_find(const struct router *r, int method, const char *path, struct route_match *ret)
{
    *ret = (struct route_match){0};
    const struct node *n = *path == '/' ? descend(&r->root, path, ret) : NULL;
    if (!n)
        return;
    ret->found = true;
    ret->allow = n->allow;
    if (method >= 0)
        ret->entry = n->entries[method];
    if (!ret->entry && method == HTTP_HEAD)
        ret->entry = n->entries[HTTP_GET];
}
