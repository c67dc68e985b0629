/* The two threads of a store. The keeper never touches the network: it saves states, evicts, and takes idle contents out of memory. The publisher commits what is
   dirty with nothing open, and what write-back left for it, in order. */
#include "fusefs/cache/content_internal.h"
#include "common/cond.h"

#include <time.h>

#define SAVE_EVERY_MS 2000
#define SAVE_AT_ONCE 32u
#define IDLE_MAX 4096u
#define POLL_MS 250
#define BACK_OFF_MAX_MS 30000u
#define CLOSE_MIN_MS 300

/* ---- keeper ---- */

static void to_row(struct content *c, struct state_row *row)
{
    *row = (struct state_row){.ino = c->key.ino, .of = c->key.of, .version = c->version, .size = c->base_size, .chunk_size = c->chunk_size};
    row->used = atomic_load(&c->last_used);
    row->bytes = c->bytes;
    for (uint64_t i = 0; i < c->n_chunks; i++) {
        const struct chunk *ch = &c->chunks[i];
        bool present = (ch->flags & CHUNK_PRESENT) && !(ch->flags & CHUNK_DIRTY);
        if (!(ch->flags & CHUNK_MAPPED) || (ch->flags & CHUNK_DIRTY) || i * c->chunk_size >= c->base_size)
            continue;
        struct state_chunk sc = {.n = (uint32_t)i, .len = ch->len, .hash = ch->hash};
        sc.flags = ch->flags & (present ? CHUNK_PRESENT | CHUNK_UNVERIFIED : 0);
        buf_append(&row->chunks, &sc, sizeof sc);
    }
}

void store_save(struct store *s, struct content *const *all, size_t n)
{
    for (size_t at = 0; at < n; at += SAVE_AT_ONCE) {
        size_t k = n - at < SAVE_AT_ONCE ? n - at : SAVE_AT_ONCE;
        struct state_row rows[SAVE_AT_ONCE];
        for (size_t i = 0; i < k; i++) {
            struct content *c = all[at + i];
            ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
            rows[i] = (struct state_row){0};
            if (c->state_changed && c->version)
                to_row(c, &rows[i]);
            c->state_changed = false;
        }
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock); /* so that no row of a content that has left the table comes after its deletion */
        state_begin(s->state);
        for (size_t i = 0; i < k; i++) {
            const struct content *c = all[at + i];
            if (rows[i].ino == c->key.ino && !c->detached)
                state_save(s->state, &rows[i]);
            buf_fini(&rows[i].chunks);
        }
        state_end(s->state);
    }
}

static void save_changed(struct store *s)
{
    struct content **all = NULL;
    size_t n = 0;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        all = mem_calloc(HASH_COUNT(s->table) + 1, sizeof *all);
        struct content *c, *next;
        HASH_ITER(hh, s->table, c, next)
        {
            if (!c->state_changed)
                continue;
            store_take_ref(c);
            all[n++] = c;
        }
    }
    store_save(s, all, n);
    for (size_t i = 0; i < n; i++)
        content_unref(all[i]);
    free(all);
}

void store_call_keeper(struct store *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    s->wake_keeper = true;
    pthread_cond_signal(&s->wake);
}

static void *keeper_main(void *arg)
{
    struct store *s = arg;
    pthread_setname_np(pthread_self(), "keeper");
    pthread_mutex_lock(&s->lock);
    while (!s->closing) {
        struct timespec until = cond_deadline(SAVE_EVERY_MS);
        while (!s->closing && !s->wake_keeper && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
            ;
        bool trim = s->n_idle > IDLE_MAX;
        s->wake_keeper = false;
        pthread_mutex_unlock(&s->lock);
        store_disk_has_room(s);
        if (atomic_load(&s->cached) > s->cfg.max_bytes / 20 * 19)
            store_make_room(s, s->cfg.max_bytes / 10 * 9);
        save_changed(s);
        if (trim)
            store_trim(s, IDLE_MAX / 4 * 3);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- publisher ---- */

void store_call_publisher(struct content *c)
{
    atomic_store(&c->due_ms, clock_boot_ms() + STORE_LATE_MS);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->store->lock);
    pthread_cond_signal(&c->store->wake_publisher);
}

static struct op *copy_ops(const struct op *ops, size_t n)
{
    struct op *copy = mem_calloc(n ? n : 1, sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        copy[i] = ops[i];
        copy[i].name = mem_strdup(ops[i].name);
        copy[i].new_name = mem_strdup(ops[i].new_name);
        copy[i].target = mem_strdup(ops[i].target);
        copy[i].xattr = mem_strdup(ops[i].xattr);
        copy[i].value = ops[i].value ? mem_dup(ops[i].value, ops[i].value_len) : NULL;
        copy[i].changes = ops[i].changes ? mem_dup(ops[i].changes, ops[i].n_changes * sizeof *ops[i].changes) : NULL;
    }
    return copy;
}

void store_publish_later(struct content *c, const struct op *extra, size_t n_extra, bool last)
{
    struct store *s = c->store;
    struct pending_publish *p = mem_alloc(sizeof *p);
    *p = (struct pending_publish){.content = content_ref(c), .extra = copy_ops(extra, n_extra), .n_extra = n_extra, .last = last};
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    *s->pending_last = p;
    s->pending_last = &p->next;
    pthread_cond_signal(&s->wake_publisher);
}

static void pending_free(struct pending_publish *p)
{
    for (size_t i = 0; i < p->n_extra; i++)
        op_fini(&p->extra[i]);
    free(p->extra);
    content_unref(p->content);
    free(p);
}

/* The inode is gone everywhere: so is what was written to it. */
static void discard(struct content *c)
{
    log_debug("what was written to inode %llu is dropped: it was deleted", (unsigned long long)c->key.ino);
    content_lock(c);
    content_freeze(c);
    if (c->dirty) {
        struct journal_record r = {.kind = JOURNAL_CLEAN, .ino = c->key.ino};
        journal_append(c->store->journal, &r, 1);
        chunks_reset(c, 0, c->chunk_size);
        store_mark_clean(c);
    }
    content_thaw(c);
    store_forget(c);
    pthread_mutex_unlock(&c->lock);
}

/* 0, or the error that is to be tried again. */
static int publish_one(struct content *c, const struct op *extra, size_t n_extra, bool last)
{
    if (atomic_load(&c->nameless) && atomic_load(&c->opens) == 0) {
        discard(c);
        return 0;
    }
    struct op_result res;
    CLEANUP_FREE struct op_result *res_extra = mem_calloc(n_extra ? n_extra : 1, sizeof *res_extra);
    int err = content_commit(c, extra, n_extra, res_extra, &res, last);
    op_result_fini(&res);
    for (size_t i = 0; i < n_extra; i++)
        op_result_fini(&res_extra[i]);
    if (err == -ENOENT && atomic_load(&c->opens) == 0) {
        discard(c);
        return 0;
    }
    c->back_off_ms = !err ? 0 : !c->back_off_ms ? 500 : c->back_off_ms * 2 > BACK_OFF_MAX_MS ? BACK_OFF_MAX_MS : c->back_off_ms * 2;
    atomic_store(&c->due_ms, clock_boot_ms() + (err ? c->back_off_ms : STORE_LATE_MS));
    if (err)
        log_warn("inode %llu could not be committed yet: %s", (unsigned long long)c->key.ino, strerror(-err));
    return err;
}

/* A dirty content with nothing open whose time has come; or how long until the next. store.lock held. */
static struct content *next_due(struct store *s, unsigned *ret_wait_ms)
{
    int64_t now = clock_boot_ms();
    *ret_wait_ms = s->dirty_list ? POLL_MS : 10000;
    struct content *c;
    DL_FOREACH2(s->dirty_list, c, dirty_next)
    {
        if (atomic_load(&c->opens) == 0 && atomic_load(&c->due_ms) <= now) {
            store_take_ref(c);
            return c;
        }
    }
    return NULL;
}

static struct pending_publish *next_pending(struct store *s)
{
    struct pending_publish *p = s->pending;
    if (p) {
        s->pending = p->next;
        if (!s->pending)
            s->pending_last = &s->pending;
    }
    return p;
}

static void *publisher_main(void *arg)
{
    struct store *s = arg;
    pthread_setname_np(pthread_self(), "publisher");
    pthread_mutex_lock(&s->lock);
    while (!s->publisher_stop) {
        struct pending_publish *p = next_pending(s);
        unsigned wait_ms = 0;
        struct content *c = p ? NULL : next_due(s, &wait_ms);
        if (!p && !c) {
            struct timespec until = cond_deadline(wait_ms);
            pthread_cond_timedwait(&s->wake_publisher, &s->lock, &until);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        int err = 0;
        if (p) {
            err = publish_one(p->content, p->extra, p->n_extra, p->last);
            if (err != -EIO)
                pending_free(p);
        } else {
            publish_one(c, NULL, 0, true);
            content_unref(c);
        }
        pthread_mutex_lock(&s->lock);
        if (p && err == -EIO) { /* no gateway: it stays the first of all, so that the order holds */
            p->next = s->pending;
            s->pending = p;
            if (!p->next)
                s->pending_last = &p->next;
            struct timespec until = cond_deadline(POLL_MS * 2);
            pthread_cond_timedwait(&s->wake_publisher, &s->lock, &until);
        }
        pthread_cond_broadcast(&s->settled);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int store_threads_start(struct store *s)
{
    int err = pthread_create(&s->keeper, NULL, keeper_main, s);
    if (err)
        return -err;
    err = pthread_create(&s->publisher, NULL, publisher_main, s);
    if (err) {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        s->closing = true;
        pthread_cond_signal(&s->wake);
    }
    if (err)
        pthread_join(s->keeper, NULL);
    return -err;
}

void store_threads_stop(struct store *s)
{
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        struct timespec until = cond_deadline(s->cfg.timeout_ms > CLOSE_MIN_MS ? s->cfg.timeout_ms : CLOSE_MIN_MS);
        struct content *c;
        DL_FOREACH2(s->dirty_list, c, dirty_next)
        {
            atomic_store(&c->opens, 0); /* the mount is going: nothing is open any more */
            atomic_store(&c->due_ms, 0);
        }
        pthread_cond_signal(&s->wake_publisher);
        while ((s->dirty_list || s->pending) && pthread_cond_timedwait(&s->settled, &s->lock, &until) == 0)
            pthread_cond_signal(&s->wake_publisher);
        s->closing = s->publisher_stop = true;
        pthread_cond_signal(&s->wake);
        pthread_cond_signal(&s->wake_publisher);
    }
    pthread_join(s->publisher, NULL);
    pthread_join(s->keeper, NULL);
    struct pending_publish *p;
    while ((p = next_pending(s)))
        pending_free(p);
}
