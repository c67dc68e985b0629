/* Long-polls: a call that waits until its drive goes on. */
#include "common/clock.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/hub.h"

#define WATCH_ON_MS 30000 /* most ask again at once */

struct wait { /* under the hub's lock */
    struct uuid drive;
    uint64_t since;
    int64_t deadline; /* boot ms */
    void (*fn)(void *);
    void *arg;
    struct wait *prev, *next;
};

static void run_all(struct hub *h, struct wait *list)
{
    for (struct wait *w = list, *next; w; w = next) {
        next = w->next;
        pool_run(http_server_pool(h->app->server), w->fn, w->arg);
        free(w);
    }
}

/* Takes out those that are over: of a drive that has come to `seq` (drive NULL: none), or whose time has. */
static struct wait *take(struct hub *h, const struct uuid *drive, uint64_t seq, int64_t now)
{
    struct wait *taken = NULL, *w, *next;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    DL_FOREACH_SAFE(h->waits, w, next) {
        if (w->deadline > now && !(drive && uuid_equal(&w->drive, drive) && seq > w->since))
            continue;
        DL_DELETE(h->waits, w);
        h->n_waits--;
        DL_APPEND(taken, w);
    }
    return taken;
}

void waits_committed(struct hub *h, const struct uuid *drive, const struct drive_work *works)
{
    uint64_t seq = 0;
    if (h->n_waits == 0)
        return;
    for (const struct drive_work *w = works; w; w = w->next)
        if (w->error == 0 && w->last_seq > seq)
            seq = w->last_seq;
    if (seq)
        run_all(h, take(h, drive, seq, INT64_MIN));
}

void waits_moved(struct hub *h, const struct uuid *drive, uint64_t seq)
{
    if (h->n_waits)
        run_all(h, take(h, drive, seq, INT64_MIN));
}

bool waits_tick(struct hub *h, int64_t now)
{
    if (h->n_waits == 0)
        return false;
    run_all(h, take(h, NULL, 0, http_server_draining(h->app->server) ? INT64_MAX : now));
    return h->n_waits > 0;
}

/* What was committed between the caller's look and its place in the list would be missed: so it looks again once it is there. */
void hub_wait(struct hub *h, const struct uuid *drive, uint64_t since, unsigned wait_ms, void (*fn)(void *), void *arg)
{
    struct wait *w = mem_alloc(sizeof *w);
    *w = (struct wait){.drive = *drive, .since = since, .deadline = clock_boot_ms() + wait_ms, .fn = fn, .arg = arg};
    pthread_mutex_lock(&h->lock);
    DL_APPEND(h->waits, w);
    h->n_waits++;
    pthread_mutex_unlock(&h->lock);
    feed_watch_for(h, drive, wait_ms + WATCH_ON_MS);
    struct drive_row d;
    if (h->app->meta->ops->drive_by_id(h->app->meta, drive, &d) || d.seq > since)
        run_all(h, take(h, drive, UINT64_MAX, INT64_MIN)); /* others of the drive look once too often */
    else
        hub_post_tick(h);
}

void waits_free(struct hub *h)
{
    struct wait *w, *next;
    DL_FOREACH_SAFE(h->waits, w, next) {
        DL_DELETE(h->waits, w);
        free(w);
    }
}
