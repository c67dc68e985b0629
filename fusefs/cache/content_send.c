/* Dirty chunks on their way: read once from the backing file, hashed, and those very bytes sent. */
#include "fusefs/cache/content_internal.h"

#define RIDE_PLAIN_MAX (256u << 10) /* plain bytes up to which a chunk may turn out small enough to ride in the batch */
#define RIDE_TOTAL_MAX (4u << 20)
#define GEN_NONE 0u /* no chunk's */

/* Reads chunk it->n; *ret_bytes is to be given back. */
static int read_chunk(struct content *c, struct send_item *it, uint64_t size, void **ret_bytes, uint32_t *ret_len)
{
    uint32_t len = chunk_length(size, c->chunk_size, it->n);
    void *bytes = store_memory_take(c->store, len);
    content_lock(c);
    struct chunk *ch = it->n < c->n_chunks ? &c->chunks[it->n] : NULL;
    int err = !ch || c->size < size || !(ch->flags & CHUNK_DIRTY) ? -EAGAIN : 0;
    bool longer = !err && chunk_length(c->size, c->chunk_size, it->n) != len; /* it has grown since: these are not all of its bytes */
    if (!err && !(ch->flags & CHUNK_PRESENT) && longer)
        err = -EAGAIN;
    if (!err && ch->stored && !longer) {
        it->gen = ch->gen;
        it->up.ref = *ch->stored;
        it->stored = true;
    } else if (!err) {
        it->gen = longer || ch->writers ? GEN_NONE : ch->gen;
        uint64_t start = chunk_start(c, it->n);
        chunk_pin(c, it->n);
        pthread_mutex_unlock(&c->lock);
        err = backing_read(c, bytes, len, start);
        pthread_mutex_lock(&c->lock);
        chunk_unpin(c, it->n);
    }
    pthread_mutex_unlock(&c->lock);
    if (err || it->stored) {
        store_memory_give(c->store, bytes, len);
        return err;
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return 0;
}

static void note_stored(struct content *c, const struct send_item *it)
{
    content_lock(c);
    if (it->n < c->n_chunks && c->chunks[it->n].gen == it->gen && (c->chunks[it->n].flags & CHUNK_DIRTY))
        chunk_set_stored(c, it->n, &it->up.ref);
    pthread_mutex_unlock(&c->lock);
}

static int send(struct content *c, struct send_item *it, uint64_t size, unsigned flags, unsigned timeout_ms)
{
    void *bytes = NULL;
    uint32_t len = 0;
    uploaded_fini(&it->up);
    it->stored = false;
    int err = read_chunk(c, it, size, &bytes, &len);
    if (err || it->stored)
        return err;
    err = uploader_send(c->store->uploader, bytes, len, flags, timeout_ms, &it->up);
    store_memory_give(c->store, bytes, len);
    if (!err && !it->up.rides && !(flags & UPLOAD_HASH_ONLY))
        note_stored(c, it);
    return err;
}

/* ---- several side by side ---- */

struct group {
    pthread_mutex_t lock; /* guards left */
    pthread_cond_t done;
    size_t left;
    struct content *content;
    uint64_t size;
    unsigned flags, timeout_ms;
};
struct job {
    struct group *group;
    struct send_item *item;
};

static void run_job(void *arg)
{
    struct job *j = arg;
    struct group *g = j->group;
    j->item->error = send(g->content, j->item, g->size, g->flags, g->timeout_ms);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&g->lock);
    if (--g->left == 0)
        pthread_cond_signal(&g->done);
}

static bool may_ride(const struct snapshot *sn, const struct send_item *it)
{
    return chunk_length(sn->size, sn->chunk_size, it->n) <= RIDE_PLAIN_MAX;
}

static void send_large(struct content *c, struct snapshot *sn, size_t n_large, unsigned flags, unsigned timeout_ms)
{
    struct group g = {.content = c, .size = sn->size, .flags = flags, .timeout_ms = timeout_ms, .left = n_large};
    pthread_mutex_init(&g.lock, NULL);
    pthread_cond_init(&g.done, NULL);
    CLEANUP_FREE struct job *jobs = mem_calloc(n_large, sizeof *jobs);
    size_t k = 0;
    for (size_t i = 0; i < sn->n; i++)
        if (sn->items[i].error == 1) {
            jobs[k] = (struct job){&g, &sn->items[i]};
            uploader_run(c->store->uploader, run_job, &jobs[k++]);
        }
    pthread_mutex_lock(&g.lock);
    while (g.left)
        pthread_cond_wait(&g.done, &g.lock); /* each has its own bound */
    pthread_mutex_unlock(&g.lock);
    pthread_cond_destroy(&g.done);
    pthread_mutex_destroy(&g.lock);
}

/* What is on its way already is not sent twice. Not on an uploader's thread: it could be waiting for work that is queued behind it. */
static void wait_for_background(struct content *c, uint64_t n)
{
    content_lock(c);
    while (n < c->n_chunks && (c->chunks[n].flags & CHUNK_SENDING) && content_wait(c))
        ;
    pthread_mutex_unlock(&c->lock);
}

int content_send_all(struct content *c, struct snapshot *sn, unsigned flags, unsigned timeout_ms)
{
    size_t large = 0, riding = 0;
    for (size_t i = 0; i < sn->n; i++) {
        struct send_item *it = &sn->items[i];
        it->error = 1; /* not yet sent */
        wait_for_background(c, it->n);
        if (may_ride(sn, it) && riding < RIDE_TOTAL_MAX) {
            it->error = send(c, it, sn->size, flags | UPLOAD_MAY_RIDE, timeout_ms);
            riding += it->up.content.stored.len;
        } else if (sn->n == 1) {
            it->error = send(c, it, sn->size, flags, timeout_ms); /* one alone needs no other thread */
        } else {
            large++;
        }
        if (it->error < 0)
            return it->error;
    }
    if (large)
        send_large(c, sn, large, flags, timeout_ms);
    for (size_t i = 0; i < sn->n; i++)
        if (sn->items[i].error)
            return sn->items[i].error;
    return 0;
}

/* ---- in the background ---- */

struct later {
    struct content *content;
    uint64_t n;
};

static void send_now(void *arg)
{
    struct later *l = arg;
    struct content *c = l->content;
    content_lock(c);
    uint64_t size = c->size;
    bool wanted = l->n < c->n_chunks && (c->chunks[l->n].flags & CHUNK_DIRTY) && !c->chunks[l->n].stored;
    pthread_mutex_unlock(&c->lock);
    if (wanted) {
        struct send_item it = {.n = l->n};
        int err = send(c, &it, size, 0, 0);
        if (err && err != -EAGAIN)
            log_debug("a chunk could not be sent ahead: %s", strerror(-err));
        uploaded_fini(&it.up);
    }
    content_lock(c);
    if (l->n < c->n_chunks)
        c->chunks[l->n].flags &= (uint8_t)~CHUNK_SENDING;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    content_unref(c);
    free(l);
}

void content_send_later(struct content *c, uint64_t n)
{
    if (n >= c->n_chunks || (c->chunks[n].flags & (CHUNK_DIRTY | CHUNK_SENDING)) != CHUNK_DIRTY || c->chunks[n].stored)
        return;
    c->chunks[n].flags |= CHUNK_SENDING;
    struct later *l = mem_alloc(sizeof *l);
    *l = (struct later){content_ref(c), n};
    uploader_run(c->store->uploader, send_now, l);
}
