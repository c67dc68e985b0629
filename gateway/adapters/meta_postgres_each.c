/* Every row of a drive, for checks; in pages, so that a large drive does not have to fit into memory. */
#include "gateway/adapters/meta_postgres.h"
#include "gateway/adapters/segment_pack.h"

#include <limits.h>
#include <string.h>

#define PAGE 2000

/* Where the next page goes on: the key of the last row. Each page's function leaves it there, and tells how many rows it had. */
struct place {
    uint64_t ino, number, version;
    char name[NAME_LEN_MAX + 1];
    struct hash hash;
    unsigned n;
};

static struct pg_query page(struct meta_tx *tx, const char *sql)
{
    struct pg_query q = pg_query_begin(pg_conn_of(tx), sql);
    pg_put_id(&q, &tx->drive.id);
    return q;
}
#define PAGE_QUERY(q, tx, sql) CLEANUP(pg_query_end) struct pg_query q = page(tx, "" sql)

static int inode_page(struct meta_tx *tx, struct place *p, int (*each)(void *ctx, const struct attr *a, uint64_t parent, uint64_t children), void *ctx)
{
    PAGE_QUERY(q, tx, "SELECT " PG_ATTR_COLUMNS("") ", parent, children FROM inode WHERE drive = $1 AND ino > $2 ORDER BY ino LIMIT $3");
    pg_put_seq(&q, p->ino);
    pg_put_int(&q, PAGE);
    int err;
    for (p->n = 0; (err = pg_step(&q)) == 1; p->n++) {
        struct attr a;
        pg_get_attr(&q, &a);
        p->ino = a.ino;
        uint64_t parent = pg_int(&q);
        if ((err = each(ctx, &a, parent, pg_int(&q))) != 0)
            break;
    }
    return err;
}

int postgres_inodes_each(struct meta_tx *tx, int (*each)(void *ctx, const struct attr *a, uint64_t parent, uint64_t children), void *ctx)
{
    struct place p = {.n = PAGE};
    int err = 0;
    while (!err && p.n == PAGE)
        err = inode_page(tx, &p, each, ctx);
    return err;
}

static int dentry_page(struct meta_tx *tx, struct place *p, int (*each)(void *ctx, uint64_t parent, const char *name, uint64_t ino), void *ctx)
{
    PAGE_QUERY(q, tx, "SELECT parent, name, ino FROM dentry WHERE drive = $1 AND (parent, name) > ($2, $3) ORDER BY parent, name LIMIT $4");
    pg_put_seq(&q, p->ino);
    pg_put_name(&q, p->name);
    pg_put_int(&q, PAGE);
    int err;
    for (p->n = 0; (err = pg_step(&q)) == 1; p->n++) {
        p->ino = pg_int(&q);
        pg_text(&q, p->name, sizeof p->name);
        if ((err = each(ctx, p->ino, p->name, pg_int(&q))) != 0)
            break;
    }
    return err;
}

int postgres_dentries_each(struct meta_tx *tx, int (*each)(void *ctx, uint64_t parent, const char *name, uint64_t ino), void *ctx)
{
    struct place p = {.n = PAGE};
    int err = 0;
    while (!err && p.n == PAGE)
        err = dentry_page(tx, &p, each, ctx);
    return err;
}

static int version_page(struct meta_tx *tx, struct place *p, int (*each)(void *ctx, const struct version_row *v), void *ctx)
{
    PAGE_QUERY(q, tx, "SELECT " PG_VERSION_COLUMNS("") " FROM version WHERE drive = $1 AND (ino, version) > ($2, $3) ORDER BY ino, version LIMIT $4");
    pg_put_seq(&q, p->ino);
    pg_put_seq(&q, p->version);
    pg_put_int(&q, PAGE);
    int err;
    for (p->n = 0; (err = pg_step(&q)) == 1; p->n++) {
        struct version_row v;
        pg_get_version(&q, &v);
        p->ino = v.ino;
        p->version = v.version;
        if ((err = each(ctx, &v)) != 0)
            break;
    }
    return err;
}

int postgres_versions_each(struct meta_tx *tx, int (*each)(void *ctx, const struct version_row *v), void *ctx)
{
    struct place p = {.n = PAGE};
    int err = 0;
    while (!err && p.n == PAGE)
        err = version_page(tx, &p, each, ctx);
    return err;
}

typedef int (*each_segment)(void *ctx, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS]);

static int segment_page(struct meta_tx *tx, struct place *p, each_segment each, void *ctx)
{
    PAGE_QUERY(q, tx,
               "SELECT ino, number, version, chunks FROM segment WHERE drive = $1 AND (ino, number, version) > ($2, $3, $4) ORDER BY ino, number, version LIMIT $5");
    pg_put_seq(&q, p->ino);
    pg_put_seq(&q, p->number);
    pg_put_seq(&q, p->version);
    pg_put_int(&q, PAGE);
    int err;
    for (p->n = 0; (err = pg_step(&q)) == 1; p->n++) {
        struct chunk_ref chunks[SEGMENT_CHUNKS];
        p->ino = pg_int(&q);
        p->number = pg_int(&q);
        p->version = pg_int(&q);
        size_t len;
        const void *packed = pg_blob(&q, &len);
        err = segment_unpack(packed, len, chunks);
        if (err || (err = each(ctx, p->ino, p->number, p->version, chunks)) != 0)
            break;
    }
    return err;
}

int postgres_segments_each(struct meta_tx *tx, each_segment each, void *ctx)
{
    struct place p = {.n = PAGE};
    int err = 0;
    while (!err && p.n == PAGE)
        err = segment_page(tx, &p, each, ctx);
    return err;
}

static int chunk_page(struct meta_tx *tx, struct place *p, int (*each)(void *ctx, const struct chunk_row *c, uint64_t in_row), void *ctx)
{
    PAGE_QUERY(q, tx,
               "SELECT c.hash, c.size, c.stored_size, c.codec, c.pack, c.place, c.unverified_by, c.damaged, coalesce(length(b.bytes), 0)::bigint FROM chunk c "
               "LEFT JOIN chunk_bytes b ON c.pack IS NULL AND b.drive = $1 AND b.id = c.place WHERE c.drive = $1 AND c.hash > $2 ORDER BY c.hash LIMIT $3");
    if (p->n == PAGE && hash_is_zero(&p->hash))
        pg_put_blob(&q, "", 0); /* from the beginning */
    else
        pg_put_hash(&q, &p->hash);
    pg_put_int(&q, PAGE);
    int err;
    for (p->n = 0; (err = pg_step(&q)) == 1; p->n++) {
        struct chunk_row c = {0};
        pg_hash(&q, &c.hash);
        c.size = pg_u32(&q);
        c.stored_size = pg_u32(&q);
        c.codec = (enum codec)pg_int(&q);
        pg_text(&q, c.pack, sizeof c.pack);
        c.offset = pg_int(&q);
        pg_id(&q, &c.unverified_by);
        c.damaged = pg_bool(&q);
        p->hash = c.hash;
        if ((err = each(ctx, &c, pg_int(&q))) != 0)
            break;
    }
    return err;
}

int postgres_chunks_each(struct meta_tx *tx, int (*each)(void *ctx, const struct chunk_row *c, uint64_t in_row), void *ctx)
{
    struct place p = {.n = PAGE};
    int err = 0;
    while (!err && p.n == PAGE)
        err = chunk_page(tx, &p, each, ctx);
    return err;
}
