/* A content's life: made from an attribute and the state on the disk, told of remote changes, asked about itself. */
#include "fusefs/cache/content_internal.h"

#include <sys/stat.h>

static void load_chunks(struct content *c, const struct state_row *row)
{
    const struct state_chunk *sc = (const void *)row->chunks.data;
    for (size_t i = 0; i < row->chunks.len / sizeof *sc; i++) {
        if (sc[i].n >= c->n_chunks || sc[i].len > c->chunk_size)
            continue;
        struct chunk *ch = &c->chunks[sc[i].n];
        ch->hash = sc[i].hash;
        ch->len = sc[i].len;
        ch->flags = (uint8_t)(ch->flags | CHUNK_MAPPED | (sc[i].flags & (CHUNK_PRESENT | CHUNK_UNVERIFIED)));
        if (row->unverified && (ch->flags & CHUNK_PRESENT))
            ch->flags |= CHUNK_UNVERIFIED;
        chunk_account(c, sc[i].n);
    }
}

void content_load(struct content *c)
{
    struct store *s = c->store;
    struct state_row row;
    if (state_load(s->state, c->key.ino, c->key.of, &row))
        return;
    if (row.size <= FILE_SIZE_MAX && (row.chunk_size == 0 || chunk_size_valid(row.chunk_size))) {
        chunks_reset(c, row.size, row.chunk_size);
        c->version = row.version;
        c->base_size = row.size;
        load_chunks(c, &row);
        atomic_store(&c->last_used, row.used);
    }
    atomic_fetch_sub(&s->cached, row.bytes); /* counted chunk by chunk now */
    c->state_changed = false;
    buf_fini(&row.chunks);
}

/* The newest version is a's. Everything from chunk `first` on may be another; nothing before is. content.lock held. */
static void become(struct content *c, const struct attr *a, uint64_t first)
{
    uint32_t chunk_size = a->chunk_size ? a->chunk_size : c->chunk_size;
    uint64_t before = c->size;
    if (a->size == before && chunk_size == c->chunk_size) {
        chunks_stale(c, first);
    } else {
        content_freeze(c);
        if (c->dirty) { /* while we waited; then it stays on its base */
            content_thaw(c);
            return;
        }
        if (chunk_size != c->chunk_size) {
            chunks_reset(c, a->size, chunk_size);
        } else {
            uint64_t shorter = a->size < before ? a->size : before;
            chunks_resize(c, a->size);
            if (shorter / chunk_size < first)
                first = shorter / chunk_size;
            chunks_stale(c, first);
        }
        content_thaw(c);
    }
    c->version = a->version;
    c->base_size = a->size;
    c->mtime = a->mtime;
    c->infected = a->quarantined;
}

static bool is_newer(const struct content *c, const struct attr *a)
{
    return content_may_follow(c) && a->version > c->version;
}

struct content *content_get(struct store *s, const struct attr *a)
{
    bool fresh;
    struct content *c = store_make(s, (struct content_key){.ino = a->ino}, &fresh);
    if (!fresh)
        content_lock(c);
    else if (a->version)
        content_load(c);
    uint32_t afresh = atomic_load(&s->afresh);
    bool doubted = fresh || c->afresh != afresh; /* its version may be one that was lost: then the newest has a lower number */
    c->afresh = afresh;
    if (doubted ? content_may_follow(c) && a->version != c->version : is_newer(c, a))
        become(c, a, 0);
    else if (!c->dirty)
        c->mtime = a->mtime;
    if (a->version == c->version)
        c->infected = a->quarantined;
    pthread_mutex_unlock(&c->lock);
    return c;
}

struct content *content_get_version(struct store *s, uint64_t ino, uint64_t version, uint64_t size, uint32_t chunk_size)
{
    bool fresh;
    struct content *c = store_make(s, (struct content_key){ino, version}, &fresh);
    if (!fresh)
        return c;
    content_load(c);
    if (c->version != version || c->size != size || c->chunk_size != chunk_size) {
        chunks_reset(c, size, chunk_size);
        c->version = version;
        c->base_size = size;
    }
    pthread_mutex_unlock(&c->lock);
    return c;
}

bool content_remote_changed(struct content *c, const struct attr *a, uint64_t from, uint64_t to)
{
    (void)to; /* beyond `to` the hashes are the same: the map will say so, and the bytes stay */
    content_lock(c);
    bool changes = is_newer(c, a), found = a->quarantined && a->version == c->version && !c->infected;
    if (changes)
        become(c, a, c->chunk_size ? from / c->chunk_size : 0);
    c->infected |= found;
    pthread_mutex_unlock(&c->lock);
    return changes || found;
}

void store_start_afresh(struct store *s)
{
    atomic_fetch_add(&s->afresh, 1);
}

void content_revalidate(struct content *c, const struct attr *a, uint64_t as_of)
{
    content_lock(c);
    c->afresh = atomic_load(&c->store->afresh);
    if (is_newer(c, a) || (content_may_follow(c) && a->version < c->version && c->version <= as_of))
        become(c, a, 0);
    else if (a->version == c->version)
        c->infected = a->quarantined;
    pthread_mutex_unlock(&c->lock);
}

void content_opened(struct content *c)
{
    atomic_fetch_add(&c->opens, 1);
}

void content_closed(struct content *c)
{
    if (atomic_fetch_sub(&c->opens, 1) != 1)
        return;
    content_lock(c);
    c->replaces = 0; /* what comes now is no longer that open file's */
    bool dirty = c->dirty;
    pthread_mutex_unlock(&c->lock);
    if (dirty)
        store_call_publisher(c);
}

void content_unlinked(struct content *c)
{
    atomic_store(&c->nameless, true);
}

void content_stat(struct content *c, uint64_t *ret_size, int64_t *ret_mtime, bool *ret_dirty)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    if (ret_size)
        *ret_size = c->size;
    if (ret_mtime)
        *ret_mtime = c->mtime;
    if (ret_dirty)
        *ret_dirty = c->dirty;
}

bool content_set_mtime(struct content *c, int64_t mtime)
{
    content_lock(c);
    bool dirty = c->dirty;
    if (dirty) {
        c->mtime = mtime;
        c->has_mtime = true;
        c->changes++;
        int fd = backing_get(c); /* where a crash will look for it */
        if (fd >= 0) {
            struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, clock_timespec(mtime)};
            if (futimens(fd, t))
                log_debug("mtime of a backing file: %s", strerror(errno));
            backing_put(c);
        }
    }
    pthread_mutex_unlock(&c->lock);
    return dirty;
}

void content_put_aside(struct content *c)
{
    content_lock(c);
    c->aside |= c->dirty;
    pthread_mutex_unlock(&c->lock);
}

uint64_t content_ino(struct content *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    return c->key.ino;
}

uint64_t content_version(struct content *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    return c->version;
}

const char *content_state(struct content *c, int *ret_progress)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    uint64_t dirty = 0, stored = 0;
    bool sending = false;
    for (uint64_t i = 0; i < c->n_chunks; i++) {
        const struct chunk *ch = &c->chunks[i];
        dirty += (ch->flags & CHUNK_DIRTY) != 0;
        stored += ch->stored != NULL;
        sending |= (ch->flags & CHUNK_SENDING) != 0;
    }
    if (ret_progress)
        *ret_progress = dirty ? (int)(stored * 100 / dirty) : c->dirty ? 0 : 100;
    if (c->dirty)
        return sending || c->committing ? "uploading" : "dirty";
    return c->conflict ? "conflict" : "clean";
}
