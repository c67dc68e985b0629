/* What an inode is, or was: attributes, symlink targets, xattrs, locks. */
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>

void get_attr(struct query *q, struct attr *ret)
{
    ret->ino = get_int(q);
    ret->mode = get_u32(q);
    ret->nlink = get_u32(q);
    ret->uid = get_u32(q);
    ret->gid = get_u32(q);
    ret->rdev = get_int(q);
    ret->size = get_int(q);
    ret->atime = get_int(q);
    ret->mtime = get_int(q);
    ret->ctime = get_int(q);
    ret->btime = get_int(q);
    ret->version = get_int(q);
    ret->chunk_size = get_u32(q);
    ret->quarantined = get_bool(q);
}

void put_attr(struct query *q, const struct attr *a)
{
    put_seq(q, a->ino);
    put_int(q, a->mode);
    put_int(q, a->nlink);
    put_int(q, a->uid);
    put_int(q, a->gid);
    put_int(q, (int64_t)a->rdev);
    put_seq(q, a->size);
    put_int(q, a->atime);
    put_int(q, a->mtime);
    put_int(q, a->ctime);
    put_int(q, a->btime);
    put_seq(q, a->version);
    put_int(q, a->chunk_size);
    put_int(q, a->quarantined);
}

static int inode_now(struct conn *c, const struct uuid *drive, uint64_t ino, uint64_t *ret_born, struct attr *ret)
{
    QUERY(q, c, "SELECT born, " ATTR_COLUMNS("") " FROM inode WHERE drive = ?1 AND ino = ?2");
    put_id(&q, drive);
    put_seq(&q, ino);
    int err = query_one(&q);
    if (err)
        return err;
    *ret_born = get_int(&q);
    get_attr(&q, ret);
    return 0;
}

int sqlite_inode_at(struct conn *c, const struct uuid *drive, uint64_t ino, uint64_t at, bool nearest, struct attr *ret)
{
    uint64_t born;
    int err = inode_now(c, drive, ino, &born, ret);
    if (err || at == 0 || born <= at)
        return err;
    QUERY(q, c,
          "SELECT born, " ATTR_COLUMNS("") " FROM inode_past WHERE drive = ?1 AND ino = ?2 AND died > ?3 ORDER BY died LIMIT 1");
    put_id(&q, drive);
    put_seq(&q, ino);
    put_seq(&q, at);
    err = query_one(&q);
    if (err == -ENOENT && nearest)
        return 0;
    if (err)
        return err;
    born = get_int(&q);
    if (born > at && !nearest)
        return -ENOENT;
    get_attr(&q, ret);
    return 0;
}

int sqlite_inode(struct meta_tx *tx, uint64_t ino, uint64_t at, struct attr *ret)
{
    return sqlite_inode_at(conn_of(tx), &tx->drive.id, ino, at, false, ret);
}

int sqlite_symlink_target(struct meta_tx *tx, uint64_t ino, struct buf *ret)
{
    QUERY(q, conn_of(tx), "SELECT target FROM inode WHERE drive = ?1 AND ino = ?2 AND target IS NOT NULL");
    put_id(&q, &tx->drive.id);
    put_seq(&q, ino);
    int err = query_one(&q);
    if (err)
        return err;
    size_t len;
    const void *p = get_blob(&q, &len);
    buf_append(ret, p, len);
    return 0;
}

int sqlite_xattrs(struct meta_tx *tx, uint64_t ino, uint64_t at,
                  int (*each)(void *ctx, const char *name, const void *value, size_t len), void *ctx)
{
    QUERY(q, conn_of(tx),
          "SELECT name, value FROM xattr WHERE drive = ?1 AND ino = ?2 AND born <= ?3 UNION ALL "
          "SELECT name, value FROM xattr_past WHERE drive = ?1 AND ino = ?2 AND born <= ?3 AND died > ?3 ORDER BY name");
    put_id(&q, &tx->drive.id);
    put_seq(&q, ino);
    put_seq(&q, at ? at : ALIVE);
    int err;
    while ((err = query_step(&q)) == 1) {
        char name[256];
        size_t len;
        get_text(&q, name, sizeof name);
        const void *value = get_blob(&q, &len);
        if ((err = each(ctx, name, value, len)) != 0)
            break;
    }
    return err;
}

/* ---- locks ---- */

void get_lock(struct query *q, struct lock_row *ret)
{
    ret->ino = get_int(q);
    get_id(q, &ret->session);
    ret->flock_kind = get_bool(q);
    ret->type = (int)get_int(q);
    ret->start = get_int(q);
    ret->end = get_int(q);
    ret->owner = get_int(q);
    ret->pid = get_u32(q);
}

int sqlite_locks(struct meta_tx *tx, uint64_t ino, int (*each)(void *ctx, const struct lock_row *l), void *ctx)
{
    QUERY(q, conn_of(tx), "SELECT " LOCK_COLUMNS " FROM lock WHERE drive = ?1 AND ino = ?2 ORDER BY n");
    put_id(&q, &tx->drive.id);
    put_seq(&q, ino);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct lock_row l;
        get_lock(&q, &l);
        if ((err = each(ctx, &l)) != 0)
            break;
    }
    return err;
}

int sqlite_lock_sessions(struct meta *m, int (*each)(void *ctx, const struct uuid *drive, const struct uuid *session), void *ctx)
{
    READER(c, m);
    QUERY(q, c, "SELECT DISTINCT drive, session FROM lock ORDER BY drive, session");
    int err;
    while ((err = query_step(&q)) == 1) {
        struct uuid drive, session;
        get_id(&q, &drive);
        get_id(&q, &session);
        if ((err = each(ctx, &drive, &session)) != 0)
            break;
    }
    return err;
}
