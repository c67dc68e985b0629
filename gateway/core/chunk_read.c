#include "gateway/core/chunk_read.h"
#include "common/chunk.h"
#include "common/log.h"

#include <errno.h>

#define TRIES 3 /* packing moves a chunk between the look-up of its place and the reading of it: then its row says where it is now */

static int stored_bytes(struct objects *objects, const struct chunk_row *row, struct buf *ret)
{
    if (row->pack[0])
        return objects->ops->get(objects, row->pack, row->offset, row->stored_size, ret);
    if (!row->bytes)
        return -EIO;
    buf_append(ret, row->bytes, row->stored_size);
    return 0;
}

static int decode(const struct chunk_row *row, const struct buf *stored, char *to)
{
    struct hash is;
    int err = codec_decode(row->codec, stored->data ? stored->data : "", stored->len, to, row->size);
    if (!err)
        hash_bytes(to, row->size, &is);
    if (!err && hash_equal(&is, &row->hash))
        return 0;
    char hex[HASH_HEX_LEN + 1];
    hash_hex(&row->hash, hex);
    log_error("chunk %s in %s is damaged", hex, row->pack[0] ? row->pack : "its row");
    return -EIO;
}

static int read_once(struct meta *meta, struct objects *objects, const struct uuid *drive, const struct hash *h, char *(*room)(void *ctx, size_t n), void *ctx, bool *ret_moved)
{
    CLEANUP(chunk_row_fini) struct chunk_row row = {0};
    CLEANUP_BUF struct buf stored = {0};
    *ret_moved = false;
    int err = meta->ops->chunk_get(meta, drive, h, &row);
    if (err)
        return err;
    if (row.size > CHUNK_SIZE_MAX)
        return -EIO;
    err = stored_bytes(objects, &row, &stored);
    *ret_moved = err == -ENOENT;
    return err ? err : decode(&row, &stored, room(ctx, row.size));
}

int chunk_read(struct meta *meta, struct objects *objects, const struct uuid *drive, const struct hash *h, char *(*room)(void *ctx, size_t n), void *ctx)
{
    bool moved = true;
    int err = -EIO;
    for (int i = 0; i < TRIES && moved; i++)
        err = read_once(meta, objects, drive, h, room, ctx, &moved);
    return moved ? -EIO : err;
}
