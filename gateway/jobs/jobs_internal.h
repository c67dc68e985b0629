/* Within jobs/. */
#ifndef CAIRN_GATEWAY_JOBS_JOBS_INTERNAL_H
#define CAIRN_GATEWAY_JOBS_JOBS_INTERNAL_H
#include "gateway/jobs/jobs.h"
#include <stdatomic.h>
#include <stdbool.h>

#define PACK_BYTES (8u << 20) /* of one pack at most */
/* Packs what waits in a drive, as long as that is `least` bytes or more. `stop` (may be NULL) ends it between packs. */
int64_t pack_drive(struct meta *meta, struct objects *objects, const struct uuid *drive, uint64_t least, const atomic_bool *stop);
#endif
