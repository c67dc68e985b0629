/* The outbox: which changes are still to be published. */
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>

struct claim {
    int64_t now, again;
    unsigned limit, n;
    struct outbox_row *rows;
};

static int claim_in(struct meta *m, size_t shard, void *ctx)
{
    struct claim *k = ctx;
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c,
             "WITH due AS (SELECT drive, first, due FROM outbox o WHERE due <= $1 AND " PG_ALIVE("o") " ORDER BY due, drive, first LIMIT $3 FOR UPDATE SKIP LOCKED), "
             "taken AS (UPDATE outbox o SET due = $2 FROM due d WHERE o.drive = d.drive AND o.first = d.first RETURNING o.drive, o.first, o.last, d.due) "
             "SELECT drive, first, last FROM taken ORDER BY due, drive, first");
    pg_put_int(&q, k->now);
    pg_put_int(&q, k->again);
    pg_put_int(&q, k->limit - k->n);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct outbox_row *r = &k->rows[k->n++];
        pg_id(&q, &r->drive);
        r->first = pg_int(&q);
        r->last = pg_int(&q);
    }
    return err ? err : k->n == k->limit;
}

int postgres_outbox_claim(struct meta *m, int64_t now, int64_t again, unsigned limit, struct outbox_row *ret, unsigned *ret_n)
{
    struct claim k = {now, again, limit, 0, ret};
    int err = postgres_each_shard(m, claim_in, &k);
    *ret_n = k.n;
    return k.n ? 0 : err; /* those that were taken are to be published, whatever another shard says */
}

static const struct uuid *outbox_drive(const void *list, size_t i)
{
    return &((const struct outbox_row *)list)[i].drive;
}

static int remove_from(struct pg_conn *c, const void *list, const size_t *which, size_t n)
{
    const struct outbox_row *rows = list;
    PG_QUERY(q, c,
             "DELETE FROM outbox o USING unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS w(drive, first, last) "
             "WHERE o.drive = w.drive AND o.first BETWEEN w.first AND w.last AND o.last <= w.last");
    PG_COLUMN(&q, PG_ID, n, pg_add_id(&q, &rows[which[i]].drive));
    PG_INTS(&q, n, rows[which[i]].first);
    PG_INTS(&q, n, rows[which[i]].last);
    return pg_run(&q);
}

int postgres_outbox_remove(struct meta *m, const struct outbox_row *rows, size_t n)
{
    return postgres_by_shard(m, outbox_drive, rows, n, remove_from);
}
