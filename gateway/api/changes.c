/* GET /changes: what came after a seq, at once or as soon as there is something. */
#include "common/mem.h"
#include "gateway/api/change_rows.h"
#include "gateway/api/json_out.h"
#include "gateway/api/place.h"

#include <errno.h>

#define LIMIT_USUAL 1000
#define LIMIT_MAX 10000
#define WAIT_MAX_S 60

struct changes_page {
    struct call *call;
    struct uuid drive;
    uint64_t since;
    unsigned limit;
    /* while it is read */
    struct change_rows rows;
    unsigned n; /* rows read, those that are told or not */
    bool more;
    uint64_t last;
    int err;
};

static int put_change(void *ctx, const struct change_row *c)
{
    struct changes_page *p = ctx;
    if (p->n == p->limit) {
        p->more = true;
        return 1;
    }
    p->n++;
    p->last = c->seq;
    int err = change_rows_put(&p->rows, c, &p->call->out);
    p->err = err < 0 ? err : 0;
    return p->err;
}

static int read_page(struct changes_page *p, struct meta_tx *tx)
{
    struct buf *b = &p->call->out;
    p->rows = (struct change_rows){.app = app_of(p->call), .tx = tx};
    p->n = 0;
    p->more = false;
    jout_open(b, NULL, '{');
    jout_open(b, "changes", '[');
    int err = tx->meta->ops->changes(tx, p->since, p->limit + 1, put_change, p);
    change_rows_fini(&p->rows);
    jout_close(b, ']');
    jout_u64(b, "next", p->more ? p->last : tx->drive.seq);
    jout_bool(b, "more", p->more);
    jout_close(b, '}');
    return p->err ? p->err : err < 0 ? err : 0;
}

/* Fills the answer; false: there is nothing yet, and wait is allowed. */
static bool answer(struct changes_page *p, bool may_wait)
{
    struct call *c = p->call;
    struct meta *meta = app_of(c)->meta;
    struct meta_tx *tx;
    int err = meta->ops->snapshot(meta, &p->drive, &tx);
    if (err) {
        call_errno(c, err, "the drive");
        return true;
    }
    bool empty = p->since == tx->drive.seq;
    /* a cursor from before what is kept, or from a future that a restore took back */
    bool gone = !drive_row_follows(&tx->drive, p->since);
    if (!gone && !(empty && may_wait))
        err = read_page(p, tx);
    meta->ops->rollback(tx);
    if (gone) {
        call_problem(c, 410, "changes-gone", "changes after %llu are not kept: begin afresh", (unsigned long long)p->since);
    } else if (err) {
        buf_fini(&c->out);
        call_errno(c, err, "the changes");
    } else if (empty && may_wait) {
        return false;
    } else {
        c->status = 200;
    }
    return true;
}

static void answer_after_wait(void *arg)
{
    struct changes_page *p = arg;
    struct call *c = p->call;
    answer(p, false);
    free(p);
    call_finish(c);
}

static enum call_state changes_get(struct call *c)
{
    struct changes_page p = {.call = c};
    struct drive_row drive;
    uint64_t wait = 0;
    if (!place_query_limit(c, LIMIT_USUAL, LIMIT_MAX, &p.limit))
        return CALL_DONE;
    if (place_query_u64(c, "since", &p.since) == -EINVAL || place_query_u64(c, "wait", &wait) == -EINVAL)
        return call_problem(c, 400, "bad-query", "since is a seq, wait a number of seconds");
    if (!access_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, &drive))
        return CALL_DONE;
    p.drive = drive.id;
    if (answer(&p, wait > 0))
        return CALL_DONE;
    struct changes_page *waiting = mem_alloc(sizeof *waiting);
    *waiting = p;
    hub_wait(app_of(c)->hub, &p.drive, p.since, (unsigned)(wait < WAIT_MAX_S ? wait : WAIT_MAX_S) * 1000, answer_after_wait, waiting);
    return CALL_PENDING;
}

const struct route change_routes[] = {
    {HTTP_GET, "/api/v1/changes", changes_get, 0, 0},
};
const size_t change_routes_n = sizeof change_routes / sizeof *change_routes;
