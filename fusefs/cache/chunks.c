/* The chunk table of a content. Everything here runs with content.lock held.

   A chunk is a hole (MAPPED, hash zero, not DIRTY), absent (MAPPED only), clean (MAPPED and PRESENT), dirty, or unknown (not MAPPED: the map of this
   version has not been asked for; with PRESENT its bytes are those of an earlier version, and stay if the map names the same hash). */
#include "fusefs/cache/content_internal.h"
#include "common/cond.h"

#include <time.h>

uint64_t chunk_start(const struct content *c, uint64_t n)
{
    return n * c->chunk_size;
}

bool chunk_is_hole(const struct chunk *ch)
{
    return (ch->flags & (CHUNK_MAPPED | CHUNK_DIRTY)) == CHUNK_MAPPED && hash_is_zero(&ch->hash);
}

bool chunk_is_ready(const struct chunk *ch)
{
    return (ch->flags & CHUNK_PRESENT) && !(ch->flags & CHUNK_UNVERIFIED) && (ch->flags & (CHUNK_MAPPED | CHUNK_DIRTY));
}

static void give_room(struct store *s, uint64_t before)
{
    if (before <= atomic_load(&s->dirty_max))
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    pthread_cond_broadcast(&s->room);
}

void chunk_account(struct content *c, uint64_t n)
{
    struct chunk *ch = &c->chunks[n];
    struct store *s = c->store;
    uint32_t extent = chunk_length(c->size, c->chunk_size, n);
    uint32_t held = ch->flags & CHUNK_PRESENT ? extent : 0;
    uint32_t unsent = (ch->flags & CHUNK_DIRTY) && !ch->stored ? extent : 0;
    if (held != ch->held) { /* differences modulo 2^64 */
        atomic_fetch_add(&s->cached, (uint64_t)held - ch->held);
        c->bytes += (uint64_t)held - ch->held;
        ch->held = held;
    }
    if (unsent > ch->unsent)
        atomic_fetch_add(&s->unsent, unsent - ch->unsent);
    else if (unsent < ch->unsent)
        give_room(s, atomic_fetch_sub(&s->unsent, ch->unsent - unsent));
    ch->unsent = unsent;
    c->state_changed = true;
}

void chunk_renew(struct content *c, struct chunk *ch)
{
    ch->gen = ++c->gens;
    if (ch->flags & CHUNK_FETCHING) {
        ch->flags &= (uint8_t)~CHUNK_FETCHING;
        pthread_cond_broadcast(&c->changed);
    }
}

void chunk_set_present(struct content *c, uint64_t n)
{
    c->chunks[n].flags |= CHUNK_PRESENT;
    chunk_account(c, n);
}

void chunk_set_absent(struct content *c, uint64_t n, bool junk)
{
    struct chunk *ch = &c->chunks[n];
    ch->flags &= (uint8_t) ~(CHUNK_PRESENT | CHUNK_UNVERIFIED);
    if (junk)
        ch->flags |= CHUNK_JUNK;
    chunk_account(c, n);
}

void chunk_set_dirty(struct content *c, uint64_t n)
{
    struct chunk *ch = &c->chunks[n];
    chunk_renew(c, ch);
    free(ch->stored);
    ch->stored = NULL;
    ch->flags = (uint8_t)((ch->flags | CHUNK_DIRTY | CHUNK_PRESENT) & ~(CHUNK_UNVERIFIED | CHUNK_JUNK));
    chunk_account(c, n);
}

void chunk_set_stored(struct content *c, uint64_t n, const struct chunk_ref *ref)
{
    struct chunk *ch = &c->chunks[n];
    if (!ch->stored)
        ch->stored = mem_alloc(sizeof *ch->stored);
    *ch->stored = *ref;
    chunk_account(c, n);
}

void chunk_set_clean(struct content *c, uint64_t n, const struct chunk_ref *ref)
{
    struct chunk *ch = &c->chunks[n];
    free(ch->stored);
    ch->stored = NULL;
    ch->flags = (uint8_t)((ch->flags | CHUNK_MAPPED) & ~CHUNK_DIRTY);
    ch->hash = ref->hash;
    ch->len = ref->len;
    if (hash_is_zero(&ref->hash) && (ch->flags & CHUNK_PRESENT)) {
        if (backing_punch(c, chunk_start(c, n), c->chunk_size)) /* a saving only: it is zeros already */
            log_debug("no hole could be made in a backing file");
        ch->flags &= (uint8_t)~CHUNK_PRESENT;
    }
    chunk_account(c, n);
}

void chunks_resize(struct content *c, uint64_t size)
{
    uint64_t n = c->chunk_size ? chunk_count(size, c->chunk_size) : 0;
    for (uint64_t i = n; i < c->n_chunks; i++) {
        struct chunk *ch = &c->chunks[i];
        chunk_renew(c, ch);
        free(ch->stored);
        ch->flags = 0;
        chunk_account(c, i);
    }
    if (n != c->n_chunks) {
        c->chunks = mem_realloc(c->chunks, (n ? n : 1) * sizeof *c->chunks);
        for (uint64_t i = c->n_chunks; i < n; i++)
            c->chunks[i] = (struct chunk){.flags = (uint8_t)(CHUNK_MAPPED | (c->dirty ? 0 : CHUNK_JUNK)), .gen = ++c->gens};
    }
    uint64_t last = n < c->n_chunks ? n : c->n_chunks;
    c->n_chunks = n;
    c->size = size;
    if (last)
        chunk_account(c, last - 1); /* the last one of before may be longer or shorter now */
    c->state_changed = true;
}

void chunks_reset(struct content *c, uint64_t size, uint32_t chunk_size)
{
    uint32_t before = c->chunk_size;
    c->chunk_size = before ? before : chunk_size;
    chunks_resize(c, 0);
    c->chunk_size = chunk_size;
    chunks_resize(c, size);
    for (uint64_t i = 0; i < c->n_chunks; i++)
        c->chunks[i].flags = CHUNK_JUNK; /* whatever the file held before */
}

int chunk_scrub(struct content *c, uint64_t n)
{
    struct chunk *ch = &c->chunks[n];
    if (!(ch->flags & CHUNK_JUNK))
        return 0;
    int err = backing_punch(c, chunk_start(c, n), c->chunk_size);
    if (!err)
        ch->flags &= (uint8_t)~CHUNK_JUNK;
    return err;
}

void chunks_stale(struct content *c, uint64_t first)
{
    for (uint64_t i = first; i < c->n_chunks; i++)
        c->chunks[i].flags &= (uint8_t)~CHUNK_MAPPED;
    c->state_changed = true;
}

void chunks_take_map(struct content *c, const struct remote_map *m)
{
    for (size_t i = 0; i < m->n && m->first + i < c->n_chunks; i++) {
        struct chunk *ch = &c->chunks[m->first + i];
        if (ch->flags & (CHUNK_MAPPED | CHUNK_DIRTY))
            continue;
        bool same = hash_equal(&ch->hash, &m->chunks[i].hash) && ch->len == m->chunks[i].len;
        if ((ch->flags & CHUNK_PRESENT) && !same)
            chunk_set_absent(c, m->first + i, true);
        ch->hash = m->chunks[i].hash;
        ch->len = m->chunks[i].len;
        ch->flags |= CHUNK_MAPPED;
    }
    c->state_changed = true;
}

bool content_wait(struct content *c)
{
    struct timespec until = cond_deadline(c->store->cfg.timeout_ms + 30000); /* whoever is at it has bounds of its own */
    return pthread_cond_timedwait(&c->changed, &c->lock, &until) != ETIMEDOUT;
}

void content_wait_thaw(struct content *c)
{
    while (c->frozen)
        pthread_cond_wait(&c->changed, &c->lock); /* for local disk work only */
}

void content_lock(struct content *c)
{
    pthread_mutex_lock(&c->lock);
    content_wait_thaw(c);
}

void content_freeze(struct content *c)
{
    content_wait_thaw(c);
    c->frozen = true;
    while (c->busy)
        pthread_cond_wait(&c->changed, &c->lock);
}

void content_thaw(struct content *c)
{
    c->frozen = false;
    pthread_cond_broadcast(&c->changed);
}

void chunk_pin(struct content *c, uint64_t n)
{
    c->chunks[n].pins++;
    c->busy++;
}

void chunk_unpin(struct content *c, uint64_t n)
{
    c->chunks[n].pins--;
    if (--c->busy == 0 || c->chunks[n].pins == 0)
        pthread_cond_broadcast(&c->changed);
}
