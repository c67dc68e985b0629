/* The answer to what put a whole content at a name: an upload's completion, a PUT, a restored version. */
#ifndef CAIRN_GATEWAY_API_PUT_RESULT_H
#define CAIRN_GATEWAY_API_PUT_RESULT_H
#include "gateway/api/app.h"

/* {path, version, size, sha256, treeHash, seq, conflict?} of w's only operation, which succeeded; caller owns. Paths are looked up within tx. sha256
   may be zero. (Both writers of a conflict are told by the hub.) */
int put_result_json(struct meta_tx *tx, const struct drive_work *w, const struct hash *sha256, json_t **ret);
/* A failed put or create at `path` as a problem. */
enum call_state put_result_problem(struct call *c, int err, const char *path);
#endif
