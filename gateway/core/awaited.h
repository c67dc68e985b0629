/* Which other gateways an operation waits for, and until when: each has acknowledged, has said that it ends, or its interest row is out.

   Pure bookkeeping on one thread (the event loop), with a clock that is given to it. */
#ifndef CAIRN_GATEWAY_CORE_AWAITED_H
#define CAIRN_GATEWAY_CORE_AWAITED_H
#include "common/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct awaited;
struct awaited_io { /* none of them calls back into here */
    void (*settled)(void *ctx, const struct uuid *gateway, void *waiter, bool in_time); /* the waiter need not wait for this gateway any longer; in_time false: its row is out */
    void (*drop)(void *ctx, void *message);                 /* a message is not needed any more */
    void *ctx;
};
struct awaited *awaited_new(const struct awaited_io *io);
void awaited_free(struct awaited *w); /* messages are dropped, waiters are not told */
/* `waiter` waits for `gateway` to acknowledge `message`, which says `id`, at most until until_ms. The message is what it was, or will be, told; it is kept meanwhile, to be told again
   over a new connection. An id is given once. false: that gateway has ended, nothing was kept. */
bool awaited_add(struct awaited *w, const struct uuid *gateway, uint64_t id, int64_t until_ms, void *waiter, void *message, int64_t now_ms);
void awaited_ack(struct awaited *w, const struct uuid *gateway, uint64_t id);
void awaited_ended(struct awaited *w, const struct uuid *gateway, int64_t now_ms);                       /* its last word: nobody trusts it, now or later */
/* What the gateway has not acknowledged, in the order in which it was added. */
void awaited_each(struct awaited *w, const struct uuid *gateway, void (*each)(void *ctx, void *message), void *ctx);
/* Settles what waited for rows that are out. Returns when to call it next (ms from now), -1: nothing waits. */
int awaited_tick(struct awaited *w, int64_t now_ms);
size_t awaited_count(const struct awaited *w);
bool awaited_owes(const struct awaited *w, const struct uuid *gateway); /* somebody waits for it */
#endif
