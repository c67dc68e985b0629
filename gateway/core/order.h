/* Invalidations of each drive in order of seq, whichever gateway committed them, and how far this gateway's promises may reach.

   Every commit covers the numbers first..last of its drive, and they are dense: what is missing was committed elsewhere and not told yet, and is read from the change rows if it does not
   come soon. A lease may be granted for as long as this gateway's interest row lives, and beyond the row's former end only once everything has been told that was committed before the row
   was renewed (docs/decisions/0017). Pure bookkeeping on one thread (the event loop), without sockets and with a clock that is given to it. */
#ifndef CAIRN_GATEWAY_CORE_ORDER_H
#define CAIRN_GATEWAY_CORE_ORDER_H
#include "common/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INTEREST_MS 3000        /* how long an interest row lives */
#define INTEREST_RENEW_MS 1000  /* how often it is written again */
#define ORDER_GAP_MS 20         /* so long what is missing may still be on its way */
#define ORDER_RETRY_MS 100      /* until rows that could not be read are asked for again */

enum order_how {
    ORDER_TELL,  /* tell the streams, then wait for their acknowledgement */
    ORDER_KNOWN, /* it was told already: only wait for their acknowledgement */
    ORDER_FREE,  /* nobody here holds a lease of this drive: there is nobody to wait for, and it is told later */
};
struct order;
struct order_io { /* none of them calls back into here */
    void (*release)(void *ctx, const struct uuid *drive, void *parcel, enum order_how how); /* once for each parcel */
    void (*fetch)(void *ctx, const struct uuid *drive, uint64_t since);  /* read the change rows after `since`; order_fetched follows */
    void (*cap)(void *ctx, const struct uuid *drive, int64_t until);     /* leases may reach until then; only ever later */
    void *ctx;
};
/* alone: no other gateway has the store; leases need no row, and there is no end to them. */
struct order *order_new(const struct order_io *io, bool alone);
void order_free(struct order *o); /* parcels that are left are not released */

/* Streams of the drive are here, or are about to be: each order_expect wants one order_forget. What comes before order_place is ORDER_FREE. */
void order_expect(struct order *o, const struct uuid *drive);
void order_forget(struct order *o, const struct uuid *drive); /* with the last one, what waits is ORDER_FREE */
/* A stream's place in the drive's queue is behind `seq`. Returns from where on it is told: seq, or later where the others have been told more. The drive is expected. */
uint64_t order_place(struct order *o, const struct uuid *drive, uint64_t seq, int64_t now_ms);
/* The numbers first..last were committed; first 0: nothing to tell, but the parcel waits for all up to last. Of a drive that is not expected it is ORDER_FREE. */
void order_add(struct order *o, const struct uuid *drive, uint64_t first, uint64_t last, void *parcel, int64_t now_ms);
/* This gateway's row was written when the drive was at `seq`, under its lock, and lives at least until `until` by this gateway's clock. */
void order_granted(struct order *o, const struct uuid *drive, uint64_t seq, int64_t until_ms, int64_t now_ms);
/* What was fetched has been added: everything up to `upto` is known now. ok false: it could not be read. */
void order_fetched(struct order *o, const struct uuid *drive, uint64_t upto, bool ok, int64_t now_ms);
uint64_t order_position(const struct order *o, const struct uuid *drive); /* everything up to here has been told; 0: the drive is not known, or not placed */
int64_t order_cap(const struct order *o, const struct uuid *drive); /* 0: none yet */
/* Up to max drives whose row should be written again; each is told once per INTEREST_RENEW_MS. */
size_t order_due(struct order *o, int64_t now_ms, struct uuid *ret, size_t max);
/* Asks for what is missing; frees what waits for nobody any more. Returns when to call it next (ms from now), -1: nothing waits. */
int order_tick(struct order *o, int64_t now_ms);
#endif
