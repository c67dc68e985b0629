/* Consumers of durable queues. Each has a thread, on which its handler may take as long as it likes, and a channel on which the broker has one message at a time under way:
   the link's thread hands it over, and acknowledges it once it is done with.

   One that is to be tried again is published to a queue in which it waits until its time has come; only once that is confirmed is it acknowledged. */
#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/rabbit.h"

#include <amqp_framing.h>
#include <errno.h>
#include <string.h>
#include <utlist.h>

#define FIRST_CHANNEL 2

struct delivery {
    struct consumer *consumer;
    uint64_t tag;
    unsigned generation; /* of the connection that the tag belongs to */
    char *key, *id, *body;
    size_t len;
    unsigned attempt;
    bool requeue; /* once it is done with: back to the queue */
    struct delivery *prev, *next;
};

struct consumer {
    struct rabbit_consumers *all;
    char *queue;
    events_handler *handle;
    void *ctx;
    amqp_channel_t channel;
    pthread_t thread;
    unsigned consuming;      /* link: the generation in which it was begun */
    struct delivery *waiting; /* under lock: one, or a second one of a new connection */
    struct consumer *next;
};

struct rabbit_consumers {
    const struct rabbit_url *url;
    struct rabbit_say *say;
    void (*wake)(void *ctx);
    void *ctx;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct consumer *list;
    struct delivery *done; /* to be acknowledged */
    amqp_channel_t next_channel;
    atomic_uint generation; /* written by the link's thread */
    atomic_bool draining;
};

static void delivery_free(struct delivery *d)
{
    free(d->key);
    free(d->id);
    free(d->body);
    free(d);
}

/* Any thread: to be acknowledged, or given back. */
static void finish(struct delivery *d, bool requeue)
{
    struct rabbit_consumers *all = d->consumer->all;
    d->requeue = requeue;
    pthread_mutex_lock(&all->lock);
    DL_APPEND(all->done, d);
    pthread_mutex_unlock(&all->lock);
    all->wake(all->ctx);
}

static void passed_on(void *ctx, int err)
{
    finish(ctx, err != 0);
}

/* ---- a consumer's thread ---- */

static void pass_on(struct delivery *d, int err)
{
    struct consumer *c = d->consumer;
    const struct rabbit_url *u = c->all->url;
    bool again = err == -EAGAIN && d->attempt < u->attempts;
    char queue[128] = EVENTS_QUEUE_DEAD;
    const struct events_message m = {.key = d->key, .id = d->id, .body = d->body, .len = d->len, .persistent = true};
    struct rabbit_retry r = {.queue = c->queue, .error = strerror(-err), .attempt = again ? d->attempt + 1 : d->attempt};
    if (again) {
        rabbit_retry_queue(c->queue, d->attempt + 1, queue);
        r.wait_ms = rabbit_retry_ms(u, d->attempt + 1);
    } else {
        log_warn("a message of %s was given up after %u attempts: %s", c->queue, d->attempt, r.error);
    }
    rabbit_say_to_queue(c->all->say, queue, &m, &r, passed_on, d);
}

static void work_on(struct delivery *d)
{
    struct consumer *c = d->consumer;
    const struct events_message m = {.key = d->key, .id = d->id, .body = d->body, .len = d->len, .persistent = true};
    int err = c->all->draining ? -ECANCELED : c->handle(c->ctx, &m, d->attempt);
    if (err == 0 || err == -ECANCELED || !rabbit_has_retries(c->queue))
        finish(d, err != 0);
    else
        pass_on(d, err);
}

static struct delivery *next_delivery(struct consumer *c)
{
    struct rabbit_consumers *all = c->all;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&all->lock);
    while (!c->waiting && !all->draining)
        pthread_cond_wait(&all->work, &all->lock);
    struct delivery *d = c->waiting;
    if (d)
        DL_DELETE(c->waiting, d);
    return d;
}

static void *run(void *arg)
{
    struct consumer *c = arg;
    struct delivery *d;
    pthread_setname_np(pthread_self(), "consumer");
    while ((d = next_delivery(c)))
        work_on(d);
    return NULL;
}

/* ---- the link's thread ---- */

void rabbit_consumers_up(struct rabbit_consumers *c)
{
    c->generation++;
}

static int begin_one(struct consumer *c, amqp_connection_state_t conn)
{
    amqp_channel_open(conn, c->channel);
    int err = rabbit_reply(conn, "opening a channel");
    if (err)
        return err;
    amqp_basic_qos(conn, c->channel, 0, 1, 0);
    err = rabbit_reply(conn, "asking for one message at a time");
    if (err)
        return err;
    amqp_basic_consume(conn, c->channel, amqp_cstring_bytes(c->queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    c->consuming = c->all->generation;
    return rabbit_reply(conn, c->queue);
}

static struct consumer *first_consumer(struct rabbit_consumers *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    return c->list;
}

static struct delivery *take_done(struct rabbit_consumers *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    struct delivery *d = c->done;
    if (d)
        DL_DELETE(c->done, d);
    return d;
}

static int acknowledge(struct delivery *d, amqp_connection_state_t conn)
{
    amqp_channel_t channel = d->consumer->channel;
    if (d->generation != d->consumer->all->generation)
        return 0; /* of a connection that is gone: the broker has given it to somebody again */
    int status = d->requeue ? amqp_basic_reject(conn, channel, d->tag, 1) : amqp_basic_ack(conn, channel, d->tag, 0);
    return rabbit_status(status, "acknowledging");
}

int rabbit_consumers_step(struct rabbit_consumers *c, amqp_connection_state_t conn)
{
    struct delivery *d;
    int err = 0;
    /* new ones are put before the first: behind it the list stays as it is */
    for (struct consumer *k = first_consumer(c); k && !err && !c->draining; k = k->next)
        if (k->consuming != c->generation)
            err = begin_one(k, conn);
    while (!err && (d = take_done(c))) {
        err = acknowledge(d, conn);
        delivery_free(d);
    }
    return err;
}

static char *text_of(amqp_bytes_t b)
{
    return mem_dup(b.bytes, b.len);
}

/* What an earlier attempt wrote: its number, and the key under which it was published. */
static void read_headers(struct delivery *d, const amqp_basic_properties_t *p)
{
    const amqp_table_t *t = &p->headers;
    for (int i = 0; p->_flags & AMQP_BASIC_HEADERS_FLAG && i < t->num_entries; i++) {
        const amqp_table_entry_t *e = &t->entries[i];
        if (e->key.len == 15 && memcmp(e->key.bytes, "x-cairn-attempt", 15) == 0 && e->value.kind == AMQP_FIELD_KIND_I32 && e->value.value.i32 > 0)
            d->attempt = (unsigned)e->value.value.i32;
        if (e->key.len == 11 && memcmp(e->key.bytes, "x-cairn-key", 11) == 0 && e->value.kind == AMQP_FIELD_KIND_UTF8) {
            free(d->key);
            d->key = text_of(e->value.value.bytes);
        }
    }
}

void rabbit_consumers_deliver(struct rabbit_consumers *c, const amqp_envelope_t *e)
{
    struct consumer *k = first_consumer(c);
    const amqp_basic_properties_t *p = &e->message.properties;
    while (k && k->channel != e->channel)
        k = k->next;
    if (!k)
        return;
    struct delivery *d = mem_alloc(sizeof *d);
    *d = (struct delivery){.consumer = k, .tag = e->delivery_tag, .generation = c->generation, .attempt = 1, .key = text_of(e->routing_key), .body = text_of(e->message.body),
                           .len = e->message.body.len, .id = p->_flags & AMQP_BASIC_MESSAGE_ID_FLAG ? text_of(p->message_id) : NULL};
    read_headers(d, p);
    pthread_mutex_lock(&c->lock);
    bool late = c->draining; /* its thread has ended, or is about to */
    if (!late) {
        DL_APPEND(k->waiting, d);
        pthread_cond_broadcast(&c->work);
    }
    pthread_mutex_unlock(&c->lock);
    if (late)
        finish(d, true);
}

/* ---- for others ---- */

struct rabbit_consumers *rabbit_consumers_new(const struct rabbit_url *u, struct rabbit_say *say, void (*wake)(void *ctx), void *ctx)
{
    struct rabbit_consumers *c = mem_alloc(sizeof *c);
    c->url = u;
    c->say = say;
    c->wake = wake;
    c->ctx = ctx;
    c->next_channel = FIRST_CHANNEL;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->work, NULL);
    return c;
}

void rabbit_consumers_add(struct rabbit_consumers *c, const char *queue, events_handler *handle, void *ctx)
{
    struct consumer *k = mem_alloc(sizeof *k);
    *k = (struct consumer){.all = c, .queue = mem_strdup(queue), .handle = handle, .ctx = ctx};
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    k->channel = c->next_channel++;
    if (pthread_create(&k->thread, NULL, run, k) != 0)
        abort();
    LL_PREPEND(c->list, k);
}

void rabbit_consumers_drain(struct rabbit_consumers *c)
{
    pthread_mutex_lock(&c->lock);
    bool first = !c->draining;
    c->draining = true;
    pthread_cond_broadcast(&c->work);
    struct consumer *list = c->list;
    pthread_mutex_unlock(&c->lock);
    for (struct consumer *k = list; first && k; k = k->next)
        pthread_join(k->thread, NULL);
}

void rabbit_consumers_free(struct rabbit_consumers *c)
{
    struct consumer *k, *next;
    struct delivery *d;
    rabbit_consumers_drain(c);
    while ((d = take_done(c)))
        delivery_free(d);
    LL_FOREACH_SAFE(c->list, k, next) {
        free(k->queue);
        free(k);
    }
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->lock);
    free(c);
}
