/* Subscriptions: a queue of this process's own, which the broker drops with the connection, bound to each key that somebody here wants to hear; and the connection on which
   durable queues are consumed. */
#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/rabbit.h"

#include <amqp_framing.h>
#include <errno.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#define CHANNEL 1

struct subscription { /* under lock */
    char key[EVENTS_KEY_MAX + 1];
    bool wanted, bound;
    bool tell; /* asked for (again) while it stood */
    bool listed;
    struct subscription *prev, *next; /* among `changed`, where listed */
    UT_hash_handle hh;
};

struct rabbit_hear {
    const struct rabbit_url *url;
    char instance[UUID_TEXT];
    struct rabbit_link *link;
    struct rabbit_consumers *consumers;
    struct events_listener listener;
    pthread_mutex_t lock;
    struct subscription *all, *changed;
    amqp_bytes_t queue; /* link: the name that the broker gave it, owned */
};

/* ---- subscriptions ---- */

static void list_changed(struct rabbit_hear *h, struct subscription *s)
{
    if (s->listed)
        return;
    s->listed = true;
    DL_APPEND(h->changed, s);
}

struct change { /* what is to be done about one key */
    char key[EVENTS_KEY_MAX + 1];
    bool bind, unbind, tell;
};

static bool take_change(struct rabbit_hear *h, struct change *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    struct subscription *s = h->changed;
    if (!s)
        return false;
    DL_DELETE(h->changed, s);
    s->listed = false;
    *ret = (struct change){.bind = s->wanted && !s->bound, .unbind = !s->wanted && s->bound, .tell = s->wanted && (s->tell || !s->bound)};
    memcpy(ret->key, s->key, sizeof ret->key);
    s->bound = s->wanted;
    s->tell = false;
    if (!s->wanted) {
        HASH_DEL(h->all, s);
        free(s);
    }
    return true;
}

/* Many bindings are asked for at once; the answer to the declaration behind them says that all of them stand. */
static int send_change(struct rabbit_hear *h, amqp_connection_state_t c, const struct change *ch)
{
    if (ch->bind) {
        amqp_queue_bind_t m = {.queue = h->queue, .exchange = amqp_cstring_bytes(RABBIT_EXCHANGE), .routing_key = amqp_cstring_bytes(ch->key), .nowait = 1};
        return rabbit_status(amqp_send_method(c, CHANNEL, AMQP_QUEUE_BIND_METHOD, &m), "subscribing");
    }
    if (!ch->unbind)
        return 0;
    amqp_queue_unbind(c, CHANNEL, h->queue, amqp_cstring_bytes(RABBIT_EXCHANGE), amqp_cstring_bytes(ch->key), amqp_empty_table);
    return rabbit_reply(c, "unsubscribing");
}

#define BATCH 200

static int apply_changes(struct rabbit_hear *h, amqp_connection_state_t c)
{
    CLEANUP_FREE struct change *batch = mem_calloc(BATCH, sizeof *batch);
    for (size_t n = BATCH; n == BATCH;) {
        bool any = false;
        int err = 0;
        for (n = 0; n < BATCH && !err && take_change(h, &batch[n]); n++) {
            any |= batch[n].bind;
            err = send_change(h, c, &batch[n]);
        }
        if (!err && any) {
            amqp_queue_declare(c, CHANNEL, h->queue, 1, 0, 0, 0, amqp_empty_table);
            err = rabbit_reply(c, "subscribing");
        }
        if (err)
            return err;
        for (size_t i = 0; i < n; i++)
            if (batch[i].tell && h->listener.subscribed)
                h->listener.subscribed(h->listener.ctx, batch[i].key);
    }
    return 0;
}

/* ---- messages ---- */

static void heard(struct rabbit_hear *h, const amqp_envelope_t *e)
{
    char key[EVENTS_KEY_MAX + 1];
    const amqp_basic_properties_t *p = &e->message.properties;
    size_t n = e->routing_key.len < EVENTS_KEY_MAX ? e->routing_key.len : EVENTS_KEY_MAX;
    memcpy(key, e->routing_key.bytes, n);
    key[n] = '\0';
    CLEANUP_FREE char *body = mem_dup(e->message.body.bytes, e->message.body.len);
    bool own = p->_flags & AMQP_BASIC_APP_ID_FLAG && p->app_id.len == strlen(h->instance) && memcmp(p->app_id.bytes, h->instance, p->app_id.len) == 0;
    if (h->listener.message)
        h->listener.message(h->listener.ctx, &(struct events_message){.key = key, .body = body, .len = e->message.body.len, .persistent = p->delivery_mode == 2, .own = own});
}

/* What is neither a delivery nor an answer: the other end is closing something. */
static int read_other(amqp_connection_state_t c)
{
    struct timeval none = {0};
    amqp_frame_t f;
    int status = amqp_simple_wait_frame_noblock(c, &f, &none);
    if (status == AMQP_STATUS_TIMEOUT)
        return 0;
    if (status != AMQP_STATUS_OK)
        return rabbit_status(status, "listening");
    return rabbit_closing(&f, "listening");
}

static int read_messages(struct rabbit_hear *h, amqp_connection_state_t c)
{
    for (unsigned n = 0; n < 1000; n++) { /* then other work has its turn */
        struct timeval none = {0};
        amqp_envelope_t e;
        amqp_maybe_release_buffers(c);
        amqp_rpc_reply_t r = amqp_consume_message(c, &e, &none, 0);
        if (r.reply_type == AMQP_RESPONSE_NORMAL) {
            if (e.channel == CHANNEL)
                heard(h, &e);
            else
                rabbit_consumers_deliver(h->consumers, &e);
            amqp_destroy_envelope(&e);
        } else if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && r.library_error == AMQP_STATUS_TIMEOUT) {
            return 0;
        } else if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION && r.library_error == AMQP_STATUS_UNEXPECTED_STATE) {
            int err = read_other(c);
            if (err)
                return err;
        } else {
            return r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? rabbit_status(r.library_error, "listening") : -EHOSTUNREACH;
        }
    }
    return 0;
}

/* ---- the link ---- */

static int open_own_queue(struct rabbit_hear *h, amqp_connection_state_t c)
{
    amqp_queue_declare_ok_t *q = amqp_queue_declare(c, CHANNEL, amqp_empty_bytes, 0, 0, 1, 1, amqp_empty_table);
    int err = rabbit_reply(c, "declaring a queue");
    if (err)
        return err;
    h->queue = amqp_bytes_malloc_dup(q->queue);
    amqp_basic_consume(c, CHANNEL, h->queue, amqp_empty_bytes, 0, 1, 1, amqp_empty_table);
    return rabbit_reply(c, "consuming");
}

static int up(void *ctx, amqp_connection_state_t c)
{
    struct rabbit_hear *h = ctx;
    amqp_channel_open(c, CHANNEL);
    int err = rabbit_reply(c, "opening a channel");
    if (!err)
        err = rabbit_declare(c, h->url);
    if (!err)
        err = open_own_queue(h, c);
    if (err)
        return err;
    struct subscription *s, *next;
    pthread_mutex_lock(&h->lock);
    HASH_ITER(hh, h->all, s, next) {
        s->bound = false;
        list_changed(h, s);
    }
    pthread_mutex_unlock(&h->lock);
    rabbit_consumers_up(h->consumers);
    return 0;
}

static int step(void *ctx, amqp_connection_state_t c)
{
    struct rabbit_hear *h = ctx;
    int err = apply_changes(h, c);
    if (!err)
        err = rabbit_consumers_step(h->consumers, c);
    return err ? err : read_messages(h, c);
}

static void down(void *ctx)
{
    struct rabbit_hear *h = ctx;
    amqp_bytes_free(h->queue);
    h->queue = amqp_empty_bytes;
}

static const struct rabbit_link_ops link_ops = {"rabbit-hear", up, step, down};

/* ---- for others ---- */

static void wake(void *ctx)
{
    struct rabbit_hear *h = ctx;
    rabbit_link_wake(h->link);
}

void rabbit_hear_listen(struct rabbit_hear *h, const struct events_listener *l)
{
    h->listener = *l; /* nobody has subscribed: the thread does not look at it yet */
}

void rabbit_hear_subscribe(struct rabbit_hear *h, const char *key, bool wanted)
{
    struct subscription *s;
    if (strlen(key) > EVENTS_KEY_MAX)
        return;
    pthread_mutex_lock(&h->lock);
    HASH_FIND_STR(h->all, key, s);
    if (!s && wanted) {
        s = mem_alloc(sizeof *s);
        memcpy(s->key, key, strlen(key));
        HASH_ADD_STR(h->all, key, s);
    }
    if (s) {
        s->wanted = wanted;
        s->tell = wanted;
        list_changed(h, s);
    }
    pthread_mutex_unlock(&h->lock);
    if (s)
        rabbit_link_wake(h->link);
}

void rabbit_hear_consume(struct rabbit_hear *h, const char *queue, events_handler *handle, void *ctx)
{
    rabbit_consumers_add(h->consumers, queue, handle, ctx);
    rabbit_link_wake(h->link);
}

bool rabbit_hear_is_up(struct rabbit_hear *h)
{
    return rabbit_link_is_up(h->link);
}

void rabbit_hear_drain(struct rabbit_hear *h)
{
    rabbit_consumers_drain(h->consumers);
}

struct rabbit_hear *rabbit_hear_new(const struct rabbit_url *u, const struct uuid *instance, struct rabbit_say *say)
{
    struct rabbit_hear *h = mem_alloc(sizeof *h);
    h->url = u;
    uuid_text(instance, h->instance);
    h->queue = amqp_empty_bytes;
    pthread_mutex_init(&h->lock, NULL);
    h->consumers = rabbit_consumers_new(u, say, wake, h);
    h->link = rabbit_link_new(u, &link_ops, h);
    return h;
}

void rabbit_hear_free(struct rabbit_hear *h)
{
    struct subscription *s, *next;
    rabbit_link_free(h->link);
    rabbit_consumers_free(h->consumers);
    HASH_ITER(hh, h->all, s, next) {
        HASH_DEL(h->all, s);
        free(s);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}
