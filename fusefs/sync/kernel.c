#define FUSE_USE_VERSION 312
#include "fusefs/sync/kernel.h"
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <string.h>

#define NOTIFIERS 8
#define PATIENCE_MS 5        /* for a name that the kernel has locked */
#define DATA_PATIENCE_MS 3000 /* for pages: a READ that has one locked gets the new content. Longer than a lease, so that what is not gone by then is at least not believed while it is waited for */
#define EMPTY_MS 200          /* before the lease is out */
#define UNMOUNT_PATIENCE_MS 1000
#define NOTIFY_INC_EPOCH 8   /* FUSE_NOTIFY_INC_EPOCH, include/uapi/linux/fuse.h */

struct kernel {
    struct replica *replica;
    struct fuse_session *_Atomic se; /* set once, when attached */
    struct pool *notifiers;
    bool epochs;
    _Atomic uint64_t items, bumps;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t turn;
    enum { MOUNTED, UNMOUNTING, UNMOUNTED } state;
    unsigned writers; /* threads that may be writing to the session's descriptor */
};

/* Items given to the notifiers; freed by the last of waiter and workers. */
struct job {
    struct kernel *k;
    pthread_mutex_t lock;
    pthread_cond_t done;
    unsigned refs, left, data_left; /* data_left: of these, KERNEL_DATA */
    struct kernel_item items[];
};

/* struct fuse_out_header with nothing behind it; a notification has unique 0 and its code in `error`. */
struct notification {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};

bool kernel_begin_write(struct kernel *k)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&k->lock);
    while (k->state == UNMOUNTING)
        pthread_cond_wait(&k->turn, &k->lock);
    if (k->state == UNMOUNTED)
        return false;
    k->writers++;
    return true;
}

void kernel_end_write(struct kernel *k)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&k->lock);
    k->writers--;
    pthread_cond_broadcast(&k->turn);
}

void kernel_unmount(struct kernel *k, struct fuse_session *se)
{
    struct timespec until = cond_deadline(UNMOUNT_PATIENCE_MS);
    pthread_mutex_lock(&k->lock);
    k->state = UNMOUNTING;
    while (k->writers > 0) /* who is held for longer is inside of write(), and looks at the descriptor no more */
        if (pthread_cond_timedwait(&k->turn, &k->lock, &until) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&k->lock);
    fuse_session_unmount(se);
    pthread_mutex_lock(&k->lock);
    k->state = UNMOUNTED;
    pthread_cond_broadcast(&k->turn);
    pthread_mutex_unlock(&k->lock);
}

static bool write_epoch(struct fuse_session *se)
{
    struct notification n = {.len = sizeof n, .error = NOTIFY_INC_EPOCH};
    return write(fuse_session_fd(se), &n, sizeof n) == sizeof n;
}

static bool bump_epoch(struct kernel *k)
{
    if (!kernel_begin_write(k))
        return false;
    bool ok = write_epoch(k->se);
    kernel_end_write(k);
    if (ok)
        atomic_fetch_add(&k->bumps, 1);
    return ok;
}

struct kernel *kernel_new(struct replica *r)
{
    struct kernel *k = mem_alloc(sizeof *k);
    k->replica = r;
    k->notifiers = pool_new(NOTIFIERS, "notify");
    pthread_mutex_init(&k->lock, NULL);
    cond_init(&k->turn);
    return k;
}

void kernel_attach(struct kernel *k, struct fuse_session *se)
{
    if (!kernel_begin_write(k))
        return;
    k->epochs = write_epoch(se);
    k->se = se;
    kernel_end_write(k);
    if (!k->epochs)
        log_info("this kernel has no epochs (Linux 6.16 has): names are cached for at most %g s", KERNEL_NAME_SECONDS_OLD);
}

void kernel_free(struct kernel *k)
{
    if (!k)
        return;
    pool_free(k->notifiers);
    pthread_cond_destroy(&k->turn);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

bool kernel_ready(const struct kernel *k)
{
    return k->se != NULL;
}

bool kernel_has_epochs(const struct kernel *k)
{
    return k->epochs;
}

void kernel_figures(const struct kernel *k, uint64_t *ret_items, uint64_t *ret_epochs)
{
    *ret_items = k->items;
    *ret_epochs = k->bumps;
}

double kernel_name_seconds(struct kernel *k, const struct node *dir)
{
    if (dir->contended_until_ms > clock_boot_ms())
        return 0;
    return k->epochs ? KERNEL_FOREVER : KERNEL_NAME_SECONDS_OLD;
}

/* Errors mean that the kernel does not hold it (ENOENT) or is gone (ENOTCONN, ENODEV): nothing left to tell. */
static void tell(struct kernel *k, const struct kernel_item *i)
{
    if (!kernel_begin_write(k))
        return;
    switch (i->what) {
    case KERNEL_NAME:
        fuse_lowlevel_notify_inval_entry(k->se, i->id, i->name, strlen(i->name));
        break;
    case KERNEL_ATTR:
        fuse_lowlevel_notify_inval_inode(k->se, i->id, -1, 0);
        break;
    case KERNEL_LISTING:
        fuse_lowlevel_notify_inval_inode(k->se, i->id, 0, 0);
        break;
    case KERNEL_DATA:
        fuse_lowlevel_notify_inval_inode(k->se, i->id, i->off, i->len);
        break;
    }
    kernel_end_write(k);
    atomic_fetch_add(&k->items, 1);
}

static void job_unref(struct job *j)
{
    pthread_mutex_lock(&j->lock);
    bool last = --j->refs == 0;
    pthread_mutex_unlock(&j->lock);
    if (!last)
        return;
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->done);
    free(j);
}

struct task {
    struct job *job;
    struct kernel_item *item;
};

static void run_task(void *arg)
{
    struct task *t = arg;
    struct job *j = t->job;
    tell(j->k, t->item);
    pthread_mutex_lock(&j->lock);
    t->item->id = 0; /* done */
    j->left--;
    j->data_left -= t->item->what == KERNEL_DATA;
    pthread_cond_signal(&j->done);
    pthread_mutex_unlock(&j->lock);
    job_unref(j);
    free(t);
}

static struct job *job_start(struct kernel *k, const struct kernel_item *items, size_t n)
{
    struct job *j = mem_alloc(sizeof *j + n * sizeof *items);
    pthread_mutex_init(&j->lock, NULL);
    cond_init(&j->done);
    j->k = k;
    j->refs = (unsigned)n + 1;
    j->left = (unsigned)n;
    memcpy(j->items, items, n * sizeof *items);
    for (size_t i = 0; i < n; i++)
        j->data_left += items[i].what == KERNEL_DATA;
    for (size_t i = 0; i < n; i++) {
        struct task *t = mem_alloc(sizeof *t);
        *t = (struct task){j, &j->items[i]};
        pool_run(k->notifiers, run_task, t);
    }
    return j;
}

/* Waits at most ms for *left to become 0; true when it is. */
static bool wait_until_none(struct job *j, const unsigned *left, int ms)
{
    struct timespec until = cond_deadline(ms);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&j->lock);
    while (*left > 0)
        if (pthread_cond_timedwait(&j->done, &j->lock, &until) == ETIMEDOUT)
            break;
    return *left == 0;
}

static bool job_wait(struct job *j, int ms)
{
    return wait_until_none(j, &j->left, ms);
}

/* Names of a directory whose kernel lock may be held get time-out 0 from now on. True where that was so already: nothing to tell. */
static bool contended(struct kernel *k, uint64_t dir_ino, bool begin)
{
    replica_lock(k->replica);
    struct node *dir = replica_find(k->replica, dir_ino);
    int64_t now = clock_boot_ms();
    bool was = dir && dir->contended_until_ms > now;
    if (dir && (was || begin))
        dir->contended_until_ms = now + KERNEL_CONTENDED_MS;
    replica_unlock(k->replica);
    return was;
}

static bool names_in_flight(struct kernel *k, uint64_t dir_ino)
{
    replica_lock(k->replica);
    struct node *dir = replica_find(k->replica, dir_ino);
    bool any = dir && dir->names_in_flight > 0;
    replica_unlock(k->replica);
    return any;
}

/* The names that were not told in time. */
static void fall_back(struct kernel *k, struct job *j, size_t n)
{
    bool names = false;
    for (size_t i = 0; i < n; i++) {
        pthread_mutex_lock(&j->lock);
        bool waits = j->items[i].id != 0 && j->items[i].what == KERNEL_NAME;
        pthread_mutex_unlock(&j->lock);
        if (waits) {
            contended(k, j->items[i].dir_ino, true);
            names = true;
        }
    }
    if (names && k->epochs)
        bump_epoch(k);
    if (names && !k->epochs)
        job_wait(j, (int)(KERNEL_NAME_SECONDS_OLD * 1000) + 50);
    wait_until_none(j, &j->data_left, DATA_PATIENCE_MS);
}

void kernel_invalidate(struct kernel *k, const struct kernel_item *items, size_t n)
{
    if (!k->se || n == 0)
        return;
    CLEANUP_FREE struct kernel_item *slow = mem_calloc(n, sizeof *slow);
    size_t n_slow = 0;
    bool bump = false;
    for (size_t i = 0; i < n; i++) {
        const struct kernel_item *it = &items[i];
        if (it->what == KERNEL_ATTR || it->what == KERNEL_LISTING) {
            tell(k, it);
        } else if (it->what == KERNEL_DATA) {
            slow[n_slow++] = *it;
        } else if (k->epochs && contended(k, it->dir_ino, false)) {
            continue;
        } else if (k->epochs && names_in_flight(k, it->dir_ino)) {
            contended(k, it->dir_ino, true);
            bump = true;
        } else {
            slow[n_slow++] = *it;
        }
    }
    if (bump)
        bump_epoch(k);
    if (n_slow == 0)
        return;
    struct job *j = job_start(k, slow, n_slow);
    if (!job_wait(j, PATIENCE_MS))
        fall_back(k, j, n_slow);
    job_unref(j);
}

void kernel_invalidate_later(struct kernel *k, const struct kernel_item *item)
{
    if (k->se)
        job_unref(job_start(k, item, 1));
}

bool kernel_doubt_names(struct kernel *k)
{
    return k->se && k->epochs && bump_epoch(k);
}

struct collect {
    struct kernel *k;
    struct kernel_item *items;
    size_t n, room;
    bool all_data;
};

static void collect_node(void *ctx, struct node *n)
{
    struct collect *c = ctx;
    if (c->n == c->room) {
        c->room = c->room ? 2 * c->room : 1024;
        c->items = mem_realloc(c->items, c->room * sizeof *c->items);
    }
    bool data = c->all_data || n->content;
    c->items[c->n++] = (struct kernel_item){.what = data ? KERNEL_DATA : n->complete ? KERNEL_LISTING : KERNEL_ATTR,
                                            .id = replica_id(c->k->replica, n)};
}

void kernel_empty(struct kernel *k, bool all_data)
{
    if (!k->se)
        return;
    if (k->epochs)
        bump_epoch(k);
    struct collect c = {.k = k, .all_data = all_data};
    replica_each(k->replica, collect_node, &c);
    size_t n_data = 0;
    for (size_t i = 0; i < c.n; i++) {
        if (c.items[i].what == KERNEL_DATA)
            c.items[n_data++] = c.items[i];
        else
            tell(k, &c.items[i]);
    }
    if (n_data) {
        struct job *j = job_start(k, c.items, n_data);
        job_wait(j, EMPTY_MS);
        job_unref(j);
    }
    free(c.items);
}
