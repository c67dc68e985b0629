/* The domain: applies one operation to a drive's rows, without I/O.

   Returns 0 when the operation was decided (ret->error says how: 0, or a negative errno with nothing changed), or -EAGAIN when rows are wanted: nothing was
   changed, load and apply again. What a program would get from a local file system decides errors and their order (Linux, ext4). Permissions are checked by
   the client's kernel (default_permissions); roles by the caller. A successful operation takes the drive's next seq, updates attributes (ctime, mtime of
   directories, nlink), keeps history, and appends one change with its touch. */
#ifndef CAIRN_GATEWAY_CORE_APPLY_H
#define CAIRN_GATEWAY_CORE_APPLY_H
#include "common/op.h"
#include "gateway/core/drive_queue.h"
#include "gateway/core/rows.h"

int apply_op(struct rows *r, const struct actor *who, const struct op *op, struct op_result *ret);
/* What is known of the operations in front while rows are asked for ahead; zeroed at the first of a batch. */
struct apply_ahead {
    uint64_t created; /* the inode that the last create will have made */
};
/* Asks for rows that op is likely to want, so that they are loaded along with those of the operations in front of it. Changes nothing. */
void apply_gather(struct rows *r, const struct op *op, struct apply_ahead *ahead);
/* The sibling's name of a conflict, at most 255 bytes: "NAME (conflict, DEVICE, TIME).EXT"; n > 1 appends a counter to TIME. */
void apply_conflict_name(const char *name, const char *device, int64_t at, unsigned n, char ret[NAME_LEN_MAX + 1]);
/* TOUCH of docs/protocol.md for a result; caller owns. */
json_t *apply_touch(const struct op_result *res, const struct uuid *session);
#endif
