/* Invariants. Everything up to `position` has been told to the streams of the drive. `cap` is raised for a renewal that learned seq S only when position has reached S, and everything that
   was ORDER_FREE (answered without having been told): so while a lease runs, whatever was committed before it was granted has been told, and whoever commits after that sees the row. */
#include "gateway/core/order.h"
#include "common/mem.h"

#include <uthash.h>
#include <utlist.h>

#define GRANTS 4 /* renewals whose seq is not reached yet */

struct parcel {
    uint64_t first, last;
    void *what;
    struct parcel *prev, *next;
};

struct grant {
    uint64_t seq;
    int64_t until;
};

struct drive {
    struct uuid id;
    unsigned expected;
    bool placed;
    uint64_t position;
    uint64_t heard;   /* there is something up to here */
    uint64_t untold;  /* up to here parcels, and those that waited for them, were freed without being told */
    struct parcel *held;     /* rising first */
    struct parcel *barriers; /* rising last */
    int64_t gap_since;       /* valid while it is uneasy */
    bool uneasy, fetching;
    int64_t fetch_at;
    int64_t cap, renewed;
    struct grant grants[GRANTS];
    size_t n_grants;
    struct drive *prev, *next; /* order->uneasy */
    UT_hash_handle hh;
};

struct order {
    struct order_io io;
    bool alone;
    struct drive *drives;
    struct drive *uneasy; /* those for which something is missing */
};

struct order *order_new(const struct order_io *io, bool alone)
{
    struct order *o = mem_alloc(sizeof *o);
    o->io = *io;
    o->alone = alone;
    return o;
}

static struct drive *find(const struct order *o, const struct uuid *id)
{
    struct drive *d;
    HASH_FIND(hh, o->drives, id, sizeof *id, d);
    return d;
}

/* ---- parcels ---- */

static int by_first(const struct parcel *a, const struct parcel *b)
{
    return a->first < b->first ? -1 : a->first > b->first;
}

static int by_last(const struct parcel *a, const struct parcel *b)
{
    return a->last < b->last ? -1 : a->last > b->last;
}

static void release(struct order *o, struct drive *d, struct parcel **list, enum order_how how)
{
    struct parcel *p = *list;
    DL_DELETE(*list, p);
    o->io.release(o->io.ctx, &d->id, p->what, how);
    free(p);
}

static void free_list(struct order *o, struct drive *d, struct parcel **list)
{
    for (; *list; release(o, d, list, ORDER_FREE))
        if (d->untold < (*list)->last)
            d->untold = (*list)->last;
}

static void free_all(struct order *o, struct drive *d)
{
    free_list(o, d, &d->held);
    free_list(o, d, &d->barriers);
}

/* Nobody trusts what this gateway tells of the drive: every lease has ended by the cap. */
static bool nobody_trusts(const struct drive *d, int64_t now)
{
    return !d->placed || d->cap <= now;
}

/* ---- how far it is ---- */

static void raise_cap(struct order *o, struct drive *d)
{
    int64_t cap = d->cap;
    size_t kept = 0;
    for (size_t i = 0; i < d->n_grants; i++) {
        const struct grant *g = &d->grants[i];
        if (g->seq > d->position || d->untold > d->position)
            d->grants[kept++] = *g;
        else if (g->until > cap)
            cap = g->until;
    }
    d->n_grants = kept;
    if (cap == d->cap)
        return;
    d->cap = cap;
    o->io.cap(o->io.ctx, &d->id, cap);
}

static void set_uneasy(struct order *o, struct drive *d, bool uneasy, int64_t now)
{
    if (uneasy && !d->uneasy) {
        d->gap_since = now;
        DL_APPEND(o->uneasy, d);
    } else if (!uneasy && d->uneasy) {
        DL_DELETE(o->uneasy, d);
    }
    d->uneasy = uneasy;
}

/* Releases what is next, and looks at what is missing then. */
static void advance(struct order *o, struct drive *d, int64_t now)
{
    uint64_t before = d->position;
    if (!d->placed)
        return;
    while (d->held && d->held->first <= d->position + 1) {
        uint64_t last = d->held->last;
        release(o, d, &d->held, last > d->position ? ORDER_TELL : ORDER_KNOWN);
        if (last > d->position)
            d->position = last;
    }
    while (d->barriers && d->barriers->last <= d->position)
        release(o, d, &d->barriers, ORDER_KNOWN);
    if (d->heard < d->position)
        d->heard = d->position;
    raise_cap(o, d);
    set_uneasy(o, d, d->heard > d->position, now);
    if (d->position > before)
        d->gap_since = now;
}

static void hear(struct drive *d, uint64_t seq)
{
    if (d->heard < seq)
        d->heard = seq;
}

/* ---- drives ---- */

void order_expect(struct order *o, const struct uuid *drive)
{
    struct drive *d = find(o, drive);
    if (!d) {
        d = mem_alloc(sizeof *d);
        d->id = *drive;
        d->cap = o->alone ? INT64_MAX : 0;
        HASH_ADD(hh, o->drives, id, sizeof d->id, d);
    }
    d->expected++;
}

static void drive_free(struct order *o, struct drive *d)
{
    set_uneasy(o, d, false, 0);
    HASH_DEL(o->drives, d);
    free(d);
}

void order_forget(struct order *o, const struct uuid *drive)
{
    struct drive *d = find(o, drive);
    if (!d || --d->expected)
        return;
    free_all(o, d);
    drive_free(o, d);
}

void order_free(struct order *o)
{
    struct drive *d, *next;
    struct parcel *p, *after;
    if (!o)
        return;
    HASH_ITER(hh, o->drives, d, next) {
        DL_CONCAT(d->held, d->barriers);
        DL_FOREACH_SAFE(d->held, p, after)
            free(p);
        drive_free(o, d);
    }
    free(o);
}

uint64_t order_place(struct order *o, const struct uuid *drive, uint64_t seq, int64_t now)
{
    struct drive *d = find(o, drive);
    if (!d)
        return seq;
    if (!d->placed) {
        d->placed = true;
        d->position = seq;
    }
    hear(d, seq);
    advance(o, d, now);
    return seq > d->position ? seq : d->position;
}

/* ---- what happens ---- */

void order_add(struct order *o, const struct uuid *drive, uint64_t first, uint64_t last, void *parcel, int64_t now)
{
    struct drive *d = find(o, drive);
    if (!d) {
        o->io.release(o->io.ctx, drive, parcel, ORDER_FREE);
        return;
    }
    struct parcel *p = mem_alloc(sizeof *p);
    *p = (struct parcel){.first = first, .last = last, .what = parcel};
    if (first)
        DL_INSERT_INORDER(d->held, p, by_first);
    else
        DL_INSERT_INORDER(d->barriers, p, by_last);
    hear(d, last);
    advance(o, d, now);
    if (nobody_trusts(d, now))
        free_all(o, d);
}

void order_granted(struct order *o, const struct uuid *drive, uint64_t seq, int64_t until, int64_t now)
{
    struct drive *d = find(o, drive);
    if (!d || o->alone)
        return;
    if (d->n_grants == GRANTS) /* the one in the middle of many is missed least */
        d->n_grants--;
    d->grants[d->n_grants++] = (struct grant){seq, until};
    if (d->renewed < until - INTEREST_MS)
        d->renewed = until - INTEREST_MS;
    hear(d, seq);
    advance(o, d, now);
}

/* What is missing up to `upto` is nothing; what is held up to there is told. */
static void pass(struct order *o, struct drive *d, uint64_t upto, int64_t now)
{
    while (d->held && d->held->first <= upto) {
        if (d->position + 1 < d->held->first)
            d->position = d->held->first - 1;
        advance(o, d, now);
    }
    if (d->position < upto)
        d->position = upto;
}

void order_fetched(struct order *o, const struct uuid *drive, uint64_t upto, bool ok, int64_t now)
{
    struct drive *d = find(o, drive);
    if (!d)
        return;
    d->fetching = false;
    if (!ok)
        d->fetch_at = now + ORDER_RETRY_MS;
    else if (d->placed && d->position < upto)
        pass(o, d, upto, now);
    advance(o, d, now);
}

uint64_t order_position(const struct order *o, const struct uuid *drive)
{
    const struct drive *d = find(o, drive);
    return d ? d->position : 0;
}

int64_t order_cap(const struct order *o, const struct uuid *drive)
{
    const struct drive *d = find(o, drive);
    return d ? d->cap : 0;
}

size_t order_due(struct order *o, int64_t now, struct uuid *ret, size_t max)
{
    struct drive *d, *next;
    size_t n = 0;
    if (o->alone)
        return 0;
    HASH_ITER(hh, o->drives, d, next) {
        if (!d->placed || now - d->renewed < INTEREST_RENEW_MS)
            continue;
        if (n == max)
            break;
        d->renewed = now;
        ret[n++] = d->id;
    }
    return n;
}

/* ms until something is to be done about the drive, at most `soonest`. */
static int64_t tick_one(struct order *o, struct drive *d, int64_t now, int64_t soonest)
{
    bool holds = d->held || d->barriers;
    if (holds && nobody_trusts(d, now)) {
        free_all(o, d);
        holds = false;
    }
    if (holds && d->cap - now < soonest)
        soonest = d->cap - now;
    if (d->fetching)
        return soonest;
    int64_t at = d->gap_since + ORDER_GAP_MS;
    if (at < d->fetch_at)
        at = d->fetch_at;
    if (at > now)
        return at - now < soonest ? at - now : soonest;
    d->fetching = true;
    o->io.fetch(o->io.ctx, &d->id, d->position);
    return soonest;
}

int order_tick(struct order *o, int64_t now)
{
    struct drive *d;
    int64_t soonest = INT64_MAX;
    DL_FOREACH(o->uneasy, d)
        soonest = tick_one(o, d, now, soonest);
    return soonest == INT64_MAX ? -1 : soonest > INT32_MAX ? INT32_MAX : (int)soonest;
}
