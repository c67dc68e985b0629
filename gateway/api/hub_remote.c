/* What happens at other gateways, told to this one's people.

   A gateway hears only what somebody here waits for: sync.<drive> of watched drives, notification.<user> and progress.<user> of users with connections, presence where
   anybody listens to it. A message about a drive is only a hint how far it has come: what is delivered is read from its log, from this gateway's own cursor on, so that
   nothing is told twice or out of order, and nothing is missed that the broker lost or that happened while it was away: then each watched drive is looked at every few
   seconds, and once more when the broker is back. Gateways that share a metadata store but no broker always look. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "common/uuid_list.h"
#include "gateway/api/hub.h"

#include <errno.h>
#include <string.h>

#define ROUND_MS 2000
#define LIST_MS 15000 /* how long until one hears of a drive that was shared with one at another gateway */
#define LOOKS_PER_ROUND 500
#define LISTS_PER_ROUND 100

struct remote_key { /* under the hub's lock */
    char key[EVENTS_KEY_MAX + 1];
    unsigned n;
    UT_hash_handle hh;
};

struct watching_user { /* has subscribed to all drives that it may see; under the hub's lock */
    struct uuid user;
    unsigned n;
    int64_t listed; /* boot ms: when it was asked for them; in the table's order */
    uint64_t listing; /* which one `drives` are of, 0: none yet */
    struct uuid_list drives;
    UT_hash_handle hh;
};

struct hub_remote {
    struct hub *hub;
    struct events *events;
    struct remote_key *keys;
    struct watching_user *users;
    uint64_t listings; /* begun; under the hub's lock */
    bool round; /* a job is doing one */
    pthread_mutex_t hearing; /* held while the adapter calls; taken before the hub's lock */
    bool deaf;               /* under `hearing` */
};

/* ---- keys ---- */

static void want_key(struct hub_remote *r, const char *key, bool on)
{
    struct remote_key *k;
    bool first = false, last = false;
    pthread_mutex_lock(&r->hub->lock);
    HASH_FIND_STR(r->keys, key, k);
    if (!k && on) {
        k = mem_alloc(sizeof *k);
        snprintf(k->key, sizeof k->key, "%s", key);
        HASH_ADD_STR(r->keys, key, k);
    }
    if (k) {
        first = on && k->n == 0;
        k->n = on ? k->n + 1 : k->n - 1;
        last = k->n == 0;
        if (last) {
            HASH_DEL(r->keys, k);
            free(k);
        }
    }
    /* with the lock held, so that the last word is the newest: it does not block */
    if (first)
        r->events->ops->subscribe(r->events, key);
    if (last)
        r->events->ops->unsubscribe(r->events, key);
    pthread_mutex_unlock(&r->hub->lock);
}

static void want_of_user(struct hub_remote *r, const char *kind, const char *name, bool on)
{
    char key[EVENTS_KEY_MAX + 1];
    snprintf(key, sizeof key, "%s.%s", kind, name);
    want_key(r, key, on);
}

void remote_user(struct hub *h, const struct principal *who, bool present)
{
    if (h->remote)
        want_of_user(h->remote, "notification", who->name, present);
}

/* ---- drives ---- */

struct drive_list {
    struct hub *hub;
    struct uuid_list drives; /* each is watched */
};

static int watch_one(void *ctx, const struct drive_row *d)
{
    struct drive_list *l = ctx;
    if (d->away)
        return -EHOSTUNREACH;
    feed_watch(l->hub, d);
    uuid_list_add(&l->drives, &d->id);
    return 0;
}

static void drive_list_end(struct drive_list *l)
{
    for (size_t i = 0; i < l->drives.n; i++)
        feed_unwatch(l->hub, &l->drives.ids[i]);
    uuid_list_fini(&l->drives);
}

static uint64_t listing_begin(struct hub_remote *r)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hub->lock);
    return ++r->listings;
}

/* The user's list from now on, unless there is one that was begun later; the other one is handed back. */
static void take_list(struct hub_remote *r, const struct uuid *user, uint64_t listing, struct drive_list *l)
{
    struct watching_user *u;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hub->lock);
    HASH_FIND(hh, r->users, user, sizeof *user, u);
    if (!u || u->listing > listing)
        return;
    struct uuid_list before = u->drives;
    u->drives = l->drives;
    u->listing = listing;
    l->drives = before;
}

/* Worker. The drives that the user may see now are watched, those of before no longer. */
static int list_user(struct hub_remote *r, const struct uuid *user)
{
    struct meta *meta = r->hub->app->meta;
    CLEANUP(drive_list_end) struct drive_list l = {.hub = r->hub};
    uint64_t listing = listing_begin(r);
    int err = meta->ops->drive_list(meta, user, watch_one, &l);
    if (!err)
        take_list(r, user, listing, &l);
    return err;
}

/* The one whose list is the oldest, and old enough: those that are listed go to the end. */
static bool next_to_list(struct hub_remote *r, struct uuid *ret)
{
    int64_t now = clock_boot_ms();
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hub->lock);
    struct watching_user *u = r->users;
    if (!u || now - u->listed < LIST_MS)
        return false;
    HASH_DEL(r->users, u);
    u->listed = now;
    HASH_ADD(hh, r->users, user, sizeof u->user, u);
    *ret = u->user;
    return true;
}

static void list_some(struct hub_remote *r)
{
    struct uuid user;
    for (unsigned n = 0; n < LISTS_PER_ROUND && next_to_list(r, &user); n++)
        list_user(r, &user);
}

static void watching_user_ref(struct hub_remote *r, const struct uuid *user)
{
    struct watching_user *u;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hub->lock);
    HASH_FIND(hh, r->users, user, sizeof *user, u);
    if (!u) {
        u = mem_alloc(sizeof *u);
        u->user = *user;
        u->listed = clock_boot_ms();
        HASH_ADD(hh, r->users, user, sizeof u->user, u);
    }
    u->n++;
}

/* The drives of one that has gone are handed over. */
static void watching_user_unref(struct hub_remote *r, const struct uuid *user, struct drive_list *ret)
{
    struct watching_user *u;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hub->lock);
    HASH_FIND(hh, r->users, user, sizeof *user, u);
    if (!u || --u->n)
        return;
    *ret = (struct drive_list){r->hub, u->drives};
    HASH_DEL(r->users, u);
    free(u);
}

int remote_watch(struct hub *h, const struct uuid *user, const struct drive_row *drive)
{
    if (!h->remote)
        return 0; /* whatever is committed is committed here */
    if (drive) {
        feed_watch(h, drive);
        return 0;
    }
    watching_user_ref(h->remote, user);
    int err = list_user(h->remote, user);
    if (err)
        remote_unwatch(h, user, &(struct uuid){{0}});
    return err;
}

void remote_unwatch(struct hub *h, const struct uuid *user, const struct uuid *drive)
{
    if (!h->remote)
        return;
    CLEANUP(drive_list_end) struct drive_list gone = {.hub = h};
    if (uuid_is_zero(drive))
        watching_user_unref(h->remote, user, &gone);
    else
        feed_unwatch(h, drive);
}

void remote_subscribed(struct hub *h, const struct principal *who, const struct subscription *s, bool on)
{
    struct hub_remote *r = h->remote;
    if (!r)
        return;
    if (s->topic == TOPIC_UPLOAD_PROGRESS)
        want_of_user(r, "progress", who->name, on);
    else if (s->topic == TOPIC_PRESENCE)
        want_key(r, "presence", on);
    else if (s->topic == TOPIC_FILE_CHANGES && !on) /* its begin was before it was confirmed */
        remote_unwatch(h, &who->user, &s->drive);
}

/* ---- what is heard: on a thread of the adapter ---- */

static const char *after(const char *key, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(key, prefix, n) == 0 ? key + n : NULL;
}

static void heard_sync(struct hub *h, const char *drive_text, const json_t *body)
{
    struct uuid drive;
    uint64_t seq;
    if (uuid_parse(drive_text, &drive) == 0 && jsonx_u64(body, "seq", &seq) == 0)
        feed_moved(h, &drive, seq);
}

struct remote_user { /* to the loop */
    struct hub *hub;
    char *name, *text;
    bool progress;
};

/* Loop. Whoever has connections here: the same as if it had happened here. */
static void deliver_to_user(void *arg)
{
    struct remote_user *u = arg;
    struct uuid user;
    if (hub_user_by_name(u->hub, u->name, &user)) {
        if (u->progress)
            progress_heard(u->hub, &user, u->text);
        else
            hub_deliver(u->hub, TOPIC_SYNC, &user, NULL, u->text, strlen(u->text));
    }
    if (!u->progress)
        streams_notice_name(u->hub->app->streams, u->name, u->text);
    free(u->name);
    free(u->text);
    free(u);
}

static void heard_of_user(struct hub *h, const char *name, const char *text, bool progress)
{
    struct remote_user *u = mem_alloc(sizeof *u);
    *u = (struct remote_user){.hub = h, .name = mem_strdup(name), .text = mem_strdup(text), .progress = progress};
    http_server_post(h->app->server, deliver_to_user, u);
}

static void heard(void *ctx, const struct events_message *m)
{
    struct hub_remote *r = ctx;
    const char *rest;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hearing);
    if (m->own || r->deaf)
        return; /* one's own has been told */
    CLEANUP_JSON json_t *body = jsonx_parse(m->body, m->len, NULL);
    if (!body)
        log_warn("a message with key %s is no JSON", m->key);
    else if ((rest = after(m->key, "sync.")))
        heard_sync(r->hub, rest, body);
    else if ((rest = after(m->key, "notification.")))
        heard_of_user(r->hub, rest, m->body, false);
    else if ((rest = after(m->key, "progress.")))
        heard_of_user(r->hub, rest, m->body, true);
    else if (strcmp(m->key, "presence") == 0)
        presence_heard(r->hub, body);
}

/* A drive's messages are heard from now on: what came before is read. */
static void subscribed(void *ctx, const char *key)
{
    struct hub_remote *r = ctx;
    struct uuid drive;
    const char *rest = after(key, "sync.");
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hearing);
    if (!r->deaf && rest && uuid_parse(rest, &drive) == 0)
        feed_moved(r->hub, &drive, UINT64_MAX);
}

/* ---- rounds ---- */

static void round_run(void *arg)
{
    struct hub_remote *r = arg;
    struct hub *h = r->hub;
    list_some(r);
    feeds_forget(h);
    feeds_look(h, LOOKS_PER_ROUND, !r->events->ops->shared || r->events->ops->status(r->events) != 0);
    pthread_mutex_lock(&h->lock);
    r->round = false;
    pthread_mutex_unlock(&h->lock);
}

static void round_begin(void *arg)
{
    struct hub_remote *r = arg;
    struct hub *h = r->hub;
    pthread_mutex_lock(&h->lock);
    bool busy = r->round;
    r->round = true;
    pthread_mutex_unlock(&h->lock);
    if (!busy)
        pool_run(http_server_pool(h->app->server), round_run, r);
    if (!http_server_draining(h->app->server))
        http_server_timer(h->app->server, ROUND_MS, round_begin, r);
}

/* ---- life ---- */

struct hub_remote *remote_new(struct hub *h)
{
    struct hub_remote *r = mem_alloc(sizeof *r);
    r->hub = h;
    r->events = h->app->events;
    pthread_mutex_init(&r->hearing, NULL);
    r->events->ops->listen(r->events, &(struct events_listener){heard, subscribed, r});
    http_server_post(h->app->server, round_begin, r);
    return r;
}

void remote_want_drive(struct hub *h, const struct uuid *drive, bool on)
{
    char id[UUID_TEXT];
    uuid_text(drive, id);
    want_of_user(h->remote, "sync", id, on);
}

void remote_stop(struct hub_remote *r)
{
    if (!r)
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->hearing);
    r->deaf = true;
}

void remote_free(struct hub_remote *r)
{
    struct remote_key *k, *next_key;
    struct watching_user *u, *next_user;
    if (!r)
        return;
    HASH_ITER(hh, r->keys, k, next_key) {
        HASH_DEL(r->keys, k);
        free(k);
    }
    HASH_ITER(hh, r->users, u, next_user) {
        HASH_DEL(r->users, u);
        uuid_list_fini(&u->drives);
        free(u);
    }
    pthread_mutex_destroy(&r->hearing);
    free(r);
}
