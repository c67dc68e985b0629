/* Long-polls: a call that waits until its drive goes on. */
#include "common/clock.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/hub.h"

#include <string.h>

#define WATCH_ON_MS 30000 /* most ask again at once */

struct waiting_drive { /* under the hub's lock */
    struct uuid drive;
    struct waiter *waits; /* at least one */
    UT_hash_handle hh;
};

static int compare(const struct waiter *a, const struct waiter *b)
{
    int drives = memcmp(&a->drive, &b->drive, sizeof a->drive);
    return drives ? drives : a->since < b->since ? -1 : a->since > b->since;
}

static void run_group(void *arg)
{
    struct waiter *all = arg;
    all->fn(all);
}

/* Those for the same thing together. */
static void run_all(struct hub *h, struct waiter *list)
{
    DL_SORT(list, compare);
    for (struct waiter *first = list, *w = list, *next; w; w = next) {
        next = w->next;
        if (next && compare(w, next) == 0)
            continue;
        w->next = NULL;
        pool_run(http_server_pool(h->app->server), run_group, first);
        first = next;
    }
}

static void put(struct hub *h, struct waiter *w)
{
    struct waiting_drive *d;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    HASH_FIND(hh, h->waiting, &w->drive, sizeof w->drive, d);
    if (!d) {
        d = mem_alloc(sizeof *d);
        d->drive = w->drive;
        HASH_ADD(hh, h->waiting, drive, sizeof d->drive, d);
    }
    DL_APPEND(d->waits, w);
    h->n_waits++;
}

/* Under lock. Those whose `since` the drive has passed with `seq`, or whose time has come. */
static void take(struct hub *h, struct waiting_drive *d, uint64_t seq, int64_t now, struct waiter **ret)
{
    struct waiter *w, *next;
    DL_FOREACH_SAFE(d->waits, w, next) {
        if (w->deadline > now && w->since >= seq)
            continue;
        DL_DELETE(d->waits, w);
        h->n_waits--;
        DL_APPEND(*ret, w);
    }
    if (d->waits)
        return;
    HASH_DEL(h->waiting, d);
    free(d);
}

static struct waiter *take_passed(struct hub *h, const struct uuid *drive, uint64_t seq)
{
    struct waiter *taken = NULL;
    struct waiting_drive *d;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    HASH_FIND(hh, h->waiting, drive, sizeof *drive, d);
    if (d)
        take(h, d, seq, INT64_MIN, &taken);
    return taken;
}

static struct waiter *take_late(struct hub *h, int64_t now)
{
    struct waiter *taken = NULL;
    struct waiting_drive *d, *next;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    HASH_ITER(hh, h->waiting, d, next)
        take(h, d, 0, now, &taken);
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
        run_all(h, take_passed(h, drive, seq));
}

void waits_moved(struct hub *h, const struct uuid *drive, uint64_t seq)
{
    if (h->n_waits)
        run_all(h, take_passed(h, drive, seq));
}

bool waits_tick(struct hub *h, int64_t now)
{
    if (h->n_waits == 0)
        return false;
    run_all(h, take_late(h, http_server_draining(h->app->server) ? INT64_MAX : now));
    return h->n_waits > 0;
}

/* What was committed between the caller's look and its place in the list would be missed: so it looks again once it is there. */
void hub_wait(struct hub *h, struct waiter *w, unsigned wait_ms)
{
    const struct uuid drive = w->drive;
    const uint64_t since = w->since;
    w->deadline = clock_boot_ms() + wait_ms;
    put(h, w); /* it may be gone from here on */
    feed_watch_for(h, &drive, wait_ms + WATCH_ON_MS);
    struct drive_row d;
    if (h->app->meta->ops->drive_by_id(h->app->meta, &drive, &d))
        run_all(h, take_passed(h, &drive, UINT64_MAX)); /* others of the drive look once too often */
    else if (d.seq > since)
        run_all(h, take_passed(h, &drive, d.seq));
    else
        hub_post_tick(h);
}

void waits_free(struct hub *h)
{
    struct waiting_drive *d, *next;
    HASH_ITER(hh, h->waiting, d, next) {
        HASH_DEL(h->waiting, d);
        free(d);
    }
}
