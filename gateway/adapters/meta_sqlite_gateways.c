/* What gateways that share the store know of each other: interests, who lives, and whose mounts are whose. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>

#define MS INT64_C(1000000) /* in ns */
#define GATEWAY_FORGET_NS (INT64_C(3600) * 1000000000)

/* ---- interests ---- */

int sqlite_interests(struct conn *c, struct meta_tx *tx)
{
    QUERY(q, c, "SELECT gateway, url, until FROM interest WHERE drive = ?1 AND until > ?2");
    put_id(&q, &tx->drive.id);
    put_int(&q, clock_wall_ns() - INTEREST_FORGET_NS);
    int err;
    while ((err = query_step(&q)) == 1) {
        tx->interests = mem_realloc(tx->interests, (tx->n_interests + 1) * sizeof *tx->interests);
        struct interest_row *r = &tx->interests[tx->n_interests++];
        get_id(&q, &r->gateway);
        get_text(&q, r->url, sizeof r->url);
        r->until = get_int(&q);
    }
    return err;
}

static int shunned(struct conn *c, const struct uuid *gateway)
{
    QUERY(q, c, "SELECT 1 FROM gateway WHERE id = ?1 AND shunned > ?2");
    put_id(&q, gateway);
    put_int(&q, clock_wall_ns());
    int err = query_one(&q);
    return err == 0 ? -EACCES : err == -ENOENT ? 0 : err;
}

static int put(struct conn *c, const struct uuid *drive, const struct uuid *gateway, const char *url, unsigned ms)
{
    QUERY(q, c, "INSERT INTO interest (drive, gateway, url, until) VALUES (?1, ?2, ?3, ?4) "
                "ON CONFLICT DO UPDATE SET url = excluded.url, until = max(excluded.until, until + 1)");
    put_id(&q, drive);
    put_id(&q, gateway);
    put_text(&q, url);
    put_int(&q, clock_wall_ns() + ms * MS);
    return query_run(&q);
}

int sqlite_interest_put(struct meta_tx *tx, const struct uuid *gateway, const char *url, unsigned ms)
{
    int err = shunned(conn_of(tx), gateway);
    return err ? err : put(conn_of(tx), &tx->drive.id, gateway, url, ms);
}

int sqlite_interests_renew(struct meta *m, const struct uuid *gateway, const char *url, unsigned ms, const struct uuid *drives, size_t n, uint64_t *ret_seqs)
{
    WRITER(w, m);
    int err = w.err;
    bool refused = !err && shunned(w.c, gateway) != 0;
    for (size_t i = 0; i < n && !err; i++) {
        struct drive_row d;
        ret_seqs[i] = UINT64_MAX;
        int missing = refused ? -EACCES : sqlite_drive(w.c, &drives[i], &d);
        if (missing)
            continue;
        ret_seqs[i] = d.seq;
        err = put(w.c, &drives[i], gateway, url, ms);
    }
    return writer_commit(&w, err);
}

int sqlite_interest_drop(struct meta *m, const struct uuid *drive, const struct uuid *gateway, int64_t until)
{
    WRITER(w, m);
    QUERY(q, w.c, "DELETE FROM interest WHERE drive = ?1 AND gateway = ?2 AND until = ?3");
    put_id(&q, drive);
    put_id(&q, gateway);
    put_int(&q, until);
    return writer_commit(&w, w.err ? w.err : query_run(&q));
}

int sqlite_interests_drop_all(struct meta *m, const struct uuid *gateway)
{
    WRITER(w, m);
    QUERY(q, w.c, "DELETE FROM interest WHERE gateway = ?1");
    put_id(&q, gateway);
    return writer_commit(&w, w.err ? w.err : query_run(&q));
}

/* ---- gateways ---- */

int sqlite_gateway_heard(struct meta *m, const struct uuid *gateway)
{
    WRITER(w, m);
    QUERY(q, w.c, "INSERT INTO gateway (id, heard) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET heard = excluded.heard");
    put_id(&q, gateway);
    put_int(&q, clock_wall_ns());
    return writer_commit(&w, w.err ? w.err : query_run(&q));
}

int sqlite_gateway_shun(struct meta *m, const struct uuid *gateway, unsigned ms)
{
    WRITER(w, m);
    QUERY(q, w.c, "INSERT INTO gateway (id, heard, shunned) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET shunned = excluded.shunned");
    put_id(&q, gateway);
    put_int(&q, clock_wall_ns());
    put_int(&q, clock_wall_ns() + ms * MS);
    return writer_commit(&w, w.err ? w.err : query_run(&q));
}

int sqlite_gateways_tidy(struct meta *m)
{
    int64_t now = clock_wall_ns();
    WRITER(w, m);
    QUERY(q, w.c, "DELETE FROM interest WHERE until < ?1");
    put_int(&q, now - INTEREST_FORGET_NS);
    int err = w.err ? w.err : query_run(&q);
    QUERY(g, w.c, "DELETE FROM gateway WHERE heard < ?1 AND shunned < ?2 AND NOT EXISTS (SELECT 1 FROM mount WHERE gateway = id)");
    put_int(&g, now - GATEWAY_FORGET_NS);
    put_int(&g, now);
    return writer_commit(&w, err ? err : query_run(&g));
}

/* ---- mounts ---- */

/* Columns: drive, session, user, gateway, heard. */
static void get_mount(struct query *q, int64_t now, struct mount_row *ret)
{
    get_id(q, &ret->drive);
    get_id(q, &ret->session);
    get_id(q, &ret->user);
    get_id(q, &ret->gateway);
    ret->silent = get_is_null(q) ? INT64_MAX : now - get_int(q);
}

int sqlite_mount_get(struct meta *m, const struct uuid *drive, const struct uuid *session, struct mount_row *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT drive, session, user, gateway, heard FROM mount LEFT JOIN gateway ON id = gateway WHERE drive = ?1 AND session = ?2");
    put_id(&q, drive);
    put_id(&q, session);
    int err = query_one(&q);
    if (!err)
        get_mount(&q, clock_wall_ns(), ret);
    return err;
}

int sqlite_mount_put(struct meta *m, const struct mount_row *r)
{
    WRITER(w, m);
    QUERY(g, w.c, "INSERT OR IGNORE INTO gateway (id, heard) VALUES (?1, ?2)");
    put_id(&g, &r->gateway);
    put_int(&g, clock_wall_ns());
    int err = w.err || uuid_is_zero(&r->gateway) ? w.err : query_run(&g);
    QUERY(q, w.c, "INSERT INTO mount (drive, session, user, gateway) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET user = excluded.user, gateway = excluded.gateway");
    put_id(&q, &r->drive);
    put_id(&q, &r->session);
    put_id(&q, &r->user);
    put_id(&q, &r->gateway);
    return writer_commit(&w, err ? err : query_run(&q));
}

int sqlite_mount_drop(struct meta *m, const struct uuid *drive, const struct uuid *session)
{
    WRITER(w, m);
    QUERY(q, w.c, "DELETE FROM mount WHERE drive = ?1 AND session = ?2");
    put_id(&q, drive);
    put_id(&q, session);
    int err = w.err ? w.err : query_run(&q);
    if (!err && query_changes(&q) == 0)
        err = -ENOENT;
    return writer_commit(&w, err);
}

int sqlite_mounts_orphaned(struct meta *m, unsigned ms, unsigned limit, int (*each)(void *ctx, const struct mount_row *r), void *ctx)
{
    int64_t now = clock_wall_ns();
    READER(c, m);
    QUERY(q, c, "SELECT drive, session, user, gateway, heard FROM mount LEFT JOIN gateway ON id = gateway WHERE heard IS NULL OR heard < ?1 LIMIT ?2");
    put_int(&q, now - ms * MS);
    put_int(&q, limit);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct mount_row r;
        get_mount(&q, now, &r);
        if ((err = each(ctx, &r)) != 0)
            break;
    }
    return err;
}
