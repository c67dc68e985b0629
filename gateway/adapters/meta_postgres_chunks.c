/* Where the bytes of chunks are. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>

/* A chunk that is added again is claimed anew, but not more often than this: collection counts in days. */
#define CLAIM_NS (INT64_C(3600) * 1000000000)
#define PAGE 256

#define CHUNK_COLUMNS "c.hash, c.size, c.stored_size, c.codec, c.pack, c.place, b.bytes"

static int get_chunk(struct pg_query *q, struct chunk_row *ret)
{
    pg_hash(q, &ret->hash);
    ret->size = pg_u32(q);
    ret->stored_size = pg_u32(q);
    ret->codec = (enum codec)pg_int(q);
    bool packed = !pg_is_null(q);
    pg_text(q, ret->pack, sizeof ret->pack);
    ret->offset = pg_int(q);
    if (packed)
        return 0;
    ret->offset = 0;
    size_t len;
    const void *p = pg_blob(q, &len);
    if (len != ret->stored_size)
        return -EIO;
    ret->bytes = mem_dup(p, len);
    return 0;
}

int postgres_chunk_get(struct meta *m, const struct uuid *drive, const struct hash *h, struct chunk_row *ret)
{
    *ret = (struct chunk_row){0};
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "SELECT " CHUNK_COLUMNS " FROM chunk c LEFT JOIN chunk_bytes b ON c.pack IS NULL AND b.drive = $1 AND b.id = c.place WHERE c.drive = $1 AND c.hash = $2");
    pg_put_id(&q, drive);
    pg_put_hash(&q, h);
    int err = pg_one(&q);
    return err ? err : get_chunk(&q, ret);
}

int postgres_chunks_find(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, struct chunk_row *ret)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "SELECT w.n, c.size, c.stored_size, c.codec, c.pack, c.place, c.unverified_by, c.damaged FROM unnest($2::bytea[]) WITH ORDINALITY AS w(hash, n) "
             "JOIN chunk c ON c.drive = $1 AND c.hash = w.hash");
    pg_put_id(&q, drive);
    pg_put_array(&q, PG_BYTES, n);
    for (size_t i = 0; i < n; i++) {
        pg_add_hash(&q, &h[i]);
        ret[i] = (struct chunk_row){.hash = h[i]};
    }
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct chunk_row *k = &ret[pg_int(&q) - 1];
        k->size = pg_u32(&q);
        k->stored_size = pg_u32(&q);
        k->codec = (enum codec)pg_int(&q);
        pg_text(&q, k->pack, sizeof k->pack);
        uint64_t place = pg_int(&q);
        k->offset = k->pack[0] ? place : 0;
        pg_id(&q, &k->unverified_by);
        k->damaged = pg_bool(&q);
    }
    return err;
}

int postgres_chunks_known(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, bool *ret)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "SELECT w.n FROM unnest($2::bytea[]) WITH ORDINALITY AS w(hash, n) JOIN chunk c ON c.drive = $1 AND c.hash = w.hash AND c.unverified_by IS NULL");
    pg_put_id(&q, drive);
    pg_put_array(&q, PG_BYTES, n);
    for (size_t i = 0; i < n; i++) {
        pg_add_hash(&q, &h[i]);
        ret[i] = false;
    }
    int err;
    while ((err = pg_step(&q)) == 1)
        ret[pg_int(&q) - 1] = true;
    return err;
}

/* ---- adding ---- */

/* Adds those that are not there, in the order of their hashes (two writers of the same chunks wait for each other in one order), and claims the others. An unverified one gives way to one that was
   checked, and its object becomes pending. The pending row of an object that a chunk now names goes. Says how many stayed out because what is there is as unverified, and whether the drive is here. */
const char pg_chunks_add_sql[] =
    "WITH " PG_KEPT("$1") ", u AS (SELECT * FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[], $7::bigint[], $8::bytea[], $9::uuid[]) WITH ORDINALITY "
    "AS u(hash, size, stored_size, codec, pack, place, bytes, unverified_by, n) WHERE EXISTS (SELECT 1 FROM d)), "
    "w AS MATERIALIZED (SELECT hash, size, stored_size, codec, pack, bytes, unverified_by, CASE WHEN pack IS NULL THEN nextval('chunk_bytes_id') ELSE place END AS place "
    "FROM (SELECT * FROM (SELECT DISTINCT ON (hash) * FROM u ORDER BY hash, n) d ORDER BY n) arrived), "
    "old AS MATERIALIZED (SELECT c.*, w.unverified_by IS NULL AS gives_way FROM w JOIN chunk c ON c.drive = $1 AND c.hash = w.hash WHERE c.unverified_by IS NOT NULL "
    "ORDER BY c.hash FOR UPDATE OF c), "
    "stale AS MATERIALIZED (SELECT c.hash FROM w JOIN chunk c ON c.drive = $1 AND c.hash = w.hash WHERE c.unverified_by IS NULL AND c.claimed <= $10 - $11::bigint "
    "ORDER BY c.hash FOR NO KEY UPDATE OF c), "
    "claimed AS (UPDATE chunk c SET claimed = $10 FROM stale s WHERE c.drive = $1 AND c.hash = s.hash), "
    "discarded AS (INSERT INTO pending_pack (drive, pack, hash, size, stored_size, codec, user_id, expires) "
    "SELECT drive, pack, hash, size, stored_size, codec, unverified_by, $10 FROM old WHERE gives_way AND pack IS NOT NULL "
    "ON CONFLICT (drive, pack) DO UPDATE SET expires = excluded.expires), "
    "added AS (INSERT INTO chunk (drive, hash, size, stored_size, codec, pack, place, claimed, unverified_by) "
    "SELECT $1, hash, size, stored_size, codec, pack, place, $10, unverified_by FROM w WHERE (SELECT count(*) FROM old) >= 0 ORDER BY hash " /* `old` is locked first */
    "ON CONFLICT (drive, hash) DO UPDATE SET size = excluded.size, stored_size = excluded.stored_size, codec = excluded.codec, pack = excluded.pack, "
    "place = excluded.place, claimed = excluded.claimed, unverified_by = NULL, damaged = false "
    "WHERE chunk.unverified_by IS NOT NULL AND excluded.unverified_by IS NULL RETURNING hash, place, pack), "
    "arrived AS (DELETE FROM pending_pack p USING added a WHERE p.drive = $1 AND p.pack = a.pack), "
    "kept AS (INSERT INTO chunk_bytes (drive, id, hash, bytes, at) SELECT $1, a.place, a.hash, w.bytes, $10 FROM added a JOIN w ON w.hash = a.hash WHERE a.pack IS NULL) "
    "SELECT (SELECT count(*) FROM old WHERE NOT gives_way), EXISTS (SELECT 1 FROM d)";

int pg_put_chunks(struct pg_query *q, const struct uuid *drive, const struct chunk_row *k, size_t n, int64_t now)
{
    pg_put_id(q, drive);
    pg_put_array(q, PG_BYTES, n);
    for (size_t i = 0; i < n; i++) {
        if (!k[i].pack[0] && !k[i].bytes && k[i].stored_size)
            return -EINVAL;
        pg_add_hash(q, &k[i].hash);
    }
    PG_SIGNED(q, n, k[i].size);
    PG_SIGNED(q, n, k[i].stored_size);
    PG_SIGNED(q, n, k[i].codec);
    PG_COLUMN(q, PG_TEXT, n, pg_add_text(q, k[i].pack[0] ? k[i].pack : NULL));
    PG_INTS(q, n, k[i].offset);
    PG_COLUMN(q, PG_BYTES, n, pg_add_blob(q, k[i].pack[0] ? NULL : k[i].bytes ? k[i].bytes : "", k[i].stored_size));
    PG_COLUMN(q, PG_ID, n, pg_add_id_or_null(q, &k[i].unverified_by));
    pg_put_int(q, now);
    pg_put_int(q, CLAIM_NS);
    return 0;
}

/* -ENOENT: the drive is not here (any more). */
static int add_here(struct meta *m, const struct uuid *drive, const struct chunk_row *chunks, size_t n)
{
    PG_HERE(c, m, drive);
    CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(c, pg_chunks_add_sql);
    int err = pg_put_chunks(&q, drive, chunks, n, clock_wall_ns());
    if (!err)
        err = pg_one(&q);
    if (err)
        return err;
    bool busy = pg_int(&q) > 0;
    return !pg_bool(&q) ? -ENOENT : busy ? -EBUSY : 0;
}

int postgres_chunks_add(struct meta *m, const struct uuid *drive, const struct chunk_row *chunks, size_t n)
{
    int err = PG_SEARCH(m, drive, add_here(m, drive, chunks, n));
    return err == -ENOENT ? 0 : err; /* of a drive that is nowhere, nobody will ask for it */
}

/* ---- packing ---- */

/* The next page of those kept in rows; *sum counts their bytes. */
static int inline_page(struct meta *m, const struct uuid *drive, uint64_t limit, int64_t *after, uint64_t *sum, unsigned *ret_n,
                       int (*each)(void *ctx, const struct chunk_row *c), void *ctx)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "SELECT b.id, " CHUNK_COLUMNS " FROM chunk_bytes b JOIN chunk c ON c.drive = $1 AND c.hash = b.hash AND c.pack IS NULL "
             "WHERE b.drive = $1 AND b.id > $2 ORDER BY b.id LIMIT $3");
    pg_put_id(&q, drive);
    pg_put_int(&q, *after);
    pg_put_int(&q, PAGE);
    int err = 0;
    *ret_n = 0;
    while (*sum < limit && (err = pg_step(&q)) == 1) {
        CLEANUP(chunk_row_fini) struct chunk_row k = {0};
        *after = pg_int(&q);
        ++*ret_n;
        err = get_chunk(&q, &k);
        *sum += k.stored_size;
        if (!err && *sum <= limit)
            err = each(ctx, &k);
        if (err)
            return err;
    }
    return err < 0 ? err : 0;
}

int postgres_chunks_inline(struct meta *m, const struct uuid *drive, uint64_t limit, int (*each)(void *ctx, const struct chunk_row *c),
                           void *ctx)
{
    int64_t after = 0;
    uint64_t sum = 0;
    unsigned n = PAGE;
    int err = 0;
    while (!err && n == PAGE && sum < limit)
        err = inline_page(m, drive, limit, &after, &sum, &n, each, ctx);
    return err;
}

struct inline_drives {
    int64_t since;
    int (*each)(void *ctx, const struct uuid *drive);
    void *ctx;
    int ended; /* what each returned */
};

static int inline_drives_in(struct meta *m, size_t shard, void *ctx)
{
    struct inline_drives *l = ctx;
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c, "SELECT DISTINCT drive FROM chunk_bytes WHERE at >= $1");
    pg_put_int(&q, l->since);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct uuid id;
        pg_id(&q, &id);
        if ((l->ended = l->each(l->ctx, &id)) != 0)
            return 1;
    }
    return err;
}

int postgres_inline_drives(struct meta *m, int64_t since, int (*each)(void *ctx, const struct uuid *drive), void *ctx)
{
    struct inline_drives l = {since, each, ctx, 0};
    int err = postgres_each_shard(m, inline_drives_in, &l);
    return l.ended ? l.ended : err;
}

int postgres_chunks_moved(struct meta *m, const struct uuid *drive, const struct chunk_row *k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!k[i].pack[0])
            return -EINVAL;
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "WITH w AS MATERIALIZED (SELECT u.*, c.place AS row FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[]) "
             "AS u(hash, stored_size, codec, pack, place) JOIN chunk c ON c.drive = $1 AND c.hash = u.hash AND c.pack IS NULL ORDER BY u.hash), "
             "gone AS (DELETE FROM chunk_bytes b USING w WHERE b.drive = $1 AND b.id = w.row) "
             "UPDATE chunk c SET stored_size = w.stored_size, codec = w.codec, pack = w.pack, place = w.place FROM w "
             "WHERE c.drive = $1 AND c.hash = w.hash AND c.pack IS NULL");
    pg_put_id(&q, drive);
    PG_COLUMN(&q, PG_BYTES, n, pg_add_hash(&q, &k[i].hash));
    PG_SIGNED(&q, n, k[i].stored_size);
    PG_SIGNED(&q, n, k[i].codec);
    PG_COLUMN(&q, PG_TEXT, n, pg_add_text(&q, k[i].pack));
    PG_INTS(&q, n, k[i].offset);
    return pg_run(&q);
}
