/* The work that goes on by itself: expiry of upload sessions, gathering small chunks into packs, trimming the change log, checking what clients brought into the object store
   themselves and removing what they left there. In an embedded gateway one thread of
   its own runs them. */
#ifndef CAIRN_GATEWAY_JOBS_JOBS_H
#define CAIRN_GATEWAY_JOBS_JOBS_H
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"

struct jobs;
struct jobs *jobs_start(struct meta *meta, struct objects *objects);
void jobs_stop(struct jobs *j); /* ends the one that runs, joins */
/* One round of one job, for tests and `admin`: packs what waits in one drive; returns how many chunks moved, or a negative errno. */
int64_t job_pack(struct meta *meta, struct objects *objects, const struct uuid *drive);
#endif
