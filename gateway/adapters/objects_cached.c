/* An object store with a shared cache before it. Objects never change, and what a range is called says all about it, so nothing in here can be old. What comes out of the cache
   is believed only with its checksum: whoever damages the cache makes it slower. */
#include "common/hash.h"
#include "common/mem.h"
#include "gateway/ports/cache.h"
#include "gateway/ports/objects.h"

#include <inttypes.h>
#include <string.h>

#define KEEP_MS (3600u * 1000)
#define SUM_LEN 8

struct cached {
    struct objects o; /* first */
    struct objects *below;
    struct cache *cache;
};

static struct cached *of(struct objects *o)
{
    return (struct cached *)o;
}

/* false: none that is kept. */
static bool cache_key(const char *key, uint64_t offset, uint64_t len, char ret[CACHE_KEY_MAX + 1])
{
    int n = snprintf(ret, CACHE_KEY_MAX + 1, "range:%s:%" PRIu64 ":%" PRIu64, key, offset, len);
    return len > 0 && len <= OBJECTS_CACHED_MAX && n > 0 && n <= CACHE_KEY_MAX;
}

/* Of the bytes and of whose they are. */
static void checksum(const char *key, const char *p, size_t n, uint8_t ret[SUM_LEN])
{
    uint64_t sum = hash_xxh3(p, n) ^ hash_xxh3(key, strlen(key)) * UINT64_C(0x9E3779B97F4A7C15);
    memcpy(ret, &sum, SUM_LEN);
}

static bool find(struct cached *c, const char *key, uint64_t len, struct buf *ret)
{
    CLEANUP_BUF struct buf value = {0};
    uint8_t sum[SUM_LEN];
    if (c->cache->ops->get(c->cache, key, &value) != 0 || value.len != SUM_LEN + len)
        return false;
    checksum(key, value.data + SUM_LEN, len, sum);
    if (memcmp(sum, value.data, SUM_LEN) != 0)
        return false;
    buf_append(ret, value.data + SUM_LEN, len);
    return true;
}

static void keep(struct cached *c, const char *key, const char *p, size_t n)
{
    CLEANUP_BUF struct buf value = {0};
    uint8_t sum[SUM_LEN];
    checksum(key, p, n, sum);
    buf_append(&value, sum, SUM_LEN);
    buf_append(&value, p, n);
    c->cache->ops->put(c->cache, key, value.data, value.len, KEEP_MS);
}

static int get(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret)
{
    struct cached *c = of(o);
    char name[CACHE_KEY_MAX + 1];
    bool kept = cache_key(key, offset, len, name);
    if (kept && find(c, name, len, ret))
        return 0;
    size_t at = ret->len;
    int err = c->below->ops->get(c->below, key, offset, len, ret);
    if (!err && kept)
        keep(c, name, ret->data + at, len);
    return err;
}

/* ---- the rest is the store's ---- */

static int put(struct objects *o, const char *key, const void *p, size_t n, const struct hash *sha256)
{
    return of(o)->below->ops->put(of(o)->below, key, p, n, sha256);
}

static int remove_one(struct objects *o, const char *key)
{
    return of(o)->below->ops->remove(of(o)->below, key);
}

static int remove_many(struct objects *o, const char *const *keys, size_t n)
{
    return of(o)->below->ops->remove_many(of(o)->below, keys, n);
}

static int list(struct objects *o, const char *prefix, int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns), void *ctx)
{
    return of(o)->below->ops->list(of(o)->below, prefix, each, ctx);
}

static int presign_get(struct objects *o, const char *key, unsigned seconds, struct buf *ret_url)
{
    return of(o)->below->ops->presign_get(of(o)->below, key, seconds, ret_url);
}

static int presign_put(struct objects *o, const char *key, uint64_t len, const struct hash *sha256, unsigned seconds, struct buf *ret_url, struct buf *ret_headers_json)
{
    return of(o)->below->ops->presign_put(of(o)->below, key, len, sha256, seconds, ret_url, ret_headers_json);
}

static int ping(struct objects *o)
{
    return of(o)->below->ops->ping(of(o)->below);
}

static void cached_free(struct objects *o)
{
    free(of(o));
}

static const struct objects_ops cached_ops = {
    .put = put,
    .get = get,
    .remove = remove_one,
    .remove_many = remove_many,
    .list = list,
    .presign_get = presign_get,
    .presign_put = presign_put,
    .ping = ping,
    .free = cached_free,
};

struct objects *objects_cached_new(struct objects *below, struct cache *cache)
{
    struct cached *c = mem_alloc(sizeof *c);
    *c = (struct cached){.o.ops = &cached_ops, .below = below, .cache = cache};
    return &c->o;
}
