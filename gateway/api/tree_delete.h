/* Deleting a directory with all that is in it. */
#ifndef CAIRN_GATEWAY_API_TREE_DELETE_H
#define CAIRN_GATEWAY_API_TREE_DELETE_H
#include "gateway/api/app.h"

/* Bottom-up, in transactions of some hundred operations: what is deleted when it fails stays deleted. What others put in meanwhile is deleted as
   well, a few times over; -ENOTEMPTY where they keep doing so. Blocks. */
int tree_delete(struct call *c, const struct uuid *drive, const struct entry_row *top);
#endif
