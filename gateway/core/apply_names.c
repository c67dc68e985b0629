/* create, link, unlink, rmdir. Errors and their order are those of Linux's namei.c over ext4. */
#include "gateway/core/apply_internal.h"
#include "common/mem.h"

int apply_create(struct apply *a)
{
    const struct op *op = a->op;
    struct inode_row *dir;
    struct dentry_row *d;
    int err = apply_place(a, op->parent, op->name, &dir, &d);
    int ino_err = apply_ino_unused(a, op->ino);
    if (err || a->again)
        return err;
    if (d->ino)
        return -EEXIST;
    if (S_ISLNK(op->mode) && !op->target)
        return -EINVAL;
    if (ino_err)
        return ino_err;

    apply_begin(a);
    struct attr attr = {.ino = op->ino, .mode = op->mode, .uid = op->uid, .gid = op->gid, .rdev = op->rdev};
    attr.nlink = S_ISDIR(op->mode) ? 2 : 1;
    if (S_ISLNK(op->mode))
        attr.size = strlen(op->target);
    struct inode_row *i = apply_new_inode(a, &attr);
    if (S_ISLNK(op->mode))
        i->target = mem_strdup(op->target);
    apply_name_born(a, dir, d, i);
    apply_add_name(a, d);
    apply_finish(a, op->restored ? 'r' : 'c', op->ino, &(struct apply_where){.parent = op->parent, .name = op->name});
    return 0;
}

int apply_link(struct apply *a)
{
    const struct op *op = a->op;
    struct inode_row *i, *dir;
    struct dentry_row *d;
    int ino_err = apply_inode(a, op->ino, &i);
    int err = apply_place(a, op->parent, op->name, &dir, &d);
    if (ino_err || err)
        return ino_err ? ino_err : err;
    if (d->ino)
        return -EEXIST;
    if (S_ISDIR(i->attr.mode))
        return -EPERM;
    if (i->attr.nlink == 0)
        return -ENOENT;

    apply_begin(a);
    apply_touch_inode(a, i);
    i->attr.nlink++;
    apply_name_born(a, dir, d, i);
    apply_add_name(a, d);
    apply_finish(a, 'c', op->ino, &(struct apply_where){.parent = op->parent, .name = op->name});
    return 0;
}

/* The living name that op is about, its directory and its inode. */
static int find_victim(struct apply *a, struct inode_row **ret_dir, struct dentry_row **ret_d, struct inode_row **ret)
{
    int err = apply_place(a, a->op->parent, a->op->name, ret_dir, ret_d);
    if (err)
        return err;
    if ((*ret_d)->ino == 0)
        return -ENOENT;
    if (a->op->ino && a->op->ino != (*ret_d)->ino)
        return -ESTALE;
    return apply_inode_of(a, *ret_d, ret);
}

static void remove_name(struct apply *a, struct inode_row *dir, struct dentry_row *d, struct inode_row *i)
{
    apply_begin(a);
    apply_inode_loses_name(a, i);
    apply_name_dies(a, dir, d, i);
    apply_add_name(a, d);
    apply_finish(a, 'd', i->attr.ino, &(struct apply_where){.parent = a->op->parent, .name = a->op->name});
}

int apply_unlink(struct apply *a)
{
    struct inode_row *dir, *i;
    struct dentry_row *d;
    int err = find_victim(a, &dir, &d, &i);
    if (err)
        return err;
    if (S_ISDIR(i->attr.mode))
        return -EISDIR;
    remove_name(a, dir, d, i);
    return 0;
}

int apply_rmdir(struct apply *a)
{
    struct inode_row *dir, *i;
    struct dentry_row *d;
    int err = find_victim(a, &dir, &d, &i);
    if (err)
        return err;
    if (!S_ISDIR(i->attr.mode))
        return -ENOTDIR;
    if (i->children)
        return -ENOTEMPTY;
    remove_name(a, dir, d, i);
    return 0;
}
