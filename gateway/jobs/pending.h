/* What clients bring into the object store themselves (docs/decisions/0021): chunks that nobody has checked yet, and objects that nobody came back for. Any number of processes may do this at once. */
#ifndef CAIRN_GATEWAY_JOBS_PENDING_H
#define CAIRN_GATEWAY_JOBS_PENDING_H
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"
#include <stdatomic.h>

#define PENDING_KEPT_NS (INT64_C(3600) * 1000000000) /* after its URL has ended: longer than anybody may still be bringing it, or reading an object that was replaced */

/* Reads chunks that are unverified and judges them, until there are none, or *stop (may be NULL). Returns how many were judged, or a negative errno. */
int64_t job_verify(struct meta *meta, struct objects *objects, const atomic_bool *stop);
/* Removes objects that were pending at that time for long enough. Returns how many, or a negative errno. */
int64_t job_pending(struct meta *meta, struct objects *objects, int64_t now, const atomic_bool *stop);
#endif
