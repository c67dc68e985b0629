/* Within remote/: straight to the object store, by URLs that the gateway signs. Whatever goes wrong here, the gateway is asked instead: nothing of this is an error to anybody. */
#ifndef CAIRN_FUSEFS_REMOTE_DIRECT_H
#define CAIRN_FUSEFS_REMOTE_DIRECT_H
#include "common/curl_pool.h"
#include "fusefs/remote/remote.h"

#include <stdatomic.h>

struct direct_place;
struct direct {
    struct curl_pool connections;
    _Atomic uint64_t fetched, sent; /* plain bytes */
    bool unwanted;                  /* this and the next: set before there are other threads */
    unsigned stall_s;               /* without a byte for so long the store is away */
    pthread_mutex_t lock;           /* guards all below; never held across a network call */
    enum { DIRECT_UNKNOWN, DIRECT_OFFERED, DIRECT_NOT_OFFERED } offer;
    int64_t ask_again_ms, bring_again_ms; /* the gateway gives no places, or none for new chunks: not asked before then */
    int64_t again_ms; /* the store could not be reached: not before then; 0: it could */
    unsigned pause_s; /* the last pause */
    bool trying;      /* after a pause, one tries while the others go on without */
    struct direct_place *places; /* by hash; the oldest first */
};
void direct_init(struct direct *d);
void direct_fini(struct direct *d);

/* Whether it is worth asking the gateway for places. */
bool direct_wanted(struct direct *d);
/* What the gateway said: places for so many seconds; 0: it has none to give. Strange ones are left out. */
void direct_take_places(struct direct *d, const json_t *places, uint64_t seconds);
/* That these have none, as far as they are not known: they are not asked for again soon. */
void direct_take_absent(struct direct *d, const struct hash *h, size_t n);
bool direct_knows(struct direct *d, const struct hash *h);
/* The gateway is perhaps another one by now: what it did not offer may be asked for again. */
void direct_new_gateway(struct direct *d);
/* The chunk's plain bytes, verified, into ret[0..size). False: not by this way. */
bool direct_get(struct direct *d, const struct hash *h, void *ret, uint32_t size);

/* ---- bringing ---- */
bool direct_may_bring(struct direct *d);
void direct_offered(struct direct *d, bool offered); /* places for new chunks; if not, none are asked for for a while */
/* Brings p[0..n), of `size` plain bytes, to a URL, with these headers (an object). False: it is not there, as far as is known. */
bool direct_put(struct direct *d, const char *url, const json_t *headers, const void *p, size_t n, uint32_t size);
#endif
