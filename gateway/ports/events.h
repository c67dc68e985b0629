/* The port to messages between processes: topics that whoever listens hears, and durable queues whose messages are worked through.

   A message goes to everyone who has subscribed to its key, and into each durable queue that is bound to it: QUEUE_SCAN to "virus-scan.requested", QUEUE_NOTIFICATION to
   "notification.#". Topics may lose messages (a listener that was away reads the change log from its cursor: `subscribed` tells it when); queues deliver each message at
   least once. Messages of one adapter that go to one place keep their order, but for those that are tried again. May be used by any thread; nothing but open and free blocks. */
#ifndef CAIRN_GATEWAY_PORTS_EVENTS_H
#define CAIRN_GATEWAY_PORTS_EVENTS_H
#include <stdbool.h>
#include <stddef.h>

#define EVENTS_QUEUE_SCAN "cairn.virus-scan"
#define EVENTS_QUEUE_NOTIFICATION "cairn.notification"
#define EVENTS_QUEUE_DEAD "cairn.dead" /* what was given up: refused by its handler, or tried too often */
#define EVENTS_KEY_MAX 255

struct events_message {
    const char *key;  /* words separated by dots, at most EVENTS_KEY_MAX bytes */
    const char *id;   /* the same for the same event, however often it is published; NULL: none */
    const char *body; /* JSON */
    size_t len;
    bool persistent;  /* kept until it is confirmed, over a restart of the broker too; false: worth nothing a moment later */
    bool own;         /* on arrival: published by this very adapter */
};

/* Called on a thread of the adapter, which waits for it: short, and never blocking. Either may be NULL. */
struct events_listener {
    void (*message)(void *ctx, const struct events_message *m);
    /* From now on every message with this key is heard; what was published before may have been missed. Called after each subscription, and for each again after the
       connection was lost and is back. */
    void (*subscribed)(void *ctx, const char *key);
    void *ctx;
};

/* Works on one message of a queue, on a thread that is this consumer's; may block. attempt: 1, 2, … 0: done. -EAGAIN: try again later (with back-off; too often: given up).
   -ECANCELED: somebody else is to do it, at once (this process is ending; this consumer may get no more). Another errno: given up, it goes to EVENTS_QUEUE_DEAD. Delivered at
   least once. */
typedef int events_handler(void *ctx, const struct events_message *m, unsigned attempt);

struct events {
    const struct events_ops *ops;
};
struct events_ops {
    /* Copies the message and returns. done (may be NULL) is called once, on a thread of the adapter: 0 once the broker has taken responsibility for it, -EAGAIN where it
       refused, -ECANCELED where the adapter ended first. It must not block. Fails, without calling done: -ENOBUFS, more waits than is kept; -EHOSTUNREACH, not
       persistent and there is no connection; -EMSGSIZE. */
    int (*publish)(struct events *e, const struct events_message *m, void (*done)(void *ctx, int err), void *ctx);
    /* Who hears what is subscribed to; once, before the first subscription. Copies l. */
    void (*listen)(struct events *e, const struct events_listener *l);
    /* Exact keys, not counted: one subscription, however often it is asked for. They take effect soon, in order. */
    void (*subscribe)(struct events *e, const char *key);
    void (*unsubscribe)(struct events *e, const char *key);
    /* Starts one consumer, which works on one message at a time; several share a queue. */
    void (*consume)(struct events *e, const char *queue, events_handler *handle, void *ctx);
    /* 0: connected; -EHOSTUNREACH: not at present (it goes on trying). */
    int (*status)(struct events *e);
    /* Starts no more messages, and waits for the handlers that run; what they did is confirmed. Publishing goes on. */
    void (*drain)(struct events *e);
    /* Drains; gives what waits a few seconds to go out; ends. No callback runs any more when it returns. */
    void (*free)(struct events *e);
    bool shared; /* other processes hear what is published here */
};
/* url: memory: (this process alone; memory:NAME is shared by all who open that name in this process), amqp://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/VHOST] or amqps://…
   (several hosts: nodes of one cluster), with ?queue-type=quorum, &attempts=N (before a message is given up; 6), &backoff=MS (before the second attempt; each further one waits
   four times as long; 1000). Returns before there is a connection. -EINVAL and a message for a bad URL, -ENOTSUP for an unknown scheme. */
int events_open(const char *url, struct events **ret);
int events_memory_open(const char *name, struct events **ret);
int events_rabbitmq_open(const char *url, struct events **ret);
/* Publishes and waits until it is confirmed; not from a callback of the adapter. 0; -EAGAIN where it was not within so many seconds (it may be later); as publish. */
int events_publish_confirmed(struct events *e, const struct events_message *m, unsigned seconds);
/* NULL, or what an events URL should be. */
const char *events_url_wrong(const char *url);
#endif
