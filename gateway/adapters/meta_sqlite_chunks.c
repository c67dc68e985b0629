/* Where the bytes of chunks are. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>

/* A chunk that is added again is claimed anew, but not more often than this: collection counts in days. */
#define CLAIM_NS (INT64_C(3600) * 1000000000)

#define CHUNK_COLUMNS "c.hash, c.size, c.stored_size, c.codec, c.pack, c.place, b.bytes"
#define CHUNK_TABLES "chunk c LEFT JOIN chunk_bytes b ON c.pack IS NULL AND b.id = c.place"

static int get_chunk(struct query *q, struct chunk_row *ret)
{
    get_hash(q, &ret->hash);
    ret->size = get_u32(q);
    ret->stored_size = get_u32(q);
    ret->codec = (enum codec)get_int(q);
    bool packed = !get_is_null(q);
    get_text(q, ret->pack, sizeof ret->pack);
    ret->offset = get_int(q);
    if (packed)
        return 0;
    ret->offset = 0;
    size_t len;
    const void *p = get_blob(q, &len);
    if (len != ret->stored_size)
        return -EIO;
    ret->bytes = mem_dup(p, len);
    return 0;
}

int sqlite_chunk_get(struct meta *m, const struct uuid *drive, const struct hash *h, struct chunk_row *ret)
{
    READER(c, m);
    *ret = (struct chunk_row){0};
    QUERY(q, c, "SELECT " CHUNK_COLUMNS " FROM " CHUNK_TABLES " WHERE c.drive = ?1 AND c.hash = ?2");
    put_id(&q, drive);
    put_hash(&q, h);
    int err = query_one(&q);
    return err ? err : get_chunk(&q, ret);
}

int sqlite_chunks_find(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, struct chunk_row *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT size, stored_size, codec, pack, place, unverified_by, damaged FROM chunk WHERE drive = ?1 AND hash = ?2");
    for (size_t i = 0; i < n; i++) {
        ret[i] = (struct chunk_row){.hash = h[i]};
        put_id(&q, drive);
        put_hash(&q, &h[i]);
        int found = query_step(&q);
        if (found < 0)
            return found;
        if (found) {
            ret[i].size = get_u32(&q);
            ret[i].stored_size = get_u32(&q);
            ret[i].codec = (enum codec)get_int(&q);
            get_text(&q, ret[i].pack, sizeof ret[i].pack);
            uint64_t place = get_int(&q);
            ret[i].offset = ret[i].pack[0] ? place : 0;
            get_id(&q, &ret[i].unverified_by);
            ret[i].damaged = get_bool(&q);
        }
        query_again(&q);
    }
    return 0;
}

int sqlite_chunks_known(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, bool *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT 1 FROM chunk WHERE drive = ?1 AND hash = ?2 AND unverified_by IS NULL");
    for (size_t i = 0; i < n; i++) {
        put_id(&q, drive);
        put_hash(&q, &h[i]);
        int found = query_step(&q);
        if (found < 0)
            return found;
        ret[i] = found == 1;
        query_again(&q);
    }
    return 0;
}

/* ---- adding ---- */

enum presence { ABSENT, PRESENT, UNVERIFIED };

/* Whether it is there; one that is and was checked is claimed. */
static int claim(struct conn *c, const struct uuid *drive, const struct hash *h, int64_t now, enum presence *ret)
{
    QUERY(q, c, "SELECT unverified_by IS NOT NULL, claimed FROM chunk WHERE drive = ?1 AND hash = ?2");
    put_id(&q, drive);
    put_hash(&q, h);
    int found = query_step(&q);
    *ret = found != 1 ? ABSENT : get_bool(&q) ? UNVERIFIED : PRESENT;
    if (*ret != PRESENT || get_int(&q) > now - CLAIM_NS)
        return found < 0 ? found : 0;
    query_end(&q);
    QUERY(renew, c, "UPDATE chunk SET claimed = ?3 WHERE drive = ?1 AND hash = ?2");
    put_id(&renew, drive);
    put_hash(&renew, h);
    put_int(&renew, now);
    return query_run(&renew);
}

static int add_bytes(struct conn *c, const struct uuid *drive, const struct chunk_row *k, int64_t *ret_place)
{
    QUERY(q, c, "INSERT INTO chunk_bytes (drive, hash, bytes) VALUES (?1, ?2, ?3)");
    put_id(&q, drive);
    put_hash(&q, &k->hash);
    put_blob(&q, k->bytes, k->stored_size);
    int err = query_run(&q);
    if (!err)
        *ret_place = sqlite3_last_insert_rowid(c->db);
    return err;
}

/* The object of an unverified chunk whose row is about to name another place. */
static int discard(struct conn *c, const struct uuid *drive, const struct hash *h, int64_t now)
{
    QUERY(q, c,
          "INSERT OR REPLACE INTO pending_pack (" PENDING_COLUMNS ") SELECT drive, pack, hash, size, stored_size, codec, unverified_by, ?3 FROM chunk "
          "WHERE drive = ?1 AND hash = ?2 AND pack IS NOT NULL");
    put_id(&q, drive);
    put_hash(&q, h);
    put_int(&q, now);
    return query_run(&q);
}

static int write_row(struct conn *c, const struct uuid *drive, const struct chunk_row *k, int64_t place, int64_t now)
{
    QUERY(q, c,
          "INSERT OR REPLACE INTO chunk (drive, hash, size, stored_size, codec, pack, place, claimed, unverified_by) "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)");
    put_id(&q, drive);
    put_hash(&q, &k->hash);
    put_int(&q, k->size);
    put_int(&q, k->stored_size);
    put_int(&q, k->codec);
    put_text(&q, k->pack[0] ? k->pack : NULL);
    put_int(&q, place);
    put_int(&q, now);
    if (uuid_is_zero(&k->unverified_by))
        put_null(&q);
    else
        put_id(&q, &k->unverified_by);
    return query_run(&q);
}

int sqlite_chunk_add(struct conn *c, const struct uuid *drive, const struct chunk_row *k, int64_t now, bool *ret_there)
{
    enum presence there;
    int err = claim(c, drive, &k->hash, now, &there);
    *ret_there = !err && there == PRESENT;
    if (err || *ret_there)
        return err;
    if (there == UNVERIFIED)
        err = uuid_is_zero(&k->unverified_by) ? discard(c, drive, &k->hash, now) : -EBUSY;
    bool packed = k->pack[0] != 0;
    if (!err && !packed && !k->bytes && k->stored_size)
        err = -EINVAL;
    int64_t place = (int64_t)k->offset;
    if (!err && !packed)
        err = add_bytes(c, drive, k, &place);
    return err ? err : write_row(c, drive, k, place, now);
}

int sqlite_chunks_add(struct conn *c, const struct uuid *drive, const struct chunk_row *chunks, size_t n, int64_t now)
{
    int err = 0;
    bool there;
    for (size_t i = 0; i < n && !err; i++)
        err = sqlite_chunk_add(c, drive, &chunks[i], now, &there);
    return err;
}

int sqlite_meta_chunks_add(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n)
{
    WRITER(w, m);
    return writer_commit(&w, sqlite_chunks_add(w.c, drive, c, n, clock_wall_ns()));
}

/* ---- packing ---- */

int sqlite_chunks_inline(struct meta *m, const struct uuid *drive, uint64_t limit, int (*each)(void *ctx, const struct chunk_row *c),
                         void *ctx)
{
    READER(c, m);
    QUERY(q, c,
          "SELECT " CHUNK_COLUMNS " FROM chunk_bytes b CROSS JOIN chunk c ON c.drive = ?1 AND c.hash = b.hash AND c.pack IS NULL "
          "WHERE b.drive = ?1 ORDER BY b.id");
    put_id(&q, drive);
    uint64_t sum = 0;
    int err = 0;
    while (sum < limit && (err = query_step(&q)) == 1) {
        CLEANUP(chunk_row_fini) struct chunk_row k = {0};
        err = get_chunk(&q, &k);
        sum += k.stored_size;
        if (!err && sum <= limit)
            err = each(ctx, &k);
        if (err)
            return err;
    }
    return err;
}

/* All that have any: one gateway has few drives. */
int sqlite_inline_drives(struct meta *m, int64_t since, int (*each)(void *ctx, const struct uuid *drive), void *ctx)
{
    (void)since;
    READER(c, m);
    QUERY(q, c, "SELECT id FROM drive d WHERE EXISTS (SELECT 1 FROM chunk_bytes b WHERE b.drive = d.id)");
    int err;
    while ((err = query_step(&q)) == 1) {
        struct uuid id;
        get_id(&q, &id);
        if ((err = each(ctx, &id)) != 0)
            break;
    }
    return err;
}

static int forget_bytes(struct conn *c, const struct uuid *drive, const struct hash *h)
{
    QUERY(q, c,
          "DELETE FROM chunk_bytes WHERE id = (SELECT place FROM chunk WHERE drive = ?1 AND hash = ?2 AND pack IS NULL)");
    put_id(&q, drive);
    put_hash(&q, h);
    return query_run(&q);
}

static int move(struct conn *c, const struct uuid *drive, const struct chunk_row *k)
{
    int err = k->pack[0] ? forget_bytes(c, drive, &k->hash) : -EINVAL;
    if (err)
        return err;
    QUERY(q, c, "UPDATE chunk SET stored_size = ?3, codec = ?4, pack = ?5, place = ?6 WHERE drive = ?1 AND hash = ?2 AND pack IS NULL");
    put_id(&q, drive);
    put_hash(&q, &k->hash);
    put_int(&q, k->stored_size);
    put_int(&q, k->codec);
    put_text(&q, k->pack);
    put_seq(&q, k->offset);
    return query_run(&q);
}

int sqlite_chunks_moved(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n)
{
    WRITER(w, m);
    int err = w.err;
    for (size_t i = 0; i < n && !err; i++)
        err = move(w.c, drive, &c[i]);
    return writer_commit(&w, err);
}
