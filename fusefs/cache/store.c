/* The cache folder and the table of contents.

     DIR/lock          locked while a mount uses the folder
     DIR/journal-id    the id under which this folder's batches are known
     DIR/journal       what is dirty
     DIR/state.db      what is cached
     DIR/content/…     backing files */
#include "fusefs/cache/content_internal.h"
#include "common/cond.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define FETCHERS 4
#define UPLOADERS 3
#define FDS_MAX 512
#define MEMORY_MAX (192u << 20)
#define UNSENT_MAX (UINT64_C(1) << 30)

static int make_dirs(const char *dir)
{
    CLEANUP_FREE char *path = mem_strdup(dir);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = 0;
        if (mkdir(path, 0700) && errno != EEXIST)
            return -errno;
        *p = '/';
    }
    return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

static int write_journal_id(int dir_fd, struct uuid *ret)
{
    char text[UUID_TEXT];
    uuid_new(ret);
    uuid_text(ret, text);
    CLEANUP_CLOSE int fd = openat(dir_fd, "journal-id.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, UUID_TEXT - 1) != UUID_TEXT - 1 || fsync(fd) || renameat(dir_fd, "journal-id.new", dir_fd, "journal-id"))
        return errno ? -errno : -EIO;
    return 0;
}

int store_prepare(const char *dir, struct uuid *ret_journal)
{
    int err = make_dirs(dir);
    if (err)
        return err;
    CLEANUP_CLOSE int dir_fd = open(dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (dir_fd < 0)
        return -errno;
    char text[UUID_TEXT] = "";
    CLEANUP_CLOSE int fd = openat(dir_fd, "journal-id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && read(fd, text, UUID_TEXT - 1) == UUID_TEXT - 1 && !uuid_parse(text, ret_journal))
        return 0;
    return write_journal_id(dir_fd, ret_journal);
}

static int lay_out(struct store *s)
{
    s->dir_fd = open(s->dir, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    if (s->dir_fd < 0 || fchmod(s->dir_fd, 0700))
        return -errno;
    s->lock_fd = openat(s->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0)
        return -errno;
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB))
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (mkdirat(s->dir_fd, "content", 0700) && errno != EEXIST)
        return -errno;
    return 0;
}

static struct store *store_new(const struct store_config *cfg)
{
    struct store *s = mem_alloc(sizeof *s);
    s->cfg = *cfg;
    s->dir = mem_strdup(cfg->dir);
    s->cfg.dir = s->dir;
    s->remote = cfg->remote;
    s->lock_fd = s->dir_fd = -1;
    uint64_t share = cfg->writeback ? cfg->max_bytes / 4 * 3 : cfg->max_bytes / 2;
    s->dirty_limit = !cfg->writeback && share > UNSENT_MAX ? UNSENT_MAX : share;
    atomic_init(&s->dirty_max, s->dirty_limit);
    struct rlimit files;
    s->fds_max = !getrlimit(RLIMIT_NOFILE, &files) && files.rlim_cur / 2 < FDS_MAX ? (size_t)files.rlim_cur / 2 : FDS_MAX;
    s->pending_last = &s->pending;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->fd_lock, NULL);
    pthread_mutex_init(&s->evicting, NULL);
    pthread_mutex_init(&s->memory_lock, NULL);
    cond_init(&s->wake);
    cond_init(&s->wake_publisher);
    cond_init(&s->room);
    cond_init(&s->settled);
    cond_init(&s->memory_free);
    return s;
}

static void content_free(struct content *c);

static void store_free(struct store *s, bool clean)
{
    pool_free(s->fetchers);
    uploader_free(s->uploader);
    struct content *c, *next;
    DL_FOREACH_SAFE2(s->dirty_list, c, next, dirty_next)
    {
        if (c->detached)
            content_free(c);
    }
    HASH_ITER(hh, s->table, c, next)
    {
        HASH_DEL(s->table, c);
        content_free(c);
    }
    state_close(s->state, clean);
    journal_close(s->journal);
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->fd_lock);
    pthread_mutex_destroy(&s->evicting);
    pthread_mutex_destroy(&s->memory_lock);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->wake_publisher);
    pthread_cond_destroy(&s->room);
    pthread_cond_destroy(&s->settled);
    pthread_cond_destroy(&s->memory_free);
    free(s->ahead);
    free(s->dir);
    free(s);
}

int store_open(const struct store_config *cfg, struct store **ret)
{
    struct store *s = store_new(cfg);
    CLEANUP_FREE char *db = mem_printf("%s/state.db", s->dir), *journal = mem_printf("%s/journal", s->dir);
    bool unclean = false;
    int err = lay_out(s);
    if (!err)
        err = state_open(db, &s->state, &unclean);
    if (!err)
        err = journal_open(journal, &s->journal);
    if (err) {
        store_free(s, false);
        return err;
    }
    s->fetchers = pool_new(FETCHERS, "fetch");
    s->uploader = uploader_new(s->remote, UPLOADERS);
    atomic_store(&s->cached, state_total(s->state));
    store_recover(s, unclean);
    err = store_threads_start(s);
    if (err) {
        store_free(s, false);
        return err;
    }
    *ret = s;
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    store_threads_stop(s);
    pool_drain(s->fetchers);
    CLEANUP_FREE struct content **all = mem_calloc(HASH_COUNT(s->table) + 1, sizeof *all);
    size_t n = 0;
    struct content *c, *next;
    HASH_ITER(hh, s->table, c, next)
    {
        all[n++] = c;
    }
    store_save(s, all, n);
    store_free(s, true);
}

void store_status(struct store *s, struct store_status *ret)
{
    uint64_t sending = uploader_sending(s->uploader);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    *ret = (struct store_status){.cached_bytes = atomic_load(&s->cached),
                                 .dirty_bytes = atomic_load(&s->unsent),
                                 .dirty_files = s->n_dirty,
                                 .uploading_bytes = sending,
                                 .uploaded_bytes = uploader_bytes(s->uploader)};
}

void *store_memory_take(struct store *s, size_t n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->memory_lock);
    while (s->memory_used && s->memory_used + n > MEMORY_MAX)
        pthread_cond_wait(&s->memory_free, &s->memory_lock);
    s->memory_used += n;
    return mem_realloc(NULL, n ? n : 1); /* not zeroed: it is filled or dropped */
}

void store_memory_give(struct store *s, void *p, size_t n)
{
    free(p);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->memory_lock);
    s->memory_used -= n;
    pthread_cond_broadcast(&s->memory_free);
}

/* ---- contents ---- */

static struct content *content_new(struct store *s, struct content_key key)
{
    struct content *c = mem_alloc(sizeof *c);
    c->key = key;
    c->store = s;
    c->fd = -1;
    c->refs = 1;
    pthread_mutex_init(&c->publishing, NULL);
    pthread_mutex_init(&c->lock, NULL);
    cond_init(&c->changed);
    return c;
}

/* Nobody has it any more and it is in no list. What it has cached stays counted: it is still on the disk. */
static void content_free(struct content *c)
{
    if (c->detached)
        c->fd_users = 0; /* store_forget's */
    backing_close(c);
    for (uint64_t i = 0; i < c->n_chunks; i++)
        free(c->chunks[i].stored);
    free(c->chunks);
    snapshot_free(c->unsure);
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->publishing);
    free(c);
}

static struct content *find(struct store *s, struct content_key key)
{
    struct content *c;
    HASH_FIND(hh, s->table, &key, sizeof key, c);
    return c;
}

void store_take_ref(struct content *c)
{
    if (c->refs++ == 0 && c->in_idle) {
        DL_DELETE2(c->store->idle_list, c, idle_prev, idle_next);
        c->in_idle = false;
        c->store->n_idle--;
    }
}

struct content *store_find(struct store *s, struct content_key key)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct content *c = find(s, key);
    if (c)
        store_take_ref(c);
    return c;
}

struct content *store_make(struct store *s, struct content_key key, bool *ret_fresh)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct content *c = find(s, key);
    *ret_fresh = !c;
    if (c) {
        store_take_ref(c);
        return c;
    }
    c = content_new(s, key);
    pthread_mutex_trylock(&c->lock); /* nobody else knows it: it is free, and its place in the order of locks does not matter */
    HASH_ADD(hh, s->table, key, sizeof c->key, c);
    return c;
}

struct content *content_ref(struct content *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->store->lock);
    store_take_ref(c);
    return c;
}

void content_unref(struct content *c)
{
    if (!c)
        return;
    struct store *s = c->store;
    pthread_mutex_lock(&s->lock);
    bool drop = false;
    if (--c->refs == 0) {
        drop = c->detached;
        if (!drop) {
            DL_APPEND2(s->idle_list, c, idle_prev, idle_next);
            c->in_idle = true;
            if (++s->n_idle % 1024 == 0) {
                s->wake_keeper = true;
                pthread_cond_signal(&s->wake);
            }
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (drop) {
        chunks_reset(c, 0, 0);
        content_free(c);
    }
}

/* Takes idle contents out of memory, down to `keep`. Their states are saved first; whoever is wanted again meanwhile stays. */
void store_trim(struct store *s, size_t keep)
{
    for (;;) {
        struct content *batch[64];
        size_t n = 0;
        pthread_mutex_lock(&s->lock);
        while (n < 64 && s->n_idle > keep && s->idle_list) {
            struct content *c = s->idle_list;
            store_take_ref(c);
            batch[n++] = c;
        }
        pthread_mutex_unlock(&s->lock);
        store_save(s, batch, n);
        bool any = false;
        for (size_t i = 0; i < n; i++) {
            struct content *c = batch[i];
            pthread_mutex_lock(&s->lock);
            bool mine = c->refs == 1 && !c->detached && !c->state_changed;
            if (mine)
                HASH_DEL(s->table, c);
            pthread_mutex_unlock(&s->lock);
            if (mine)
                content_free(c);
            else
                content_unref(c);
            any |= mine;
        }
        if (!any)
            return;
    }
}

void store_mark_dirty(struct content *c)
{
    struct store *s = c->store;
    c->dirty = true;
    atomic_store(&c->due_ms, clock_boot_ms() + STORE_LATE_MS);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (c->in_dirty)
        return;
    store_take_ref(c); /* the list's */
    c->in_dirty = true;
    DL_APPEND2(s->dirty_list, c, dirty_prev, dirty_next);
    s->n_dirty++;
    if (atomic_load(&c->opens) == 0)
        pthread_cond_signal(&s->wake_publisher);
}

void store_mark_clean(struct content *c)
{
    struct store *s = c->store;
    c->dirty = c->aside = false;
    pthread_mutex_lock(&s->lock);
    bool was = c->in_dirty;
    if (was) {
        c->in_dirty = false;
        DL_DELETE2(s->dirty_list, c, dirty_prev, dirty_next);
        s->n_dirty--;
        pthread_cond_broadcast(&s->settled);
        if (--c->refs == 0) /* does not happen while the caller has one; kept whole all the same */
            c->refs++;
    }
    pthread_mutex_unlock(&s->lock);
}

/* Out of the table, so that the inode number is free for another object. store.lock held. */
static void detach(struct content *c)
{
    if (c->detached)
        return;
    HASH_DEL(c->store->table, c);
    c->detached = true;
}

void store_forget(struct content *c)
{
    struct store *s = c->store;
    char path[BACKING_PATH];
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        if (c->detached)
            return;
        int fd = backing_get(c); /* stays open: its users go on with the nameless file */
        if (fd < 0)
            log_debug("a backing file of no further use: %s", strerror(-fd));
        backing_path(c->key, path);
        unlinkat(s->dir_fd, path, 0);
        detach(c);
    }
    state_delete(s->state, c->key.ino, c->key.of);
}

int store_rekey(struct content *c, uint64_t ino)
{
    struct store *s = c->store;
    struct content_key before = c->key, key = {.ino = ino};
    char from[BACKING_PATH], to[BACKING_PATH];
    backing_path(before, from);
    backing_path(key, to);
    pthread_mutex_lock(&s->lock);
    struct content *there = find(s, key);
    if (there && !c->detached) { /* somebody has opened the sibling already: it has an object of its own */
        pthread_mutex_unlock(&s->lock);
        store_forget(c);
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
        c->key = key;
        return 0;
    }
    if (!c->detached)
        HASH_DEL(s->table, c);
    c->key = key;
    int err = backing_make_dir(s, key);
    if (!err && !c->detached && renameat(s->dir_fd, from, s->dir_fd, to))
        err = -errno;
    if (!c->detached)
        HASH_ADD(hh, s->table, key, sizeof c->key, c);
    pthread_mutex_unlock(&s->lock);
    state_delete(s->state, before.ino, before.of);
    return err;
}
