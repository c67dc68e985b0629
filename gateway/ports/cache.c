/* What is the same for every adapter. */
#include "gateway/ports/cache.h"
#include "common/hash.h"

#include <errno.h>
#include <string.h>

#define SUM_LEN 8

/* Of the bytes and of whose they are. */
static void checksum(const char *key, const char *p, size_t n, uint8_t ret[SUM_LEN])
{
    uint64_t sum = hash_xxh3(p, n) ^ hash_xxh3(key, strlen(key)) * UINT64_C(0x9E3779B97F4A7C15);
    memcpy(ret, &sum, SUM_LEN);
}

int cache_get_sealed(struct cache *c, const char *key, struct buf *ret)
{
    CLEANUP_BUF struct buf value = {0};
    uint8_t sum[SUM_LEN];
    int err = c->ops->get(c, key, &value);
    if (err)
        return err;
    if (value.len < SUM_LEN)
        return -ENOENT;
    checksum(key, value.data + SUM_LEN, value.len - SUM_LEN, sum);
    if (memcmp(sum, value.data, SUM_LEN) != 0)
        return -ENOENT;
    buf_append(ret, value.data + SUM_LEN, value.len - SUM_LEN);
    return 0;
}

int cache_put_sealed(struct cache *c, const char *key, const void *p, size_t n, unsigned ms)
{
    CLEANUP_BUF struct buf value = {0};
    uint8_t sum[SUM_LEN];
    checksum(key, p, n, sum);
    buf_append(&value, sum, SUM_LEN);
    buf_append(&value, p, n);
    return c->ops->put(c, key, value.data, value.len, ms);
}
