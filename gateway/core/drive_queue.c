#include "gateway/core/drive_queue.h"
#include "common/cleanup.h"
#include "common/mem.h"
#include "gateway/core/drive_group.h"

#include <errno.h>
#include <uthash.h>

#define GROUP_WORKS 64
#define GROUP_OPS 2000
#define GROUPS_IN_A_ROW 16 /* then other drives get the thread */

/* IDLE: nothing waits. POSTED: a thread was asked for. RUNNING: a thread has it. */
enum state { IDLE, POSTED, RUNNING };

struct queue {
    UT_hash_handle hh;
    struct uuid drive;
    struct drive_queues *all;
    struct drive_work *first, **last;
    enum state state;
    unsigned refs;          /* threads that were asked for, run it, or wait in drive_queues_run */
    pthread_cond_t changed; /* for drive_queues_run: a work is done, or the queue is free to be run */
};

struct drive_queues {
    struct meta *meta;
    void (*run)(void *pool, void (*fn)(void *), void *arg);
    void *pool;
    struct drive_listener *listener;
    pthread_mutex_t lock; /* guards everything below, and every queue; held for moments only, never across a call to others */
    pthread_cond_t idle;  /* no queue is left */
    struct queue *queues;
    bool closed;
};

struct drive_queues *drive_queues_new(struct meta *meta, void (*run)(void *pool, void (*fn)(void *), void *arg), void *pool,
                                      struct drive_listener *listener)
{
    struct drive_queues *q = mem_alloc(sizeof *q);
    q->meta = meta;
    q->run = run;
    q->pool = pool;
    q->listener = listener;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->idle, NULL);
    return q;
}

void drive_queues_drain(struct drive_queues *q)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
    while (q->queues)
        pthread_cond_wait(&q->idle, &q->lock);
}

void drive_queues_close(struct drive_queues *q)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
    q->closed = true;
}

void drive_queues_free(struct drive_queues *q)
{
    if (!q)
        return;
    drive_queues_drain(q);
    pthread_cond_destroy(&q->idle);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

/* ---- queues; under the lock ---- */

static struct queue *queue_ref(struct drive_queues *all, const struct uuid *drive)
{
    struct queue *q;
    HASH_FIND(hh, all->queues, drive, sizeof *drive, q);
    if (!q) {
        q = mem_alloc(sizeof *q);
        q->drive = *drive;
        q->all = all;
        q->last = &q->first;
        pthread_cond_init(&q->changed, NULL);
        HASH_ADD(hh, all->queues, drive, sizeof q->drive, q);
    }
    q->refs++;
    return q;
}

static void queue_unref(struct queue *q)
{
    struct drive_queues *all = q->all;
    if (--q->refs)
        return;
    HASH_DEL(all->queues, q);
    pthread_cond_destroy(&q->changed);
    free(q);
    if (!all->queues)
        pthread_cond_broadcast(&all->idle);
}

static void queue_append(struct queue *q, struct drive_work *w)
{
    w->next = NULL;
    *q->last = w;
    q->last = &w->next;
}

static struct drive_work *queue_take(struct queue *q)
{
    struct drive_work *group = q->first, *w = group;
    size_t works = 1, ops = w->n_ops;
    while (w->next && works < GROUP_WORKS && ops + w->next->n_ops <= GROUP_OPS) {
        w = w->next;
        works++;
        ops += w->n_ops;
    }
    q->first = w->next;
    if (!q->first)
        q->last = &q->first;
    w->next = NULL;
    return group;
}

/* ---- running ---- */

void drive_work_finish(struct drive_work *w)
{
    w->done(w);
}

uint64_t drive_works_range(const struct drive_work *works, uint64_t *ret_first)
{
    uint64_t first = 0, last = 0;
    for (const struct drive_work *w = works; w; w = w->next)
        if (w->error == 0 && w->first_seq) {
            first = first && first < w->first_seq ? first : w->first_seq;
            last = last > w->last_seq ? last : w->last_seq;
        }
    *ret_first = first;
    return last;
}

/* Works that failed were not committed: they are answered apart. */
static void decided(void *ctx, struct drive_work *group, const struct drive_others *others)
{
    struct drive_queues *all = ctx;
    struct drive_work *good = NULL, **last = &good;
    for (struct drive_work *w = group, *next; w; w = next) {
        next = w->next;
        w->next = NULL;
        if (w->error < 0 || !all->listener) {
            drive_work_finish(w);
        } else {
            *last = w;
            last = &w->next;
        }
    }
    if (good)
        all->listener->committed(all->listener, &good->drive, good, others);
}

static void queue_posted(void *arg);

/* Runs groups until the queue is empty, `upto` (may be NULL) was run, or others should get the thread. Called with the lock held and the state RUNNING; gives the
   lock up while it works. */
static void queue_run(struct queue *q, const bool *upto)
{
    struct drive_queues *all = q->all;
    for (unsigned i = 0; q->first && i < GROUPS_IN_A_ROW && !(upto && *upto); i++) {
        struct drive_work *group = queue_take(q);
        pthread_mutex_unlock(&all->lock);
        drive_group_run(all->meta, group, decided, all);
        pthread_mutex_lock(&all->lock);
    }
    q->state = q->first ? POSTED : IDLE;
    if (!q->first)
        return;
    q->refs++;
    pthread_cond_broadcast(&q->changed); /* a caller that waits may take it over before the pool does */
    pthread_mutex_unlock(&all->lock);
    all->run(all->pool, queue_posted, q);
    pthread_mutex_lock(&all->lock);
}

static void queue_posted(void *arg)
{
    struct queue *q = arg;
    pthread_mutex_t *lock = &q->all->lock;
    pthread_mutex_lock(lock);
    if (q->state == POSTED) { /* else somebody took it over */
        q->state = RUNNING;
        queue_run(q, NULL);
    }
    queue_unref(q);
    pthread_mutex_unlock(lock);
}

void drive_queues_submit(struct drive_queues *all, struct drive_work *w)
{
    pthread_mutex_lock(&all->lock);
    struct queue *q = queue_ref(all, &w->drive);
    queue_append(q, w);
    bool post = q->state == IDLE;
    if (post)
        q->state = POSTED; /* the reference is the posted thread's */
    else
        queue_unref(q);
    pthread_mutex_unlock(&all->lock);
    if (post)
        all->run(all->pool, queue_posted, q);
}

void drive_queues_submit_here(struct drive_queues *all, struct drive_work *w)
{
    pthread_mutex_lock(&all->lock);
    struct queue *q = queue_ref(all, &w->drive);
    queue_append(q, w);
    if (q->state == IDLE) {
        q->state = RUNNING;
        queue_run(q, NULL);
    }
    queue_unref(q);
    pthread_mutex_unlock(&all->lock);
}

/* ---- callers that wait ---- */

struct waiter {
    struct queue *queue;
    bool done;
};

static void wake(struct drive_work *w)
{
    struct waiter *waiter = w->ctx;
    pthread_mutex_t *lock = &waiter->queue->all->lock;
    pthread_mutex_lock(lock);
    waiter->done = true;
    pthread_cond_broadcast(&waiter->queue->changed);
    pthread_mutex_unlock(lock);
}

/* The caller runs the queue itself where nobody does: were it to wait for a thread of the pool, a pool whose threads all wait so would stand still. */
int drive_queues_run(struct drive_queues *all, struct drive_work *w)
{
    struct waiter waiter = {0};
    w->done = wake;
    w->done_anywhere = true;
    w->ctx = &waiter;
    pthread_mutex_lock(&all->lock);
    if (all->closed) {
        pthread_mutex_unlock(&all->lock);
        return w->error = -EHOSTUNREACH;
    }
    struct queue *q = waiter.queue = queue_ref(all, &w->drive);
    queue_append(q, w);
    while (!waiter.done) {
        if (q->state != RUNNING && q->first) {
            q->state = RUNNING;
            queue_run(q, &waiter.done);
        } else {
            pthread_cond_wait(&q->changed, &all->lock);
        }
    }
    queue_unref(q);
    pthread_mutex_unlock(&all->lock);
    return w->error;
}
