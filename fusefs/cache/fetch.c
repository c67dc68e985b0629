/* Brings chunks into the backing file: the map of their hashes, with small bytes coming along, and large ones by their hash. One fetch per chunk at a
   time; who else wants it waits for that one chunk. */
#include "fusefs/cache/content_internal.h"

#define TRIES 20 /* while the version moves under a reader again and again */
#define SAME_CALL_MS 100

/* What a reader is told. The gateway's own words about a chunk mean nothing to a program. */
static int reader_error(int err)
{
    switch (err) {
    case -EACCES:
    case -ENOMEM:
    case -ENOSPC:
        return err;
    case 0:
        return 0;
    default:
        return -EIO;
    }
}

int content_read_map(struct content *c, const struct remote_want *w, uint32_t inline_max, unsigned timeout_ms, struct remote_read *ret)
{
    struct remote_wait wait = {.timeout_ms = timeout_ms};
    int err;
    do
        err = remote_read(c->store->remote, w, 1, inline_max, ret);
    while (remote_wait(&wait, err));
    if (!err && ret->maps[0].error) {
        err = ret->maps[0].error;
        remote_read_fini(ret);
    }
    return err;
}

/* The version that we had, `gone`, is no longer there: what is newest takes its place, of a lower number too (it was lost), but not of what has become newer here meanwhile. */
static void adopt(struct content *c, const struct remote_map *m, uint64_t gone)
{
    content_freeze(c);
    if (!c->dirty && (m->version > c->version || c->version == gone)) {
        if (m->chunk_size != c->chunk_size)
            chunks_reset(c, m->size, m->chunk_size);
        else
            chunks_resize(c, m->size);
        chunks_stale(c, 0);
        c->version = m->version;
        c->infected = false;
        c->base_size = m->size;
        c->mtime = m->mtime;
    }
    content_thaw(c);
}

void content_take_contents(struct content *c, const struct remote_map *m, const struct remote_read *rd)
{
    size_t at = 0; /* contents come in the order of the maps: the next is most often the right one */
    for (size_t i = 0; i < m->n && m->first + i < c->n_chunks && rd->n_contents; i++) {
        uint64_t n = m->first + i;
        struct chunk *ch = &c->chunks[n];
        if (!(ch->flags & CHUNK_MAPPED) || (ch->flags & (CHUNK_PRESENT | CHUNK_DIRTY | CHUNK_FETCHING)) || ch->pins || chunk_is_hole(ch))
            continue;
        for (size_t k = 0; k < rd->n_contents; k++, at = (at + 1) % rd->n_contents) {
            const struct remote_content *rc = &rd->contents[at];
            if (rc->size != ch->len || !hash_equal(&rc->hash, &ch->hash))
                continue;
            uint32_t extent = chunk_length(c->size, c->chunk_size, n);
            if (!chunk_scrub(c, n) && !backing_write(c, rc->bytes, rc->size < extent ? rc->size : extent, chunk_start(c, n)))
                chunk_set_present(c, n);
            else
                ch->flags |= CHUNK_JUNK;
            break;
        }
    }
}

static int fetch_map(struct content *c, uint64_t n, unsigned timeout_ms)
{
    uint64_t asked = c->version;
    struct remote_want w = {.ino = c->key.ino, .version = asked, .first = n - n % MAP_PAGE};
    w.count = c->n_chunks - w.first < MAP_PAGE ? c->n_chunks - w.first : MAP_PAGE;
    bool follows = content_may_follow(c);
    CLEANUP(remote_read_fini) struct remote_read rd = {0};
    pthread_mutex_unlock(&c->lock);
    int err = content_read_map(c, &w, MAP_INLINE_MAX, timeout_ms, &rd);
    if (follows && (err == -ENOENT || err == -ESTALE)) {
        w.version = 0;
        err = content_read_map(c, &w, MAP_INLINE_MAX, timeout_ms, &rd);
    }
    content_lock(c);
    if (err)
        return err;
    const struct remote_map *m = &rd.maps[0];
    if (m->ino != w.ino || m->first != w.first || (m->n && !chunk_size_valid(m->chunk_size)))
        return -EPROTO;
    if (m->version != c->version && w.version == 0)
        adopt(c, m, asked);
    if (m->version != c->version || n >= c->n_chunks)
        return 0; /* it moved on: the caller looks again */
    if (m->chunk_size != c->chunk_size || m->first + m->n <= n)
        return -EPROTO;
    chunks_take_map(c, m);
    content_take_contents(c, m, &rd);
    return 0;
}

static bool knows_hash(const struct content *c, uint64_t n)
{
    return n >= c->n_chunks || (c->chunks[n].flags & (CHUNK_MAPPED | CHUNK_DIRTY));
}

/* One call's patience with a gateway that is away. It has that many milliseconds when it asks, or what is left of them after others have asked in vain while it waited for them. */
struct patience {
    unsigned timeout_ms;
    int64_t until_ms;
    uint32_t in_vain; /* content.in_vain when it began */
};

static struct patience patience_begin(const struct content *c, unsigned timeout_ms)
{
    return (struct patience){timeout_ms, clock_boot_ms() + timeout_ms, c->in_vain};
}

static unsigned patience_left(const struct content *c, const struct patience *p)
{
    int64_t left = p->until_ms - clock_boot_ms();
    return c->in_vain == p->in_vain ? p->timeout_ms : left > 0 ? (unsigned)left : 0;
}

/* For another thread that asks. False: it did so in vain, for as long as we may wait. */
static bool wait_for_other(struct content *c, const struct patience *p)
{
    return content_wait(c) && (c->in_vain == p->in_vain || patience_left(c, p));
}

static void note_in_vain(struct content *c, uint64_t n, int err, unsigned timeout_ms)
{
    if (err != -EHOSTUNREACH || !timeout_ms) /* without patience it says nothing for those who have some */
        return;
    c->in_vain++;
    c->vain_chunk = n;
    c->vain_ms = clock_boot_ms();
}

/* When what it reads ahead fails, the kernel reads the page once more for the same call of a program, which has waited already. */
static bool is_same_call(const struct content *c, uint64_t n)
{
    return c->in_vain && c->vain_chunk == n && clock_boot_ms() - c->vain_ms < SAME_CALL_MS;
}

static int ensure_map(struct content *c, uint64_t n, const struct patience *p)
{
    for (int tries = 0; !knows_hash(c, n); tries++) {
        if (tries == TRIES)
            return -EIO;
        if (c->mapping) {
            if (!wait_for_other(c, p))
                return -EIO;
            continue;
        }
        c->mapping = true;
        unsigned timeout_ms = patience_left(c, p);
        int err = fetch_map(c, n, timeout_ms);
        note_in_vain(c, n, err, timeout_ms);
        c->mapping = false;
        pthread_cond_broadcast(&c->changed);
        if (err)
            return err;
    }
    return 0;
}

int content_ensure_map(struct content *c, uint64_t n, unsigned timeout_ms)
{
    struct patience p = patience_begin(c, timeout_ms);
    return reader_error(ensure_map(c, n, &p));
}

static struct chunk *claimed(struct content *c, uint64_t n, uint32_t gen)
{
    struct chunk *ch = n < c->n_chunks ? &c->chunks[n] : NULL;
    return ch && ch->gen == gen && (ch->flags & CHUNK_FETCHING) ? ch : NULL;
}

static void release_claim(struct content *c, struct chunk *ch)
{
    ch->flags &= (uint8_t)~CHUNK_FETCHING;
    pthread_cond_broadcast(&c->changed);
}

static struct chunk_ref wanted(const struct chunk *ch)
{
    return (ch->flags & CHUNK_DIRTY) && ch->stored ? *ch->stored : (struct chunk_ref){ch->hash, ch->len};
}

/* Fetched bytes into the backing file, pinned and not locked. */
static int keep(struct content *c, uint64_t n, const void *bytes, uint32_t len)
{
    uint32_t extent = chunk_length(c->size, c->chunk_size, n);
    uint64_t start = chunk_start(c, n);
    int err = chunk_scrub(c, n);
    if (err)
        return err;
    chunk_pin(c, n);
    pthread_mutex_unlock(&c->lock);
    err = backing_write_or_evict(c, bytes, len < extent ? len : extent, start);
    pthread_mutex_lock(&c->lock);
    chunk_unpin(c, n);
    if (err)
        c->chunks[n].flags |= CHUNK_JUNK;
    return err;
}

/* Chunk n and those behind it that are likely to be wanted after it. */
static size_t upcoming(const struct content *c, uint64_t n, struct hash ret[REMOTE_EXPECTED])
{
    size_t k = 0;
    struct chunk_ref ref = wanted(&c->chunks[n]);
    ret[k++] = ref.hash;
    for (uint64_t i = n + 1; i < c->n_chunks && i < n + REMOTE_EXPECTED; i++)
        if ((c->chunks[i].flags & (CHUNK_MAPPED | CHUNK_PRESENT | CHUNK_DIRTY)) == CHUNK_MAPPED && !chunk_is_hole(&c->chunks[i]))
            ret[k++] = c->chunks[i].hash;
    return k;
}

static int fetch_chunk(struct content *c, uint64_t n, unsigned timeout_ms)
{
    struct chunk *ch = &c->chunks[n];
    const struct chunk_ref ref = wanted(ch);
    uint32_t gen = ch->gen;
    struct hash next[REMOTE_EXPECTED];
    size_t n_next = upcoming(c, n, next);
    ch->flags |= CHUNK_FETCHING;
    pthread_mutex_unlock(&c->lock);
    void *bytes = store_memory_take(c->store, ref.len);
    struct remote_wait w = {.timeout_ms = timeout_ms};
    int err, bad = 0;
    do {
        err = remote_expect(c->store->remote, next, n_next);
        if (!err)
            err = remote_chunk_get(c->store->remote, &ref.hash, bytes, ref.len);
    } while (remote_wait(&w, err) || (err == -EBADMSG && bad++ == 0)); /* damaged on its way: once more */
    content_lock(c);
    note_in_vain(c, n, err, timeout_ms);
    while ((ch = claimed(c, n, gen)) && (ch->pins || c->frozen)) /* readers of the bytes that were there before: they end with what they began */
        pthread_cond_wait(&c->changed, &c->lock);
    if (ch) {
        struct chunk_ref now = wanted(ch);
        if (!err && hash_equal(&now.hash, &ref.hash)) {
            err = keep(c, n, bytes, ref.len);
            ch = &c->chunks[n]; /* pinned: it was still there */
            now = wanted(ch);
            if (!err && hash_equal(&now.hash, &ref.hash))
                chunk_set_present(c, n);
            else
                ch->flags |= CHUNK_JUNK;
        }
        release_claim(c, ch);
    }
    store_memory_give(c->store, bytes, ref.len);
    return err;
}

static int verify_chunk(struct content *c, uint64_t n)
{
    struct chunk *ch = &c->chunks[n];
    uint32_t len = ch->len;
    uint64_t start = chunk_start(c, n);
    if (len == 0 || len > chunk_length(c->size, c->chunk_size, n)) {
        chunk_set_absent(c, n, true);
        return 0;
    }
    ch->flags |= CHUNK_FETCHING;
    chunk_pin(c, n);
    pthread_mutex_unlock(&c->lock);
    void *bytes = store_memory_take(c->store, len);
    struct hash h = {0};
    int err = backing_read(c, bytes, len, start);
    if (!err)
        hash_bytes(bytes, len, &h);
    store_memory_give(c->store, bytes, len);
    pthread_mutex_lock(&c->lock);
    chunk_unpin(c, n);
    ch = &c->chunks[n];
    if (!err && hash_equal(&h, &ch->hash))
        ch->flags &= (uint8_t)~CHUNK_UNVERIFIED;
    else
        chunk_set_absent(c, n, true);
    release_claim(c, ch);
    return 0;
}

/* The gateway no longer has what the map names: the version was thinned out or the location went stale. */
static void distrust_map(struct content *c)
{
    if (content_may_follow(c))
        chunks_stale(c, 0);
}

int content_ensure(struct content *c, uint64_t n, unsigned timeout_ms)
{
    struct patience p = patience_begin(c, timeout_ms);
    int err = 0;
    for (int tries = 0; n < c->n_chunks;) {
        struct chunk *ch = &c->chunks[n];
        if (chunk_is_hole(ch) || (chunk_is_ready(ch) && !(ch->flags & CHUNK_FETCHING)))
            return 0;
        if (ch->flags & CHUNK_FETCHING) {
            if (!wait_for_other(c, &p))
                return -EIO;
            continue;
        }
        if (is_same_call(c, n))
            return -EIO;
        if (++tries > TRIES)
            return reader_error(err ? err : -EIO);
        if (!knows_hash(c, n))
            err = ensure_map(c, n, &p);
        else if (ch->flags & CHUNK_PRESENT)
            err = verify_chunk(c, n);
        else
            err = fetch_chunk(c, n, patience_left(c, &p));
        if (err == -ENOENT && tries < 3) {
            distrust_map(c);
            err = 0;
        }
        if (err)
            return reader_error(err);
    }
    return 0;
}

struct later {
    struct content *content;
    uint64_t n;
};

static void fetch_now(void *arg)
{
    struct later *l = arg;
    content_lock(l->content);
    if (content_ensure(l->content, l->n, 0))
        log_debug("a chunk could not be fetched ahead");
    pthread_mutex_unlock(&l->content->lock);
    content_unref(l->content);
    free(l);
}

void content_fetch_later(struct content *c, uint64_t n)
{
    struct later *l = mem_alloc(sizeof *l);
    *l = (struct later){content_ref(c), n};
    pool_run(c->store->fetchers, fetch_now, l);
}
