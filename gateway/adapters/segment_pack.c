#include "gateway/adapters/segment_pack.h"

#include <errno.h>
#include <string.h>

size_t segment_pack(const struct chunk_ref chunks[SEGMENT_CHUNKS], uint8_t *ret)
{
    size_t n = SEGMENT_CHUNKS;
    while (n > 0 && hash_is_zero(&chunks[n - 1].hash))
        n--;
    for (size_t i = 0; i < n; i++, ret += SEGMENT_ENTRY) {
        uint32_t len = chunks[i].len;
        memcpy(ret, chunks[i].hash.b, HASH_LEN);
        for (int b = 0; b < 4; b++)
            ret[HASH_LEN + b] = (uint8_t)(len >> 8 * b);
    }
    return n * SEGMENT_ENTRY;
}

int segment_unpack(const void *packed, size_t len, struct chunk_ref ret[SEGMENT_CHUNKS])
{
    const uint8_t *p = packed;
    memset(ret, 0, SEGMENT_CHUNKS * sizeof *ret);
    if (len % SEGMENT_ENTRY || len > SEGMENT_CHUNKS * SEGMENT_ENTRY)
        return -EIO;
    for (size_t i = 0; i < len / SEGMENT_ENTRY; i++, p += SEGMENT_ENTRY) {
        memcpy(ret[i].hash.b, p, HASH_LEN);
        ret[i].len = p[HASH_LEN] | (uint32_t)p[HASH_LEN + 1] << 8 | (uint32_t)p[HASH_LEN + 2] << 16 | (uint32_t)p[HASH_LEN + 3] << 24;
    }
    return 0;
}

void segment_clip(struct chunk_ref *ref, const struct version_row *v, uint64_t n)
{
    uint32_t most = chunk_length(v->size, v->chunk_size, n);
    if (ref->len > most)
        ref->len = most;
}
