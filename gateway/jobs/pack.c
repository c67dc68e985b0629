/* Gathers small chunks, which are committed in their rows, into packs: the object store then holds few large objects, and the database stays small.

   The pack is durable before a row says that its chunk is there. Readers that hold an old row find its bytes in the row they hold; nothing is removed from
   the store. */
#include "common/buf.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/jobs/jobs_internal.h"

#include <errno.h>
#include <string.h>

struct pack {
    struct buf bytes;
    struct chunk_row *rows; /* without their bytes; offsets into the pack */
    size_t n;
};

static void pack_fini(struct pack *p)
{
    buf_fini(&p->bytes);
    free(p->rows);
}

static int add_chunk(void *ctx, const struct chunk_row *c)
{
    struct pack *p = ctx;
    if (p->n && p->bytes.len + c->stored_size > PACK_BYTES)
        return 1;
    if ((p->n & (p->n - 1)) == 0) /* room for the next power of two */
        p->rows = mem_realloc(p->rows, (p->n ? 2 * p->n : 1) * sizeof *p->rows);
    struct chunk_row *row = &p->rows[p->n++];
    *row = *c;
    row->bytes = NULL;
    row->offset = p->bytes.len;
    buf_append(&p->bytes, c->bytes, c->stored_size);
    return 0;
}

static int pack_store(struct meta *meta, struct objects *objects, const struct uuid *drive, struct pack *p)
{
    struct uuid id;
    struct hash sha256;
    char text[UUID_TEXT], key[64] = {0};
    uuid_new(&id);
    uuid_text(&id, text);
    snprintf(key, sizeof key, "pack/%s", text);
    hash_bytes(p->bytes.data, p->bytes.len, &sha256);
    int err = objects->ops->put(objects, key, p->bytes.data, p->bytes.len, &sha256);
    if (err)
        return err;
    for (size_t i = 0; i < p->n; i++)
        memcpy(p->rows[i].pack, key, sizeof key);
    err = meta->ops->chunks_moved(meta, drive, p->rows, p->n);
    /* After -EIO nobody knows whether the rows name it by now: rather an object too many than content that is gone. */
    if (err == -EAGAIN || err == -ENOENT)
        objects->ops->remove(objects, key);
    return err;
}

int64_t pack_drive(struct meta *meta, struct objects *objects, const struct uuid *drive, uint64_t least, const atomic_bool *stop)
{
    int64_t moved = 0;
    while (!stop || !*stop) {
        CLEANUP(pack_fini) struct pack p = {0};
        int err = meta->ops->chunks_inline(meta, drive, PACK_BYTES, add_chunk, &p);
        if (err >= 0 && (p.n == 0 || p.bytes.len < least))
            break;
        if (err >= 0)
            err = pack_store(meta, objects, drive, &p);
        if (err < 0)
            return err;
        moved += (int64_t)p.n;
    }
    return moved;
}

int64_t job_pack(struct meta *meta, struct objects *objects, const struct uuid *drive)
{
    return pack_drive(meta, objects, drive, 1, NULL);
}
