/* Group commit without a hop: when nothing is in flight, the caller itself sends. Those who come meanwhile wait, and the first of them sends
   for all of them next. Only a batch that found no gateway is handed to the queue's own thread, which sends the same bytes until there is an
   answer, so that callers can give up while the batch goes on.

   One batch at a time is in flight; whoever has it ("sending" is set) is the only one to touch its groups. What a group points to belongs to its caller, who may
   give up: never while `touching`, else by leaving a copy of the operations behind. */
#include "fusefs/upload/opqueue.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define BATCH_BYTES (8u << 20) /* contents in one batch, unless one group alone has more */
#define BACK_OFF_MIN_MS 50u
#define BACK_OFF_MAX_MS 1000u
#define RESYNC_MAX 4 /* numbers tried for one batch before it is refused */
#define FREE_WAIT_MS 10000u

enum group_state { GROUP_WAITING, GROUP_TAKEN, GROUP_DONE };

struct group {
    struct group *next;
    const struct op *ops;
    size_t n;
    const struct remote_inline *contents;
    size_t n_contents;
    size_t bytes; /* of contents */
    struct op_result *results;
    enum group_state state;
    bool lead;     /* its caller is to send the next batch */
    bool given_up; /* its caller is gone: ops is a copy, contents and results are not there */
    pthread_cond_t wake;
};

struct batch {
    struct group *first;
    size_t n_groups, n_ops, n_contents;
    bool lazy; /* nothing in it has to be on the disk before a second */
    uint64_t number;
    struct buf body; /* empty: not yet encoded */
    size_t head_len;
    unsigned delay_ms; /* before it is sent again */
    unsigned resyncs;
};

struct opqueue {
    struct remote *remote;
    unsigned timeout_ms;
    size_t batch_max;
    void (*on_result)(void *ctx, const struct op *op, const struct op_result *res);
    void *ctx;
    pthread_t sender;
    pthread_mutex_t lock; /* guards all below and every group's state */
    pthread_cond_t resend_wake, untouched, idle;
    struct group *head, **tail; /* waiting, in order; not empty only while sending */
    size_t pending;             /* operations, waiting or in flight */
    bool sending;               /* a batch is in somebody's hands */
    bool touching;              /* its groups' operations and results are being read or written */
    bool stop;
    struct batch *resend; /* for the sender thread */
    uint64_t last;        /* the highest number that was answered */
    bool unsynced;        /* what was answered last may not be on the gateway's disk yet */
    size_t solo;          /* so many groups are sent alone: one of them made a batch be refused */
};

/* ---- groups ---- */

static struct op *copy_ops(const struct op *ops, size_t n)
{
    struct op *copy = mem_calloc(n, sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        struct op *c = &copy[i];
        *c = ops[i];
        c->name = mem_strdup(c->name);
        c->new_name = mem_strdup(c->new_name);
        c->target = mem_strdup(c->target);
        c->xattr = mem_strdup(c->xattr);
        c->value = c->value ? mem_dup(c->value, c->value_len) : NULL;
        c->changes = c->changes ? mem_dup(c->changes, c->n_changes * sizeof *c->changes) : NULL;
    }
    return copy;
}

static void group_free(struct group *g)
{
    if (g->given_up) {
        struct op *ops = (struct op *)g->ops; /* ours since copy_ops */
        for (size_t i = 0; i < g->n; i++)
            op_fini(&ops[i]);
        free(ops);
    }
    pthread_cond_destroy(&g->wake);
    free(g);
}

static void append(struct opqueue *q, struct group *g)
{
    g->next = NULL;
    *q->tail = g;
    q->tail = &g->next;
}

static void unlink_waiting(struct opqueue *q, struct group *g)
{
    struct group **p = &q->head;
    while (*p != g)
        p = &(*p)->next;
    *p = g->next;
    if (q->tail == &g->next)
        q->tail = p;
}

/* A caller that is gone wants no more of it; others are waiting. */
static void finish(struct opqueue *q, struct group *g)
{
    q->pending -= g->n;
    g->state = GROUP_DONE;
    if (g->given_up)
        group_free(g);
    else
        pthread_cond_signal(&g->wake);
}

/* Groups of a batch that did not happen go back to the front, in order; those that were given up are dropped. */
static void requeue(struct opqueue *q, struct group *first)
{
    struct group *keep = NULL, **end = &keep;
    for (struct group *g = first, *next; g; g = next) {
        next = g->next;
        if (g->given_up) {
            finish(q, g);
            continue;
        }
        g->state = GROUP_WAITING;
        *end = g;
        end = &g->next;
    }
    *end = q->head;
    if (!q->head && keep)
        q->tail = end;
    q->head = keep;
}

/* ---- batches ---- */

static void batch_free(struct batch *b)
{
    buf_fini(&b->body);
    free(b);
}

/* Names and attributes are on the gateway's disk within a second; what close, fsync and locks promise is there before the answer. */
static bool may_be_lazy(const struct group *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->ops[i].kind > OP_REMOVEXATTR)
            return false;
    return g->n != 0;
}

/* From the front, as many as fit; at least one. */
static struct batch *take(struct opqueue *q)
{
    struct batch *b = mem_alloc(sizeof *b);
    size_t most = q->batch_max, bytes = 0;
    struct group **end = &b->first;
    b->number = q->last + 1;
    b->lazy = true;
    while (q->head) {
        struct group *g = q->head;
        if (b->n_groups && (q->solo || b->n_ops + g->n > most || bytes + g->bytes > BATCH_BYTES))
            break;
        q->head = g->next;
        g->next = NULL;
        g->state = GROUP_TAKEN;
        *end = g;
        end = &g->next;
        b->n_groups++;
        b->n_ops += g->n;
        b->n_contents += g->n_contents;
        b->lazy &= may_be_lazy(g);
        bytes += g->bytes;
    }
    if (!q->head)
        q->tail = &q->head;
    if (q->solo)
        q->solo--;
    return b;
}

static void encode(struct opqueue *q, struct batch *b)
{
    CLEANUP_FREE struct op *ops = mem_calloc(b->n_ops, sizeof *ops); /* shallow */
    CLEANUP_FREE const struct remote_inline **contents = mem_calloc(b->n_contents, sizeof *contents);
    size_t n = 0, k = 0;
    for (const struct group *g = b->first; g; g = g->next) {
        if (g->n)
            memcpy(&ops[n], g->ops, g->n * sizeof *ops);
        n += g->n;
        for (size_t i = 0; i < g->n_contents; i++)
            contents[k++] = &g->contents[i];
    }
    remote_batch_encode(q->remote, b->number, b->number - 1, b->lazy, ops, n, contents, k, &b->body, &b->head_len);
}

static void begin_touching(struct opqueue *q)
{
    q->touching = true;
    pthread_mutex_unlock(&q->lock);
}

static void end_touching(struct opqueue *q)
{
    pthread_mutex_lock(&q->lock);
    q->touching = false;
    pthread_cond_broadcast(&q->untouched);
}

/* Hands the results out, unlocked. Returns the first group that was not applied because of a failure before it. */
static struct group *deliver(struct opqueue *q, const struct batch *b, const json_t *rows)
{
    size_t row = 0;
    bool failed = false;
    for (struct group *g = b->first; g; g = g->next) {
        if (failed)
            return g;
        for (size_t i = 0; i < g->n; i++) {
            struct op_result res = {0};
            if (op_result_from_json(json_array_get(rows, row++), &res))
                res.error = -EPROTO;
            failed |= res.error != 0;
            if (q->on_result)
                q->on_result(q->ctx, &g->ops[i], &res);
            if (g->given_up)
                op_result_fini(&res);
            else
                g->results[i] = res;
        }
    }
    return NULL;
}

static void refuse(struct opqueue *q, struct batch *b, int err)
{
    if (b->n_groups > 1) { /* one of them is at fault */
        q->solo = b->n_groups;
        requeue(q, b->first);
        return;
    }
    struct group *g = b->first;
    log_warn("the gateway refused a batch: %s (%s)", strerror(-err), remote_problem()->detail);
    if (!g->given_up)
        for (size_t i = 0; i < g->n; i++)
            g->results[i].error = err;
    finish(q, g);
}

static void answered(struct opqueue *q, struct batch *b, const json_t *rows)
{
    begin_touching(q);
    struct group *behind = deliver(q, b, rows);
    end_touching(q);
    q->last = b->number;
    q->unsynced = b->lazy; /* one that is there brings all before it along */
    struct group *next;
    for (struct group *g = b->first; g != behind; g = next) {
        next = g->next;
        finish(q, g);
    }
    requeue(q, behind);
}

/* The batch was not applied under its number: given-up groups are out of it, the rest is encoded again. */
static void renumber(struct opqueue *q, struct batch *b, uint64_t last)
{
    b->number = (last == UINT64_MAX ? b->number : last) + 1;
    q->last = b->number - 1;
    buf_fini(&b->body);
    struct group **p = &b->first;
    while (*p) {
        struct group *g = *p;
        if (!g->given_up) {
            p = &g->next;
            continue;
        }
        *p = g->next;
        b->n_groups--;
        b->n_ops -= g->n;
        b->n_contents -= g->n_contents;
        finish(q, g);
    }
}

static void hand_to_sender(struct opqueue *q, struct batch *b)
{
    q->resend = b;
    pthread_cond_signal(&q->resend_wake);
}

/* Who sends next: the first that waits. */
static void pass_on(struct opqueue *q)
{
    if (q->head) {
        q->head->lead = true;
        pthread_cond_signal(&q->head->wake);
    } else {
        q->sending = false;
        pthread_cond_broadcast(&q->idle);
    }
}

/* One try. Called and returns with the lock held. */
static void try_batch(struct opqueue *q, struct batch *b)
{
    if (!b->body.len) {
        begin_touching(q);
        encode(q, b);
        end_touching(q);
    }
    pthread_mutex_unlock(&q->lock);
    CLEANUP_JSON json_t *rows = NULL;
    uint64_t seq, last = UINT64_MAX;
    int err = remote_batch_send(q->remote, &b->body, b->head_len, b->n_ops, &rows, &seq, &last);
    pthread_mutex_lock(&q->lock);
    if (err == -EHOSTUNREACH) {
        b->delay_ms = !b->delay_ms ? BACK_OFF_MIN_MS : b->delay_ms * 2 > BACK_OFF_MAX_MS ? BACK_OFF_MAX_MS : b->delay_ms * 2;
        hand_to_sender(q, b);
        return;
    }
    if (err == -ESTALE && b->resyncs++ < RESYNC_MAX) {
        renumber(q, b, last);
        if (b->first) {
            b->delay_ms = 0;
            hand_to_sender(q, b);
            return;
        }
    } else if (err) {
        refuse(q, b, err);
    } else {
        answered(q, b, rows);
    }
    batch_free(b);
    pass_on(q);
}

static void *sender_main(void *arg)
{
    struct opqueue *q = arg;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
    while (!q->stop) {
        struct batch *b = q->resend;
        if (!b) {
            pthread_cond_wait(&q->resend_wake, &q->lock);
            continue;
        }
        struct timespec until = cond_deadline(b->delay_ms);
        while (b->delay_ms && !q->stop && pthread_cond_timedwait(&q->resend_wake, &q->lock, &until) == 0)
            ;
        if (q->stop)
            break;
        q->resend = NULL;
        try_batch(q, b);
    }
    return NULL;
}

/* ---- callers ---- */

/* The caller's time is over. Returns false if it turned out to be done. */
static bool give_up(struct opqueue *q, struct group *g)
{
    while (g->state == GROUP_TAKEN && q->touching)
        pthread_cond_wait(&q->untouched, &q->lock);
    if (g->state == GROUP_DONE || g->lead)
        return false;
    if (g->state == GROUP_WAITING) {
        unlink_waiting(q, g);
        q->pending -= g->n;
        group_free(g);
        return true;
    }
    g->ops = copy_ops(g->ops, g->n);
    g->contents = NULL;
    g->results = NULL;
    g->given_up = true;
    return true;
}

static int run(struct opqueue *q, const struct op *ops, size_t n, const struct remote_inline *contents, size_t n_contents,
               struct op_result *results)
{
    struct group *g = mem_alloc(sizeof *g);
    *g = (struct group){.ops = ops, .n = n, .contents = contents, .n_contents = n_contents, .results = results};
    for (size_t i = 0; i < n_contents; i++)
        g->bytes += contents[i].stored.len;
    cond_init(&g->wake);
    struct timespec until = cond_deadline(q->timeout_ms);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
    append(q, g);
    q->pending += n;
    if (!q->sending) {
        q->sending = true;
        g->lead = true;
    }
    while (g->state != GROUP_DONE) {
        if (g->lead) {
            g->lead = false;
            try_batch(q, take(q));
        } else if (pthread_cond_timedwait(&g->wake, &q->lock, &until) == ETIMEDOUT && g->state != GROUP_DONE && !g->lead && give_up(q, g)) {
            for (size_t i = 0; i < n; i++)
                results[i].error = -EIO;
            return -EIO;
        }
    }
    group_free(g);
    return 0;
}

int opqueue_run(struct opqueue *q, const struct op *ops, size_t n, const struct remote_inline *contents, size_t n_contents,
                struct op_result *results)
{
    return n ? run(q, ops, n, contents, n_contents, results) : 0;
}

int opqueue_sync(struct opqueue *q)
{
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
        if (!q->unsynced)
            return 0;
    }
    return run(q, NULL, 0, NULL, 0, NULL);
}

struct opqueue *opqueue_new(struct remote *r, unsigned timeout_ms, uint64_t last_batch)
{
    struct opqueue *q = mem_alloc(sizeof *q);
    q->remote = r;
    q->timeout_ms = timeout_ms;
    q->batch_max = remote_info(r)->batch_max;
    q->last = last_batch;
    q->tail = &q->head;
    pthread_mutex_init(&q->lock, NULL);
    cond_init(&q->resend_wake);
    cond_init(&q->untouched);
    cond_init(&q->idle);
    int err = pthread_create(&q->sender, NULL, sender_main, q);
    if (err) {
        log_error("no thread for the operation queue: %s", strerror(err));
        abort();
    }
    return q;
}

void opqueue_on_result(struct opqueue *q, void (*fn)(void *ctx, const struct op *op, const struct op_result *res), void *ctx)
{
    q->on_result = fn;
    q->ctx = ctx;
}

size_t opqueue_pending(struct opqueue *q)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
    return q->pending;
}

void opqueue_free(struct opqueue *q)
{
    if (!q)
        return;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
        struct timespec until = cond_deadline(q->timeout_ms < FREE_WAIT_MS ? q->timeout_ms : FREE_WAIT_MS);
        while (q->sending && pthread_cond_timedwait(&q->idle, &q->lock, &until) == 0)
            ;
        q->stop = true;
        pthread_cond_broadcast(&q->resend_wake);
    }
    pthread_join(q->sender, NULL);
    struct batch *b = q->resend; /* its callers gave up long ago */
    if (b) {
        for (struct group *g = b->first, *next; g; g = next) {
            next = g->next;
            group_free(g);
        }
        batch_free(b);
    }
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->resend_wake);
    pthread_cond_destroy(&q->untouched);
    pthread_cond_destroy(&q->idle);
    free(q);
}
