/* Progress of uploads: at most ten messages a second for one session, the last one always. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/hub.h"

#include <string.h>

#define GAP_MS 100
#define FORGET_MS 2000 /* a session that says nothing for so long begins anew */

struct progress { /* under the hub's lock */
    char session[UUID_TEXT];
    struct uuid user;
    int64_t sent;  /* boot ms */
    char *pending; /* the newest message that was held back */
    UT_hash_handle hh;
};

/* To the other gateways: with the user's name as key, which the message does not have. */
static void publish(struct hub *h, const struct uuid *user, const char *json)
{
    struct events *e = h->app->events;
    struct user_row row = {0};
    char key[80];
    if (!e->ops->shared || e->ops->status(e) || h->app->meta->ops->user_by_id(h->app->meta, user, &row))
        return;
    snprintf(key, sizeof key, "progress.%s", row.name);
    user_row_fini(&row);
    e->ops->publish(e, &(struct events_message){.key = key, .body = json, .len = strlen(json)}, NULL, NULL); /* lost where it cannot be sent: the next one says more */
}

static void deliver(struct hub *h, const struct uuid *user, const char *json)
{
    hub_deliver(h, TOPIC_UPLOAD_PROGRESS, user, NULL, json, strlen(json));
}

static void forget(struct hub *h, struct progress *p)
{
    HASH_DEL(h->progress, p);
    free(p->pending);
    free(p);
}

/* Under lock. True: it is to be sent now; else it is kept for the tick. */
static bool admit(struct hub *h, const struct uuid *user, const char *session, bool last, int64_t now, char **json)
{
    struct progress *p;
    HASH_FIND_STR(h->progress, session, p);
    if (last) {
        if (p)
            forget(h, p); /* what was held back is overtaken */
        return true;
    }
    if (!p) {
        p = mem_alloc(sizeof *p);
        snprintf(p->session, sizeof p->session, "%s", session);
        p->user = *user;
        HASH_ADD_STR(h->progress, session, p);
    } else if (now - p->sent < GAP_MS) {
        free(p->pending);
        p->pending = *json;
        *json = NULL;
        return false;
    }
    free(p->pending);
    p->pending = NULL;
    p->sent = now;
    return true;
}

/* Any thread, without the lock. Takes json. */
static void say(struct hub *h, const struct uuid *user, const char *session, bool last, char *json, bool publish_too)
{
    pthread_mutex_lock(&h->lock);
    bool now = admit(h, user, session, last, clock_boot_ms(), &json);
    pthread_mutex_unlock(&h->lock);
    hub_post_tick(h);
    if (!now)
        return;
    if (publish_too)
        publish(h, user, json);
    char **bodies = mem_alloc(sizeof *bodies);
    bodies[0] = json;
    hub_post_delivery(h, TOPIC_UPLOAD_PROGRESS, NULL, mem_dup(user, sizeof *user), 1, bodies, 1);
}

void hub_upload_progress(struct hub *h, const struct uuid *user, json_t *message, const char *session_id, bool last)
{
    bool elsewhere = h->app->events->ops->shared;
    if (h->subscribers[TOPIC_UPLOAD_PROGRESS] == 0 && !elsewhere) {
        json_decref(message);
        return;
    }
    CLEANUP_BUF struct buf b = {0};
    jsonx_dump(message, &b);
    json_decref(message);
    say(h, user, session_id, last, buf_detach(&b), elsewhere);
}

/* A session's chunks may go to several gateways: here they count as one again. */
void progress_heard(struct hub *h, const struct uuid *user, const char *json)
{
    CLEANUP_JSON json_t *message = jsonx_parse(json, strlen(json), NULL);
    const char *session;
    uint64_t received, total;
    if (!message || jsonx_str(message, "sessionId", &session) || jsonx_u64(message, "received", &received) || jsonx_u64(message, "total", &total))
        return;
    say(h, user, session, received == total, mem_strdup(json), false);
}

/* One that is due, out of the table's hands; NULL: none is. */
static char *take_due(struct hub *h, int64_t now, struct uuid *ret_user, bool *ret_more)
{
    struct progress *p, *next;
    *ret_more = false;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    HASH_ITER(hh, h->progress, p, next) {
        if (p->pending && now - p->sent >= GAP_MS) {
            char *json = p->pending;
            p->pending = NULL;
            p->sent = now;
            *ret_user = p->user;
            return json;
        }
        if (!p->pending && now - p->sent > FORGET_MS)
            forget(h, p);
        else
            *ret_more = true;
    }
    return NULL;
}

bool progress_tick(struct hub *h, int64_t now)
{
    struct uuid user;
    bool more;
    char *json;
    while ((json = take_due(h, now, &user, &more))) {
        deliver(h, &user, json);
        free(json);
    }
    return more;
}

void progress_free(struct hub *h)
{
    struct progress *p, *next;
    HASH_ITER(hh, h->progress, p, next)
        forget(h, p);
}
