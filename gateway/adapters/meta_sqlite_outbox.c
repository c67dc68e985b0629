/* The outbox: which changes are still to be published. */
#include "gateway/adapters/meta_sqlite.h"
#include "common/mem.h"

#include <errno.h>

int sqlite_outbox_put(struct conn *c, const struct meta_tx *tx, const struct outbox_row *row)
{
    QUERY(q, c, "INSERT INTO outbox (drive, first, last, due) VALUES (?1, ?2, ?3, ?4)");
    put_id(&q, &row->drive);
    put_seq(&q, row->first);
    put_seq(&q, row->last);
    put_int(&q, tx->now + OUTBOX_GRACE_NS);
    return query_run(&q);
}

static int find_due(struct conn *c, int64_t now, unsigned limit, struct outbox_row *ret, unsigned *ret_n)
{
    QUERY(q, c, "SELECT drive, first, last FROM outbox WHERE due <= ?1 ORDER BY due, drive, first LIMIT ?2");
    put_int(&q, now);
    put_int(&q, limit);
    int err;
    *ret_n = 0;
    while ((err = query_step(&q)) == 1) {
        struct outbox_row *r = &ret[(*ret_n)++];
        get_id(&q, &r->drive);
        r->first = get_int(&q);
        r->last = get_int(&q);
    }
    return err;
}

static int postpone(struct conn *c, const struct outbox_row *r, int64_t again)
{
    QUERY(q, c, "UPDATE outbox SET due = ?3 WHERE drive = ?1 AND first = ?2");
    put_id(&q, &r->drive);
    put_seq(&q, r->first);
    put_int(&q, again);
    return query_run(&q);
}

/* Whether there is any, without waiting for the writer: mostly there is none. */
static int any_due(struct meta *m, int64_t now)
{
    READER(c, m);
    QUERY(q, c, "SELECT 1 FROM outbox WHERE due <= ?1 LIMIT 1");
    put_int(&q, now);
    return query_one(&q);
}

int sqlite_outbox_claim(struct meta *m, int64_t now, int64_t again, unsigned limit, struct outbox_row *ret, unsigned *ret_n)
{
    *ret_n = 0;
    int err = any_due(m, now);
    if (err)
        return err == -ENOENT ? 0 : err;
    WRITER(w, m);
    err = w.err ? w.err : find_due(w.c, now, limit, ret, ret_n);
    for (unsigned i = 0; i < *ret_n && !err; i++)
        err = postpone(w.c, &ret[i], again);
    err = writer_commit(&w, err);
    if (err)
        *ret_n = 0;
    return err;
}

int sqlite_outbox_remove(struct meta *m, const struct outbox_row *rows, size_t n)
{
    WRITER(w, m);
    int err = w.err;
    for (size_t i = 0; i < n && !err; i++) {
        QUERY(q, w.c, "DELETE FROM outbox WHERE drive = ?1 AND first BETWEEN ?2 AND ?3 AND last <= ?3");
        put_id(&q, &rows[i].drive);
        put_seq(&q, rows[i].first);
        put_seq(&q, rows[i].last);
        err = query_run(&q);
    }
    return writer_commit(&w, err);
}
