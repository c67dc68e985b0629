/* Messages within one process. A broker has queues and one thread that delivers to subscribers and confirms, in order; each consumer has a thread of its own. What is in
   it ends with the process: an outbox keeps what must not. */
#include "common/cleanup.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/ports/events.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#define QUEUE_MAX 10000   /* messages that nobody works on: then the oldest go */
#define BODY_MAX (1 << 20)
#define ATTEMPTS 6
#define BACKOFF_MS 50     /* nothing has to come back from far away */

struct letter {
    char *key, *id, *body;
    size_t len;
    bool persistent;
    unsigned attempt;
    int64_t due; /* monotonic ms: not worked on before */
    struct memory *from;
    void (*done)(void *ctx, int err);
    void *ctx;
    struct letter *prev, *next;
};

struct queue {
    char name[64];
    struct letter *letters;
    size_t n;
    UT_hash_handle hh;
};

struct broker {
    char name[64];
    unsigned refs; /* under brokers_lock */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    struct queue *queues;
    struct memory *members;
    struct broker *next;
};

struct key {
    char key[EVENTS_KEY_MAX + 1];
    bool told;
    UT_hash_handle hh;
};

struct consumer {
    struct memory *memory;
    struct queue *queue;
    events_handler *handle;
    void *ctx;
    pthread_t thread;
    struct consumer *next;
};

struct memory { /* what one open returned; under the broker's lock */
    struct events events;
    struct broker *broker;
    struct events_listener listener;
    struct key *keys;
    struct consumer *consumers;
    bool draining, ending;
    pthread_t thread; /* delivers to this one's listener and confirms what it published */
    struct letter *inbox;
    struct memory *next;
};

static pthread_mutex_t brokers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct broker *brokers; /* those with a name */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void letter_free(struct letter *l)
{
    free(l->key);
    free(l->id);
    free(l->body);
    free(l);
}

static struct letter *letter_of(const struct events_message *m)
{
    struct letter *l = mem_alloc(sizeof *l);
    *l = (struct letter){.key = mem_strdup(m->key), .id = mem_strdup(m->id), .body = mem_dup(m->body, m->len), .len = m->len, .persistent = m->persistent, .attempt = 1};
    return l;
}

static struct events_message message_of(const struct letter *l)
{
    return (struct events_message){.key = l->key, .id = l->id, .body = l->body, .len = l->len, .persistent = l->persistent};
}

/* ---- queues; under the broker's lock ---- */

static struct queue *queue_of(struct broker *b, const char *name)
{
    struct queue *q;
    HASH_FIND_STR(b->queues, name, q);
    if (!q) {
        q = mem_alloc(sizeof *q);
        snprintf(q->name, sizeof q->name, "%s", name);
        HASH_ADD_STR(b->queues, name, q);
    }
    return q;
}

static void put(struct broker *b, struct queue *q, struct letter *l)
{
    if (q->n == QUEUE_MAX) {
        struct letter *oldest = q->letters;
        DL_DELETE(q->letters, oldest);
        letter_free(oldest);
        q->n--;
    }
    DL_APPEND(q->letters, l);
    q->n++;
    pthread_cond_broadcast(&b->changed);
}

/* The queue that a key leads to, NULL none. */
static const char *bound_queue(const char *key)
{
    if (strcmp(key, "virus-scan.requested") == 0)
        return EVENTS_QUEUE_SCAN;
    return strncmp(key, "notification.", 13) == 0 || strcmp(key, "notification") == 0 ? EVENTS_QUEUE_NOTIFICATION : NULL;
}

static void timed_wait(struct broker *b, int64_t until_ms)
{
    struct timespec t = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    if (until_ms == INT64_MAX)
        pthread_cond_wait(&b->changed, &b->lock);
    else
        pthread_cond_timedwait(&b->changed, &b->lock, &t);
}

/* ---- consumers ---- */

static struct letter *next_letter(struct consumer *c)
{
    struct broker *b = c->memory->broker;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->lock);
    while (!c->memory->draining) {
        int64_t now = now_ms(), next = INT64_MAX;
        struct letter *l;
        DL_FOREACH(c->queue->letters, l) {
            if (l->due <= now) {
                DL_DELETE(c->queue->letters, l);
                c->queue->n--;
                return l;
            }
            next = l->due < next ? l->due : next;
        }
        timed_wait(b, next);
    }
    return NULL;
}

static void put_back(struct consumer *c, struct letter *l, int err)
{
    struct broker *b = c->memory->broker;
    bool retried = strcmp(c->queue->name, EVENTS_QUEUE_DEAD) != 0;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->lock);
    if (err == -ECANCELED || !retried) {
        DL_PREPEND(c->queue->letters, l);
        c->queue->n++;
        pthread_cond_broadcast(&b->changed);
    } else if (err == -EAGAIN && l->attempt < ATTEMPTS) {
        l->due = now_ms() + ((int64_t)BACKOFF_MS << (2 * (l->attempt - 1)));
        l->attempt++;
        put(b, c->queue, l);
    } else {
        log_warn("a message of %s was given up after %u attempts: %s", c->queue->name, l->attempt, strerror(-err));
        put(b, queue_of(b, EVENTS_QUEUE_DEAD), l);
    }
}

static void *consumer_run(void *arg)
{
    struct consumer *c = arg;
    struct letter *l;
    pthread_setname_np(pthread_self(), "consumer");
    int err = 0;
    while (err != -ECANCELED && (l = next_letter(c))) {
        struct events_message m = message_of(l);
        err = c->handle(c->ctx, &m, l->attempt);
        if (err)
            put_back(c, l, err);
        else
            letter_free(l);
    }
    return NULL;
}

/* ---- delivery ---- */

static struct key *untold(struct memory *m)
{
    for (struct key *k = m->keys; k; k = k->hh.next)
        if (!k->told)
            return k;
    return NULL;
}

/* One thing for the listener: a letter in *ret_letter, or a subscription in ret_key. False: it ends. */
static bool next_for_listener(struct memory *m, struct letter **ret_letter, char ret_key[EVENTS_KEY_MAX + 1])
{
    struct broker *b = m->broker;
    struct key *k;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->lock);
    *ret_letter = NULL;
    for (;;) {
        if ((k = untold(m))) {
            k->told = true;
            memcpy(ret_key, k->key, sizeof k->key);
            return true;
        }
        if ((*ret_letter = m->inbox)) {
            DL_DELETE(m->inbox, *ret_letter);
            return true;
        }
        if (m->ending)
            return false;
        timed_wait(b, INT64_MAX);
    }
}

static void *listener_run(void *arg)
{
    struct memory *m = arg;
    struct letter *l;
    char key[EVENTS_KEY_MAX + 1];
    pthread_setname_np(pthread_self(), "events");
    while (next_for_listener(m, &l, key)) {
        if (!l) {
            if (m->listener.subscribed)
                m->listener.subscribed(m->listener.ctx, key);
            continue;
        }
        struct events_message message = message_of(l);
        message.own = l->from == m;
        if (l->done) /* a letter to itself: what it published has arrived everywhere */
            l->done(l->ctx, 0);
        else if (m->listener.message)
            m->listener.message(m->listener.ctx, &message);
        letter_free(l);
    }
    return NULL;
}

/* ---- the port ---- */

static struct memory *of(struct events *e)
{
    return (struct memory *)e;
}

static void copy_to(struct letter **list, struct memory *from, const struct events_message *m, void (*done)(void *ctx, int err), void *ctx)
{
    struct letter *l = letter_of(m);
    l->from = from;
    l->done = done;
    l->ctx = ctx;
    DL_APPEND(*list, l);
}

static int publish(struct events *e, const struct events_message *m, void (*done)(void *ctx, int err), void *ctx)
{
    struct memory *self = of(e), *other;
    struct broker *b = self->broker;
    struct key *k;
    const char *queue = bound_queue(m->key);
    if (m->len > BODY_MAX || strlen(m->key) > EVENTS_KEY_MAX)
        return -EMSGSIZE;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&b->lock);
    LL_FOREACH(b->members, other) {
        HASH_FIND_STR(other->keys, m->key, k);
        if (k)
            copy_to(&other->inbox, self, m, NULL, NULL);
    }
    if (queue)
        put(b, queue_of(b, queue), letter_of(m));
    if (done)
        copy_to(&self->inbox, self, m, done, ctx);
    pthread_cond_broadcast(&b->changed);
    return 0;
}

static void listen_to(struct events *e, const struct events_listener *l)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&of(e)->broker->lock);
    of(e)->listener = *l;
}

static void subscribe(struct events *e, const char *key)
{
    struct memory *m = of(e);
    struct key *k;
    if (strlen(key) > EVENTS_KEY_MAX)
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->broker->lock);
    HASH_FIND_STR(m->keys, key, k);
    if (!k) {
        k = mem_alloc(sizeof *k);
        memcpy(k->key, key, strlen(key));
        HASH_ADD_STR(m->keys, key, k);
    }
    k->told = false;
    pthread_cond_broadcast(&m->broker->changed);
}

static void unsubscribe(struct events *e, const char *key)
{
    struct memory *m = of(e);
    struct key *k;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->broker->lock);
    HASH_FIND_STR(m->keys, key, k);
    if (k) {
        HASH_DEL(m->keys, k);
        free(k);
    }
}

static void consume(struct events *e, const char *queue, events_handler *handle, void *ctx)
{
    struct memory *m = of(e);
    struct consumer *c = mem_alloc(sizeof *c);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->broker->lock);
    *c = (struct consumer){.memory = m, .queue = queue_of(m->broker, queue), .handle = handle, .ctx = ctx};
    if (pthread_create(&c->thread, NULL, consumer_run, c) != 0)
        abort();
    LL_PREPEND(m->consumers, c);
}

static int status(struct events *e)
{
    (void)e;
    return 0;
}

static void drain(struct events *e)
{
    struct memory *m = of(e);
    struct consumer *c, *next;
    pthread_mutex_lock(&m->broker->lock);
    struct consumer *list = m->consumers;
    m->consumers = NULL;
    m->draining = true;
    pthread_cond_broadcast(&m->broker->changed);
    pthread_mutex_unlock(&m->broker->lock);
    LL_FOREACH_SAFE(list, c, next) {
        pthread_join(c->thread, NULL);
        free(c);
    }
}

/* ---- life ---- */

/* The one of that name, made where there is none; "" is always a new one. */
static struct broker *broker_get(const char *name)
{
    struct broker *b;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&brokers_lock);
    for (b = brokers; b; b = b->next)
        if (name[0] && strcmp(b->name, name) == 0) {
            b->refs++;
            return b;
        }
    b = mem_alloc(sizeof *b);
    snprintf(b->name, sizeof b->name, "%s", name);
    b->refs = 1;
    pthread_mutex_init(&b->lock, NULL);
    cond_init(&b->changed);
    LL_PREPEND(brokers, b);
    return b;
}

static void broker_free(struct broker *b)
{
    struct queue *q, *next;
    struct letter *l, *tmp;
    HASH_ITER(hh, b->queues, q, next) {
        DL_FOREACH_SAFE(q->letters, l, tmp)
            letter_free(l);
        HASH_DEL(b->queues, q);
        free(q);
    }
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void broker_put(struct broker *b)
{
    pthread_mutex_lock(&brokers_lock);
    bool last = --b->refs == 0;
    if (last)
        LL_DELETE(brokers, b);
    pthread_mutex_unlock(&brokers_lock);
    if (last)
        broker_free(b);
}

static void memory_free(struct events *e)
{
    struct memory *m = of(e);
    struct key *k, *next;
    drain(e);
    pthread_mutex_lock(&m->broker->lock);
    LL_DELETE(m->broker->members, m);
    m->ending = true; /* once its inbox is empty */
    pthread_cond_broadcast(&m->broker->changed);
    pthread_mutex_unlock(&m->broker->lock);
    pthread_join(m->thread, NULL);
    HASH_ITER(hh, m->keys, k, next) {
        HASH_DEL(m->keys, k);
        free(k);
    }
    broker_put(m->broker);
    free(m);
}

static const struct events_ops ops = {
    .publish = publish, .listen = listen_to, .subscribe = subscribe, .unsubscribe = unsubscribe, .consume = consume, .status = status, .drain = drain, .free = memory_free,
};

int events_memory_open(const char *name, struct events **ret)
{
    struct memory *m = mem_alloc(sizeof *m);
    m->events.ops = &ops;
    m->broker = broker_get(name);
    pthread_mutex_lock(&m->broker->lock);
    LL_PREPEND(m->broker->members, m);
    pthread_mutex_unlock(&m->broker->lock);
    if (pthread_create(&m->thread, NULL, listener_run, m) != 0)
        abort();
    *ret = &m->events;
    return 0;
}
