/* Writes, truncation, holes. What is done to the backing file is in the journal before. */
#include "fusefs/cache/content_internal.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <time.h>

#define RELIEVED_MAX 16 /* times that one write makes room on a full disk */

static int journal(struct content *c, enum journal_kind kind, uint64_t a)
{
    struct journal_record r = {.kind = kind, .ino = c->key.ino, .a = a};
    return journal_append(c->store->journal, &r, 1);
}

void content_note_change(struct content *c)
{
    c->mtime = clock_wall_ns();
    c->changes++;
    atomic_store(&c->last_used, (uint32_t)(clock_boot_ms() / 1000));
}

int content_begin_dirty(struct content *c, bool append)
{
    struct store *s = c->store;
    if (c->key.of || s->cfg.read_only)
        return -EROFS;
    if (c->dirty) {
        if (append || !c->since.append)
            return 0;
        int err = journal(c, JOURNAL_NOT_APPEND, 0);
        if (!err)
            c->since.append = false;
        return err;
    }
    if (!c->chunk_size)
        c->chunk_size = CHUNK_SIZE_DEFAULT;
    /* While dirty the backing file is as long as the content: that is where a crash finds the size again. So first that, then the journal. */
    int err = backing_resize(c, c->size);
    if (err)
        return err;
    struct journal_record r[2] = {{.kind = JOURNAL_DIRTY, .ino = c->key.ino, .a = c->version, .b = c->size, .len = c->chunk_size},
                                  {.kind = JOURNAL_NOT_APPEND, .ino = c->key.ino}};
    err = journal_append(s->journal, r, append ? 1 : 2);
    if (err)
        return err;
    c->base_size = c->size;
    c->since = (struct since_base){.shrunk_to = c->size, .append_from = c->size, .append = append};
    c->conflict = false;
    store_mark_dirty(c);
    return 0;
}

int content_dirty_chunk(struct content *c, uint64_t n)
{
    struct chunk *ch = &c->chunks[n];
    if (!(ch->flags & CHUNK_DIRTY) || ch->stored) { /* stored: the journal may say that its bytes are elsewhere */
        int err = journal(c, JOURNAL_CHUNK, n);
        if (err)
            return err;
    }
    chunk_set_dirty(c, n);
    return 0;
}

/* Makes chunk n such that [from,to) may be written: the rest of it is in the backing file, or is zeros there. The lock may be given up meanwhile. */
static int prepare(struct content *c, uint64_t n, uint32_t from, uint32_t to)
{
    while (n < c->n_chunks) {
        struct chunk *ch = &c->chunks[n];
        bool covers = from == 0 && to >= chunk_length(c->size, c->chunk_size, n);
        /* Fetched bytes on their way in; or readers of an earlier version's, who are to end with what they began. */
        bool being_used = ch->pins && (ch->flags & (CHUNK_FETCHING | CHUNK_JUNK));
        if (c->frozen) {
            content_wait_thaw(c);
        } else if (being_used || ((ch->flags & CHUNK_FETCHING) && !covers)) {
            if (!content_wait(c))
                return -EIO;
        } else if (covers || chunk_is_hole(ch)) {
            return chunk_scrub(c, n);
        } else if (chunk_is_ready(ch)) {
            return 0;
        } else {
            int err = content_ensure(c, n, c->store->cfg.timeout_ms);
            if (err)
                return err;
        }
    }
    content_wait_thaw(c);
    return 0;
}

int content_change_chunk(struct content *c, uint64_t n, uint32_t from, uint32_t to, const void *p, bool append)
{
    int err = prepare(c, n, from, to);
    if (err)
        return err;
    uint64_t start = n * c->chunk_size, before = c->size;
    if ((append && start + from != before) || (!p && start + to > before))
        return -EAGAIN; /* the file's end has moved meanwhile */
    err = content_begin_dirty(c, append); /* again: a commit may have gone by */
    if (err)
        return err;
    if (start + to > before)
        chunks_resize(c, start + to);
    err = content_dirty_chunk(c, n);
    if (err)
        return err;
    chunk_pin(c, n);
    c->chunks[n].writers++;
    c->writing++;
    pthread_mutex_unlock(&c->lock);
    err = p ? backing_write_or_evict(c, p, to - from, start + from) : backing_punch(c, start + from, to - from);
    pthread_mutex_lock(&c->lock);
    c->chunks[n].writers--;
    c->writing--;
    chunk_unpin(c, n);
    chunk_set_dirty(c, n); /* with a new gen: whoever read it meanwhile read half of it */
    c->chunks[n].used = atomic_fetch_add(&c->store->tick, 1) + 1;
    if (err && c->busy == 0 && c->size == start + to && before < c->size && !backing_resize(c, before))
        chunks_resize(c, before);
    return err;
}

ssize_t content_write(struct content *c, const void *p, size_t n, uint64_t *off, bool append)
{
    store_check_room(c->store);
    int err = store_wait_unsent(c->store);
    if (err)
        return err;
    content_lock(c);
    CLEANUP(cleanup_unlock) pthread_mutex_t *locked = &c->lock;
    (void)locked;
    if (append)
        *off = c->size;
    if (n > (uint64_t)FILE_SIZE_MAX || *off > (uint64_t)FILE_SIZE_MAX - n)
        return -EFBIG;
    size_t done = 0;
    unsigned relieved = 0;
    while (!err && done < n) {
        uint64_t at = append ? c->size : *off + done;
        if (append && done == 0)
            *off = at;
        uint32_t chunk_size = c->chunk_size ? c->chunk_size : CHUNK_SIZE_DEFAULT, from = (uint32_t)(at % chunk_size), room = chunk_size - from;
        uint32_t len = n - done < room ? (uint32_t)(n - done) : room;
        err = content_begin_dirty(c, append);
        if (!err)
            err = content_change_chunk(c, at / chunk_size, from, from + len, (const char *)p + done, append);
        if (err == -EAGAIN && append) {
            err = 0;
            continue;
        }
        if (err == -ENOSPC && relieved++ < RELIEVED_MAX) {
            pthread_mutex_unlock(&c->lock);
            err = store_relieve(c->store);
            content_lock(c);
            continue;
        }
        if (err)
            break;
        done += len;
        content_note_change(c);
        if (len == room && (chunk_size > CHUNK_INLINE_MAX || at / chunk_size >= SEGMENT_CHUNKS)) /* finished, and too much for the batch */
            content_send_later(c, at / chunk_size);
    }
    return done ? (ssize_t)done : err;
}

/* Leaves the content frozen, with the chunk that the new end falls into in the backing file. */
static int freeze_for_cut(struct content *c, uint64_t size)
{
    uint64_t n = size / c->chunk_size;
    uint32_t rest = (uint32_t)(size % c->chunk_size);
    for (;;) {
        int err = rest && n < c->n_chunks ? prepare(c, n, rest, rest) : 0;
        if (err)
            return err;
        content_freeze(c);
        if (!rest || n >= c->n_chunks || chunk_is_hole(&c->chunks[n]) || chunk_is_ready(&c->chunks[n]))
            return 0;
        content_thaw(c); /* evicted while we waited */
    }
}

static int cut(struct content *c, uint64_t size)
{
    int err = freeze_for_cut(c, size);
    if (err)
        return err;
    uint64_t n = size / c->chunk_size;
    bool keeps_part = size % c->chunk_size && n < c->n_chunks && !chunk_is_hole(&c->chunks[n]);
    if (size < c->size)
        err = content_begin_dirty(c, false);
    if (!err && size < c->size && keeps_part)
        err = content_dirty_chunk(c, n);
    if (!err && size < c->size)
        err = backing_resize(c, size);
    if (!err && size < c->size) {
        chunks_resize(c, size);
        if (keeps_part)
            chunk_set_dirty(c, n);
        if (size < c->since.shrunk_to)
            c->since.shrunk_to = size;
        err = journal(c, JOURNAL_SHRUNK, size); /* after the cut: until then the shorter file says it */
    }
    content_thaw(c);
    return err;
}

static int grow(struct content *c, uint64_t size)
{
    content_freeze(c);
    int err = size > c->size ? content_begin_dirty(c, false) : 0;
    if (!err && size > c->size)
        err = backing_resize(c, size);
    if (!err && size > c->size)
        chunks_resize(c, size);
    content_thaw(c);
    return err;
}

static int set_size(struct content *c, uint64_t size)
{
    if (size > (uint64_t)FILE_SIZE_MAX)
        return -EFBIG;
    if (size == c->size)
        return 0;
    if (c->key.of || c->store->cfg.read_only)
        return -EROFS;
    int err = size < c->size ? cut(c, size) : grow(c, size);
    if (!err)
        content_note_change(c);
    if (!err && size == 0)
        c->infected = false; /* nothing of it is left */
    return err;
}

int content_truncate(struct content *c, uint64_t size)
{
    content_lock(c);
    int err = set_size(c, size);
    pthread_mutex_unlock(&c->lock);
    return err;
}

static int clear(struct content *c, uint64_t off, uint64_t end)
{
    int err = 0;
    while (!err && off < end && off < c->size) {
        uint64_t n = off / c->chunk_size, start = chunk_start(c, n), extent = chunk_length(c->size, c->chunk_size, n);
        uint64_t to = end - start < extent ? end - start : extent;
        err = content_ensure_map(c, n, c->store->cfg.timeout_ms);
        if (err || n >= c->n_chunks)
            break;
        if (!chunk_is_hole(&c->chunks[n])) {
            err = content_change_chunk(c, n, (uint32_t)(off - start), (uint32_t)to, NULL, false);
            if (err == -EAGAIN) { /* the file is shorter now */
                err = 0;
                continue;
            }
        }
        off = start + to;
    }
    return err;
}

int content_fallocate(struct content *c, int mode, uint64_t off, uint64_t len)
{
    if (len == 0 || off > (uint64_t)FILE_SIZE_MAX || len > (uint64_t)FILE_SIZE_MAX - off)
        return len == 0 ? -EINVAL : -EFBIG;
    bool keep = mode & FALLOC_FL_KEEP_SIZE, punch = mode & FALLOC_FL_PUNCH_HOLE, zero = mode & FALLOC_FL_ZERO_RANGE;
    if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) || (punch && (zero || !keep)))
        return -EOPNOTSUPP;
    content_lock(c);
    int err = c->key.of || c->store->cfg.read_only ? -EROFS : 0;
    if (!err && (punch || zero) && off < c->size) {
        err = content_begin_dirty(c, false);
        if (!err)
            err = clear(c, off, off + len);
        if (!err)
            content_note_change(c);
    }
    if (!err && !keep && off + len > c->size)
        err = set_size(c, off + len);
    pthread_mutex_unlock(&c->lock);
    return err;
}
