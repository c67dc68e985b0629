/* Invariants. A stream is *behind* while the newest seq that was pushed to it is above what it acknowledged; a behind stream gets no lease. So a lease that runs was granted
   when its mount owed nothing, and ends within LEASE_MS + LEASE_MARGIN_MS: that bounds every wait (docs/decisions/0005). A waiter is answered when the last of the
   debts that its publication made is paid, by an acknowledgement or by the end of the lease. */
#include "gateway/core/coherence.h"
#include "common/mem.h"

#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#define LATE_MAX 3
#define LATE_WINDOW_MS 60000
#define LEASE_BAN_MS 60000
#define FORGET_MS 1000

struct pending { /* an operation that is not answered yet */
    void *waiter;
    size_t debts;
    struct pending *next; /* among those that are ready */
};

struct debt { /* a stream owes an acknowledgement of seq */
    uint64_t seq;
    struct pending *pending;
    struct debt *next;
};

struct coherence_stream {
    struct drive *drive;
    struct uuid session;
    void *user; /* NULL once it has left: what remains is its lease, and how late it was */
    bool gone;
    uint64_t joined, pushed, acked;
    int64_t lease_until; /* the gateway's end of it, margin included; 0: none */
    bool has_beat;       /* a beat that could not be answered with a lease yet */
    uint64_t beat;
    int64_t beat_at;
    int64_t late[LATE_MAX]; /* when it last was, oldest first; 0: not */
    int64_t banned_until;
    struct debt *first, **last; /* rising seq */
    struct coherence_stream *prev, *next;             /* of the drive */
    struct coherence_stream *owing_prev, *owing_next; /* of all that have debts */
};

struct drive {
    struct uuid id;
    struct coherence_stream *streams;
    int64_t cap;
    UT_hash_handle hh;
};

struct coherence {
    struct coherence_io io;
    struct drive *drives;
    struct coherence_stream *owing;
    size_t streams, gone;
    int64_t forget_at; /* those that are gone and do not matter any more: looked for now and then, among all */
};

struct coherence *coherence_new(const struct coherence_io *io)
{
    struct coherence *c = mem_alloc(sizeof *c);
    c->io = *io;
    return c;
}

size_t coherence_streams(const struct coherence *c)
{
    return c->streams;
}

/* ---- debts ---- */

static void debt_add(struct coherence *c, struct coherence_stream *s, uint64_t seq, struct pending *p)
{
    struct debt *d = mem_alloc(sizeof *d);
    d->seq = seq;
    d->pending = p;
    p->debts++;
    if (!s->first)
        DL_APPEND2(c->owing, s, owing_prev, owing_next);
    *s->last = d;
    s->last = &d->next;
}

/* Debts up to seq are paid; adds to *ready the operations for which it was the last one. */
static void debts_pay(struct coherence *c, struct coherence_stream *s, uint64_t seq, struct pending **ready)
{
    if (!s->first)
        return;
    while (s->first && s->first->seq <= seq) {
        struct debt *d = s->first;
        s->first = d->next;
        if (--d->pending->debts == 0)
            LL_PREPEND(*ready, d->pending);
        free(d);
    }
    if (s->first)
        return;
    s->last = &s->first;
    DL_DELETE2(c->owing, s, owing_prev, owing_next);
}

/* Callbacks come last: they may call back into here. */
static void answer(struct coherence *c, struct pending *ready)
{
    struct pending *p, *next;
    struct pending *in_order = NULL;
    LL_FOREACH_SAFE(ready, p, next)
    {
        LL_PREPEND(in_order, p);
    }
    LL_FOREACH_SAFE(in_order, p, next)
    {
        c->io.answered(c->io.ctx, p->waiter);
        free(p);
    }
}

/* ---- streams ---- */

static struct drive *drive_find(struct coherence *c, const struct uuid *id)
{
    struct drive *d;
    HASH_FIND(hh, c->drives, id, sizeof *id, d);
    return d;
}

static void stream_free(struct coherence *c, struct coherence_stream *s)
{
    struct drive *d = s->drive;
    c->gone -= s->gone;
    DL_DELETE(d->streams, s);
    if (!d->streams) {
        HASH_DEL(c->drives, d);
        free(d);
    }
    free(s);
}

void coherence_free(struct coherence *c)
{
    if (!c)
        return;
    struct drive *d, *next_drive;
    struct pending *ready = NULL;
    HASH_ITER(hh, c->drives, d, next_drive)
    {
        for (struct coherence_stream *s = d->streams, *next; s; s = next) {
            next = s->next;
            debts_pay(c, s, UINT64_MAX, &ready);
            stream_free(c, s); /* the last one takes the drive with it */
        }
    }
    struct pending *p, *next;
    LL_FOREACH_SAFE(ready, p, next)
    {
        free(p);
    }
    free(c);
}

static bool leased(const struct coherence_stream *s, int64_t now)
{
    return s->lease_until > now;
}

/* Until when one that has left still matters. */
static int64_t remembered_until(const struct coherence_stream *s)
{
    int64_t until = s->lease_until, late = s->late[LATE_MAX - 1];
    if (late && late + LATE_WINDOW_MS > until)
        until = late + LATE_WINDOW_MS;
    return s->banned_until > until ? s->banned_until : until;
}

static int64_t no_cap(const struct coherence *c)
{
    return c->io.capped ? 0 : INT64_MAX;
}

struct coherence_stream *coherence_join(struct coherence *c, const struct uuid *drive, const struct uuid *session, uint64_t seq,
                                        void *stream_user)
{
    struct drive *d = drive_find(c, drive);
    if (!d) {
        d = mem_alloc(sizeof *d);
        d->id = *drive;
        d->cap = no_cap(c);
        HASH_ADD(hh, c->drives, id, sizeof d->id, d);
    }
    struct coherence_stream *s = mem_alloc(sizeof *s), *old;
    s->drive = d;
    s->session = *session;
    s->user = stream_user;
    s->joined = s->pushed = s->acked = seq;
    s->last = &s->first;
    bool alone = true; /* but for those that are only remembered: the cap of their time says nothing of now */
    DL_FOREACH(d->streams, old)
    {
        alone &= old->gone;
        if (!uuid_equal(&old->session, session) || old->banned_until < s->banned_until)
            continue;
        s->banned_until = old->banned_until; /* coming again does not make it quicker */
        memcpy(s->late, old->late, sizeof s->late);
    }
    if (alone)
        d->cap = no_cap(c);
    DL_APPEND(d->streams, s);
    c->streams++;
    return s;
}

void coherence_leave(struct coherence *c, struct coherence_stream *s, bool bye, int64_t now_ms)
{
    struct pending *ready = NULL;
    c->streams--;
    c->gone++;
    s->gone = true;
    s->user = NULL;
    s->has_beat = false;
    s->pushed = UINT64_MAX; /* it hears of nothing any more: whatever comes is owed until its lease is out */
    if (bye)
        s->lease_until = 0;
    if (bye || !leased(s, now_ms))
        debts_pay(c, s, UINT64_MAX, &ready);
    if (!s->first && remembered_until(s) <= now_ms)
        stream_free(c, s);
    answer(c, ready);
}

/* ---- leases ---- */

static void grant(struct coherence *c, struct coherence_stream *s, int64_t now)
{
    if (!s->has_beat || s->pushed > s->acked || s->first || s->banned_until > now)
        return;
    int64_t left = s->drive->cap - LEASE_MARGIN_MS - s->beat_at, ms = left < LEASE_MS ? left : LEASE_MS;
    if (ms < LEASE_MIN_MS) /* the beat waits for a higher cap */
        return;
    s->has_beat = false;
    if (s->beat_at + ms <= now) /* it would be out before it arrives */
        return;
    /* The mount counts from when it sent the beat, which was not after beat_at. */
    s->lease_until = s->beat_at + ms + LEASE_MARGIN_MS;
    c->io.send_lease(c->io.ctx, s->user, s->beat, (unsigned)ms);
}

void coherence_cap(struct coherence *c, const struct uuid *drive, int64_t until, int64_t now)
{
    struct drive *d = drive_find(c, drive);
    struct coherence_stream *s;
    if (!d || until <= d->cap)
        return;
    d->cap = until;
    DL_FOREACH(d->streams, s)
        grant(c, s, now);
}

static void acknowledge(struct coherence *c, struct coherence_stream *s, uint64_t seq, struct pending **ready)
{
    struct coherence_stream *other;
    if (seq <= s->acked)
        return;
    s->acked = seq;
    debts_pay(c, s, seq, ready);
    /* What the mount says on its new stream holds for what it still owes from an earlier one. */
    DL_FOREACH(s->drive->streams, other)
    {
        if (other->gone && uuid_equal(&other->session, &s->session))
            debts_pay(c, other, seq, ready);
    }
}

void coherence_ack(struct coherence *c, struct coherence_stream *s, uint64_t seq, int64_t now_ms)
{
    struct pending *ready = NULL;
    acknowledge(c, s, seq, &ready);
    grant(c, s, now_ms);
    answer(c, ready);
}

void coherence_beat(struct coherence *c, struct coherence_stream *s, uint64_t beat, uint64_t seq, int64_t now_ms)
{
    struct pending *ready = NULL;
    acknowledge(c, s, seq, &ready);
    s->has_beat = true;
    s->beat = beat;
    s->beat_at = now_ms;
    grant(c, s, now_ms);
    answer(c, ready);
}

/* ---- operations ---- */

void coherence_publish(struct coherence *c, const struct uuid *drive, const struct uuid *session, uint64_t seq, const char *changes_json,
                       void *waiter, int64_t now_ms)
{
    struct pending *p = mem_alloc(sizeof *p);
    p->waiter = waiter;
    struct drive *d = drive_find(c, drive);
    struct coherence_stream *s;
    DL_FOREACH(d ? d->streams : NULL, s)
    {
        if (seq <= s->joined || uuid_equal(&s->session, session))
            continue;
        uint64_t owed = seq;
        if (changes_json)
            s->pushed = seq > s->pushed ? seq : s->pushed;
        else
            owed = seq < s->pushed ? seq : s->pushed;
        if (leased(s, now_ms) && s->acked < owed)
            debt_add(c, s, owed, p);
    }
    bool waits = p->debts > 0; /* p is not ours any more once an acknowledgement comes */
    if (changes_json && d)
        DL_FOREACH(d->streams, s)
        {
            if (!s->gone && seq > s->joined && !uuid_equal(&s->session, session))
                c->io.send_inval(c->io.ctx, s->user, seq, changes_json);
        }
    if (!waits)
        answer(c, p);
}

static void note_late(struct coherence_stream *s, int64_t now)
{
    for (unsigned i = 1; i < LATE_MAX; i++)
        s->late[i - 1] = s->late[i];
    s->late[LATE_MAX - 1] = now;
    if (s->late[0] && now - s->late[0] < LATE_WINDOW_MS)
        s->banned_until = now + LEASE_BAN_MS;
}

static void forget_the_gone(struct coherence *c, int64_t now)
{
    struct drive *d, *next_drive;
    HASH_ITER(hh, c->drives, d, next_drive)
    {
        for (struct coherence_stream *s = d->streams, *next; s; s = next) {
            next = s->next;
            if (s->gone && !s->first && remembered_until(s) <= now)
                stream_free(c, s); /* next is NULL where it was the last, and the drive is gone then */
        }
    }
}

int coherence_tick(struct coherence *c, int64_t now_ms)
{
    struct coherence_stream *s, *next;
    struct pending *ready = NULL;
    int64_t soonest = INT64_MAX;
    DL_FOREACH_SAFE2(c->owing, s, next, owing_next)
    {
        if (!leased(s, now_ms)) {
            note_late(s, now_ms);
            debts_pay(c, s, UINT64_MAX, &ready);
        } else if (s->lease_until < soonest) {
            soonest = s->lease_until;
        }
    }
    if (c->gone && now_ms >= c->forget_at) {
        c->forget_at = now_ms + FORGET_MS;
        forget_the_gone(c, now_ms);
    }
    answer(c, ready);
    if (!c->owing)
        return -1;
    return soonest == INT64_MAX ? 0 : (int)(soonest - now_ms);
}
