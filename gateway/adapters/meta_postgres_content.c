/* Versions and what is in them. */
#include "common/chunk.h"
#include "gateway/adapters/meta_postgres.h"
#include "gateway/adapters/segment_pack.h"

#include <errno.h>
#include <string.h>

void pg_get_version(struct pg_query *q, struct version_row *ret)
{
    ret->ino = pg_int(q);
    ret->version = pg_int(q);
    ret->size = pg_int(q);
    ret->chunk_size = pg_u32(q);
    pg_hash(q, &ret->tree_hash);
    pg_hash(q, &ret->sha256);
    ret->mtime = pg_int(q);
    ret->at = pg_int(q);
    pg_id(q, &ret->user);
    pg_text(q, ret->device, sizeof ret->device);
    ret->listed = pg_bool(q);
    ret->quarantined = pg_bool(q);
}

#define VERSION_SQL "SELECT " PG_VERSION_COLUMNS("") " FROM version WHERE drive = $1 AND ino = $2 AND version = $3"

static struct pg_query ask_version(struct meta_tx *tx, uint64_t ino, uint64_t number)
{
    static const char sql[] = VERSION_SQL;
    struct pg_query q = pg_query_begin(pg_conn_of(tx), sql);
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, ino);
    pg_put_seq(&q, number);
    return q;
}

static int take_version(struct pg_query *q, struct version_row *ret)
{
    int err = pg_one(q);
    if (!err)
        pg_get_version(q, ret);
    return err;
}

int postgres_version(struct meta_tx *tx, uint64_t ino, uint64_t number, struct version_row *ret)
{
    CLEANUP(pg_query_end) struct pg_query q = ask_version(tx, ino, number);
    return take_version(&q, ret);
}

int postgres_versions(struct meta_tx *tx, uint64_t ino, uint64_t from, uint64_t to, unsigned limit,
                      int (*each)(void *ctx, const struct version_row *v), void *ctx)
{
    PG_QUERY(q, pg_conn_of(tx),
             "SELECT " PG_VERSION_COLUMNS("") " FROM version WHERE drive = $1 AND ino = $2 AND version > $3 AND version <= $4 AND listed "
             "ORDER BY version DESC LIMIT $5");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, ino);
    pg_put_seq(&q, from);
    pg_put_seq(&q, to);
    pg_put_int(&q, limit);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct version_row v;
        pg_get_version(&q, &v);
        if ((err = each(ctx, &v)) != 0)
            break;
    }
    return err;
}

/* ---- segments ---- */

/* Those of [first, last] that are not all holes, as of the version. */
static void put_segments(struct pg_query *q, struct meta_tx *tx, uint64_t ino, uint64_t version, uint64_t first, uint64_t last)
{
    pg_put_id(q, &tx->drive.id);
    pg_put_seq(q, ino);
    pg_put_seq(q, version);
    pg_put_seq(q, first);
    pg_put_seq(q, last);
}

static int take_segment(struct pg_query *q, const struct version_row *v, uint64_t first, uint64_t end, struct chunk_ref *ret)
{
    struct chunk_ref chunks[SEGMENT_CHUNKS];
    size_t len;
    uint64_t number = pg_int(q);
    const void *p = pg_blob(q, &len);
    int err = segment_unpack(p, len, chunks);
    for (uint64_t i = 0; i < SEGMENT_CHUNKS && !err; i++) {
        uint64_t at = number * SEGMENT_CHUNKS + i;
        if (at < first || at >= end)
            continue;
        ret[at - first] = chunks[i];
        segment_clip(&ret[at - first], v, at);
    }
    return err;
}

int postgres_chunk_map(struct meta_tx *tx, uint64_t ino, uint64_t version, uint64_t first, size_t n, struct chunk_ref *ret)
{
    memset(ret, 0, n * sizeof *ret);
    if (version == 0 || n == 0) /* the empty content of a new file */
        return 0;
    CLEANUP(pg_query_end) struct pg_query which = ask_version(tx, ino, version);
    PG_QUERY(q, pg_conn_of(tx),
             "SELECT w.number, s.chunks FROM generate_series($4::bigint, $5::bigint) AS w(number) CROSS JOIN LATERAL (SELECT version, chunks FROM segment "
             "WHERE drive = $1 AND ino = $2 AND number = w.number AND version <= $3 ORDER BY version DESC LIMIT 1) s WHERE NOT EXISTS (SELECT 1 FROM cut k "
             "WHERE k.drive = $1 AND k.ino = $2 AND k.version > s.version AND k.version <= $3 AND k.from_segment <= w.number)");
    put_segments(&q, tx, ino, version, first / SEGMENT_CHUNKS, (first + n - 1) / SEGMENT_CHUNKS);
    pg_send(&which);
    pg_send(&q); /* both in one round trip */
    struct version_row v;
    int err = take_version(&which, &v);
    if (err)
        return err;
    uint64_t count = v.chunk_size ? chunk_count(v.size, v.chunk_size) : 0;
    uint64_t end = first < count && n > count - first ? count : first < count ? first + n : first;
    while ((err = pg_step(&q)) == 1)
        if ((err = take_segment(&q, &v, first, end, ret)) != 0)
            break;
    return err;
}
