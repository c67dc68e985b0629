/* An object store with a shared cache before it. Objects never change, and what a range is called says all about it, so nothing in here can be old. What comes out of the cache
   is believed only with its checksum: whoever damages the cache makes it slower. */
#include "common/mem.h"
#include "gateway/ports/cache.h"
#include "gateway/ports/objects.h"

#include <inttypes.h>
#include <string.h>

#define KEEP_MS (3600u * 1000)

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

static int get(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret)
{
    struct cached *c = of(o);
    char name[CACHE_KEY_MAX + 1];
    CLEANUP_BUF struct buf found = {0};
    bool kept = cache_key(key, offset, len, name);
    if (kept && cache_get_sealed(c->cache, name, &found) == 0 && found.len == len) {
        buf_append(ret, found.data, found.len);
        return 0;
    }
    size_t at = ret->len;
    int err = c->below->ops->get(c->below, key, offset, len, ret);
    if (!err && kept)
        cache_put_sealed(c->cache, name, ret->data + at, len, KEEP_MS);
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
