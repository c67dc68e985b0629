/* Publishing: what waits is sent, up to a window; what was sent is kept until the broker confirms it, and sent again, before all else, after a connection was lost: so the
   order stays, and nothing is lost with a connection, only doubled. */
#include "common/clock.h"
#include "common/cleanup.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/rabbit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define CHANNEL 1
#define WINDOW 500              /* sent and not yet confirmed */
#define WAITING_MAX 20000       /* messages… */
#define WAITING_BYTES (32 << 20) /* …and their bodies: beyond, the outbox keeps them */
#define BODY_MAX (1 << 20)
#define REFUSED_MIN_MS 1000
#define REFUSED_MAX_MS 300000

struct said {
    char *exchange, *key, *id, *body;
    size_t len;
    bool persistent;
    /* retries */
    char *from_queue, *from_key, *error;
    unsigned attempt;
    char expiration[16];
    void (*done)(void *ctx, int err);
    void *ctx;
    uint64_t tag; /* while it is sent */
    bool refused; /* a retry that is kept among those sent, for the next connection */
    struct said *prev, *next;
};

struct rabbit_say {
    const struct rabbit_url *url;
    char instance[UUID_TEXT];
    struct rabbit_link *link;
    pthread_mutex_t lock;
    pthread_cond_t empty;
    struct said *waiting, *sent; /* under lock; only the link's thread moves them */
    size_t n_waiting, n_sent, bytes;
    /* link */
    uint64_t next_tag;
    int64_t up_since; /* boot ms */
    int64_t patience; /* ms: so old is a connection that is given up because messages are refused */
    bool refused;     /* one was, on this connection */
};

static void said_free(struct said *m)
{
    free(m->exchange);
    free(m->key);
    free(m->id);
    free(m->body);
    free(m->from_queue);
    free(m->from_key);
    free(m->error);
    free(m);
}

static void said_end(struct said *m, int err)
{
    if (m->done)
        m->done(m->ctx, err);
    said_free(m);
}

/* ---- sending ---- */

static int send_one(struct rabbit_say *s, amqp_connection_state_t c, const struct said *m)
{
    amqp_basic_properties_t p = {._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_APP_ID_FLAG,
                                 .content_type = amqp_cstring_bytes("application/json"),
                                 .delivery_mode = m->persistent ? 2 : 1,
                                 .app_id = amqp_cstring_bytes(s->instance)};
    amqp_table_entry_t headers[4];
    if (m->id) {
        p._flags |= AMQP_BASIC_MESSAGE_ID_FLAG;
        p.message_id = amqp_cstring_bytes(m->id);
    }
    if (m->expiration[0]) {
        p._flags |= AMQP_BASIC_EXPIRATION_FLAG;
        p.expiration = amqp_cstring_bytes(m->expiration);
    }
    if (m->from_queue) {
        headers[0] = rabbit_text("x-cairn-queue", m->from_queue);
        headers[1] = rabbit_text("x-cairn-key", m->from_key);
        headers[2] = rabbit_text("x-cairn-error", m->error);
        headers[3] = (amqp_table_entry_t){.key = amqp_cstring_bytes("x-cairn-attempt"), .value = {.kind = AMQP_FIELD_KIND_I32, .value.i32 = (int32_t)m->attempt}};
        p._flags |= AMQP_BASIC_HEADERS_FLAG;
        p.headers = (amqp_table_t){.num_entries = 4, .entries = headers};
    }
    return rabbit_status(amqp_basic_publish(c, CHANNEL, amqp_cstring_bytes(m->exchange), amqp_cstring_bytes(m->key), 0, 0, &p, (amqp_bytes_t){.len = m->len, .bytes = m->body}),
                         "publishing");
}

/* The next one, now among those sent; NULL: none, or the window is full. Only this thread takes any out of there, so it may be read without the lock. */
static struct said *take_next(struct rabbit_say *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct said *m = s->waiting;
    if (!m || s->n_sent == WINDOW)
        return NULL;
    DL_DELETE(s->waiting, m);
    s->n_waiting--;
    m->tag = s->next_tag++;
    DL_APPEND(s->sent, m);
    s->n_sent++;
    return m;
}

/* ---- confirms ---- */

/* A retry that was refused stays: handed back, its message would be worked on once more, at once. */
static struct said *take_confirmed(struct rabbit_say *s, uint64_t tag, bool multiple, bool refused)
{
    struct said *taken = NULL, *m, *next;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    DL_FOREACH_SAFE(s->sent, m, next) {
        if (m->tag > tag)
            break;
        if (m->refused || (m->tag != tag && !multiple))
            continue;
        m->refused = refused && m->from_queue;
        if (m->refused)
            continue;
        DL_DELETE(s->sent, m);
        s->n_sent--;
        s->bytes -= m->len;
        DL_APPEND(taken, m);
    }
    return taken;
}

static void tell_if_empty(struct rabbit_say *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (!s->waiting && !s->sent)
        pthread_cond_broadcast(&s->empty);
}

static void confirmed(struct rabbit_say *s, uint64_t tag, bool multiple, int err)
{
    struct said *m, *next, *list = take_confirmed(s, tag, multiple, err != 0);
    DL_FOREACH_SAFE(list, m, next)
        said_end(m, err);
    tell_if_empty(s);
}

static int take_frame(struct rabbit_say *s, const amqp_frame_t *f)
{
    if (f->frame_type != AMQP_FRAME_METHOD)
        return 0;
    switch (f->payload.method.id) {
    case AMQP_BASIC_ACK_METHOD: {
        const amqp_basic_ack_t *a = f->payload.method.decoded;
        confirmed(s, a->delivery_tag, a->multiple, 0);
        return 0;
    }
    case AMQP_BASIC_NACK_METHOD: {
        const amqp_basic_nack_t *a = f->payload.method.decoded;
        confirmed(s, a->delivery_tag, a->multiple, -EAGAIN);
        s->refused = true;
        return 0;
    }
    default:
        return rabbit_closing(f, "publishing");
    }
}

static int read_frames(struct rabbit_say *s, amqp_connection_state_t c)
{
    for (;;) {
        struct timeval none = {0};
        amqp_frame_t f;
        int status = amqp_simple_wait_frame_noblock(c, &f, &none);
        if (status == AMQP_STATUS_TIMEOUT)
            return 0;
        if (status != AMQP_STATUS_OK)
            return rabbit_status(status, "publishing");
        int err = take_frame(s, &f);
        if (err)
            return err;
    }
}

/* ---- the link ---- */

static int up(void *ctx, amqp_connection_state_t c)
{
    struct rabbit_say *s = ctx;
    amqp_channel_open(c, CHANNEL);
    int err = rabbit_reply(c, "opening a channel");
    if (!err)
        err = rabbit_declare(c, s->url);
    if (!err) {
        amqp_confirm_select(c, CHANNEL);
        err = rabbit_reply(c, "asking for confirms");
    }
    s->next_tag = 1;
    s->refused = false;
    s->up_since = clock_boot_ms();
    return err;
}

/* A channel that published to a quorum queue for the first time after the node of its leader had died, and before another was elected, is refused what goes there until that
   node is back (RabbitMQ 3.10, rabbit_fifo_client:enqueue): another channel is not. Where a queue refuses because it is full, that does not help, and is done ever more rarely. */
static int give_up_if_refused(struct rabbit_say *s)
{
    int64_t age = clock_boot_ms() - s->up_since;
    if (!s->refused || age < s->patience)
        return 0;
    log_info("rabbitmq: messages are refused: connecting anew");
    s->patience *= 2;
    if (age > 2 * REFUSED_MAX_MS) /* it was well for long */
        s->patience = REFUSED_MIN_MS;
    else if (s->patience > REFUSED_MAX_MS)
        s->patience = REFUSED_MAX_MS;
    return -EAGAIN;
}

static int step(void *ctx, amqp_connection_state_t c)
{
    struct rabbit_say *s = ctx;
    struct said *m;
    int err = give_up_if_refused(s);
    if (err)
        return err;
    for (;;) {
        err = read_frames(s, c);
        unsigned n = 0;
        while (!err && n++ < 64 && (m = take_next(s)))
            err = send_one(s, c, m);
        if (err || n <= 64)
            return err;
    }
}

/* What was sent waits again, before all else; what is not worth it is gone. */
static void down(void *ctx)
{
    struct rabbit_say *s = ctx;
    struct said *gone = NULL, *kept = NULL, *m, *next;
    pthread_mutex_lock(&s->lock);
    DL_CONCAT(s->sent, s->waiting);
    DL_FOREACH_SAFE(s->sent, m, next) {
        DL_DELETE(s->sent, m);
        if (m->persistent) {
            m->refused = false;
            DL_APPEND(kept, m);
        } else {
            s->bytes -= m->len;
            s->n_waiting--;
            DL_APPEND(gone, m);
        }
    }
    s->n_waiting += s->n_sent;
    s->n_sent = 0;
    s->waiting = kept;
    s->sent = NULL;
    pthread_mutex_unlock(&s->lock);
    DL_FOREACH_SAFE(gone, m, next)
        said_end(m, -EAGAIN);
    tell_if_empty(s);
}

static const struct rabbit_link_ops link_ops = {"rabbit-say", up, step, down};

/* ---- for others ---- */

static struct said *said_new(const char *exchange, const char *key, const struct events_message *m, void (*done)(void *ctx, int err), void *ctx)
{
    struct said *n = mem_alloc(sizeof *n);
    *n = (struct said){.exchange = mem_strdup(exchange), .key = mem_strdup(key), .id = mem_strdup(m->id), .body = mem_dup(m->body, m->len), .len = m->len,
                       .persistent = m->persistent, .done = done, .ctx = ctx};
    return n;
}

static void enqueue(struct rabbit_say *s, struct said *m)
{
    DL_APPEND(s->waiting, m);
    s->n_waiting++;
    s->bytes += m->len;
}

int rabbit_say(struct rabbit_say *s, const struct events_message *m, void (*done)(void *ctx, int err), void *ctx)
{
    if (m->len > BODY_MAX || strlen(m->key) > EVENTS_KEY_MAX)
        return -EMSGSIZE;
    if (!m->persistent && !rabbit_link_is_up(s->link))
        return -EHOSTUNREACH;
    struct said *n = said_new(RABBIT_EXCHANGE, m->key, m, done, ctx);
    pthread_mutex_lock(&s->lock);
    bool full = s->n_waiting >= WAITING_MAX || s->bytes + m->len > WAITING_BYTES;
    if (!full)
        enqueue(s, n);
    pthread_mutex_unlock(&s->lock);
    if (full) {
        said_free(n);
        return -ENOBUFS;
    }
    rabbit_link_wake(s->link);
    return 0;
}

void rabbit_say_to_queue(struct rabbit_say *s, const char *queue, const struct events_message *m, const struct rabbit_retry *r, void (*done)(void *ctx, int err), void *ctx)
{
    struct said *n = said_new("", queue, m, done, ctx);
    n->persistent = true;
    n->from_queue = mem_strdup(r->queue);
    n->from_key = mem_strdup(m->key);
    n->error = mem_strdup(r->error);
    n->attempt = r->attempt;
    if (r->wait_ms)
        snprintf(n->expiration, sizeof n->expiration, "%u", r->wait_ms);
    pthread_mutex_lock(&s->lock);
    enqueue(s, n);
    pthread_mutex_unlock(&s->lock);
    rabbit_link_wake(s->link);
}

bool rabbit_say_is_up(struct rabbit_say *s)
{
    return rabbit_link_is_up(s->link);
}

void rabbit_say_drain(struct rabbit_say *s, unsigned ms)
{
    struct timespec until = cond_deadline(ms);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    while ((s->waiting || s->sent) && pthread_cond_timedwait(&s->empty, &s->lock, &until) != ETIMEDOUT)
        ;
}

struct rabbit_say *rabbit_say_new(const struct rabbit_url *u, const struct uuid *instance)
{
    struct rabbit_say *s = mem_alloc(sizeof *s);
    s->url = u;
    s->patience = REFUSED_MIN_MS;
    uuid_text(instance, s->instance);
    pthread_mutex_init(&s->lock, NULL);
    cond_init(&s->empty);
    s->link = rabbit_link_new(u, &link_ops, s);
    return s;
}

void rabbit_say_free(struct rabbit_say *s)
{
    struct said *m, *next;
    rabbit_link_free(s->link);
    DL_FOREACH_SAFE(s->waiting, m, next)
        said_end(m, -ECANCELED);
    pthread_cond_destroy(&s->empty);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
