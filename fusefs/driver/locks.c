/* fcntl and flock locks, held at the gateway for all mounts. Acquiring one revalidates, releasing one publishes what was written under it.

   A call that waits (F_SETLKW, flock) does not hold a FUSE thread: it is parked, and tried again by the waiters' thread when a lock of its file was released. */
#include "fusefs/driver/mount.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include <sys/file.h>

#define RETRY_MS 1000 /* should a push be missed */
#define TO_THE_END (UINT64_MAX >> 1)

struct waiter {
    struct waiter *next;
    fuse_req_t req;
    struct node *node;     /* in use */
    struct handle *handle; /* open for as long as the call waits */
    struct op op;
    bool interrupted;
    struct locks *locks;
};

/* Who holds anything: so that a close without locks asks nobody. */
struct holder_key {
    uint64_t ino, owner, flock;
};
struct holder {
    struct holder_key key;
    UT_hash_handle hh;
};

struct locks {
    struct mount *mount;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;
    struct waiter *waiters;
    struct holder *holders;
    bool kicked, stopping;
    pthread_t thread;
};

static void holder_set(struct locks *l, uint64_t ino, uint64_t owner, bool flock_kind, bool holds)
{
    struct holder_key key = {ino, owner, flock_kind};
    struct holder *h;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&l->lock);
    HASH_FIND(hh, l->holders, &key, sizeof key, h);
    if (holds && !h) {
        h = mem_alloc(sizeof *h);
        h->key = key;
        HASH_ADD(hh, l->holders, key, sizeof key, h);
    } else if (!holds && h) {
        HASH_DEL(l->holders, h);
        free(h);
    }
}

static bool holds(struct locks *l, uint64_t ino, uint64_t owner, bool flock_kind)
{
    struct holder_key key = {ino, owner, flock_kind};
    struct holder *h;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&l->lock);
    HASH_FIND(hh, l->holders, &key, sizeof key, h);
    return h != NULL;
}

static void kick(struct locks *l)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&l->lock);
    l->kicked = true;
    pthread_cond_signal(&l->wake);
}

void locks_unlocked(void *ctx, uint64_t ino)
{
    (void)ino;
    kick(((struct mount *)ctx)->locks);
}

/* From now on others may have the locks: what was written under them and not sent must not replace what those write. */
void locks_session_lost(void *ctx)
{
    struct mount *m = ctx;
    struct locks *l = m->locks;
    struct holder *h, *next;
    m->lock_session++;
    pthread_mutex_lock(&l->lock);
    struct content **contents = mem_calloc(HASH_COUNT(l->holders) + 1, sizeof *contents);
    size_t n = 0;
    HASH_ITER(hh, l->holders, h, next)
    {
        ACQUIRE_REPLICA_FOR_CURRENT_SCOPE(m);
        struct node *node = replica_find(m->replica, h->key.ino);
        if (node && node->content)
            contents[n++] = content_ref(node->content);
    }
    pthread_mutex_unlock(&l->lock);
    if (HASH_COUNT(l->holders))
        log_warn("the gateway was away for too long: the locks of this mount are lost");
    while (n) {
        content_put_aside(contents[--n]);
        content_unref(contents[n]);
    }
    free(contents);
}

/* One try. 0, -EAGAIN, other errors. */
static int try_lock(struct locks *l, const struct op *op)
{
    struct op_result res = {0};
    int err = mount_run(l->mount, op, &res);
    op_result_fini(&res);
    if (err)
        return err;
    bool whole = op->lock_start == 0 && op->lock_end == TO_THE_END;
    if (op->lock_type != F_UNLCK)
        holder_set(l, op->ino, op->lock_owner, op->lock_flock, true);
    else if (whole)
        holder_set(l, op->ino, op->lock_owner, op->lock_flock, false);
    return 0;
}

/* ---- those who wait ---- */

static void interrupted(fuse_req_t req, void *data)
{
    (void)req;
    struct waiter *w = data;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->locks->lock);
    w->interrupted = true;
    w->locks->kicked = true;
    pthread_cond_signal(&w->locks->wake);
}

static void note_locked(struct mount *m, struct handle *h)
{
    h->lock_session = m->lock_session;
    h->locked = true;
}

static void answer(struct locks *l, fuse_req_t req, int err)
{
    if (kernel_begin_write(l->mount->kernel)) {
        fuse_reply_err(req, -err);
        kernel_end_write(l->mount->kernel);
    } else {
        fuse_reply_none(req);
    }
}

static void waiter_end(struct locks *l, struct waiter *w, int err)
{
    if (!err)
        note_locked(l->mount, w->handle);
    pthread_mutex_lock(&l->lock);
    struct waiter **at = &l->waiters;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    pthread_mutex_unlock(&l->lock);
    fuse_req_interrupt_func(w->req, NULL, NULL); /* from here on it is not called any more */
    answer(l, w->req, err);
    replica_leave(l->mount->replica, w->node);
    free(w);
}

static void *wait_loop(void *arg)
{
    struct locks *l = arg;
    pthread_setname_np(pthread_self(), "locks");
    pthread_mutex_lock(&l->lock);
    while (!l->stopping) {
        if (!l->kicked && !l->waiters) {
            pthread_cond_wait(&l->wake, &l->lock);
            continue;
        }
        if (!l->kicked) {
            struct timespec until = cond_deadline(RETRY_MS);
            pthread_cond_timedwait(&l->wake, &l->lock, &until);
        }
        l->kicked = false;
        for (struct waiter *w = l->waiters, *next; w && !l->stopping; w = next) {
            next = w->next;
            bool gone = w->interrupted;
            pthread_mutex_unlock(&l->lock);
            int err = gone ? -EINTR : try_lock(l, &w->op);
            if (err != -EAGAIN)
                waiter_end(l, w, err);
            pthread_mutex_lock(&l->lock);
        }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Only the waiters' thread takes waiters off; new ones go to the end, so that `next` above stays good. */
static void park(struct locks *l, fuse_req_t req, struct node *n, struct handle *h, const struct op *op)
{
    struct waiter *w = mem_alloc(sizeof *w);
    *w = (struct waiter){.req = req, .node = n, .handle = h, .op = *op, .locks = l};
    replica_use(l->mount->replica, n);
    pthread_mutex_lock(&l->lock);
    struct waiter **at = &l->waiters;
    while (*at)
        at = &(*at)->next;
    *at = w;
    l->kicked = true; /* it may have been released between the first try and now */
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    fuse_req_interrupt_func(req, interrupted, w);
}

struct locks *locks_new(struct mount *m)
{
    struct locks *l = mem_alloc(sizeof *l);
    l->mount = m;
    pthread_mutex_init(&l->lock, NULL);
    cond_init(&l->wake);
    if (pthread_create(&l->thread, NULL, wait_loop, l))
        abort();
    return l;
}

void locks_free(struct locks *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    while (l->waiters)
        waiter_end(l, l->waiters, -EINTR);
    struct holder *h, *next;
    HASH_ITER(hh, l->holders, h, next)
    {
        HASH_DEL(l->holders, h);
        free(h);
    }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->wake);
    free(l);
}

/* ---- operations ---- */

static struct op lock_op(const struct node *n, const struct flock *f, uint64_t owner)
{
    return (struct op){
        .kind = OP_LOCK,
        .ino = n->ino,
        .lock_type = f->l_type,
        .lock_start = (uint64_t)f->l_start,
        .lock_end = f->l_len ? (uint64_t)(f->l_start + f->l_len - 1) : TO_THE_END,
        .lock_owner = owner & ~UINT64_C(1), /* the wire form drops the lowest bit */
        .uid = (uint32_t)f->l_pid,
    };
}

void locks_getlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *f)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        f->l_type = F_UNLCK;
        fuse_reply_lock(req, f);
        return;
    }
    struct op op = lock_op(node_of(m, id), f, fi->lock_owner);
    struct op_result res = {0};
    op.lock_test = true;
    int err = mount_run(m, &op, &res);
    if (err) {
        fuse_reply_err(req, -err);
    } else {
        f->l_type = (short)(res.lock_end || res.lock_type ? res.lock_type : F_UNLCK);
        if (f->l_type != F_UNLCK) {
            f->l_start = (off_t)res.lock_start;
            f->l_len = res.lock_end >= TO_THE_END ? 0 : (off_t)(res.lock_end - res.lock_start + 1);
            f->l_pid = (pid_t)res.lock_pid;
        }
        fuse_reply_lock(req, f);
    }
    op_result_fini(&res);
}

static int take(struct mount *m, struct handle *h, const struct op *op)
{
    int err = sync_fresh(m->sync);
    if (!err)
        err = try_lock(m->locks, op);
    if (!err)
        note_locked(m, h);
    return err;
}

/* What was written under the lock is published first; if that fails, the lock goes all the same. */
static int give(struct mount *m, struct handle *h, const struct op *op)
{
    int err = h->wrote ? mount_publish(m, h->node, h->content, false) : 0;
    int lock_err = try_lock(m->locks, op);
    kick(m->locks);
    return lock_err ? lock_err : err;
}

static void set(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct op *op, bool wait)
{
    struct mount *m = mount_of(req);
    struct handle *h = handle_of(fi);
    int err = locks_lost(m, h) ? -EIO : op->lock_type == F_UNLCK ? give(m, h, op) : take(m, h, op);
    if (err == -EAGAIN && wait)
        park(m->locks, req, node_of(m, id), h, op);
    else
        fuse_reply_err(req, -err);
}

void locks_setlk(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, struct flock *f, int sleep)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        fuse_reply_err(req, ENOLCK);
        return;
    }
    struct op op = lock_op(node_of(m, id), f, fi->lock_owner);
    set(req, id, fi, &op, sleep);
}

void locks_flock(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi, int how)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        fuse_reply_err(req, ENOLCK);
        return;
    }
    struct flock f = {.l_type = how & LOCK_UN ? F_UNLCK : how & LOCK_EX ? F_WRLCK : F_RDLCK};
    struct op op = lock_op(node_of(m, id), &f, fi->lock_owner);
    op.lock_flock = true;
    set(req, id, fi, &op, !(how & LOCK_NB));
}

void locks_close(struct mount *m, struct handle *h, uint64_t owner, bool release)
{
    owner &= ~UINT64_C(1);
    for (int flock_kind = 0; flock_kind <= (release ? 1 : 0); flock_kind++) {
        if (!holds(m->locks, h->node->ino, owner, flock_kind))
            continue;
        struct flock f = {.l_type = F_UNLCK};
        struct op op = lock_op(h->node, &f, owner);
        op.lock_flock = flock_kind;
        try_lock(m->locks, &op); /* what cannot be told ends with the session */
        kick(m->locks);
    }
}
