/* The serial log of each drive. Work for a drive waits in its queue; one worker at a time takes all that waits, and
   commits it as one transaction: begin (row lock) → prepare each → apply each operation in memory → store →
   conclude each → commit → publish → done. If the group fails, each work is tried again alone. */
#ifndef CAIRN_GATEWAY_CORE_DRIVE_QUEUE_H
#define CAIRN_GATEWAY_CORE_DRIVE_QUEUE_H
#include "gateway/ports/meta.h"

struct actor { /* who does it */
    struct uuid user;
    char user_name[65];
    char device[129];
    struct uuid session; /* the mount's session, zero for HTTP clients */
    struct uuid journal; /* zero for HTTP clients */
    uint32_t pid;
};

struct drive_work {
    /* set by the submitter; must live until done is called */
    struct uuid drive;
    struct actor actor;
    struct op *ops;
    size_t n_ops;
    struct chunk_row *chunks; /* small content that came with the batch, added in the same transaction */
    size_t n_chunks;
    struct op_result *results; /* n_ops, zeroed */
    bool go_on;                /* a failed op does not stop those after it */
    bool lazy;                 /* done may be called before the disk has it (meta_tx.lazy) */
    /* Optional, on the queue's worker inside the transaction. prepare: non-zero skips ops and conclude, and becomes
       `error` (1: already answered, no error). conclude: after the ops were applied and stored; an error rolls back.
       Either may run more than once if the transaction is tried again. */
    int (*prepare)(struct drive_work *w, struct meta_tx *tx);
    int (*conclude)(struct drive_work *w, struct meta_tx *tx);
    /* Called once, on a worker thread, after commit and after every other mount has acknowledged (or its lease is
       out). `error` is 0, 1, or a negative errno with which nothing of this work was applied. */
    void (*done)(struct drive_work *w);
    bool done_anywhere; /* done takes no time, and may be called on any thread: set by drive_queues_run, whose caller keeps a worker waiting */
    void *ctx;
    /* results */
    int error;
    uint64_t first_seq, last_seq; /* 0 where nothing was applied */
    int64_t at;                   /* the time of the transaction */
    /* private */
    struct drive_work *next;
};

/* The gateways that have an interest in the drive, as their rows were under its lock. */
struct drive_others {
    struct interest_row *rows;
    size_t n;
    int64_t read_at; /* boot ms, when they had been read */
};
/* Told after each commit, on the queue's worker, before done: once per group, works linked by `next`, n of them.
   It calls drive_work_finish for each work, now or later, from any thread. `others` is borrowed. */
struct drive_listener {
    void (*committed)(struct drive_listener *l, const struct uuid *drive, struct drive_work *works, const struct drive_others *others);
};
void drive_work_finish(struct drive_work *w); /* calls w->done */
/* The last seq that a group of works gave, and the first in *ret_first; 0 and 0 where none changed anything. */
uint64_t drive_works_range(const struct drive_work *works, uint64_t *ret_first);

struct drive_queues;
/* run: how a queue gets a thread (runs fn(arg) on a worker soon). listener may be NULL: done follows at once. */
struct drive_queues *drive_queues_new(struct meta *meta, void (*run)(void *pool, void (*fn)(void *), void *arg),
                                      void *pool, struct drive_listener *listener);
void drive_queues_submit(struct drive_queues *q, struct drive_work *w);
/* As submit, by a worker that may block: it runs the queue itself where nobody else does or was asked to, which saves handing the work to
   another thread. `done` may have been called when it returns. */
void drive_queues_submit_here(struct drive_queues *q, struct drive_work *w);
/* Waits for done; for callers that may block (jobs, HTTP handlers on a worker). Sets w->done and ctx itself.
   Deadlocks if called from `done`. */
int drive_queues_run(struct drive_queues *q, struct drive_work *w);
void drive_queues_drain(struct drive_queues *q); /* returns when no queue has work */
void drive_queues_close(struct drive_queues *q); /* drive_queues_run refuses from now on: -EHOSTUNREACH. What takes many of them ends soon */
void drive_queues_free(struct drive_queues *q);
#endif
