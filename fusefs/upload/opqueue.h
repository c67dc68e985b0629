/* The mount's one queue of operations. Callers add groups of operations; all that wait go into one numbered batch, which is sent until the gateway has
   answered; results go back to their callers. A group is sent whole and in order; when an operation of one group fails, the groups behind it in the batch are
   sent again in the next. Never behind a chunk upload. A caller sends itself when nothing is in flight; one batch is in flight at a time.
   (Directory leases will answer some callers before their operations are sent: groups already carry what that needs.) */
#ifndef CAIRN_FUSEFS_UPLOAD_OPQUEUE_H
#define CAIRN_FUSEFS_UPLOAD_OPQUEUE_H
#include "fusefs/remote/remote.h"

struct opqueue;
/* timeout_ms: how long a caller waits for a gateway that is away. last_batch: the journal's highest number, as far as is known; the gateway corrects it.
   The remote has been mounted, and outlives the queue. */
struct opqueue *opqueue_new(struct remote *r, unsigned timeout_ms, uint64_t last_batch);
/* Sends ops (and the contents they name), waits for the answer. Takes over nothing; results are filled (0 or errno per op). Returns 0 when the batch was
   answered (look at results), -EIO when it gave up: the group was cancelled; or it was in flight, is sent until there is an answer, and on_result tells whether
   it happened. */
int opqueue_run(struct opqueue *q, const struct op *ops, size_t n, const struct remote_inline *contents, size_t n_contents,
                struct op_result *results);
/* Returns when everything that was answered before is on the gateway's disk: batches of names and attributes alone are answered before. 0 or -EIO. */
int opqueue_sync(struct opqueue *q);
/* Called for each result, in order of seq, by one thread at a time (any), before the caller is woken: the replica learns first; also of a group whose
   caller had given up. Set before the first run; must not run operations itself. */
void opqueue_on_result(struct opqueue *q, void (*fn)(void *ctx, const struct op *op, const struct op_result *res), void *ctx);
size_t opqueue_pending(struct opqueue *q);
void opqueue_free(struct opqueue *q); /* sends what waits (bounded), joins */
#endif
