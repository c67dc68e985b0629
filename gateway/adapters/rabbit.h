/* Within the RabbitMQ adapter: rabbit_url.c (where it is, and what is declared there), rabbit_link.c (a connection and the thread that owns it), rabbit_say.c (publishing),
   rabbit_hear.c (subscriptions), rabbit_consume.c (durable queues), events_rabbitmq.c (the port).

   Two links: a broker that is short of memory stops reading from connections that publish, and acknowledgements must not be stuck behind that. librabbitmq's connections
   belong to one thread: others put what is to be done into lists and wake it. */
#ifndef CAIRN_GATEWAY_ADAPTERS_RABBIT_H
#define CAIRN_GATEWAY_ADAPTERS_RABBIT_H
#include "common/url.h"
#include "common/uuid.h"
#include "gateway/ports/events.h"
#include <amqp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define RABBIT_EXCHANGE "cairn.events"
#define RABBIT_ATTEMPTS_MAX 12

/* ---- rabbit_url.c ---- */
#define RABBIT_HOSTS_MAX 16
struct rabbit_url {
    char *text; /* what user, password and vhost point into */
    const char *user, *password, *vhost;
    bool tls;
    struct url_address at[RABBIT_HOSTS_MAX]; /* nodes of one cluster */
    size_t n;
    bool quorum;
    unsigned attempts, backoff_ms;
};
/* NULL, or what it should be. */
const char *rabbit_url_parse(const char *url, struct rabbit_url *ret);
void rabbit_url_fini(struct rabbit_url *u);
amqp_table_entry_t rabbit_text(const char *key, const char *value); /* borrows both */
/* Declares exchange, queues and bindings, which is no change where they are there. 0 or a negative errno, logged. */
int rabbit_declare(amqp_connection_state_t c, const struct rabbit_url *u);
bool rabbit_has_retries(const char *queue);
/* The queue in which messages of `queue` wait before attempt `attempt` (2…); how long they do, ms. */
void rabbit_retry_queue(const char *queue, unsigned attempt, char ret[128]);
unsigned rabbit_retry_ms(const struct rabbit_url *u, unsigned attempt);

/* ---- rabbit_link.c ---- */
struct rabbit_link_ops { /* all on the link's thread */
    const char *name;
    int (*up)(void *ctx, amqp_connection_state_t c);   /* opens its channels */
    int (*step)(void *ctx, amqp_connection_state_t c); /* does what waits and reads what has come; an error ends the connection */
    void (*down)(void *ctx);                           /* after up was called, whatever it returned */
};
struct rabbit_link;
struct rabbit_link *rabbit_link_new(const struct rabbit_url *u, const struct rabbit_link_ops *ops, void *ctx);
void rabbit_link_wake(struct rabbit_link *l);
bool rabbit_link_is_up(struct rabbit_link *l);
void rabbit_link_free(struct rabbit_link *l); /* a last step, then closes and joins */
int rabbit_reply(amqp_connection_state_t c, const char *what); /* of the last call that waits for an answer: 0 or logged */
int rabbit_status(int status, const char *what);               /* of a call that returns enum amqp_status_enum: the same */
/* -EHOSTUNREACH where this frame says that the other end closes the connection, a channel (logged) or a consumer; else 0. */
int rabbit_closing(const amqp_frame_t *f, const char *what);

/* ---- rabbit_say.c ---- */
struct rabbit_retry { /* of a message that goes on to a retry queue or to the dead */
    const char *queue, *error; /* where it was taken from; why */
    unsigned attempt;
    unsigned wait_ms; /* 0: for ever */
};
struct rabbit_say;
struct rabbit_say *rabbit_say_new(const struct rabbit_url *u, const struct uuid *instance);
int rabbit_say(struct rabbit_say *s, const struct events_message *m, void (*done)(void *ctx, int err), void *ctx);
/* Straight into a queue; beyond the bound too. */
void rabbit_say_to_queue(struct rabbit_say *s, const char *queue, const struct events_message *m, const struct rabbit_retry *r, void (*done)(void *ctx, int err), void *ctx);
void rabbit_say_drain(struct rabbit_say *s, unsigned ms); /* waits until all is confirmed, or so long */
bool rabbit_say_is_up(struct rabbit_say *s);
void rabbit_say_free(struct rabbit_say *s);

/* ---- rabbit_hear.c ---- */
struct rabbit_hear;
struct rabbit_hear *rabbit_hear_new(const struct rabbit_url *u, const struct uuid *instance, struct rabbit_say *say);
void rabbit_hear_listen(struct rabbit_hear *h, const struct events_listener *l);
void rabbit_hear_subscribe(struct rabbit_hear *h, const char *key, bool wanted);
void rabbit_hear_consume(struct rabbit_hear *h, const char *queue, events_handler *handle, void *ctx);
bool rabbit_hear_is_up(struct rabbit_hear *h);
void rabbit_hear_drain(struct rabbit_hear *h);
void rabbit_hear_free(struct rabbit_hear *h);

/* ---- rabbit_consume.c: the consumers of a rabbit_hear ---- */
struct rabbit_consumers;
struct rabbit_consumers *rabbit_consumers_new(const struct rabbit_url *u, struct rabbit_say *say, void (*wake)(void *ctx), void *ctx);
void rabbit_consumers_add(struct rabbit_consumers *c, const char *queue, events_handler *handle, void *ctx);
/* On the link's thread. */
void rabbit_consumers_up(struct rabbit_consumers *c);
int rabbit_consumers_step(struct rabbit_consumers *c, amqp_connection_state_t conn); /* begins to consume, acknowledges */
void rabbit_consumers_deliver(struct rabbit_consumers *c, const amqp_envelope_t *e); /* not of channel 1 */
void rabbit_consumers_drain(struct rabbit_consumers *c);
void rabbit_consumers_free(struct rabbit_consumers *c);
#endif
