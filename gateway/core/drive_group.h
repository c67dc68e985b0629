/* One transaction for a group of works of one drive. Private to drive_queue.c and its tests. */
#ifndef CAIRN_GATEWAY_CORE_DRIVE_GROUP_H
#define CAIRN_GATEWAY_CORE_DRIVE_GROUP_H
#include "gateway/core/drive_queue.h"

/* Runs the works (linked by next, all of one drive) as one transaction; if that fails, each alone. Returns the list's works in their order, each decided (error, results)
   and committed, in groups: each is called after a commit with the works of that transaction, and with those that failed one by one (error < 0). */
void drive_group_run(struct meta *meta, struct drive_work *works, void (*each)(void *ctx, struct drive_work *group, const struct drive_others *others), void *ctx);
#endif
