/* What is cached stays below --cache-size: the contents not used for longest go first, within one its chunks. Dirty chunks go only when the gateway has their bytes, and the
   journal then says under which hash. */
#include "fusefs/cache/content_internal.h"

#include <stdio.h>
#include <sys/stat.h>

#define BATCH 64u
#define HARD 10u /* percent over the limit from which on readers and writers help */

static bool may_go(const struct chunk *ch)
{
    if (!(ch->flags & CHUNK_PRESENT) || (ch->flags & (CHUNK_FETCHING | CHUNK_SENDING)) || ch->pins)
        return false;
    return !(ch->flags & CHUNK_DIRTY) || (ch->stored && !hash_is_zero(&ch->stored->hash));
}

static int evict_chunk(struct content *c, uint64_t n)
{
    struct chunk *ch = &c->chunks[n];
    if (ch->flags & CHUNK_DIRTY) {
        struct journal_record r = {.kind = JOURNAL_STORED, .ino = c->key.ino, .a = n, .len = ch->stored->len, .hash = ch->stored->hash};
        int err = journal_append(c->store->journal, &r, 1);
        if (err)
            return err;
    }
    int err = backing_punch(c, chunk_start(c, n), c->chunk_size);
    if (!err)
        chunk_set_absent(c, n, false);
    return err;
}

struct candidate {
    uint64_t n;
    uint32_t used;
};
static int older_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return (x->used > y->used) - (x->used < y->used);
}

/* The least recently used chunks of a content, until no more than target is cached. */
static void evict_from(struct content *c, uint64_t target)
{
    struct store *s = c->store;
    content_lock(c);
    CLEANUP_FREE struct candidate *all = mem_calloc(c->n_chunks ? c->n_chunks : 1, sizeof *all);
    size_t n = 0;
    for (uint64_t i = 0; i < c->n_chunks; i++)
        if (may_go(&c->chunks[i]))
            all[n++] = (struct candidate){i, c->chunks[i].used};
    qsort(all, n, sizeof *all, older_first);
    for (size_t i = 0; i < n && atomic_load(&s->cached) > target; i++)
        if (evict_chunk(c, all[i].n))
            break;
    pthread_mutex_unlock(&c->lock);
}

/* A content that is on the disk only: as a whole. */
static bool evict_stored(struct store *s, const struct state_row *row)
{
    struct content_key key = {row->ino, row->of};
    char path[BACKING_PATH];
    backing_path(key, path);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct content *c;
    HASH_FIND(hh, s->table, &key, sizeof key, c);
    if (c)
        return false;
    if (unlinkat(s->dir_fd, path, 0) && errno != ENOENT)
        log_warn("a backing file cannot be removed: %s", strerror(errno));
    state_delete(s->state, row->ino, row->of);
    atomic_fetch_sub(&s->cached, row->bytes);
    return true;
}

static int less_recent(const void *a, const void *b)
{
    const struct content *x = *(struct content *const *)a, *y = *(struct content *const *)b;
    uint32_t i = atomic_load(&x->last_used), k = atomic_load(&y->last_used);
    return (i > k) - (i < k);
}

static size_t in_memory(struct store *s, struct content ***ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    size_t n = 0, cap = HASH_COUNT(s->table);
    struct content **all = mem_calloc(cap ? cap : 1, sizeof *all), *c, *next;
    HASH_ITER(hh, s->table, c, next)
    {
        store_take_ref(c);
        all[n++] = c;
    }
    *ret = all;
    return n;
}

/* What is only on the disk and was not used since `limit` (seconds). */
static void evict_from_disk(struct store *s, uint64_t target, uint32_t limit)
{
    CLEANUP_FREE struct state_row *rows = mem_calloc(BATCH, sizeof *rows);
    bool any = true;
    while (any && atomic_load(&s->cached) > target) {
        size_t n = state_oldest(s->state, rows, BATCH);
        any = false;
        for (size_t i = 0; i < n && rows[i].used <= limit && atomic_load(&s->cached) > target; i++)
            any |= evict_stored(s, &rows[i]);
    }
}

void store_make_room(struct store *s, uint64_t target)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->evicting);
    if (atomic_load(&s->cached) <= target)
        return;
    struct content **all;
    size_t n = in_memory(s, &all);
    qsort(all, n, sizeof *all, less_recent);
    for (size_t i = 0; i < n; i++) {
        evict_from_disk(s, target, atomic_load(&all[i]->last_used));
        if (atomic_load(&s->cached) > target)
            evict_from(all[i], target);
        content_unref(all[i]);
    }
    free(all);
    evict_from_disk(s, target, UINT32_MAX);
}

void store_check_room(struct store *s)
{
    uint64_t cached = atomic_load(&s->cached), max = s->cfg.max_bytes;
    if (cached > max + max / HARD)
        store_make_room(s, max);
    else if (cached > max)
        store_call_keeper(s);
}
