/* What happened: changes since a seq, the seq of a moment. */
#include "common/clock.h"
#include "gateway/api/fs.h"

#include <errno.h>

#define CHANGES_USUAL 1000
#define CHANGES_MAX 10000

enum call_state fs_moment(struct call *c)
{
    const char *text = call_query(c, "time", NULL);
    int64_t ns;
    if (!text || clock_parse_rfc3339(text, &ns))
        return call_problem(c, 400, "bad-query", "time is missing or not RFC 3339");
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    uint64_t at;
    int err = tx->meta->ops->seq_at(tx, ns, &at);
    if (err)
        return fs_fail(c, err, "the moment");
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    jout_u64(&c->out, "at", at);
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

struct touches {
    struct buf *out;
    unsigned limit, rows;
    uint64_t last;
    bool more;
};

static int put_touch(void *ctx, const struct change_row *row)
{
    struct touches *t = ctx;
    if (t->rows == t->limit) {
        t->more = true;
        return 1;
    }
    if (t->rows++)
        buf_append(t->out, ",", 1);
    t->last = row->seq;
    buf_append_str(t->out, row->touch);
    return 0;
}

enum call_state fs_changes(struct call *c)
{
    uint64_t since, limit = 0;
    if (!fs_query_u64(c, "since", true, &since) || !fs_query_u64(c, "limit", false, &limit))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    /* A cursor from before what is kept, or from a future that a restore took back. */
    if (!drive_row_follows(&tx->drive, since))
        return call_problem(c, 410, "changes-gone", "changes since %llu are not kept", (unsigned long long)since);
    struct touches t = {.out = &c->out, .limit = fs_limit(limit, CHANGES_USUAL, CHANGES_MAX)};
    jout_open(&c->out, NULL, '{');
    jout_open(&c->out, "changes", '[');
    int err = tx->meta->ops->changes(tx, since, t.limit + 1, put_touch, &t);
    if (err < 0)
        return fs_fail(c, err, "changes");
    jout_close(&c->out, ']');
    jout_u64(&c->out, "next", t.more ? t.last : tx->drive.seq);
    jout_bool(&c->out, "more", t.more);
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}
