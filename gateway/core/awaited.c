#include "gateway/core/awaited.h"
#include "common/mem.h"

#include <uthash.h>
#include <utlist.h>

#define ENDED_MS 10000 /* by then no operation is left that has seen its row */

struct debt {
    uint64_t id;
    int64_t until;
    void *waiter, *message;
    struct debt *prev, *next;
};

struct peer { /* a gateway that owes something, or has ended */
    struct uuid gateway;
    struct debt *debts; /* as they were added: acknowledgements come in nearly the same order */
    int64_t ended_until;
    UT_hash_handle hh;
};

struct awaited {
    struct awaited_io io;
    struct peer *peers;
    size_t count;
};

struct awaited *awaited_new(const struct awaited_io *io)
{
    struct awaited *w = mem_alloc(sizeof *w);
    w->io = *io;
    return w;
}

static struct peer *find(const struct awaited *w, const struct uuid *gateway)
{
    struct peer *p;
    HASH_FIND(hh, w->peers, gateway, sizeof *gateway, p);
    return p;
}

static struct peer *find_or_make(struct awaited *w, const struct uuid *gateway)
{
    struct peer *p = find(w, gateway);
    if (p)
        return p;
    p = mem_alloc(sizeof *p);
    p->gateway = *gateway;
    HASH_ADD(hh, w->peers, gateway, sizeof p->gateway, p);
    return p;
}

static void settle(struct awaited *w, struct peer *p, struct debt *d, bool in_time)
{
    DL_DELETE(p->debts, d);
    w->count--;
    w->io.drop(w->io.ctx, d->message);
    w->io.settled(w->io.ctx, &p->gateway, d->waiter, in_time);
    free(d);
}

static void forget_if_idle(struct awaited *w, struct peer *p, int64_t now)
{
    if (p->debts || p->ended_until > now)
        return;
    HASH_DEL(w->peers, p);
    free(p);
}

void awaited_free(struct awaited *w)
{
    struct peer *p, *next;
    struct debt *d, *after;
    if (!w)
        return;
    HASH_ITER(hh, w->peers, p, next) {
        DL_FOREACH_SAFE(p->debts, d, after) {
            w->io.drop(w->io.ctx, d->message);
            free(d);
        }
        HASH_DEL(w->peers, p);
        free(p);
    }
    free(w);
}

bool awaited_add(struct awaited *w, const struct uuid *gateway, uint64_t id, int64_t until, void *waiter, void *message, int64_t now)
{
    struct peer *p = find_or_make(w, gateway);
    if (p->ended_until > now)
        return false;
    struct debt *d = mem_alloc(sizeof *d);
    *d = (struct debt){.id = id, .until = until, .waiter = waiter, .message = message};
    DL_APPEND(p->debts, d);
    w->count++;
    return true;
}

void awaited_ack(struct awaited *w, const struct uuid *gateway, uint64_t id)
{
    struct peer *p = find(w, gateway);
    struct debt *d, *next;
    DL_FOREACH_SAFE(p ? p->debts : NULL, d, next)
        if (d->id == id) {
            settle(w, p, d, true);
            return;
        }
}

void awaited_ended(struct awaited *w, const struct uuid *gateway, int64_t now)
{
    struct peer *p = find_or_make(w, gateway);
    p->ended_until = now + ENDED_MS;
    while (p->debts)
        settle(w, p, p->debts, true);
}

void awaited_each(struct awaited *w, const struct uuid *gateway, void (*each)(void *ctx, void *message), void *ctx)
{
    const struct peer *p = find(w, gateway);
    const struct debt *d;
    DL_FOREACH(p ? p->debts : NULL, d)
        each(ctx, d->message);
}

int awaited_tick(struct awaited *w, int64_t now)
{
    struct peer *p, *next;
    struct debt *d, *after;
    int64_t soonest = INT64_MAX;
    HASH_ITER(hh, w->peers, p, next) {
        DL_FOREACH_SAFE(p->debts, d, after) {
            if (d->until <= now)
                settle(w, p, d, false);
            else if (d->until < soonest)
                soonest = d->until;
        }
        forget_if_idle(w, p, now);
    }
    return soonest == INT64_MAX ? -1 : (int)(soonest - now);
}

bool awaited_owes(const struct awaited *w, const struct uuid *gateway)
{
    const struct peer *p = find(w, gateway);
    return p && p->debts;
}

size_t awaited_count(const struct awaited *w)
{
    return w->count;
}
