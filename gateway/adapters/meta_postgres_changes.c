/* The log of a drive: changes, moments, and the batches that were applied. */
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>

#define SECOND INT64_C(1000000000)
#define TRIM_AT_ONCE 5000 /* rows: a writer waits no longer for housekeeping */

#define CHANGE_COLUMNS "seq, kind, ino, parent, name, from_parent, from_name, version, user_id, device, at, touch"

static int each_change(struct pg_query *q, int (*each)(void *ctx, const struct change_row *c), void *ctx)
{
    int err;
    while ((err = pg_step(q)) == 1) {
        CLEANUP(change_row_fini) struct change_row c = {0};
        char kind[2];
        c.seq = pg_int(q);
        pg_text(q, kind, sizeof kind);
        c.kind = kind[0];
        c.ino = pg_int(q);
        c.parent = pg_int(q);
        pg_text(q, c.name, sizeof c.name);
        c.from_parent = pg_int(q);
        pg_text(q, c.from_name, sizeof c.from_name);
        c.version = pg_int(q);
        pg_id(q, &c.user);
        pg_text(q, c.device, sizeof c.device);
        c.at = pg_int(q);
        c.touch = pg_str(q);
        if ((err = each(ctx, &c)) != 0)
            break;
    }
    return err;
}

int postgres_changes(struct meta_tx *tx, uint64_t since, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT " CHANGE_COLUMNS " FROM change WHERE drive = $1 AND seq > $2 ORDER BY seq LIMIT $3");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, since);
    pg_put_int(&q, limit);
    return each_change(&q, each, ctx);
}

int postgres_deletions(struct meta_tx *tx, uint64_t before, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT " CHANGE_COLUMNS " FROM change WHERE drive = $1 AND kind = 'd' AND seq < $2 ORDER BY seq DESC LIMIT $3");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, before);
    pg_put_int(&q, limit);
    return each_change(&q, each, ctx);
}

int postgres_seq_at(struct meta_tx *tx, int64_t at_ns, uint64_t *ret)
{
    int64_t second = at_ns / SECOND;
    if (second >= tx->drive.last_time / SECOND) {
        *ret = tx->drive.seq;
        return 0;
    }
    PG_QUERY(q, pg_conn_of(tx), "SELECT seq FROM moment WHERE drive = $1 AND second <= $2 ORDER BY second DESC LIMIT 1");
    pg_put_id(&q, &tx->drive.id);
    pg_put_int(&q, second);
    int err = pg_one(&q);
    *ret = err ? 0 : pg_int(&q);
    return err == -ENOENT ? 0 : err;
}

/* ---- trimming ---- */

/* The first seq that is to stay; where none is, all that there are now go, and not those that come meanwhile. */
static int first_kept(struct meta *m, const struct uuid *drive, int64_t before_ns, uint64_t keep_max, uint64_t *ret)
{
    PG_HERE(c, m, drive);
    PG_QUERY(newest, c, "SELECT seq FROM change WHERE drive = $1 ORDER BY seq DESC LIMIT 1 OFFSET $2");
    PG_QUERY(young, c,
             "SELECT coalesce((SELECT seq FROM change WHERE drive = $1 AND at >= $2 ORDER BY seq LIMIT 1), d.seq + 1) FROM drive d WHERE d.id = $1"); /* from the oldest on */
    struct pg_query *q = keep_max > 0 ? &newest : &young;
    pg_put_id(q, drive);
    if (keep_max > 0)
        pg_put_seq(q, keep_max - 1);
    else
        pg_put_int(q, before_ns);
    int err = pg_one(q);
    *ret = err ? 0 : pg_int(q);
    return err == -ENOENT && keep_max > 0 ? 0 : err; /* there are fewer: all stay */
}

/* Some of the oldest below `kept`. 1: some went, there may be more. */
static int trim_some(struct meta *m, const struct uuid *drive, uint64_t kept)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "WITH upto AS (SELECT max(seq) AS seq FROM (SELECT seq FROM change WHERE drive = $1 AND seq < $2 ORDER BY seq LIMIT $3) oldest), "
             "gone AS (DELETE FROM change c USING upto u WHERE c.drive = $1 AND c.seq <= u.seq) "
             "UPDATE drive d SET oldest_change = greatest(d.oldest_change, u.seq) FROM upto u WHERE d.id = $1 AND u.seq IS NOT NULL");
    pg_put_id(&q, drive);
    pg_put_seq(&q, kept);
    pg_put_int(&q, TRIM_AT_ONCE);
    int err = pg_run(&q);
    return err ? err : pg_changes(&q) > 0;
}

int postgres_changes_trim(struct meta *m, const struct uuid *drive, int64_t before_ns, uint64_t keep_max)
{
    uint64_t kept = 0;
    int n = first_kept(m, drive, before_ns, keep_max, &kept);
    if (n)
        return n;
    while ((n = trim_some(m, drive, kept)) == 1)
        ;
    return n;
}

/* ---- batches ---- */

int postgres_applied_get(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, struct hash *ret_digest, struct buf *ret_answer)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT digest, answer FROM applied WHERE drive = $1 AND journal = $2 AND batch = $3");
    pg_put_id(&q, &tx->drive.id);
    pg_put_id(&q, journal);
    pg_put_seq(&q, batch);
    int err = pg_one(&q);
    if (err)
        return err;
    size_t len;
    pg_hash(&q, ret_digest);
    const void *p = pg_blob(&q, &len);
    buf_append(ret_answer, p, len);
    return 0;
}

int postgres_applied_last(struct meta_tx *tx, const struct uuid *journal, uint64_t *ret)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT batch FROM applied WHERE drive = $1 AND journal = $2 ORDER BY batch DESC LIMIT 1");
    pg_put_id(&q, &tx->drive.id);
    pg_put_id(&q, journal);
    int err = pg_one(&q);
    *ret = err ? 0 : pg_int(&q);
    return err == -ENOENT ? 0 : err;
}

int postgres_applied_put(struct meta_tx *tx, const struct uuid *journal, uint64_t batch, const struct hash *digest, const void *answer,
                         size_t len)
{
    PG_QUERY(q, pg_conn_of(tx), "INSERT INTO applied (drive, journal, batch, digest, answer) VALUES ($1, $2, $3, $4, $5)");
    pg_put_id(&q, &tx->drive.id);
    pg_put_id(&q, journal);
    pg_put_seq(&q, batch);
    pg_put_hash(&q, digest);
    pg_put_blob(&q, answer, len);
    pg_later(&q);
    return pg_conn_of(tx)->failed;
}

int postgres_applied_confirm(struct meta_tx *tx, const struct uuid *journal, uint64_t upto)
{
    PG_QUERY(q, pg_conn_of(tx),
             "DELETE FROM applied WHERE drive = $1 AND journal = $2 AND batch <= $3 "
             "AND batch < (SELECT max(batch) FROM applied WHERE drive = $1 AND journal = $2)");
    pg_put_id(&q, &tx->drive.id);
    pg_put_id(&q, journal);
    pg_put_seq(&q, upto);
    pg_later(&q);
    return pg_conn_of(tx)->failed;
}
