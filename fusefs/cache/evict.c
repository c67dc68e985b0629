/* What is cached stays below --cache-size: the contents not used for longest go first, within one its chunks. Dirty chunks go only when the gateway has their bytes, and the
   journal then says under which hash. */
#include "fusefs/cache/content_internal.h"
#include "common/cond.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define BATCH 64u
#define UNSENT_MIN (UINT64_C(1) << 20) /* may always wait to be sent */
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
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    if (c->frozen) /* whoever froze it may be waiting for a caller of ours who has pinned a chunk */
        return;
    CLEANUP_FREE struct candidate *all = mem_calloc(c->n_chunks ? c->n_chunks : 1, sizeof *all);
    size_t n = 0;
    for (uint64_t i = 0; i < c->n_chunks; i++)
        if (may_go(&c->chunks[i]))
            all[n++] = (struct candidate){i, c->chunks[i].used};
    qsort(all, n, sizeof *all, older_first);
    for (size_t i = 0; i < n && atomic_load(&s->cached) > target; i++)
        if (evict_chunk(c, all[i].n))
            break;
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

/* Dirty bytes that the gateway does not have are bounded: the writer waits for the uploads. */
int store_wait_unsent(struct store *s)
{
    if (atomic_load(&s->unsent) <= atomic_load(&s->dirty_max))
        return 0;
    struct content *dirty[64], *d;
    size_t n = 0;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        DL_FOREACH2(s->dirty_list, d, dirty_next)
        {
            if (n == 64)
                break;
            d->refs++;
            dirty[n++] = d;
        }
    }
    for (size_t i = 0; i < n; i++) {
        content_lock(dirty[i]);
        for (uint64_t k = 0; k < dirty[i]->n_chunks; k++)
            content_send_later(dirty[i], k);
        pthread_mutex_unlock(&dirty[i]->lock);
        content_unref(dirty[i]);
    }
    struct timespec until = cond_deadline(s->cfg.timeout_ms + 1000);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    while (atomic_load(&s->unsent) > atomic_load(&s->dirty_max))
        if (pthread_cond_timedwait(&s->room, &s->lock, &until) == ETIMEDOUT)
            return s->cfg.writeback ? -ENOSPC : -EIO;
    return 0;
}

int store_relieve(struct store *s)
{
    uint64_t cached = atomic_load(&s->cached), unsent = atomic_load(&s->unsent), max = atomic_load(&s->dirty_max);
    store_make_room(s, cached / 2);
    if (atomic_load(&s->cached) < cached)
        return 0;
    if (!unsent)
        return -ENOSPC;
    if (max > UNSENT_MIN && max > unsent / 2)
        atomic_store(&s->dirty_max, unsent / 2 > UNSENT_MIN ? unsent / 2 : UNSENT_MIN);
    return store_wait_unsent(s);
}

void store_disk_has_room(struct store *s)
{
    struct statvfs v;
    uint64_t max = atomic_load(&s->dirty_max), more = 2 * max < s->dirty_limit ? 2 * max : s->dirty_limit;
    if (max < s->dirty_limit && !fstatvfs(s->dir_fd, &v) && (uint64_t)v.f_bavail * v.f_frsize > 2 * more)
        atomic_store(&s->dirty_max, more);
}
