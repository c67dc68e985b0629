/* What an inode is, or was: attributes, symlink targets, xattrs, locks. */
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>

void pg_get_attr(struct pg_query *q, struct attr *ret)
{
    ret->ino = pg_int(q);
    ret->mode = pg_u32(q);
    ret->nlink = pg_u32(q);
    ret->uid = pg_u32(q);
    ret->gid = pg_u32(q);
    ret->rdev = pg_int(q);
    ret->size = pg_int(q);
    ret->atime = pg_int(q);
    ret->mtime = pg_int(q);
    ret->ctime = pg_int(q);
    ret->btime = pg_int(q);
    ret->version = pg_int(q);
    ret->chunk_size = pg_u32(q);
    ret->quarantined = pg_bool(q);
}

int postgres_inode(struct meta_tx *tx, uint64_t ino, uint64_t at, struct attr *ret)
{
    PG_QUERY(q, pg_conn_of(tx),
             "SELECT " PG_ATTR_COLUMNS("") " FROM inode WHERE drive = $1 AND ino = $2 AND born <= $3 UNION ALL "
             "SELECT " PG_ATTR_COLUMNS("p.") " FROM (SELECT * FROM inode_past WHERE drive = $1 AND ino = $2 AND died > $3 ORDER BY died LIMIT 1) p "
             "WHERE p.born <= $3 AND EXISTS (SELECT 1 FROM inode WHERE drive = $1 AND ino = $2 AND born > $3)");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, ino);
    pg_put_seq(&q, at ? at : ALIVE);
    int err = pg_one(&q);
    if (!err)
        pg_get_attr(&q, ret);
    return err;
}

int postgres_symlink_target(struct meta_tx *tx, uint64_t ino, struct buf *ret)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT target FROM inode WHERE drive = $1 AND ino = $2 AND target IS NOT NULL");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, ino);
    int err = pg_one(&q);
    if (err)
        return err;
    size_t len;
    const void *p = pg_blob(&q, &len);
    buf_append(ret, p, len);
    return 0;
}

int postgres_xattrs(struct meta_tx *tx, uint64_t ino, uint64_t at,
                    int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx)
{
    PG_QUERY(q, pg_conn_of(tx),
             "SELECT name, value FROM xattr WHERE drive = $1 AND ino = $2 AND born <= $3 UNION ALL "
             "SELECT name, value FROM xattr_past WHERE drive = $1 AND ino = $2 AND born <= $3 AND died > $3 ORDER BY name");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, ino);
    pg_put_seq(&q, at ? at : ALIVE);
    int err;
    while ((err = pg_step(&q)) == 1) {
        char name[256];
        size_t len;
        pg_text(&q, name, sizeof name);
        const void *value = pg_blob(&q, &len);
        if ((err = each(ctx, name, value, len)) != 0)
            break;
    }
    return err;
}

/* ---- locks ---- */

void pg_get_lock(struct pg_query *q, struct lock_row *ret)
{
    ret->ino = pg_int(q);
    pg_id(q, &ret->session);
    ret->flock_kind = pg_bool(q);
    ret->type = (int)pg_int(q);
    ret->start = pg_int(q);
    ret->end = pg_int(q);
    ret->owner = pg_int(q);
    ret->pid = pg_u32(q);
}

int postgres_locks(struct meta_tx *tx, uint64_t ino, int (*each)(void *ctx, const struct lock_row *l), void *ctx)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT " PG_LOCK_COLUMNS("") " FROM lock WHERE drive = $1 AND ino = $2 ORDER BY n");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, ino);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct lock_row l;
        pg_get_lock(&q, &l);
        if ((err = each(ctx, &l)) != 0)
            break;
    }
    return err;
}

struct sessions {
    int (*each)(void *ctx, const struct uuid *drive, const struct uuid *session);
    void *ctx;
    int ended; /* what each returned */
};

static int sessions_in(struct meta *m, size_t shard, void *ctx)
{
    struct sessions *s = ctx;
    PG_SHARD(c, m, shard);
    PG_QUERY(q, c, "SELECT DISTINCT drive, session FROM lock ORDER BY drive, session");
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct uuid drive, session;
        pg_id(&q, &drive);
        pg_id(&q, &session);
        if ((s->ended = s->each(s->ctx, &drive, &session)) != 0)
            return 1;
    }
    return err;
}

int postgres_lock_sessions(struct meta *m, int (*each)(void *ctx, const struct uuid *drive, const struct uuid *session), void *ctx)
{
    struct sessions s = {each, ctx, 0};
    int err = postgres_each_shard(m, sessions_in, &s);
    return s.ended ? s.ended : err;
}
