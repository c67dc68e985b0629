/* Upload sessions. */
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>

#define KEPT_NS (INT64_C(7) * 24 * 3600 * 1000000000) /* how long one that has ended can still be asked about */

#define UPLOAD_COLUMNS                                                                                                             \
    "id, user, drive, parent, name, path, size, chunk_size, mode, base, sha256, state, answer, device, created, expires, received"

static void get_upload(struct query *q, struct upload_row *ret)
{
    char state[2];
    get_id(q, &ret->id);
    get_id(q, &ret->user);
    get_id(q, &ret->drive);
    ret->parent = get_int(q);
    get_text(q, ret->name, sizeof ret->name);
    ret->path = get_str(q);
    ret->size = get_int(q);
    ret->chunk_size = get_u32(q);
    ret->mode = get_u32(q);
    ret->has_base = !get_is_null(q);
    ret->base = get_int(q);
    get_hash(q, &ret->sha256);
    get_text(q, state, sizeof state);
    ret->state = state[0];
    ret->answer = get_str(q);
    get_text(q, ret->device, sizeof ret->device);
    ret->created = get_int(q);
    ret->expires = get_int(q);
    ret->received = get_int(q);
}

int sqlite_upload_add(struct meta *m, const struct upload_row *u)
{
    WRITER(w, m);
    QUERY(q, w.c,
          "INSERT INTO upload_session (" UPLOAD_COLUMNS ") "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, 0)");
    put_id(&q, &u->id);
    put_id(&q, &u->user);
    put_id(&q, &u->drive);
    put_seq(&q, u->parent);
    put_name(&q, u->name);
    put_text(&q, u->path);
    put_seq(&q, u->size);
    put_int(&q, u->chunk_size);
    put_int(&q, u->mode);
    if (u->has_base)
        put_seq(&q, u->base);
    else
        put_null(&q);
    put_hash_or_null(&q, &u->sha256);
    const char state[2] = {u->state, 0};
    put_text(&q, state);
    put_text(&q, u->answer);
    put_text(&q, u->device);
    put_int(&q, u->created);
    put_int(&q, u->expires);
    int err = query_run(&q);
    query_end(&q);
    return writer_commit(&w, err);
}

int sqlite_upload_get(struct meta *m, const struct uuid *id, struct upload_row *ret)
{
    READER(c, m);
    *ret = (struct upload_row){0};
    QUERY(q, c, "SELECT " UPLOAD_COLUMNS " FROM upload_session WHERE id = ?1");
    put_id(&q, id);
    int err = query_one(&q);
    if (!err)
        get_upload(&q, ret);
    return err;
}

static int update(struct conn *c, const struct upload_row *u)
{
    QUERY(q, c, "UPDATE upload_session SET state = ?2, answer = ?3, expires = ?4 WHERE id = ?1");
    const char state[2] = {u->state, 0};
    put_id(&q, &u->id);
    put_text(&q, state);
    put_text(&q, u->answer);
    put_int(&q, u->expires);
    int err = query_run(&q);
    return err ? err : query_changes(&q) == 0 ? -ENOENT : 0;
}

int sqlite_upload_update(struct meta *m, struct meta_tx *tx, const struct upload_row *u)
{
    if (tx)
        return tx->writing ? update(conn_of(tx), u) : -EINVAL;
    WRITER(w, m);
    return writer_commit(&w, w.err ? w.err : update(w.c, u));
}

/* ---- chunks of a session ---- */

/* 1: it is new. */
static int insert_chunk(struct conn *c, const struct uuid *id, const struct upload_chunk_row *k)
{
    QUERY(q, c, "INSERT OR IGNORE INTO upload_chunk (upload, n, size, sha256, received) VALUES (?1, ?2, ?3, ?4, ?5)");
    put_id(&q, id);
    put_seq(&q, k->n);
    put_int(&q, k->size);
    put_hash(&q, &k->sha256);
    put_int(&q, k->received);
    int err = query_run(&q);
    return err ? err : query_changes(&q);
}

static int replace_chunk(struct conn *c, const struct uuid *id, const struct upload_chunk_row *k)
{
    QUERY(q, c, "UPDATE upload_chunk SET size = ?3, sha256 = ?4, received = ?5 WHERE upload = ?1 AND n = ?2");
    put_id(&q, id);
    put_seq(&q, k->n);
    put_int(&q, k->size);
    put_hash(&q, &k->sha256);
    put_int(&q, k->received);
    return query_run(&q);
}

static int renew(struct conn *c, const struct uuid *id, uint64_t more, int64_t expires, uint64_t *ret_received)
{
    QUERY(q, c, "UPDATE upload_session SET received = received + ?2, expires = ?3 WHERE id = ?1 AND state = 'a' RETURNING received");
    put_id(&q, id);
    put_seq(&q, more);
    put_int(&q, expires);
    int err = query_one(&q);
    if (err)
        return err;
    *ret_received = get_int(&q);
    return query_run(&q);
}

int sqlite_upload_chunks_put(struct meta *m, const struct uuid *id, const struct upload_chunk_row *c, size_t n, int64_t expires,
                             uint64_t *ret_received)
{
    WRITER(w, m);
    uint64_t added = 0;
    int err = w.err;
    for (size_t i = 0; i < n && !err; i++) {
        err = insert_chunk(w.c, id, &c[i]);
        if (err == 0)
            err = replace_chunk(w.c, id, &c[i]);
        else if (err == 1) {
            added++;
            err = 0;
        }
    }
    if (!err)
        err = renew(w.c, id, added, expires, ret_received);
    return writer_commit(&w, err);
}

int sqlite_upload_chunks(struct meta *m, const struct uuid *id, int (*each)(void *ctx, const struct upload_chunk_row *c), void *ctx)
{
    READER(c, m);
    QUERY(q, c, "SELECT n, size, sha256, received FROM upload_chunk WHERE upload = ?1 ORDER BY n");
    put_id(&q, id);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct upload_chunk_row k;
        k.n = get_int(&q);
        k.size = get_u32(&q);
        get_hash(&q, &k.sha256);
        k.received = get_int(&q);
        if ((err = each(ctx, &k)) != 0)
            break;
    }
    return err;
}

/* ---- expiry ---- */

static int run_at(struct conn *c, const char *sql, int64_t at)
{
    CLEANUP(query_end) struct query q = query_begin(c, sql);
    put_int(&q, at);
    return query_run(&q);
}

int sqlite_uploads_expire(struct meta *m, int64_t now, unsigned *ret_count)
{
    WRITER(w, m);
    int err = w.err ? w.err : run_at(w.c, "UPDATE upload_session SET state = 'e' WHERE expires <= ?1 AND state = 'a'", now);
    *ret_count = err ? 0 : (unsigned)sqlite3_changes(w.c->db);
    if (!err)
        err = run_at(w.c, "DELETE FROM upload_chunk WHERE upload IN (SELECT id FROM upload_session WHERE expires <= ?1 AND state <> 'a')", now);
    if (!err)
        err = run_at(w.c, "DELETE FROM upload_session WHERE expires <= ?1", now - KEPT_NS);
    return writer_commit(&w, err);
}
