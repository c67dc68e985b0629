/* The answer to what put a whole content at a name: an upload's completion, a PUT, a restored version. */
#ifndef CAIRN_GATEWAY_API_PUT_RESULT_H
#define CAIRN_GATEWAY_API_PUT_RESULT_H
#include "gateway/api/app.h"

/* {path, version, size, sha256, treeHash, seq, conflict?} of w's only operation, which succeeded; caller owns. Where the content became a
   conflict's sibling, its path is looked up, so it may block. sha256 may be zero. */
json_t *put_result_json(struct app *app, const struct drive_work *w, const char *path, const struct hash *sha256);
/* A failed put or create at `path` as a problem. */
enum call_state put_result_problem(struct call *c, int err, const char *path);
#endif
