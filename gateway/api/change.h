/* Operations that an HTTP request makes on a drive. */
#ifndef CAIRN_GATEWAY_API_CHANGE_H
#define CAIRN_GATEWAY_API_CHANGE_H
#include "gateway/api/app.h"

/* One work of the drive's queue that ends in the answer of a call. The thread that submits it does not wait. */
struct change {
    struct call *call;
    struct drive_work work;   /* drive, actor, ops and results are set by change_new */
    size_t room_chunks;       /* of work.chunks */
    /* Fills the answer, on a worker: the work was applied (each result may still be an error), or its prepare answered 1. */
    void (*answer)(struct change *ch);
    void (*failed)(struct change *ch); /* the same where work.error is an errno; NULL: call_errno */
    void (*free_ctx)(void *ctx);
    void *ctx;
};
struct change *change_new(struct call *c, const struct uuid *drive, size_t n_ops);
void change_free(struct change *ch); /* one that was not submitted */
/* Adds a row to the work's chunks; takes its bytes. */
void change_add_chunk(struct change *ch, const struct chunk_row *row);
enum call_state change_submit(struct change *ch); /* CALL_PENDING; ch is freed after its answer */

/* Applies ops, stopping at the first that fails, and waits; its error, or that of the whole. Blocks. */
int change_run(struct call *c, const struct uuid *drive, struct op *ops, size_t n);
void change_ops_clear(struct op *ops, size_t n); /* op_fini of each */
void change_ops_free(struct op *ops, size_t n);
#endif
