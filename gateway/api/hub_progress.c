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

void hub_upload_progress(struct hub *h, const struct uuid *user, json_t *message, const char *session_id, bool last)
{
    if (h->subscribers[TOPIC_UPLOAD_PROGRESS] == 0) {
        json_decref(message);
        return;
    }
    CLEANUP_BUF struct buf b = {0};
    jsonx_dump(message, &b);
    json_decref(message);
    char *json = buf_detach(&b);
    pthread_mutex_lock(&h->lock);
    bool now = admit(h, user, session_id, last, clock_boot_ms(), &json);
    pthread_mutex_unlock(&h->lock);
    if (!now) {
        hub_post_tick(h);
        return;
    }
    char **bodies = mem_alloc(sizeof *bodies);
    bodies[0] = json;
    hub_post_delivery(h, TOPIC_UPLOAD_PROGRESS, NULL, mem_dup(user, sizeof *user), 1, bodies, 1);
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
