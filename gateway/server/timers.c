#include "gateway/server/timers.h"
#include "common/mem.h"

#include <stdlib.h>
#include <uthash.h>

struct timer {
    uint64_t id;
    int64_t at_ms;
    void (*fn)(void *);
    void *arg;
    size_t slot; /* where in the heap */
    UT_hash_handle hh;
};

struct timers {
    struct timer **heap;
    size_t n, cap;
    uint64_t last_id;
    struct timer *by_id;
};

struct timers *timers_new(void)
{
    return mem_alloc(sizeof(struct timers));
}

void timers_free(struct timers *t)
{
    if (!t)
        return;
    HASH_CLEAR(hh, t->by_id);
    for (size_t i = 0; i < t->n; i++)
        free(t->heap[i]);
    free(t->heap);
    free(t);
}

/* Ids rise, so timers of the same millisecond run in the order in which they were set. */
static int before(const struct timer *a, const struct timer *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->id < b->id;
}

static void put(struct timers *t, size_t slot, struct timer *e)
{
    t->heap[slot] = e;
    e->slot = slot;
}

static void settle(struct timers *t, size_t slot)
{
    struct timer *e = t->heap[slot];
    while (slot > 0 && before(e, t->heap[(slot - 1) / 2])) {
        put(t, slot, t->heap[(slot - 1) / 2]);
        slot = (slot - 1) / 2;
    }
    for (size_t child; (child = 2 * slot + 1) < t->n; slot = child) {
        if (child + 1 < t->n && before(t->heap[child + 1], t->heap[child]))
            child++;
        if (!before(t->heap[child], e))
            break;
        put(t, slot, t->heap[child]);
    }
    put(t, slot, e);
}

static void drop(struct timers *t, struct timer *e)
{
    size_t slot = e->slot;
    HASH_DEL(t->by_id, e);
    struct timer *last = t->heap[--t->n];
    if (last != e) {
        put(t, slot, last);
        settle(t, slot);
    }
    free(e);
}

uint64_t timers_add(struct timers *t, int64_t at_ms, void (*fn)(void *), void *arg)
{
    struct timer *e = mem_alloc(sizeof *e);
    e->id = ++t->last_id;
    e->at_ms = at_ms;
    e->fn = fn;
    e->arg = arg;
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 64;
        t->heap = mem_realloc(t->heap, t->cap * sizeof *t->heap);
    }
    put(t, t->n++, e);
    settle(t, e->slot);
    HASH_ADD(hh, t->by_id, id, sizeof e->id, e);
    return e->id;
}

void timers_cancel(struct timers *t, uint64_t id)
{
    struct timer *e;
    HASH_FIND(hh, t->by_id, &id, sizeof id, e);
    if (e)
        drop(t, e);
}

void timers_run(struct timers *t, int64_t now_ms)
{
    uint64_t newest = t->last_id;
    while (t->n && t->heap[0]->at_ms <= now_ms && t->heap[0]->id <= newest) {
        struct timer *e = t->heap[0];
        void (*fn)(void *) = e->fn;
        void *arg = e->arg;
        drop(t, e);
        fn(arg);
    }
}

int64_t timers_next(const struct timers *t)
{
    return t->n ? t->heap[0]->at_ms : -1;
}
