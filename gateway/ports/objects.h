/* The port to an object store: immutable objects under keys that are never used twice.

   Implementations stack through the same struct (a retrying one over a real one). Every function may be called
   from any worker thread and may block; none is called on the event loop. Keys are [a-z0-9/-], at most 200
   bytes, made by the caller from fresh ids. */
#ifndef CAIRN_GATEWAY_PORTS_OBJECTS_H
#define CAIRN_GATEWAY_PORTS_OBJECTS_H
#include "common/buf.h"
#include "common/hash.h"
#include <stdbool.h>
#include <stdint.h>

#define OBJECTS_KEY_MAX 200

struct objects {
    const struct objects_ops *ops;
};
struct objects_ops {
    /* Stores p[0..n) durably under key before it returns. sha256 is that of these bytes: the store checks it where
       it can. 0; -EEXIST where the key is taken by other bytes (by these: 0 or -EEXIST); -ENOSPC; -EIO; -EHOSTUNREACH where the store cannot be reached. */
    int (*put)(struct objects *o, const char *key, const void *p, size_t n, const struct hash *sha256);
    /* Appends bytes [offset, offset+len) of the object to ret. 0; -ENOENT; -ERANGE where the object is shorter;
       -EIO; -EHOSTUNREACH. */
    int (*get)(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret);
    /* Removes the object; one that is not there is no error. */
    int (*remove)(struct objects *o, const char *key);
    /* Removes them in as few calls of the store as it allows. After an error some may be gone. */
    int (*remove_many)(struct objects *o, const char *const *keys, size_t n);
    /* Calls each for every object whose key begins with prefix; stops when it returns non-zero and returns that. */
    int (*list)(struct objects *o, const char *prefix,
                int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns), void *ctx);
    /* A URL by which a client reaches the object without the gateway, for `seconds`. For presign_put it must send the headers of ret_headers_json (an object, names in
       lower case), and what has another length or sha256 the store refuses. Appended. -ENOTSUP: the store is not reachable so, or would not refuse. */
    int (*presign_get)(struct objects *o, const char *key, unsigned seconds, struct buf *ret_url);
    int (*presign_put)(struct objects *o, const char *key, uint64_t len, const struct hash *sha256,
                       unsigned seconds, struct buf *ret_url, struct buf *ret_headers_json);
    /* 0 if the store answers. */
    int (*ping)(struct objects *o);
    void (*free)(struct objects *o);
};
bool objects_key_valid(const char *key); /* 1 … OBJECTS_KEY_MAX of [a-z0-9/-] */
/* url: file:DIR or s3://… (gateway/adapters/s3_url.h). -EINVAL and a message in the log for a bad one; -ENOTSUP for an unknown scheme. A store that is away is no error
   yet: what needs it will say -EHOSTUNREACH. */
const char *objects_url_wrong(const char *url); /* what is wrong with its form, a static text; NULL if nothing is */
int objects_open(const char *url, struct objects **ret);
int objects_dir_open(const char *dir, struct objects **ret);
int objects_s3_open(const char *url, struct objects **ret);
/* The same store with a cache before it: ranges of up to OBJECTS_CACHED_MAX bytes that were read once are read from there (for up to an hour: what is removed meanwhile, too). Keeps both,
   which end after it. */
#define OBJECTS_CACHED_MAX (128u << 10)
struct cache;
struct objects *objects_cached_new(struct objects *below, struct cache *cache);
#endif
