/* The log of a drive: changes, moments, and the batches that were applied. */
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>

#define SECOND INT64_C(1000000000)
#define TRIM_AT_ONCE 5000 /* rows: a writer waits no longer for housekeeping */

#define CHANGE_COLUMNS "seq, kind, ino, parent, name, from_parent, from_name, version, user, device, at, touch"

static int each_change(struct query *q, int (*each)(void *ctx, const struct change_row *c), void *ctx)
{
    int err;
    while ((err = query_step(q)) == 1) {
        CLEANUP(change_row_fini) struct change_row c = {0};
        char kind[2];
        c.seq = get_int(q);
        get_text(q, kind, sizeof kind);
        c.kind = kind[0];
        c.ino = get_int(q);
        c.parent = get_int(q);
        get_text(q, c.name, sizeof c.name);
        c.from_parent = get_int(q);
        get_text(q, c.from_name, sizeof c.from_name);
        c.version = get_int(q);
        get_id(q, &c.user);
        get_text(q, c.device, sizeof c.device);
        c.at = get_int(q);
        c.touch = get_str(q);
        if ((err = each(ctx, &c)) != 0)
            break;
    }
    return err;
}

int sqlite_changes(struct meta_tx *tx, uint64_t since, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx)
{
    QUERY(q, conn_of(tx), "SELECT " CHANGE_COLUMNS " FROM change WHERE drive = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3");
    put_id(&q, &tx->drive.id);
    put_seq(&q, since);
    put_int(&q, limit);
    return each_change(&q, each, ctx);
}

int sqlite_deletions(struct meta_tx *tx, uint64_t before, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx)
{
    QUERY(q, conn_of(tx),
          "SELECT " CHANGE_COLUMNS " FROM change WHERE drive = ?1 AND kind = 'd' AND seq < ?2 ORDER BY seq DESC LIMIT ?3");
    put_id(&q, &tx->drive.id);
    put_seq(&q, before);
    put_int(&q, limit);
    return each_change(&q, each, ctx);
}

int sqlite_seq_at(struct meta_tx *tx, int64_t at_ns, uint64_t *ret)
{
    int64_t second = at_ns / SECOND;
    if (second >= tx->drive.last_time / SECOND) {
        *ret = tx->drive.seq;
        return 0;
    }
    QUERY(q, conn_of(tx), "SELECT seq FROM moment WHERE drive = ?1 AND second <= ?2 ORDER BY second DESC LIMIT 1");
    put_id(&q, &tx->drive.id);
    put_int(&q, second);
    int err = query_one(&q);
    *ret = err ? 0 : get_int(&q);
    return err == -ENOENT ? 0 : err;
}

/* ---- trimming ---- */

/* The first seq that is to stay. -ENOENT: none is. */
static int first_kept(struct conn *c, const struct uuid *drive, int64_t before_ns, uint64_t keep_max, uint64_t *ret)
{
    if (keep_max > 0) {
        QUERY(newest, c, "SELECT seq FROM change WHERE drive = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2");
        put_id(&newest, drive);
        put_seq(&newest, keep_max - 1);
        int err = query_one(&newest);
        *ret = err ? 0 : get_int(&newest); /* there are fewer: all stay */
        return err == -ENOENT ? 0 : err;
    }
    QUERY(q, c, "SELECT seq FROM change WHERE drive = ?1 AND at >= ?2 ORDER BY seq LIMIT 1"); /* from the oldest on */
    put_id(&q, drive);
    put_int(&q, before_ns);
    int err = query_one(&q);
    if (!err)
        *ret = get_int(&q);
    return err;
}

/* The last of the oldest TRIM_AT_ONCE changes below `kept`. -ENOENT: there are none. */
static int trim_upto(struct conn *c, const struct uuid *drive, uint64_t kept, uint64_t *ret)
{
    QUERY(q, c, "SELECT max(seq) FROM (SELECT seq FROM change WHERE drive = ?1 AND seq < ?2 ORDER BY seq LIMIT ?3)");
    put_id(&q, drive);
    put_seq(&q, kept);
    put_int(&q, TRIM_AT_ONCE);
    int err = query_one(&q);
    if (err || get_is_null(&q))
        return err ? err : -ENOENT;
    *ret = get_int(&q);
    return 0;
}

/* 1: some went, there may be more. */
static int trim_some(struct sqlite_meta *m, const struct uuid *drive, uint64_t kept)
{
    WRITER(w, &m->base);
    uint64_t upto;
    int err = w.err ? w.err : trim_upto(w.c, drive, kept, &upto);
    if (err == -ENOENT)
        return writer_commit(&w, 0);
    if (err)
        return writer_commit(&w, err);
    QUERY(gone, w.c, "DELETE FROM change WHERE drive = ?1 AND seq <= ?2");
    put_id(&gone, drive);
    put_seq(&gone, upto);
    err = query_run(&gone);
    query_end(&gone);
    QUERY(moved, w.c, "UPDATE drive SET oldest_change = max(oldest_change, ?2) WHERE id = ?1");
    put_id(&moved, drive);
    put_seq(&moved, upto);
    if (!err)
        err = query_run(&moved);
    query_end(&moved);
    err = writer_commit(&w, err);
    return err ? err : 1;
}

int sqlite_changes_trim(struct meta *m, const struct uuid *drive, int64_t before_ns, uint64_t keep_max)
{
    uint64_t kept = 0;
    int err;
    {
        READER(c, m);
        err = first_kept(c, drive, before_ns, keep_max, &kept);
        struct drive_row d;
        if (err == -ENOENT) { /* all that there are now; not those that come meanwhile */
            err = sqlite_drive(c, drive, &d);
            kept = err ? 0 : d.seq + 1;
        }
    }
    if (err)
        return err;
    int n;
    while ((n = trim_some(sqlite_of(m), drive, kept)) == 1)
        ;
    return n;
}

/* ---- batches ---- */

int sqlite_applied_get(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, struct hash *ret_digest, struct buf *ret_answer)
{
    QUERY(q, conn_of(tx), "SELECT digest, answer FROM applied WHERE drive = ?1 AND journal = ?2 AND batch = ?3");
    put_id(&q, &tx->drive.id);
    put_id(&q, journal);
    put_seq(&q, batch);
    int err = query_one(&q);
    if (err)
        return err;
    size_t len;
    get_hash(&q, ret_digest);
    const void *p = get_blob(&q, &len);
    buf_append(ret_answer, p, len);
    return 0;
}

int sqlite_applied_last(struct meta_tx *tx, const struct uuid *journal, uint64_t *ret)
{
    QUERY(q, conn_of(tx), "SELECT batch FROM applied WHERE drive = ?1 AND journal = ?2 ORDER BY batch DESC LIMIT 1");
    put_id(&q, &tx->drive.id);
    put_id(&q, journal);
    int err = query_one(&q);
    *ret = err ? 0 : get_int(&q);
    return err == -ENOENT ? 0 : err;
}

int sqlite_applied_put(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, const struct hash *digest, const void *answer,
                       size_t len)
{
    QUERY(q, conn_of(tx), "INSERT INTO applied (drive, journal, batch, digest, answer) VALUES (?1, ?2, ?3, ?4, ?5)");
    put_id(&q, &tx->drive.id);
    put_id(&q, journal);
    put_seq(&q, batch);
    put_hash(&q, digest);
    put_blob(&q, answer, len);
    return query_run(&q);
}

int sqlite_applied_confirm(struct meta_tx *tx, const struct uuid *journal, uint64_t upto)
{
    QUERY(q, conn_of(tx),
          "DELETE FROM applied WHERE drive = ?1 AND journal = ?2 AND batch <= ?3 "
          "AND batch < (SELECT max(batch) FROM applied WHERE drive = ?1 AND journal = ?2)");
    put_id(&q, &tx->drive.id);
    put_id(&q, journal);
    put_seq(&q, upto);
    return query_run(&q);
}
