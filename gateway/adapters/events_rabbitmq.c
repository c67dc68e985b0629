/* Messages over RabbitMQ: the port, made of a link that publishes and one that listens. */
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/rabbit.h"

#include <errno.h>
#include <stdlib.h>

#define LAST_WORDS_MS 5000

struct rabbitmq {
    struct events events;
    struct rabbit_url url;
    struct rabbit_say *say;
    struct rabbit_hear *hear;
};

static struct rabbitmq *of(struct events *e)
{
    return (struct rabbitmq *)e;
}

static int publish(struct events *e, const struct events_message *m, void (*done)(void *ctx, int err), void *ctx)
{
    return rabbit_say(of(e)->say, m, done, ctx);
}

static void listen_to(struct events *e, const struct events_listener *l)
{
    rabbit_hear_listen(of(e)->hear, l);
}

static void subscribe(struct events *e, const char *key)
{
    rabbit_hear_subscribe(of(e)->hear, key, true);
}

static void unsubscribe(struct events *e, const char *key)
{
    rabbit_hear_subscribe(of(e)->hear, key, false);
}

static void consume(struct events *e, const char *queue, events_handler *handle, void *ctx)
{
    rabbit_hear_consume(of(e)->hear, queue, handle, ctx);
}

static int status(struct events *e)
{
    return rabbit_say_is_up(of(e)->say) && rabbit_hear_is_up(of(e)->hear) ? 0 : -EHOSTUNREACH;
}

static void drain(struct events *e)
{
    rabbit_hear_drain(of(e)->hear);
}

/* What was handled is acknowledged before its link ends; what is passed on to a retry queue must be confirmed before that. */
static void rabbitmq_free(struct events *e)
{
    struct rabbitmq *r = of(e);
    rabbit_hear_drain(r->hear);
    rabbit_say_drain(r->say, rabbit_say_is_up(r->say) ? LAST_WORDS_MS : 0);
    struct rabbit_hear *hear = r->hear;
    rabbit_say_free(r->say); /* calls what is not confirmed, which hear still has to hear of */
    rabbit_hear_free(hear);
    rabbit_url_fini(&r->url);
    free(r);
}

static const struct events_ops ops = {
    .publish = publish, .listen = listen_to, .subscribe = subscribe, .unsubscribe = unsubscribe, .consume = consume,
    .status = status,   .drain = drain,      .free = rabbitmq_free,  .shared = true,
};

int events_rabbitmq_open(const char *url, struct events **ret)
{
    struct rabbitmq *r = mem_alloc(sizeof *r);
    struct uuid instance;
    const char *wrong = rabbit_url_parse(url, &r->url);
    if (wrong) {
        log_error("messages: the URL %s", wrong);
        free(r);
        return -EINVAL;
    }
    uuid_new(&instance);
    r->events.ops = &ops;
    r->say = rabbit_say_new(&r->url, &instance);
    r->hear = rabbit_hear_new(&r->url, &instance, r->say);
    *ret = &r->events;
    return 0;
}
