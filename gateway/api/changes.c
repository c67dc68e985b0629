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
    struct waiter waiter; /* first: what is handed back */
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

enum { NOTHING_YET = 1, GONE };

/* 0: the page is in the call's answer; one of the above, or a negative errno. */
static int look(struct changes_page *p, bool may_wait)
{
    struct meta *meta = app_of(p->call)->meta;
    struct meta_tx *tx;
    int result = meta->ops->snapshot(meta, &p->drive, &tx);
    if (result)
        return result;
    if (!drive_row_follows(&tx->drive, p->since)) /* a cursor from before what is kept, or from a future that a restore took back */
        result = GONE;
    else if (may_wait && p->since == tx->drive.seq)
        result = NOTHING_YET;
    else
        result = read_page(p, tx);
    meta->ops->rollback(tx);
    return result;
}

static void answer(struct changes_page *p, int looked)
{
    struct call *c = p->call;
    if (looked == GONE) {
        call_problem(c, 410, "changes-gone", "changes after %llu are not kept: begin afresh", (unsigned long long)p->since);
    } else if (looked < 0) {
        buf_fini(&c->out);
        call_errno(c, looked, "the changes");
    } else {
        c->status = 200;
    }
}

/* What the first has found out is true for all, but how much of it fits. */
static int look_again(struct changes_page *p, const struct changes_page *first, int looked)
{
    if (looked == 0 && p->limit != first->limit)
        return look(p, false);
    if (looked == 0)
        buf_append(&p->call->out, first->call->out.data, first->call->out.len);
    return looked;
}

static void finish(struct changes_page *p, int looked)
{
    struct call *c = p->call;
    answer(p, looked);
    free(p);
    call_finish(c);
}

static void answer_after_wait(struct waiter *all)
{
    struct changes_page *first = (struct changes_page *)all;
    int looked = look(first, false);
    for (struct waiter *w = all->next, *next; w; w = next) {
        struct changes_page *p = (struct changes_page *)w;
        next = w->next;
        finish(p, look_again(p, first, looked));
    }
    finish(first, looked);
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
    int looked = look(&p, wait > 0);
    if (looked != NOTHING_YET) {
        answer(&p, looked);
        return CALL_DONE;
    }
    struct changes_page *waiting = mem_dup(&p, sizeof p);
    waiting->waiter = (struct waiter){.drive = p.drive, .since = p.since, .fn = answer_after_wait};
    hub_wait(app_of(c)->hub, &waiting->waiter, (unsigned)(wait < WAIT_MAX_S ? wait : WAIT_MAX_S) * 1000);
    return CALL_PENDING;
}

const struct route change_routes[] = {
    {HTTP_GET, "/api/v1/changes", changes_get, 0, 0},
};
const size_t change_routes_n = sizeof change_routes / sizeof *change_routes;
