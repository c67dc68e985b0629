#include "gateway/api/content_reader.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/api/content.h"

#include <errno.h>
#include <string.h>

#define PIECE (1u << 20)

struct content_reader {
    struct app *app;
    struct uuid drive;
    uint64_t ino, version, pos, end;
    uint32_t chunk_size;
    uint64_t map_first; /* chunks [map_first, map_first + map_n) are in map */
    size_t map_n;
    struct chunk_ref map[SEGMENT_CHUNKS];
    uint64_t current_n; /* the chunk that `current` is; it is kept between pieces */
    struct chunk_data *current;
    struct buf first; /* read ahead of the answer, not sent yet */
};

static int load_map(struct content_reader *r, struct meta_tx *tx)
{
    uint64_t last = (r->end - 1) / r->chunk_size;
    r->map_first = r->pos / r->chunk_size;
    r->map_n = last - r->map_first < SEGMENT_CHUNKS ? (size_t)(last - r->map_first + 1) : SEGMENT_CHUNKS;
    return r->app->meta->ops->chunk_map(tx, r->ino, r->version, r->map_first, r->map_n, r->map);
}

int content_reader_new(struct app *app, struct meta_tx *tx, uint64_t ino, const struct version_row *v, uint64_t from,
                       uint64_t to, struct content_reader **ret)
{
    struct content_reader *r = mem_alloc(sizeof *r);
    r->app = app;
    r->drive = tx->drive.id;
    r->ino = ino;
    r->version = v->version;
    r->chunk_size = v->chunk_size ? v->chunk_size : CHUNK_SIZE_DEFAULT;
    r->pos = from;
    r->end = to;
    int err = from < to ? load_map(r, tx) : 0;
    if (err) {
        content_reader_free(r);
        return err;
    }
    *ret = r;
    return 0;
}

void content_reader_free(struct content_reader *r)
{
    if (!r)
        return;
    chunk_data_unref(r->current);
    buf_fini(&r->first);
    free(r);
}

static int ensure_map(struct content_reader *r)
{
    uint64_t n = r->pos / r->chunk_size;
    if (n >= r->map_first && n < r->map_first + r->map_n)
        return 0;
    struct meta_tx *tx;
    int err = r->app->meta->ops->snapshot(r->app->meta, &r->drive, &tx);
    if (err)
        return err;
    err = load_map(r, tx);
    r->app->meta->ops->rollback(tx);
    return err;
}

static int ensure_chunk(struct content_reader *r, uint64_t n, const struct hash *h)
{
    if (r->current && r->current_n == n)
        return 0;
    chunk_data_unref(r->current);
    r->current = NULL;
    r->current_n = n;
    int err = content_chunk_get(r->app, &r->drive, h, &r->current);
    return err == -ENOENT ? -EIO : err; /* a version that names a chunk which is gone */
}

static void append_zeros(struct buf *b, size_t n)
{
    buf_reserve(b, n);
    memset(b->data + b->len, 0, n + 1);
    b->len += n;
}

/* What is left of the chunk at pos, within the range, at most `most` bytes. */
static int append_from_chunk(struct content_reader *r, size_t most, struct buf *ret)
{
    int err = ensure_map(r);
    if (err)
        return err;
    uint64_t n = r->pos / r->chunk_size;
    const struct chunk_ref *ref = &r->map[n - r->map_first];
    size_t offset = (size_t)(r->pos - n * r->chunk_size), take = r->chunk_size - offset;
    if (take > r->end - r->pos)
        take = (size_t)(r->end - r->pos);
    if (take > most)
        take = most;
    size_t valid = 0;
    if (!hash_is_zero(&ref->hash) && offset < ref->len) {
        err = ensure_chunk(r, n, &ref->hash);
        if (err)
            return err;
        size_t len = chunk_data_len(r->current) < ref->len ? chunk_data_len(r->current) : ref->len;
        valid = offset < len ? len - offset : 0;
        if (valid > take)
            valid = take;
        buf_append(ret, chunk_data_bytes(r->current) + offset, valid);
    }
    append_zeros(ret, take - valid);
    r->pos += take;
    return 0;
}

int content_reader_next(struct content_reader *r, size_t most, struct buf *ret)
{
    size_t begin = ret->len;
    while (r->pos < r->end && ret->len - begin < most) {
        int err = append_from_chunk(r, most - (ret->len - begin), ret);
        if (err)
            return err;
    }
    return r->pos < r->end;
}

static int stream_next(void *ctx, struct buf *ret)
{
    struct content_reader *r = ctx;
    if (r->first.len) {
        buf_append(ret, r->first.data, r->first.len);
        buf_fini(&r->first);
        return 1;
    }
    int more = content_reader_next(r, PIECE, ret);
    if (more < 0)
        log_error("content of inode %llu version %llu cannot be read: %s", (unsigned long long)r->ino,
                  (unsigned long long)r->version, strerror(-more));
    return more;
}

static void stream_free(void *ctx)
{
    content_reader_free(ctx);
}

int content_reader_serve(struct content_reader *r, struct call *c)
{
    c->stream_len = r->end - r->pos;
    if (c->method != HTTP_HEAD) {
        /* the first piece is read before the status is sent: what cannot be read at all is an error, not a cut connection */
        int more = content_reader_next(r, PIECE, &r->first);
        if (more <= 0) {
            buf_fini(&c->out);
            c->out = r->first;
            r->first = (struct buf){0};
            content_reader_free(r);
            return more;
        }
    }
    c->stream = stream_next;
    c->stream_free = stream_free;
    c->stream_ctx = r;
    return 0;
}
