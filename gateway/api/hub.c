/* Who hears what. */
#include "gateway/api/hub.h"
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/notify.h"
#include "gateway/api/publisher.h"

#include <errno.h>
#include <string.h>

#define TICK_MS 100

static const struct {
    const char *destination;
    enum topic topic;
} destinations[] = {
    {"/topic/file-changes", TOPIC_FILE_CHANGES},
    {"/user/queue/sync", TOPIC_SYNC},
    {"/queue/sync", TOPIC_SYNC},
    {"/user/queue/upload-progress", TOPIC_UPLOAD_PROGRESS},
    {"/queue/upload-progress", TOPIC_UPLOAD_PROGRESS},
    {"/topic/presence", TOPIC_PRESENCE},
};

int topic_parse(const char *destination, enum topic *ret)
{
    for (size_t i = 0; i < sizeof destinations / sizeof *destinations; i++)
        if (strcmp(destinations[i].destination, destination) == 0) {
            *ret = destinations[i].topic;
            return 0;
        }
    return -ENOENT;
}

/* ---- subscriptions ---- */

static struct listening_user *find_user(const struct hub *h, const struct uuid *user)
{
    struct listening_user *u;
    HASH_FIND(hh, h->users, user, sizeof *user, u);
    return u;
}

void hub_subscribed(struct hub *h, struct conn *c, const struct subscription *s, bool on)
{
    if (on)
        h->subscribers[s->topic]++;
    else
        h->subscribers[s->topic]--;
    remote_subscribed(h, &c->who, s, on);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    struct listening_user *u = find_user(h, &c->who.user);
    if (!u) {
        u = mem_alloc(sizeof *u);
        u->user = c->who.user;
        HASH_ADD(hh, h->users, user, sizeof u->user, u);
    }
    u->n = on ? u->n + 1 : u->n - 1;
    u->of[s->topic] = on ? u->of[s->topic] + 1 : u->of[s->topic] - 1;
    if (c->n_subs == 1 && on)
        DL_APPEND2(u->conns, c, prev_of_user, next_of_user);
    else if (c->n_subs == 1)
        DL_DELETE2(u->conns, c, prev_of_user, next_of_user);
    if (u->n == 0) {
        HASH_DEL(h->users, u);
        free(u);
    }
}

void hub_deliver(struct hub *h, enum topic topic, const struct uuid *user, const struct uuid *drive, const char *body, size_t n)
{
    const struct listening_user *u = find_user(h, user); /* without the lock: only this thread changes the table */
    for (struct conn *c = u ? u->conns : NULL, *next; c; c = next) {
        next = c->next_of_user;
        for (size_t i = 0; i < c->n_subs && !c->closing; i++) {
            const struct subscription *s = &c->subs[i];
            if (s->topic == topic && (!drive || uuid_is_zero(&s->drive) || uuid_equal(&s->drive, drive)))
                conn_message(c, s, body, n);
        }
    }
}

bool hub_listens(struct hub *h, enum topic topic, const struct uuid *user)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    const struct listening_user *u = find_user(h, user);
    return u && u->of[topic];
}

bool hub_user_by_name(struct hub *h, const char *name, struct uuid *ret)
{
    struct conn *c;
    DL_FOREACH(h->conns, c) {
        if (c->connected && strcmp(c->who.name, name) == 0) {
            *ret = c->who.user;
            return true;
        }
    }
    return false;
}

struct delivery {
    struct hub *hub;
    enum topic topic;
    bool of_drive;
    struct uuid drive, *users;
    size_t n_users, n_bodies;
    char **bodies;
};

static void deliver(void *arg)
{
    struct delivery *d = arg;
    for (size_t i = 0; i < d->n_bodies; i++) {
        for (size_t k = 0; k < d->n_users; k++)
            hub_deliver(d->hub, d->topic, &d->users[k], d->of_drive ? &d->drive : NULL, d->bodies[i], strlen(d->bodies[i]));
        free(d->bodies[i]);
    }
    free(d->bodies);
    free(d->users);
    free(d);
}

void hub_post_delivery(struct hub *h, enum topic topic, const struct uuid *drive, struct uuid *users, size_t n_users, char **bodies, size_t n_bodies)
{
    struct delivery *d = mem_alloc(sizeof *d);
    *d = (struct delivery){.hub = h, .topic = topic, .of_drive = drive != NULL, .users = users, .n_users = n_users, .n_bodies = n_bodies, .bodies = bodies};
    if (drive)
        d->drive = *drive;
    http_server_post(h->app->server, deliver, d);
}

/* ---- notifications of one user ---- */

void hub_notify_user(struct hub *h, const struct uuid *user, json_t *message)
{
    CLEANUP_BUF struct buf b = {0};
    if (h->app->events->ops->shared)
        notify_publish(h->app, user, json_deep_copy(message));
    jsonx_dump(message, &b);
    json_decref(message);
    streams_notice(h->app->streams, user, b.data);
    if (h->subscribers[TOPIC_SYNC] == 0)
        return;
    char **bodies = mem_alloc(sizeof *bodies);
    bodies[0] = buf_detach(&b);
    hub_post_delivery(h, TOPIC_SYNC, NULL, mem_dup(user, sizeof *user), 1, bodies, 1);
}

/* ---- the tick ---- */

static void tick(void *arg)
{
    struct hub *h = arg;
    int64_t now = clock_boot_ms();
    bool more = conn_tick_all(h, now);
    more |= waits_tick(h, now);
    more |= progress_tick(h, now);
    h->ticking = more;
    if (more)
        http_server_timer(h->app->server, TICK_MS, tick, h);
}

void hub_tick_on(struct hub *h)
{
    if (h->ticking)
        return;
    h->ticking = true;
    http_server_timer(h->app->server, TICK_MS, tick, h);
}

static void tick_on(void *arg)
{
    hub_tick_on(arg);
}

void hub_post_tick(struct hub *h)
{
    http_server_post(h->app->server, tick_on, h);
}

/* ---- life ---- */

void hub_committed(struct hub *h, const struct uuid *drive, const struct drive_work *works)
{
    if (!h)
        return;
    publisher_works(h->app->publisher, drive, works);
    waits_committed(h, drive, works);
    feed_committed(h, drive, works);
}

struct hub *hub_new(struct app *app)
{
    struct hub *h = mem_alloc(sizeof *h);
    h->app = app;
    pthread_mutex_init(&h->lock, NULL);
    if (app->events->ops->shared || app->meta->shared)
        h->remote = remote_new(h);
    return h;
}

void hub_stop(struct hub *h)
{
    if (h)
        remote_stop(h->remote);
}

void hub_free(struct hub *h)
{
    if (!h)
        return;
    struct listening_user *u, *next;
    HASH_ITER(hh, h->users, u, next) {
        HASH_DEL(h->users, u);
        free(u);
    }
    feeds_free(h);
    waits_free(h);
    progress_free(h);
    remote_free(h->remote);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
