/* Where RabbitMQ is, and what is declared there. */
#include "common/log.h"
#include "common/mem.h"
#include "common/number.h"
#include "gateway/adapters/rabbit.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPTS_DEFAULT 6
#define BACKOFF_DEFAULT_MS 1000
#define BACKOFF_MAX_MS (15u * 60 * 1000)
#define CHANNEL 1
#define PORT 5672
#define TLS_PORT 5671
#define WANTED "must be amqp://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/VHOST]"

static const char *take_setting(struct rabbit_url *u, char *setting)
{
    char *value = strchr(setting, '=');
    if (value)
        *value++ = '\0';
    uint64_t n;
    if (value && strcmp(setting, "queue-type") == 0 && (strcmp(value, "quorum") == 0 || strcmp(value, "classic") == 0))
        u->quorum = value[0] == 'q';
    else if (value && strcmp(setting, "attempts") == 0 && number_parse(value, 1, RABBIT_ATTEMPTS_MAX, &n))
        u->attempts = (unsigned)n;
    else if (value && strcmp(setting, "backoff") == 0 && number_parse(value, 1, BACKOFF_MAX_MS, &n))
        u->backoff_ms = (unsigned)n;
    else
        return "may only have the settings queue-type=classic|quorum, attempts=N (to 12) and backoff=MS";
    return NULL;
}

static const char *take_settings(struct rabbit_url *u, char *query)
{
    const char *wrong = NULL;
    char *rest = NULL;
    for (char *s = query ? strtok_r(query, "&", &rest) : NULL; s && !wrong; s = strtok_r(NULL, "&", &rest))
        wrong = take_setting(u, s);
    return wrong;
}

/* In place. false: malformed, or empty. */
static bool decode(char *text)
{
    ssize_t n = url_decode(text, strlen(text), text);
    return n > 0 && strlen(text) == (size_t)n;
}

static bool take_user(struct rabbit_url *u, char *text)
{
    char *colon = strchr(text, ':');
    if (!colon)
        return false;
    *colon = '\0';
    u->user = text;
    u->password = colon + 1;
    return decode(text) && decode(colon + 1);
}

/* text: [USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/VHOST] */
static const char *take_place(struct rabbit_url *u, char *text)
{
    char *at = strchr(text, '@'), *hosts = at ? at + 1 : text, *vhost = strchr(hosts, '/');
    if (vhost)
        *vhost++ = '\0';
    if (vhost && *vhost) {
        if (strpbrk(vhost, "@/") || !decode(vhost))
            return "must have a virtual host behind /, percent-encoded where it has @ / or %";
        u->vhost = vhost;
    }
    if (at) {
        *at = '\0';
        if (strchr(hosts, '@') || !take_user(u, text))
            return "must have USER:PASSWORD once, before @ and all hosts, percent-encoded where it has @ : / or %";
    }
    u->n = url_addresses(hosts, u->tls ? TLS_PORT : PORT, u->at, RABBIT_HOSTS_MAX);
    return u->n ? NULL : WANTED;
}

const char *rabbit_url_parse(const char *url, struct rabbit_url *ret)
{
    *ret = (struct rabbit_url){.user = "guest", .password = "guest", .vhost = "/", .attempts = ATTEMPTS_DEFAULT, .backoff_ms = BACKOFF_DEFAULT_MS};
    ret->tls = strncmp(url, "amqps://", 8) == 0;
    if (!ret->tls && strncmp(url, "amqp://", 7) != 0)
        return WANTED;
    ret->text = mem_strdup(url + (ret->tls ? 8 : 7));
    char *query = strchr(ret->text, '?');
    if (query)
        *query++ = '\0';
    const char *wrong = take_settings(ret, query);
    if (!wrong)
        wrong = take_place(ret, ret->text);
    if (wrong)
        rabbit_url_fini(ret);
    return wrong;
}

void rabbit_url_fini(struct rabbit_url *u)
{
    free(u->text);
    *u = (struct rabbit_url){0};
}

/* ---- retries ---- */

static const struct {
    const char *queue, *key;
} work_queues[] = {{EVENTS_QUEUE_SCAN, "virus-scan.requested"}, {EVENTS_QUEUE_NOTIFICATION, "notification.#"}};
#define N_WORK_QUEUES (sizeof work_queues / sizeof *work_queues)

bool rabbit_has_retries(const char *queue)
{
    for (size_t i = 0; i < N_WORK_QUEUES; i++)
        if (strcmp(work_queues[i].queue, queue) == 0)
            return true;
    return false;
}

void rabbit_retry_queue(const char *queue, unsigned attempt, char ret[128])
{
    snprintf(ret, 128, "%s.retry-%u", queue, attempt - 1);
}

unsigned rabbit_retry_ms(const struct rabbit_url *u, unsigned attempt)
{
    uint64_t ms = u->backoff_ms;
    for (unsigned i = 2; i < attempt && ms < BACKOFF_MAX_MS; i++)
        ms *= 4;
    return ms < BACKOFF_MAX_MS ? (unsigned)ms : BACKOFF_MAX_MS;
}

/* ---- declarations ---- */

amqp_table_entry_t rabbit_text(const char *key, const char *value)
{
    return (amqp_table_entry_t){.key = amqp_cstring_bytes(key), .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(value)}};
}

/* dead_to: where what is refused, or has waited long enough, goes; NULL: nowhere. */
static int declare_queue(amqp_connection_state_t c, const struct rabbit_url *u, const char *name, const char *dead_to)
{
    amqp_table_entry_t entries[5];
    int n = 0;
    if (dead_to) {
        entries[n++] = rabbit_text("x-dead-letter-exchange", "");
        entries[n++] = rabbit_text("x-dead-letter-routing-key", dead_to);
    }
    if (u->quorum) {
        entries[n++] = rabbit_text("x-queue-type", "quorum");
        if (dead_to) { /* else a quorum queue hands over at most once */
            entries[n++] = rabbit_text("x-dead-letter-strategy", "at-least-once");
            entries[n++] = rabbit_text("x-overflow", "reject-publish");
        }
    }
    amqp_queue_declare(c, CHANNEL, amqp_cstring_bytes(name), 0, 1, 0, 0, (amqp_table_t){.num_entries = n, .entries = entries});
    return rabbit_reply(c, name);
}

static int declare_work_queue(amqp_connection_state_t c, const struct rabbit_url *u, const char *name, const char *key)
{
    int err = declare_queue(c, u, name, EVENTS_QUEUE_DEAD);
    for (unsigned attempt = 2; attempt <= u->attempts && !err; attempt++) {
        char retry[128];
        rabbit_retry_queue(name, attempt, retry);
        err = declare_queue(c, u, retry, name);
    }
    if (err)
        return err;
    amqp_queue_bind(c, CHANNEL, amqp_cstring_bytes(name), amqp_cstring_bytes(RABBIT_EXCHANGE), amqp_cstring_bytes(key), amqp_empty_table);
    return rabbit_reply(c, "binding a queue");
}

int rabbit_declare(amqp_connection_state_t c, const struct rabbit_url *u)
{
    amqp_exchange_declare(c, CHANNEL, amqp_cstring_bytes(RABBIT_EXCHANGE), amqp_cstring_bytes("topic"), 0, 1, 0, 0, amqp_empty_table);
    int err = rabbit_reply(c, RABBIT_EXCHANGE);
    if (!err)
        err = declare_queue(c, u, EVENTS_QUEUE_DEAD, NULL);
    for (size_t i = 0; i < N_WORK_QUEUES && !err; i++)
        err = declare_work_queue(c, u, work_queues[i].queue, work_queues[i].key);
    return err;
}
