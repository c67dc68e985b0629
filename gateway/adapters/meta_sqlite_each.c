/* Every row of a drive, for checks. */
#include "gateway/adapters/meta_sqlite.h"
#include "gateway/adapters/segment_pack.h"

int sqlite_inodes_each(struct meta_tx *tx, int (*each)(void *ctx, const struct attr *a, uint64_t parent, uint64_t children), void *ctx)
{
    QUERY(q, conn_of(tx), "SELECT " ATTR_COLUMNS("") ", parent, children FROM inode WHERE drive = ?1 ORDER BY ino");
    put_id(&q, &tx->drive.id);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct attr a;
        get_attr(&q, &a);
        uint64_t parent = get_int(&q);
        if ((err = each(ctx, &a, parent, get_int(&q))) != 0)
            break;
    }
    return err;
}

int sqlite_dentries_each(struct meta_tx *tx, int (*each)(void *ctx, uint64_t parent, const char *name, uint64_t ino), void *ctx)
{
    QUERY(q, conn_of(tx), "SELECT parent, name, ino FROM dentry WHERE drive = ?1 ORDER BY parent, name");
    put_id(&q, &tx->drive.id);
    int err;
    while ((err = query_step(&q)) == 1) {
        char name[NAME_LEN_MAX + 1];
        uint64_t parent = get_int(&q);
        get_text(&q, name, sizeof name);
        if ((err = each(ctx, parent, name, get_int(&q))) != 0)
            break;
    }
    return err;
}

int sqlite_versions_each(struct meta_tx *tx, int (*each)(void *ctx, const struct version_row *v), void *ctx)
{
    QUERY(q, conn_of(tx), "SELECT " VERSION_COLUMNS " FROM version WHERE drive = ?1 ORDER BY ino, version");
    put_id(&q, &tx->drive.id);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct version_row v;
        get_version(&q, &v);
        if ((err = each(ctx, &v)) != 0)
            break;
    }
    return err;
}

int sqlite_segments_each(struct meta_tx *tx,
                         int (*each)(void *ctx, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS]), void *ctx)
{
    QUERY(q, conn_of(tx), "SELECT ino, number, version, chunks FROM segment WHERE drive = ?1 ORDER BY ino, number, version");
    put_id(&q, &tx->drive.id);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct chunk_ref chunks[SEGMENT_CHUNKS];
        uint64_t ino = get_int(&q), number = get_int(&q), version = get_int(&q);
        size_t len;
        const void *p = get_blob(&q, &len);
        err = segment_unpack(p, len, chunks);
        if (err || (err = each(ctx, ino, number, version, chunks)) != 0)
            break;
    }
    return err;
}

int sqlite_chunks_each(struct meta_tx *tx, int (*each)(void *ctx, const struct chunk_row *c, uint64_t in_row), void *ctx)
{
    QUERY(q, conn_of(tx),
          "SELECT c.hash, c.size, c.stored_size, c.codec, c.pack, c.place, c.unverified_by, c.damaged, COALESCE(LENGTH(b.bytes), 0) FROM chunk c "
          "LEFT JOIN chunk_bytes b ON c.pack IS NULL AND b.id = c.place WHERE c.drive = ?1 ORDER BY c.hash");
    put_id(&q, &tx->drive.id);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct chunk_row c = {0};
        get_hash(&q, &c.hash);
        c.size = get_u32(&q);
        c.stored_size = get_u32(&q);
        c.codec = (enum codec)get_int(&q);
        get_text(&q, c.pack, sizeof c.pack);
        c.offset = get_int(&q);
        get_id(&q, &c.unverified_by);
        c.damaged = get_bool(&q);
        if ((err = each(ctx, &c, get_int(&q))) != 0)
            break;
    }
    return err;
}
