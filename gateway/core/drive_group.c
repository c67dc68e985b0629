#include "gateway/core/drive_group.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/core/apply.h"

#include <errno.h>
#include <time.h>

#define LOOK_AHEAD_OPS 256 /* how far rows of later operations are asked for along with those of the one at hand */
#define TRIES 8            /* of a transaction that ends in a serialisation failure */

static void reset(struct drive_work *w)
{
    for (size_t i = 0; i < w->n_ops; i++)
        op_result_fini(&w->results[i]);
    w->error = 0;
    w->first_seq = w->last_seq = 0;
    w->at = 0;
}

/* Rows of what comes from op `at` of work w on are loaded in one go: rounds are then as many as rows point to rows, not as many as there are operations. */
static void look_ahead(struct rows *rows, const struct drive_work *w, size_t at)
{
    unsigned left = LOOK_AHEAD_OPS;
    for (; w && left; w = w->next, at = 0) {
        struct apply_ahead ahead = {0};
        for (; w->error == 0 && at < w->n_ops && left; at++, left--)
            apply_gather(rows, &w->ops[at], &ahead);
    }
}

static int apply_one(struct meta_tx *tx, struct rows *rows, struct drive_work *w, size_t i)
{
    while (apply_op(rows, &w->actor, &w->ops[i], &w->results[i]) == -EAGAIN) {
        if (rows->n_wants == 0) {
            log_error("operation %d wants rows that it did not name", (int)w->ops[i].kind);
            return -EIO;
        }
        look_ahead(rows, w, i);
        int err = tx->meta->ops->load(tx, rows);
        if (err)
            return err;
    }
    return 0;
}

static int apply_work(struct meta_tx *tx, struct rows *rows, struct drive_work *w)
{
    uint64_t before = rows->drive.seq;
    bool stopped = false;
    for (size_t i = 0; i < w->n_ops; i++) {
        if (stopped) {
            w->results[i].error = -ECANCELED;
            continue;
        }
        int err = apply_one(tx, rows, w, i);
        if (err)
            return err;
        stopped = w->results[i].error && !w->go_on;
    }
    w->at = rows->now;
    if (rows->drive.seq != before) {
        w->first_seq = before + 1;
        w->last_seq = rows->drive.seq;
    }
    return 0;
}

/* Everything between begin and commit. *ret_work: whether there is anything to commit. */
static int run_in(struct meta_tx *tx, struct rows *rows, struct drive_work *works, bool *ret_work)
{
    struct drive_work *w;
    *ret_work = false;
    for (w = works; w; w = w->next) {
        w->error = w->prepare ? w->prepare(w, tx) : 0;
        if (w->error == -EAGAIN || w->error == -EHOSTUNREACH || w->error == -ETIMEDOUT)
            return w->error; /* of the store, not of the work */
        if (w->error)
            continue;
        *ret_work = true;
        for (size_t i = 0; i < w->n_chunks; i++)
            rows_chunk_add(rows, &w->chunks[i]);
    }
    if (!*ret_work)
        return 0;
    for (w = works; w; w = w->next) {
        int err = w->error ? 0 : apply_work(tx, rows, w);
        if (err)
            return err;
    }
    int err = tx->meta->ops->store(tx, rows);
    for (w = works; w && !err; w = w->next)
        if (!w->error && w->conclude)
            err = w->conclude(w, tx);
    return err;
}

/* The disk is waited for if any of them wants it. */
static bool all_lazy(const struct drive_work *works)
{
    for (const struct drive_work *w = works; w; w = w->next)
        if (w->error == 0 && !w->lazy)
            return false;
    return true;
}

static void note_others(const struct meta_tx *tx, struct drive_others *ret)
{
    free(ret->rows);
    *ret = (struct drive_others){.n = tx->n_interests, .read_at = clock_boot_ms()};
    if (ret->n)
        ret->rows = mem_dup(tx->interests, ret->n * sizeof *ret->rows);
}

static int try_once(struct meta *meta, struct drive_work *works, struct drive_others *others, bool *ret_begun)
{
    struct meta_tx *tx = NULL;
    for (struct drive_work *w = works; w; w = w->next)
        reset(w);
    int err = meta->ops->begin(meta, &works->drive, &tx);
    *ret_begun = err == 0;
    if (err)
        return err;
    note_others(tx, others);
    struct rows *rows = rows_new(&tx->drive, tx->now);
    bool work;
    err = run_in(tx, rows, works, &work);
    tx->lazy = all_lazy(works);
    if (err || !work)
        meta->ops->rollback(tx);
    else
        err = meta->ops->commit(tx);
    rows_free(rows);
    return err;
}

static int try_group(struct meta *meta, struct drive_work *works, struct drive_others *others, bool *ret_begun)
{
    int err = -EAGAIN;
    for (unsigned i = 0; i < TRIES && err == -EAGAIN; i++) {
        if (i)
            nanosleep(&(struct timespec){.tv_nsec = 1000000L << (i < 6 ? i : 6)}, NULL);
        err = try_once(meta, works, others, ret_begun);
    }
    return err;
}

static void fail(struct drive_work *w, int err)
{
    reset(w);
    w->error = err;
}

static void run(struct meta *meta, struct drive_work *works, struct drive_others *others, void (*each)(void *ctx, struct drive_work *group, const struct drive_others *others),
                void *ctx)
{
    bool begun;
    int err = try_group(meta, works, others, &begun);
    if (err == 0) {
        each(ctx, works, others);
        return;
    }
    /* One work's failure is not the others': but what is wrong with the store or the drive is. */
    bool alone = begun && err != -EHOSTUNREACH && works->next;
    for (struct drive_work *w = works, *next; w; w = next) {
        next = w->next;
        w->next = NULL;
        if (alone)
            err = try_group(meta, w, others, &begun);
        if (err)
            fail(w, err);
        each(ctx, w, others);
    }
}

void drive_group_run(struct meta *meta, struct drive_work *works, void (*each)(void *ctx, struct drive_work *group, const struct drive_others *others), void *ctx)
{
    struct drive_others others = {0};
    run(meta, works, &others, each, ctx);
    free(others.rows);
}
