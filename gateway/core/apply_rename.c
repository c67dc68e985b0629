/* rename, in the order of checks of do_renameat2(): see fs/namei.c and rename(2). */
#include "gateway/core/apply_internal.h"

/* Both ends of a rename. The two directories may be one, and then so are the rows. */
struct ends {
    struct inode_row *from_dir, *to_dir, *moved, *target; /* target NULL: the new name is free */
    struct dentry_row *from, *to;
};

/* 0, or err where dir is `ancestor` or lies below it. */
static int refuse_below(struct apply *a, uint64_t ancestor, const struct inode_row *dir, int err)
{
    while (dir->attr.ino != ancestor) {
        if (dir->parent == 0)
            return 0;
        struct inode_row *up;
        int up_err = apply_inode(a, dir->parent, &up);
        if (up_err)
            return up_err == -ENOENT ? -EIO : up_err;
        dir = up;
    }
    return err;
}

static int find_ends(struct apply *a, struct ends *e)
{
    const struct op *op = a->op;
    int err = apply_place(a, op->parent, op->name, &e->from_dir, &e->from);
    int to_err = apply_place(a, op->new_parent, op->new_name, &e->to_dir, &e->to);
    if (a->again || err || to_err)
        return err ? err : to_err;
    if (e->from->ino == 0)
        return -ENOENT;
    if (op->ino && op->ino != e->from->ino)
        return -ESTALE;
    if ((op->rename_flags & OP_RENAME_NOREPLACE) && e->to->ino)
        return -EEXIST;
    if ((op->rename_flags & OP_RENAME_EXCHANGE) && !e->to->ino)
        return -ENOENT;
    err = apply_inode_of(a, e->from, &e->moved);
    e->target = NULL;
    if (e->to->ino) {
        to_err = apply_inode_of(a, e->to, &e->target);
        err = err ? err : to_err;
    }
    return err;
}

static int check(struct apply *a, const struct ends *e)
{
    bool exchange = a->op->rename_flags & OP_RENAME_EXCHANGE, is_dir = S_ISDIR(e->moved->attr.mode);
    bool target_is_dir = e->target && S_ISDIR(e->target->attr.mode);
    int err = 0;
    if (is_dir)
        err = refuse_below(a, e->moved->attr.ino, e->to_dir, -EINVAL);
    if (!err && target_is_dir && exchange)
        err = refuse_below(a, e->target->attr.ino, e->from_dir, -EINVAL);
    if (err || !e->target || exchange || e->target == e->moved)
        return err;
    if (is_dir && !target_is_dir) {
        return -ENOTDIR;
    }
    if (!is_dir && target_is_dir) {
        /* The kernel notices a target that holds the source before it compares the types. */
        err = refuse_below(a, e->target->attr.ino, e->from_dir, -ENOTEMPTY);
        return err ? err : -EISDIR;
    }
    return is_dir && e->target->children ? -ENOTEMPTY : 0;
}

static void exchange_names(struct apply *a, struct ends *e)
{
    apply_touch_inode(a, e->moved);
    apply_touch_inode(a, e->target);
    apply_name_dies(a, e->from_dir, e->from, e->moved);
    apply_name_dies(a, e->to_dir, e->to, e->target);
    apply_name_born(a, e->to_dir, e->to, e->moved);
    apply_name_born(a, e->from_dir, e->from, e->target);
}

static void move_name(struct apply *a, struct ends *e)
{
    apply_touch_inode(a, e->moved);
    if (e->target) {
        apply_inode_loses_name(a, e->target);
        apply_name_dies(a, e->to_dir, e->to, e->target);
    }
    apply_name_dies(a, e->from_dir, e->from, e->moved);
    apply_name_born(a, e->to_dir, e->to, e->moved);
}

int apply_rename(struct apply *a)
{
    const struct op *op = a->op;
    struct ends e;
    if ((op->rename_flags & OP_RENAME_NOREPLACE) && (op->rename_flags & OP_RENAME_EXCHANGE))
        return -EINVAL;
    int err = find_ends(a, &e);
    if (!err)
        err = check(a, &e);
    if (err)
        return err;
    if (e.moved == e.target) { /* two names of one file: nothing happens, says POSIX */
        a->res->seq = a->r->drive.seq;
        a->res->ino = e.moved->attr.ino;
        return 0;
    }
    bool exchange = op->rename_flags & OP_RENAME_EXCHANGE;
    struct dentry_row *taken = NULL;
    if (!exchange && op->target_base && e.target && S_ISREG(e.target->attr.mode) && e.target->attr.version != op->target_base) {
        taken = e.to; /* docs/decisions/0006 */
        err = apply_sibling_name(a, op->new_parent, op->new_name, &e.to);
        if (err)
            return err;
        e.target = NULL;
    }

    apply_begin(a);
    if (exchange)
        exchange_names(a, &e);
    else
        move_name(a, &e);
    apply_add_name(a, e.from);
    apply_add_name(a, e.to);
    if (taken) {
        apply_add_name(a, taken);
        a->res->conflict_parent = e.to->parent;
        memcpy(a->res->conflict_name, e.to->name, sizeof a->res->conflict_name);
    }
    apply_finish(a, 'v', e.moved->attr.ino,
                 &(struct apply_where){.parent = e.to->parent, .name = e.to->name, .from_parent = op->parent, .from_name = op->name});
    return 0;
}
