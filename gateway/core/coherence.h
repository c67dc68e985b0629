/* Acknowledged invalidation under cache leases: who must hear of an operation before it is answered.

   Pure bookkeeping on one thread (the event loop): it has no sockets and no clock of its own, so that it is unit-tested
   with made-up time. Rules: docs/protocol.md "Stream"; why: docs/architecture.md. */
#ifndef CAIRN_GATEWAY_CORE_COHERENCE_H
#define CAIRN_GATEWAY_CORE_COHERENCE_H
#include "common/uuid.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_MS 1800
#define LEASE_MARGIN_MS 100
#define HEARTBEAT_MS 500
#define LEASE_MIN_MS 500 /* a shorter one is of no use to a mount */

struct coherence;
struct coherence_stream; /* one mount's stream */
struct coherence_io {    /* how it speaks; send_* do not call back into here */
    void (*send_inval)(void *ctx, void *stream_user, uint64_t seq, const char *changes_json);
    void (*send_lease)(void *ctx, void *stream_user, uint64_t beat, unsigned ms);
    void (*answered)(void *ctx, void *waiter); /* the operation `waiter` may be answered */
    void *ctx;
    bool capped; /* leases end with their drive's cap (coherence_cap), which is 0 at first; else there is none */
};
struct coherence *coherence_new(const struct coherence_io *io);
void coherence_free(struct coherence *c); /* waiters that are left are not answered */
/* From the drive's queue position `seq` on, the stream hears everything. It has no lease yet. */
struct coherence_stream *coherence_join(struct coherence *c, const struct uuid *drive, const struct uuid *session,
                                        uint64_t seq, void *stream_user);
void coherence_leave(struct coherence *c, struct coherence_stream *s, bool bye, int64_t now_ms); /* not bye: its lease is waited out */
void coherence_ack(struct coherence *c, struct coherence_stream *s, uint64_t seq, int64_t now_ms);
void coherence_beat(struct coherence *c, struct coherence_stream *s, uint64_t beat, uint64_t seq, int64_t now_ms);
/* No lease of the drive ends later than `until`; only ever raised. Forgotten with the drive's last stream: to be said again for the next. */
void coherence_cap(struct coherence *c, const struct uuid *drive, int64_t until_ms, int64_t now_ms);
/* Operations of `session` up to seq are committed: tell the others. `waiter` is answered now or later. changes_json NULL: nothing is told (a repeated
   batch), `waiter` only waits for what was told up to seq. Of one drive, seq seldom falls from call to call: what is behind a higher one is answered with that. */
void coherence_publish(struct coherence *c, const struct uuid *drive, const struct uuid *session, uint64_t seq,
                       const char *changes_json, void *waiter, int64_t now_ms);
/* Answers what waited for leases that are out. Returns when to call it next (ms from now), -1: nothing waits. */
int coherence_tick(struct coherence *c, int64_t now_ms);
/* Figures for metrics. */
size_t coherence_streams(const struct coherence *c);
#endif
