/* Names and inodes as they are, or were at a seq. */
#include "gateway/api/fs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define PAGE_USUAL 1024
#define PAGE_MAX 4096

/* As meta's lookup, in the past. */
static int lookup_at(struct meta *meta, const struct uuid *drive, uint64_t parent, const char *name, uint64_t at, uint64_t *ret_seq, struct entry_row *ret)
{
    struct meta_tx *tx;
    int err = meta->ops->snapshot(meta, drive, &tx);
    if (err)
        return err;
    *ret_seq = tx->drive.seq;
    err = meta->ops->entry(tx, parent, name, at, ret);
    meta->ops->rollback(tx);
    return err == -ENOENT ? 0 : err;
}

enum call_state fs_lookup(struct call *c)
{
    uint64_t parent, seq, at = 0;
    const char *name;
    struct drive_row drive;
    struct entry_row e = {0};
    struct meta *meta = app_of(c)->meta;
    if (!fs_query_u64(c, "parent", true, &parent) || !fs_query_u64(c, "at", false, &at) || !fs_query_name(c, "name", &name) ||
        !roles_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, &drive))
        return CALL_DONE;
    int err = at ? lookup_at(meta, &drive.id, parent, name, at, &seq, &e) : meta->ops->lookup(meta, &drive.id, parent, name, &seq, &e);
    if (err)
        return fs_fail(c, err, "the drive");
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", seq);
    if (e.ino)
        fs_put_attr(&c->out, "attr", &e.attr);
    else
        jout_null(&c->out, "attr");
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

/* The inode that the query names; false: a problem was filled. */
static bool inode_of_query(struct call *c, struct meta_tx *tx, uint64_t ino, uint64_t at, struct attr *ret)
{
    int err = tx->meta->ops->inode(tx, ino, at, ret);
    if (err)
        fs_fail(c, err, "the inode");
    return err == 0;
}

enum call_state fs_inode(struct call *c)
{
    uint64_t ino, at = 0;
    struct attr a;
    if (!fs_query_u64(c, "ino", true, &ino) || !fs_query_u64(c, "at", false, &at))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx || !inode_of_query(c, tx, ino, at, &a))
        return CALL_DONE;
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    fs_put_attr(&c->out, "attr", &a);
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

struct page {
    struct buf *out;
    unsigned limit, n;
    char last[NAME_LEN_MAX + 1];
    bool more;
};

/* One entry more than the page takes is asked for: it tells whether there is a next page. */
static int put_entry(void *ctx, const struct entry_row *e)
{
    struct page *p = ctx;
    if (p->n == p->limit) {
        p->more = true;
        return 1;
    }
    size_t len = strlen(e->name);
    p->n++;
    jout_open(p->out, NULL, '{');
    jout_bytes(p->out, "name", e->name, len);
    fs_put_attr(p->out, "attr", &e->attr);
    jout_close(p->out, '}');
    memcpy(p->last, e->name, len + 1);
    return 0;
}

static void put_next(struct page *p)
{
    jout_close(p->out, ']');
    if (p->more)
        jout_bytes(p->out, "next", p->last, strlen(p->last));
    else
        jout_null(p->out, "next");
    jout_close(p->out, '}');
}

/* `after` may be absent; a name that is too long to be one is refused. */
static bool query_after(struct call *c, const char **ret)
{
    *ret = "";
    return !call_query(c, "after", NULL) || fs_query_name(c, "after", ret);
}

static uint64_t parent_of(struct meta_tx *tx, uint64_t ino, uint64_t at)
{
    struct entry_row e;
    if (ino == tx->drive.root || tx->meta->ops->entry_of_ino(tx, ino, at, &e))
        return ino == tx->drive.root ? ino : 0; /* 0: it has no name any more */
    return e.parent;
}

enum call_state fs_directory(struct call *c)
{
    uint64_t ino, at = 0, limit = 0;
    const char *after;
    struct attr a;
    if (!fs_query_u64(c, "ino", true, &ino) || !fs_query_u64(c, "at", false, &at) || !fs_query_u64(c, "limit", false, &limit) ||
        !query_after(c, &after))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx || !inode_of_query(c, tx, ino, at, &a))
        return CALL_DONE;
    if (!S_ISDIR(a.mode))
        return fs_fail(c, -ENOTDIR, "the inode");
    struct page p = {.out = &c->out, .limit = fs_limit(limit, PAGE_USUAL, PAGE_MAX)};
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    fs_put_attr(&c->out, "attr", &a);
    jout_u64(&c->out, "parent", parent_of(tx, ino, at));
    jout_open(&c->out, "entries", '[');
    int err = tx->meta->ops->entries(tx, ino, at, after, p.limit + 1, put_entry, &p);
    if (err < 0)
        return fs_fail(c, err, "the directory");
    put_next(&p);
    c->status = 200;
    return CALL_DONE;
}

enum call_state fs_dead(struct call *c)
{
    uint64_t ino, limit = 0;
    const char *after;
    if (!fs_query_u64(c, "ino", true, &ino) || !fs_query_u64(c, "limit", false, &limit) || !query_after(c, &after))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    struct page p = {.out = &c->out, .limit = fs_limit(limit, PAGE_USUAL, PAGE_MAX)};
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    jout_open(&c->out, "entries", '[');
    int err = tx->meta->ops->entries_dead(tx, ino, after, p.limit + 1, put_entry, &p);
    if (err < 0)
        return fs_fail(c, err, "deleted names");
    put_next(&p);
    c->status = 200;
    return CALL_DONE;
}

enum call_state fs_symlink(struct call *c)
{
    uint64_t ino;
    CLEANUP_BUF struct buf target = {0};
    if (!fs_query_u64(c, "ino", true, &ino))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    int err = tx->meta->ops->symlink_target(tx, ino, &target);
    if (err)
        return fs_fail(c, err, "the symbolic link");
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    jout_bytes(&c->out, "target", target.data, target.len);
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

static int put_xattr(void *ctx, const char *name, const void *value, size_t len)
{
    struct buf *out = ctx;
    jout_open(out, NULL, '{');
    jout_bytes(out, "name", name, strlen(name));
    jout_bytes(out, "value", value, len);
    jout_close(out, '}');
    return 0;
}

enum call_state fs_xattrs(struct call *c)
{
    uint64_t ino, at = 0;
    if (!fs_query_u64(c, "ino", true, &ino) || !fs_query_u64(c, "at", false, &at))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    jout_open(&c->out, "xattrs", '[');
    int err = tx->meta->ops->xattrs(tx, ino, at, put_xattr, &c->out);
    if (err < 0)
        return fs_fail(c, err, "extended attributes");
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}
