/* The port to a shared cache: small values that may vanish at any time, rates that all gateways keep together, and who is present where.

   Nothing that must be right depends on it: each caller goes on without it, only slower or per process. A `struct cache` may be used by any
   thread (of a process that ignores SIGPIPE); calls may block for a moment, so none is made on the event loop. A store that stops answering is waited for
   once, for CACHE_PATIENCE_MS (get and put, which somebody waits for: CACHE_HASTE_MS); one that is away costs nothing: calls then return -EHOSTUNREACH at once,
   and the adapter finds its way back by itself.

   Keys are made by the caller: 1 to CACHE_KEY_MAX bytes without a NUL. In a cluster a key lives on the node of its hash; a part in {braces}
   is hashed in the whole key's place, so that keys with the same one are together. */
#ifndef CAIRN_GATEWAY_PORTS_CACHE_H
#define CAIRN_GATEWAY_PORTS_CACHE_H
#include "common/buf.h"
#include "common/uuid.h"
#include <stdbool.h>
#include <stdint.h>

#define CACHE_KEY_MAX 200
#define CACHE_VALUE_MAX (256u << 10)
#define CACHE_DEVICE_MAX 128
#define CACHE_PATIENCE_MS 100
#define CACHE_HASTE_MS 10
#define CACHE_GATEWAY_GONE_MS 60000 /* for so long a gateway that fell silent is listed as one */

/* Something is taken from a key that refills. */
struct cache_charge {
    const char *key;
    double per_second, burst; /* how fast it refills (> 0), and how much it holds (≥ 1) */
    double n;                 /* how much is taken, whether it is there or not; negative: given back */
    /* filled: */
    bool answered;
    double room; /* what is there afterwards; below 0 (never below -burst) where more was taken than was there */
};

/* A device of a user, connected to a gateway. */
struct presence {
    struct uuid user, gateway;
    char name[65]; /* the user's */
    char device[CACHE_DEVICE_MAX + 1];
    int64_t since; /* ns since 1970: when it came */
};
typedef int cache_presence_each(void *ctx, const struct presence *p);

struct cache {
    const struct cache_ops *ops;
    bool shared; /* other processes see what is put here */
};
struct cache_ops {
    /* ---- values ---- */
    /* Appends the value to ret. 0; -ENOENT: none, expired, or dropped for want of room; -EHOSTUNREACH; -EIO. */
    int (*get)(struct cache *c, const char *key, struct buf *ret);
    /* Keeps p[0..n) for ms (≥ 1) milliseconds, in the place of what was there. 0; -E2BIG over CACHE_VALUE_MAX; -EHOSTUNREACH; -EIO. */
    int (*put)(struct cache *c, const char *key, const void *p, size_t n, unsigned ms);
    /* One that is not there is no error. 0; -EHOSTUNREACH; -EIO. */
    int (*remove)(struct cache *c, const char *key);

    /* ---- rates ---- */
    /* Each in one step for all gateways, on the store's clock. 0; -EHOSTUNREACH or -EIO: some were not answered; such a one may have been counted. */
    int (*charge)(struct cache *c, struct cache_charge *list, size_t n);

    /* ---- presence ---- */
    /* The gateway lives for another ms; 0: it has ended in good order. *ret_known (may be NULL): whether it was known to live until now; if not
       (it is new, was silent for too long, or the store lost it), its devices are to be put again. 0; -EHOSTUNREACH; -EIO. */
    int (*gateway_alive)(struct cache *c, const struct uuid *gateway, unsigned ms, bool *ret_known);
    /* Calls each for every gateway that is alive, and for those that fell silent in the last CACHE_GATEWAY_GONE_MS; each calls nothing of the cache. 0; -EHOSTUNREACH; -EIO. */
    int (*gateways)(struct cache *c, void (*each)(void *ctx, const struct uuid *gateway, bool alive), void *ctx);
    /* These n devices are there. Known for at least ms; put again before that, they stay. One (user, device, gateway) is one row.
       0; -EHOSTUNREACH or -EIO: some may be missing. */
    int (*present_put)(struct cache *c, const struct presence *p, size_t n, unsigned ms);
    /* These n have gone from their gateways. 0; -EHOSTUNREACH or -EIO: some may still be there. */
    int (*present_remove)(struct cache *c, const struct presence *p, size_t n);
    /* Calls each for every device of these users at a gateway that is alive; in no order. Stops when it returns non-zero and returns that; else 0;
       -EHOSTUNREACH, -EIO: some may have been left out. */
    int (*present_list)(struct cache *c, const struct uuid *users, size_t n, cache_presence_each *each, void *ctx);
    /* The same for every device at one gateway, alive or not; one may be told twice. */
    int (*present_at)(struct cache *c, const struct uuid *gateway, cache_presence_each *each, void *ctx);

    /* 0 if the whole of the store is there, as far as is known; -EHOSTUNREACH. Never blocks. */
    int (*ping)(struct cache *c);
    /* After the last call of any other function has returned. */
    void (*free)(struct cache *c);
};
/* get and put with a checksum over key and bytes: what is damaged, or another key's, is -ENOENT. */
int cache_get_sealed(struct cache *c, const char *key, struct buf *ret);
int cache_put_sealed(struct cache *c, const char *key, const void *p, size_t n, unsigned ms);
/* url: "memory:", or redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DB]: one Redis, a primary among several, or some nodes of a Redis
   Cluster; which of them it is, is found out there. A store that is away now is no error. -EINVAL, -ENOTSUP with a message in the log. */
int cache_open(const char *url, struct cache **ret);
/* NULL, or what is wrong with the URL: a static text. */
const char *cache_url_wrong(const char *url);
/* For this process alone: at most max_bytes of values, the longest unused go first. */
struct cache *cache_memory_new(size_t max_bytes);
int cache_redis_open(const char *url, struct cache **ret);
#endif
