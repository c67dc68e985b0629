/* Which devices are there: told to those who share a drive with their user. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/json_out.h"
#include "gateway/api/hub.h"
#include "gateway/api/sharers.h"
#include "gateway/api/shared.h"

#include <string.h>

struct announcement {
    struct hub *hub;
    struct uuid user;
    char *json;
};

static void announce(void *arg);

static void announce_later(struct hub *h, const struct uuid *user, char *json)
{
    struct announcement *a = mem_alloc(sizeof *a);
    *a = (struct announcement){h, *user, json};
    pool_run(http_server_pool(h->app->server), announce, a);
}

/* Worker. */
static void announce(void *arg)
{
    struct announcement *a = arg;
    struct uuid_list users = {0};
    size_t kept = 0;
    int err = sharers_of(a->hub->app, &a->user, &users);
    if (err)
        log_warn("that a device came or went could not be told to everyone: %s", strerror(-err));
    for (size_t i = 0; i < users.n; i++)
        if (hub_listens(a->hub, TOPIC_PRESENCE, &users.ids[i]))
            users.ids[kept++] = users.ids[i];
    char **bodies = mem_alloc(sizeof *bodies);
    bodies[0] = a->json;
    hub_post_delivery(a->hub, TOPIC_PRESENCE, NULL, users.ids, kept, bodies, 1);
    free(a);
}

static char *message_of(const struct presence *p, bool online)
{
    struct buf b = {0};
    jout_open(&b, NULL, '{');
    jout_str(&b, "user", p->name);
    jout_bytes(&b, "device", p->device, strlen(p->device));
    jout_str(&b, "state", online ? "online" : "offline");
    jout_time(&b, "at", clock_wall_ns());
    jout_close(&b, '}');
    return buf_detach(&b);
}

void hub_announce(struct hub *h, const struct presence *p, bool online, bool everywhere)
{
    CLEANUP_FREE char *json = message_of(p, online);
    struct events *e = h->app->events;
    if (everywhere && e->ops->shared)
        e->ops->publish(e, &(struct events_message){.key = "presence", .body = json, .len = strlen(json)}, NULL, NULL);
    if (h->subscribers[TOPIC_PRESENCE])
        announce_later(h, &p->user, mem_strdup(json));
}

void hub_presence(struct hub *h, const struct principal *who, bool online)
{
    remote_user(h, who, online);
    shared_presence(h->app->shared, who, online);
}

/* Told here to those who share a drive with that user, as of one's own. */
static void heard_run(void *arg)
{
    struct announcement *a = arg;
    struct user_row row = {0};
    const char *name;
    CLEANUP_JSON json_t *message = jsonx_parse(a->json, strlen(a->json), NULL);
    if (!message || jsonx_str(message, "user", &name) || a->hub->app->meta->ops->user_by_name(a->hub->app->meta, name, &row)) {
        free(a->json);
        free(a);
        return;
    }
    a->user = row.id;
    user_row_fini(&row);
    announce(a);
}

void presence_heard(struct hub *h, const json_t *message)
{
    CLEANUP_BUF struct buf b = {0};
    if (h->subscribers[TOPIC_PRESENCE] == 0)
        return;
    jsonx_dump(message, &b);
    struct announcement *a = mem_alloc(sizeof *a);
    *a = (struct announcement){.hub = h, .json = buf_detach(&b)};
    pool_run(http_server_pool(h->app->server), heard_run, a);
}
