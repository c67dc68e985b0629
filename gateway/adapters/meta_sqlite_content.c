/* Versions of files, and the chunks that they are made of. */
#include "gateway/adapters/meta_sqlite.h"
#include "gateway/adapters/segment_pack.h"

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
    return segment_unpack(p, len, ret);
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
            segment_clip(&ret[at - first], &v, at);
        }
    }
    return 0;
}
