/* Attributes and extended attributes. */
#include "gateway/core/apply_internal.h"
#include <sys/xattr.h>

/* Asks for the inode and, for the change log, for where it is. */
static int find(struct apply *a, struct inode_row **ret, struct apply_where *ret_where)
{
    const struct dentry_row *d;
    int err = apply_inode(a, a->op->ino, ret);
    int where_err = apply_entry_of(a, a->op->ino, &d);
    if (err || where_err)
        return err ? err : where_err;
    if (d)
        *ret_where = (struct apply_where){.parent = d->parent, .name = d->name};
    return 0;
}

int apply_setattr(struct apply *a)
{
    const struct op *op = a->op;
    struct inode_row *i;
    struct apply_where where = {0};
    int err = find(a, &i, &where);
    if (err)
        return err;

    apply_begin(a);
    apply_touch_inode(a, i);
    struct attr *attr = &i->attr;
    if (op->set & SET_MODE)
        attr->mode = (attr->mode & (uint32_t)S_IFMT) | (op->mode & 07777u);
    if (op->set & SET_UID)
        attr->uid = op->uid;
    if (op->set & SET_GID)
        attr->gid = op->gid;
    if (op->set & (SET_ATIME | SET_ATIME_NOW))
        attr->atime = op->set & SET_ATIME_NOW ? a->r->now : op->atime;
    if (op->set & (SET_MTIME | SET_MTIME_NOW))
        attr->mtime = op->set & SET_MTIME_NOW ? a->r->now : op->mtime;
    apply_finish(a, 'a', op->ino, &where);
    return 0;
}

static int find_xattr(struct apply *a, struct inode_row **ret, struct apply_where *ret_where, struct xattr_row **ret_x)
{
    if (!a->op->xattr || !*a->op->xattr)
        return -EINVAL;
    if (strlen(a->op->xattr) > NAME_LEN_MAX)
        return -ERANGE;
    int x_err = rows_xattr(a->r, a->op->ino, a->op->xattr, ret_x);
    if (x_err == -EAGAIN)
        a->again = true;
    int err = find(a, ret, ret_where);
    return err ? err : x_err;
}

int apply_setxattr(struct apply *a)
{
    const struct op *op = a->op;
    struct inode_row *i;
    struct xattr_row *x;
    struct apply_where where = {0};
    if (op->value_len > XATTR_VALUE_MAX)
        return -E2BIG;
    int err = find_xattr(a, &i, &where, &x);
    if (err)
        return err;
    if (x->value && (op->xattr_flags & XATTR_CREATE))
        return -EEXIST;
    if (!x->value && (op->xattr_flags & XATTR_REPLACE))
        return -ENODATA;

    apply_begin(a);
    apply_touch_inode(a, i);
    rows_xattr_set(a->r, x, op->value ? op->value : "", op->value_len, a->seq);
    a->res->xattr_ino = op->ino;
    apply_finish(a, 'a', op->ino, &where);
    return 0;
}

int apply_removexattr(struct apply *a)
{
    struct inode_row *i;
    struct xattr_row *x;
    struct apply_where where = {0};
    int err = find_xattr(a, &i, &where, &x);
    if (err)
        return err;
    if (!x->value)
        return -ENODATA;

    apply_begin(a);
    apply_touch_inode(a, i);
    rows_xattr_set(a->r, x, NULL, 0, a->seq);
    a->res->xattr_ino = a->op->ino;
    apply_finish(a, 'a', a->op->ino, &where);
    return 0;
}
