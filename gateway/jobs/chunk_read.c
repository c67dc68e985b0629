#include "gateway/jobs/chunk_read.h"
#include "common/chunk.h"

#include <errno.h>

#define TRIES 3 /* packing moves a chunk between the look-up of its place and the reading of it */

static int decode(const struct chunk_row *row, const struct buf *stored, struct buf *ret)
{
    struct hash h;
    ret->len = 0;
    buf_reserve(ret, row->size);
    int err = codec_decode(row->codec, stored->data ? stored->data : "", stored->len, ret->data, row->size);
    if (err)
        return -EIO;
    ret->len = row->size;
    ret->data[ret->len] = 0;
    hash_bytes(ret->data, ret->len, &h);
    return hash_equal(&h, &row->hash) ? 0 : -EIO;
}

static int read_once(struct meta *meta, struct objects *objects, const struct uuid *drive, const struct hash *h, struct buf *ret, bool *ret_moved)
{
    CLEANUP(chunk_row_fini) struct chunk_row row = {0};
    CLEANUP_BUF struct buf stored = {0};
    *ret_moved = false;
    int err = meta->ops->chunk_get(meta, drive, h, &row);
    if (err)
        return err;
    if (row.size > CHUNK_SIZE_MAX || row.stored_size > CHUNK_SIZE_MAX || (!row.pack[0] && !row.bytes))
        return -EIO;
    if (row.pack[0])
        err = objects->ops->get(objects, row.pack, row.offset, row.stored_size, &stored);
    else
        buf_append(&stored, row.bytes, row.stored_size);
    *ret_moved = err == -ENOENT;
    return err ? err : decode(&row, &stored, ret);
}

int chunk_read(struct meta *meta, struct objects *objects, const struct uuid *drive, const struct hash *h, struct buf *ret)
{
    bool moved = true;
    int err = -EIO;
    for (int i = 0; i < TRIES && moved; i++)
        err = read_once(meta, objects, drive, h, ret, &moved);
    return moved ? -EIO : err;
}
