/* Versions of files, and the chunks that they are made of. */
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>
#include <string.h>

void get_version(struct query *q, struct version_row *ret)
{
    ret->ino = get_int(q);
    ret->version = get_int(q);
    ret->size = get_int(q);
    ret->chunk_size = get_u32(q);
    get_hash(q, &ret->tree_hash);
    get_hash(q, &ret->sha256);
    ret->mtime = get_int(q);
    ret->at = get_int(q);
    get_id(q, &ret->user);
    get_text(q, ret->device, sizeof ret->device);
    ret->listed = get_bool(q);
    ret->quarantined = get_bool(q);
}

int sqlite_version(struct meta_tx *tx, uint64_t ino, uint64_t number, struct version_row *ret)
{
    QUERY(q, conn_of(tx), "SELECT " VERSION_COLUMNS " FROM version WHERE drive = ?1 AND ino = ?2 AND version = ?3");
    put_id(&q, &tx->drive.id);
    put_seq(&q, ino);
    put_seq(&q, number);
    int err = query_one(&q);
    if (!err)
        get_version(&q, ret);
    return err;
}

int sqlite_versions(struct meta_tx *tx, uint64_t ino, uint64_t from, uint64_t to, unsigned limit,
                    int (*each)(void *ctx, const struct version_row *v), void *ctx)
{
    QUERY(q, conn_of(tx),
          "SELECT " VERSION_COLUMNS " FROM version WHERE drive = ?1 AND ino = ?2 AND version > ?3 AND version <= ?4 AND listed "
          "ORDER BY version DESC LIMIT ?5");
    put_id(&q, &tx->drive.id);
    put_seq(&q, ino);
    put_seq(&q, from);
    put_seq(&q, to);
    put_int(&q, limit);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct version_row v;
        get_version(&q, &v);
        if ((err = each(ctx, &v)) != 0)
            break;
    }
    return err;
}

/* ---- segments ---- */

size_t sqlite_segment_pack(const struct chunk_ref chunks[SEGMENT_CHUNKS], uint8_t *ret)
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

int sqlite_segment_unpack(const void *packed, size_t len, struct chunk_ref ret[SEGMENT_CHUNKS])
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

static int is_cut(struct conn *c, const struct uuid *drive, uint64_t ino, uint64_t number, uint64_t after, uint64_t at)
{
    QUERY(q, c,
          "SELECT 1 FROM cut WHERE drive = ?1 AND ino = ?2 AND version > ?3 AND version <= ?4 AND from_segment <= ?5 LIMIT 1");
    put_id(&q, drive);
    put_seq(&q, ino);
    put_seq(&q, after);
    put_seq(&q, at);
    put_seq(&q, number);
    return query_step(&q);
}

int sqlite_segment_at(struct conn *c, const struct uuid *drive, uint64_t ino, uint64_t number, uint64_t at, uint64_t *ret_version,
                      struct chunk_ref ret[SEGMENT_CHUNKS])
{
    memset(ret, 0, SEGMENT_CHUNKS * sizeof *ret);
    *ret_version = 0;
    QUERY(q, c,
          "SELECT version, chunks FROM segment WHERE drive = ?1 AND ino = ?2 AND number = ?3 AND version <= ?4 "
          "ORDER BY version DESC LIMIT 1");
    put_id(&q, drive);
    put_seq(&q, ino);
    put_seq(&q, number);
    put_seq(&q, at);
    int err = query_one(&q);
    if (err)
        return err == -ENOENT ? 0 : err;
    uint64_t version = get_int(&q);
    int cut = is_cut(c, drive, ino, number, version, at);
    if (cut)
        return cut < 0 ? cut : 0;
    size_t len;
    const void *p = get_blob(&q, &len);
    *ret_version = version;
    return sqlite_segment_unpack(p, len, ret);
}

/* What lies beyond the file's end is no part of it, whatever the segment's row says. */
static void clip(struct chunk_ref *ref, const struct version_row *v, uint64_t n)
{
    uint32_t most = chunk_length(v->size, v->chunk_size, n);
    if (ref->len > most)
        ref->len = most;
}

int sqlite_chunk_map(struct meta_tx *tx, uint64_t ino, uint64_t version, uint64_t first, size_t n, struct chunk_ref *ret)
{
    struct version_row v;
    memset(ret, 0, n * sizeof *ret);
    if (version == 0) /* the empty content of a new file */
        return 0;
    int err = sqlite_version(tx, ino, version, &v);
    if (err)
        return err;
    uint64_t count = v.chunk_size ? chunk_count(v.size, v.chunk_size) : 0;
    uint64_t end = first < count && n > count - first ? count : first + n;
    for (uint64_t at = first; at < end && at < count;) {
        struct chunk_ref chunks[SEGMENT_CHUNKS];
        uint64_t row, number = at / SEGMENT_CHUNKS;
        err = sqlite_segment_at(conn_of(tx), &tx->drive.id, ino, number, version, &row, chunks);
        if (err)
            return err;
        for (; at < end && at / SEGMENT_CHUNKS == number; at++) {
            ret[at - first] = chunks[at % SEGMENT_CHUNKS];
            clip(&ret[at - first], &v, at);
        }
    }
    return 0;
}
