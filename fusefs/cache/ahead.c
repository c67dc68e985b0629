/* Small files of a directory, fetched before anybody asks: many in one request. A hint: when it is behind, it forgets. */
#include "fusefs/cache/content_internal.h"

#include <sys/stat.h>

#define QUEUE 1024u
#define AT_ONCE 64u
#define BYTES_AT_ONCE (2u << 20)

static bool is_worth_it(struct store *s, const struct attr *a)
{
    if (!S_ISREG(a->mode) || a->size == 0 || a->size > SMALL_FILE || a->version == 0 || a->quarantined)
        return false;
    struct content *c = store_find(s, (struct content_key){.ino = a->ino});
    if (!c)
        return !state_has(s->state, a->ino, 0, a->version);
    content_lock(c);
    bool lacks = !c->dirty && (c->version != a->version || (c->n_chunks && !(c->chunks[0].flags & CHUNK_PRESENT)));
    pthread_mutex_unlock(&c->lock);
    content_unref(c);
    return lacks;
}

static size_t take(struct store *s, struct attr *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    size_t n = 0;
    uint64_t bytes = 0;
    while (n < AT_ONCE && s->ahead_n && bytes < BYTES_AT_ONCE) {
        ret[n] = s->ahead[s->ahead_first];
        bytes += ret[n++].size;
        s->ahead_first = (s->ahead_first + 1) % QUEUE;
        s->ahead_n--;
    }
    if (n == 0)
        s->ahead_running = false;
    return n;
}

/* Claims the one chunk of a small file, so that a reader waits for this request instead of sending its own. */
static bool claim(struct content *c, uint32_t *ret_gen)
{
    content_lock(c);
    struct chunk *ch = c->n_chunks == 1 ? &c->chunks[0] : NULL;
    bool free_ = ch && !c->dirty && !(ch->flags & (CHUNK_PRESENT | CHUNK_FETCHING | CHUNK_DIRTY)) && !chunk_is_hole(ch) && c->version;
    if (free_) {
        ch->flags |= CHUNK_FETCHING;
        *ret_gen = ch->gen;
    }
    pthread_mutex_unlock(&c->lock);
    return free_;
}

static void settle(struct content *c, uint32_t gen, const struct remote_map *m, const struct remote_read *rd)
{
    content_lock(c);
    struct chunk *ch = c->n_chunks == 1 ? &c->chunks[0] : NULL;
    if (ch && ch->gen == gen && (ch->flags & CHUNK_FETCHING)) {
        ch->flags &= (uint8_t)~CHUNK_FETCHING;
        if (m && !m->error && m->version == c->version && m->chunk_size == c->chunk_size && !c->dirty) {
            chunks_take_map(c, m);
            content_take_contents(c, m, rd);
        }
        pthread_cond_broadcast(&c->changed);
    }
    pthread_mutex_unlock(&c->lock);
    content_unref(c);
}

static void fetch(struct store *s, const struct attr *attrs, size_t n)
{
    struct content *contents[AT_ONCE];
    uint32_t gens[AT_ONCE];
    struct remote_want wants[AT_ONCE];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_worth_it(s, &attrs[i]))
            continue;
        struct content *c = content_get(s, &attrs[i]);
        if (claim(c, &gens[k])) {
            wants[k] = (struct remote_want){.ino = attrs[i].ino, .version = content_version(c), .count = 1};
            contents[k++] = c;
        } else {
            content_unref(c);
        }
    }
    if (k == 0)
        return;
    CLEANUP(remote_read_fini) struct remote_read rd = {0};
    int err = remote_read(s->remote, wants, k, AT_ONCE * SMALL_FILE, &rd);
    for (size_t i = 0; i < k; i++)
        settle(contents[i], gens[i], err ? NULL : &rd.maps[i], &rd);
}

static void run(void *arg)
{
    struct store *s = arg;
    CLEANUP_FREE struct attr *attrs = mem_calloc(AT_ONCE, sizeof *attrs);
    size_t n;
    while ((n = take(s, attrs)) > 0)
        if (atomic_load(&s->cached) < s->cfg.max_bytes)
            fetch(s, attrs, n);
}

void store_prefetch(struct store *s, const struct attr *attrs, size_t n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (!s->ahead)
        s->ahead = mem_calloc(QUEUE, sizeof *s->ahead);
    for (size_t i = 0; i < n && s->ahead_n < QUEUE; i++)
        if (S_ISREG(attrs[i].mode) && attrs[i].size && attrs[i].size <= SMALL_FILE && attrs[i].version)
            s->ahead[(s->ahead_first + s->ahead_n++) % QUEUE] = attrs[i];
    if (s->ahead_n && !s->ahead_running && !s->closing) {
        s->ahead_running = true;
        pool_run(s->fetchers, run, s);
    }
}
