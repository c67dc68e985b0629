/* Objects that clients bring into the store, and chunks that nobody has checked yet. */
#include "gateway/adapters/meta_sqlite.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>

static void get_pending(struct query *q, struct pending_row *ret)
{
    *ret = (struct pending_row){0};
    get_id(q, &ret->drive);
    get_text(q, ret->chunk.pack, sizeof ret->chunk.pack);
    get_hash(q, &ret->chunk.hash);
    ret->chunk.size = get_u32(q);
    ret->chunk.stored_size = get_u32(q);
    ret->chunk.codec = (enum codec)get_int(q);
    get_id(q, &ret->user);
    ret->expires = get_int(q);
}

static int each_pending(struct query *q, int (*each)(void *ctx, const struct pending_row *p), void *ctx)
{
    int err;
    while ((err = query_step(q)) == 1) {
        struct pending_row p;
        get_pending(q, &p);
        if ((err = each(ctx, &p)) != 0)
            break;
    }
    return err;
}

static int put_pending(struct conn *c, const struct pending_row *p)
{
    QUERY(q, c, "INSERT INTO pending_pack (" PENDING_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    put_id(&q, &p->drive);
    put_text(&q, p->chunk.pack);
    put_hash(&q, &p->chunk.hash);
    put_int(&q, p->chunk.size);
    put_int(&q, p->chunk.stored_size);
    put_int(&q, p->chunk.codec);
    put_id(&q, &p->user);
    put_int(&q, p->expires);
    return query_run(&q);
}

int sqlite_pendings_add(struct meta *m, const struct pending_row *p, size_t n)
{
    WRITER(w, m);
    int err = w.err;
    for (size_t i = 0; i < n && !err; i++)
        err = put_pending(w.c, &p[i]);
    return writer_commit(&w, err);
}

int sqlite_pendings(struct meta *m, const struct uuid *drive, const char *prefix, int (*each)(void *ctx, const struct pending_row *p), void *ctx)
{
    READER(c, m);
    CLEANUP_FREE char *end = mem_printf("%s\x7f", prefix); /* beyond whatever a key may go on with */
    QUERY(q, c, "SELECT " PENDING_COLUMNS " FROM pending_pack WHERE drive = ?1 AND pack >= ?2 AND pack < ?3 ORDER BY pack");
    put_id(&q, drive);
    put_text(&q, prefix);
    put_text(&q, end);
    return each_pending(&q, each, ctx);
}

int sqlite_pendings_each(struct meta_tx *tx, int (*each)(void *ctx, const struct pending_row *p), void *ctx)
{
    QUERY(q, conn_of(tx), "SELECT " PENDING_COLUMNS " FROM pending_pack WHERE drive = ?1 ORDER BY pack");
    put_id(&q, &tx->drive.id);
    return each_pending(&q, each, ctx);
}

static int is_pending(struct conn *c, const struct pending_row *p, int64_t now)
{
    QUERY(q, c, "SELECT 1 FROM pending_pack WHERE drive = ?1 AND pack = ?2 AND hash = ?3 AND expires >= ?4");
    put_id(&q, &p->drive);
    put_text(&q, p->chunk.pack);
    put_hash(&q, &p->chunk.hash);
    put_int(&q, now);
    return query_one(&q);
}

static int forget(struct conn *c, const struct pending_row *p)
{
    QUERY(q, c, "DELETE FROM pending_pack WHERE drive = ?1 AND pack = ?2");
    put_id(&q, &p->drive);
    put_text(&q, p->chunk.pack);
    return query_run(&q);
}

static int settle(struct conn *c, const struct pending_row *p, int64_t now)
{
    bool there = false;
    int err = is_pending(c, p, now);
    if (!err)
        err = sqlite_chunk_add(c, &p->drive, &p->chunk, now, &there);
    return err || there ? err : forget(c, p);
}

int sqlite_pendings_settle(struct meta *m, const struct pending_row *p, size_t n, int64_t now, int *ret)
{
    WRITER(w, m);
    int err = w.err;
    for (size_t i = 0; i < n && !err; i++) {
        ret[i] = settle(w.c, &p[i], now);
        err = ret[i] == -ENOENT || ret[i] == -EBUSY ? 0 : ret[i];
    }
    return writer_commit(&w, err);
}

int sqlite_pendings_over(struct meta *m, int64_t before, unsigned limit, struct pending_row *ret, unsigned *ret_n)
{
    READER(c, m);
    QUERY(q, c, "SELECT " PENDING_COLUMNS " FROM pending_pack WHERE expires < ?1 ORDER BY expires LIMIT ?2");
    put_int(&q, before);
    put_int(&q, limit);
    int err;
    *ret_n = 0;
    while ((err = query_step(&q)) == 1)
        get_pending(&q, &ret[(*ret_n)++]);
    return err;
}

int sqlite_pendings_forget(struct meta *m, const struct pending_row *p, size_t n)
{
    WRITER(w, m);
    int err = w.err;
    for (size_t i = 0; i < n && !err; i++)
        err = forget(w.c, &p[i]);
    return writer_commit(&w, err);
}

/* ---- chunks that nobody has checked ---- */

int sqlite_chunks_unverified(struct meta *m, unsigned limit, int (*each)(void *ctx, const struct uuid *drive, const struct chunk_row *c), void *ctx)
{
    READER(c, m);
    QUERY(q, c,
          "SELECT drive, hash, size, stored_size, codec, pack, place, unverified_by FROM chunk WHERE unverified_by IS NOT NULL AND damaged = 0 "
          "ORDER BY drive, hash LIMIT ?1");
    put_int(&q, limit);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct uuid drive;
        struct chunk_row k = {0};
        get_id(&q, &drive);
        get_hash(&q, &k.hash);
        k.size = get_u32(&q);
        k.stored_size = get_u32(&q);
        k.codec = (enum codec)get_int(&q);
        get_text(&q, k.pack, sizeof k.pack);
        k.offset = get_int(&q);
        get_id(&q, &k.unverified_by);
        if ((err = each(ctx, &drive, &k)) != 0)
            break;
    }
    return err;
}

int sqlite_chunk_judge(struct meta *m, const struct uuid *drive, const struct chunk_row *k, bool right)
{
    WRITER(w, m);
    int err = w.err;
    if (!err) {
        QUERY(q, w.c,
              "UPDATE chunk SET unverified_by = CASE ?4 WHEN 1 THEN NULL ELSE unverified_by END, damaged = 1 - ?4 "
              "WHERE drive = ?1 AND hash = ?2 AND pack = ?3 AND unverified_by IS NOT NULL");
        put_id(&q, drive);
        put_hash(&q, &k->hash);
        put_text(&q, k->pack);
        put_int(&q, right);
        err = query_run(&q);
    }
    return writer_commit(&w, err);
}
