#include "gateway/jobs/pending.h"
#include "common/codec.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>

#define AT_ONCE 256u

/* ---- chunks that nobody has checked ---- */

struct unverified {
    struct pending_row rows[AT_ONCE]; /* drive and chunk */
    size_t n;
};

static int collect(void *ctx, const struct uuid *drive, const struct chunk_row *c)
{
    struct unverified *u = ctx;
    u->rows[u->n].drive = *drive;
    u->rows[u->n++].chunk = *c;
    return u->n == AT_ONCE;
}

/* 1: its bytes are those of its hash; 0: they are not, or are not there; else the store could not say. */
static int look(struct objects *objects, const struct chunk_row *c)
{
    CLEANUP_BUF struct buf stored = {0};
    struct hash is;
    int err = objects->ops->get(objects, c->pack, c->offset, c->stored_size, &stored);
    if (err)
        return err == -ENOENT || err == -ERANGE ? 0 : err;
    CLEANUP_FREE char *plain = mem_alloc(c->size);
    if (codec_decode(c->codec, stored.data, stored.len, plain, c->size))
        return 0;
    hash_bytes(plain, c->size, &is);
    return hash_equal(&is, &c->hash);
}

static int judge(struct meta *meta, struct objects *objects, const struct pending_row *p)
{
    int right = look(objects, &p->chunk);
    if (right < 0)
        return right;
    if (!right) {
        char hex[HASH_HEX_LEN + 1], drive[UUID_TEXT], user[UUID_TEXT];
        hash_hex(&p->chunk.hash, hex);
        uuid_text(&p->drive, drive);
        uuid_text(&p->chunk.unverified_by, user);
        log_warn("drive %s: %s is not the chunk %s that user %s brought it as", drive, p->chunk.pack, hex, user);
    }
    return meta->ops->chunk_judge(meta, &p->drive, &p->chunk, right);
}

int64_t job_verify(struct meta *meta, struct objects *objects, const atomic_bool *stop)
{
    CLEANUP_FREE struct unverified *u = mem_alloc(sizeof *u);
    int64_t total = 0;
    for (bool more = true; more && !(stop && *stop);) {
        size_t judged = 0;
        u->n = 0;
        int err = meta->ops->chunks_unverified(meta, AT_ONCE, collect, u);
        for (size_t i = 0; err >= 0 && i < u->n && !(stop && *stop); i++) {
            err = judge(meta, objects, &u->rows[i]);
            judged += err == 0;
            if (err == -EIO) /* of this object; it is tried again another time */
                err = 0;
        }
        if (err < 0)
            return err;
        total += (int64_t)judged;
        more = u->n == AT_ONCE && judged;
    }
    return total;
}

/* ---- objects that nobody came back for ---- */

int64_t job_pending(struct meta *meta, struct objects *objects, int64_t now, const atomic_bool *stop)
{
    CLEANUP_FREE struct pending_row *rows = mem_calloc(AT_ONCE, sizeof *rows);
    int64_t total = 0;
    for (unsigned n = AT_ONCE; n == AT_ONCE && !(stop && *stop);) {
        const char *keys[AT_ONCE];
        int err = meta->ops->pendings_over(meta, now - PENDING_KEPT_NS, AT_ONCE, rows, &n);
        for (unsigned i = 0; i < n; i++)
            keys[i] = rows[i].chunk.pack;
        if (!err && n)
            err = objects->ops->remove_many(objects, keys, n);
        if (!err && n) /* last: what is forgotten is never found again */
            err = meta->ops->pendings_forget(meta, rows, n);
        if (err)
            return err;
        total += n;
    }
    return total;
}
