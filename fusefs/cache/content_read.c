/* Reads, and where data and holes are. */
#include "fusefs/cache/content_internal.h"

#define AHEAD_BYTES (16u << 20) /* at most so far before a sequential reader */
#define AHEAD_CHUNKS 32u
#define PARALLEL 8u /* chunks of one large read that are fetched side by side */

static bool is_absent(const struct content *c, uint64_t n)
{
    const struct chunk *ch = &c->chunks[n];
    return !(ch->flags & (CHUNK_PRESENT | CHUNK_FETCHING)) && !chunk_is_hole(ch);
}

/* A reader that goes on where it stopped gets the chunks after it fetched meanwhile: one, then two, four… ahead. */
static void read_ahead(struct content *c, uint64_t off, uint64_t end)
{
    if (off != c->read_next) {
        c->read_run = 0;
        c->ahead_until = 0;
    } else if (c->read_run < 1000) {
        c->read_run++;
    }
    c->read_next = end;
    if (c->read_run < 2 || c->n_chunks < 2) /* one read at the start is not yet a run */
        return;
    uint64_t at = (end - 1) / c->chunk_size, window = AHEAD_BYTES / c->chunk_size, quarter = c->store->cfg.max_bytes / 4 / c->chunk_size;
    window = window > AHEAD_CHUNKS ? AHEAD_CHUNKS : window ? window : 1;
    window = window > quarter ? quarter : window;
    if (c->read_run < 8 && window > 1u << (c->read_run / 2))
        window = 1u << (c->read_run / 2);
    uint64_t from = c->ahead_until > at + 1 ? c->ahead_until : at + 1, to = at + 1 + window;
    if (to > c->n_chunks)
        to = c->n_chunks;
    for (; from < to; from++)
        if (is_absent(c, from))
            content_fetch_later(c, from);
    if (to > c->ahead_until)
        c->ahead_until = to;
}

static int read_chunk(struct content *c, uint64_t n, uint32_t from, size_t len, void *p)
{
    int err;
    while (!(err = content_ensure(c, n, c->store->cfg.timeout_ms)) && c->frozen)
        content_wait_thaw(c); /* whatever was ready may be gone, or a hole, after that */
    if (err)
        return err;
    if (n >= c->n_chunks || chunk_is_hole(&c->chunks[n])) {
        memset(p, 0, len);
        return 0;
    }
    uint64_t off = chunk_start(c, n) + from;
    c->chunks[n].used = atomic_fetch_add(&c->store->tick, 1) + 1;
    chunk_pin(c, n);
    pthread_mutex_unlock(&c->lock);
    err = backing_read(c, p, len, off);
    pthread_mutex_lock(&c->lock);
    chunk_unpin(c, n);
    return err;
}

static uint32_t now_s(void)
{
    return (uint32_t)(clock_boot_ms() / 1000);
}

ssize_t content_read(struct content *c, void *p, size_t n, uint64_t off)
{
    store_check_room(c->store);
    content_lock(c);
    CLEANUP(cleanup_unlock) pthread_mutex_t *locked = &c->lock;
    (void)locked;
    atomic_store(&c->last_used, now_s());
    if (c->infected)
        return -EACCES;
    if (off < c->size && c->chunk_size) { /* the other chunks of a read that spans several come side by side */
        uint64_t end = off + n < c->size ? off + n : c->size;
        for (uint64_t k = off / c->chunk_size + 1, i = 0; k * c->chunk_size < end && i < PARALLEL; k++, i++)
            if (is_absent(c, k))
                content_fetch_later(c, k);
    }
    size_t done = 0;
    while (done < n && off + done < c->size) {
        uint64_t at = off + done;
        uint32_t from = (uint32_t)(at % c->chunk_size);
        size_t len = c->chunk_size - from;
        if (len > n - done)
            len = n - done;
        if (len > c->size - at)
            len = (size_t)(c->size - at);
        int err = read_chunk(c, at / c->chunk_size, from, len, (char *)p + done);
        if (err)
            return done ? (ssize_t)done : err;
        if (at >= c->size)
            break; /* shorter by now */
        done += len < c->size - at ? len : (size_t)(c->size - at);
    }
    if (done)
        read_ahead(c, off, off + done);
    return c->infected ? -EACCES : (ssize_t)done; /* it may have turned out to be while we waited */
}

/* ---- SEEK_DATA, SEEK_HOLE ---- */

/* Within a dirty chunk the backing file knows. Returns the offset, or the chunk's end where it is not in this chunk. */
static int64_t seek_dirty(struct content *c, uint64_t off, uint64_t end, int whence)
{
    int fd = backing_get(c);
    if (fd < 0)
        return fd;
    off_t at = lseek(fd, (off_t)off, whence);
    int err = at < 0 ? -errno : 0;
    backing_put(c);
    if (err == -ENXIO)
        return (int64_t)(whence == SEEK_DATA ? end : off);
    if (err)
        return err;
    return (uint64_t)at < end ? at : (int64_t)end;
}

int64_t content_seek(struct content *c, uint64_t off, int whence)
{
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    content_lock(c);
    CLEANUP(cleanup_unlock) pthread_mutex_t *locked = &c->lock;
    (void)locked;
    if (off >= c->size)
        return -ENXIO;
    while (off < c->size) {
        uint64_t n = off / c->chunk_size;
        int err = content_ensure_map(c, n, c->store->cfg.timeout_ms);
        if (err)
            return err;
        if (n >= c->n_chunks)
            break;
        uint64_t end = chunk_start(c, n) + chunk_length(c->size, c->chunk_size, n);
        const struct chunk *ch = &c->chunks[n];
        if (chunk_is_hole(ch)) {
            if (whence == SEEK_HOLE)
                return (int64_t)off;
        } else if ((ch->flags & (CHUNK_DIRTY | CHUNK_PRESENT)) == (CHUNK_DIRTY | CHUNK_PRESENT)) {
            int64_t at = seek_dirty(c, off, end, whence);
            if (at < 0 || (uint64_t)at < end)
                return at;
        } else if (whence == SEEK_DATA) {
            return (int64_t)off;
        }
        off = end;
    }
    return whence == SEEK_HOLE ? (int64_t)c->size : -ENXIO;
}
