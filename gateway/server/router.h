/* Which route a path belongs to: a tree of path segments, in which a literal goes before `{}`. Read-only once built. */
#ifndef CAIRN_GATEWAY_SERVER_ROUTER_H
#define CAIRN_GATEWAY_SERVER_ROUTER_H
#include "gateway/server/http.h"

#define HTTP_METHODS (HTTP_OPTIONS + 1)

/* A route, and what is counted about it; the counters belong to the loop thread. */
struct route_entry {
    struct route route;
    struct metric *seconds;
    struct metric *requests[600]; /* by status; found when first needed */
};

struct span {
    const char *p;
    size_t n;
};

struct route_match {
    bool found;                  /* the path is known, whatever the method */
    struct route_entry *entry;   /* NULL: not with this method */
    unsigned allow;              /* bits 1 << method */
    struct span params[CALL_PARAMS_MAX]; /* still encoded */
    unsigned n_params;
};

struct router;
/* Copies `routes`, not the patterns. NULL: a pattern is malformed or given twice (logged). */
struct router *router_new(const struct route *routes, size_t n);
void router_free(struct router *r);
void router_find(const struct router *r, int method /* -1: one that we do not know */, const char *path, struct route_match *ret);
const char *http_method_name(int method);
#endif
