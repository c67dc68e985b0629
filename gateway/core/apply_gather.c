/* Asking ahead: the rows that an operation is going to want, as far as can be told before those in front of it are applied. Changes nothing; an unneeded row costs its
   loading, a row not asked for costs another round. */
#include "gateway/core/apply.h"

static bool is_new(const struct apply_ahead *ahead, uint64_t ino)
{
    return ino != 0 && ino == ahead->created;
}

static void ask_inode(struct rows *r, uint64_t ino, const struct apply_ahead *ahead)
{
    struct inode_row *i;
    if (ino && !is_new(ahead, ino))
        rows_inode(r, ino, &i);
}

static void ask_place(struct rows *r, uint64_t parent, const char *name, const struct apply_ahead *ahead)
{
    struct dentry_row *d;
    if (!name || is_new(ahead, parent))
        return;
    ask_inode(r, parent, ahead);
    if (rows_dentry(r, parent, name, &d) == 0)
        ask_inode(r, d->ino, ahead);
}

static void ask_content(struct rows *r, const struct op *op, uint64_t ino)
{
    struct inode_row *i;
    const struct segment_row *g;
    for (size_t c = 0; c < op->n_changes; c++)
        if (!hash_is_zero(&op->changes[c].ref.hash))
            rows_chunk(r, &op->changes[c].ref.hash);
    if (op->whole || !ino || rows_inode(r, ino, &i) || i->fresh || i->attr.size == 0 || i->attr.chunk_size == 0)
        return;
    uint64_t count = chunk_count(i->attr.size, i->attr.chunk_size);
    if (op->n_changes >= count && op->size <= (uint64_t)op->n_changes * op->chunk_size)
        return; /* everything is given */
    for (uint64_t k = 0; k * SEGMENT_CHUNKS < count; k++)
        rows_segment(r, ino, k, ALIVE, &g);
}

static void ask_owned(struct rows *r, const struct op *op, const struct apply_ahead *ahead)
{
    const struct dentry_row *d;
    if (is_new(ahead, op->ino))
        return;
    ask_inode(r, op->ino, ahead);
    rows_entry_of(r, op->ino, &d);
}

void apply_gather(struct rows *r, const struct op *op, struct apply_ahead *ahead)
{
    struct dentry_row *d;
    struct xattr_row *x;
    const struct version_row *v;
    struct lock_row *locks;
    size_t n;
    switch (op->kind) {
    case OP_CREATE:
    case OP_LINK:
        ask_place(r, op->parent, op->name, ahead);
        ask_inode(r, op->ino, ahead);
        if (op->kind == OP_CREATE)
            ahead->created = op->ino;
        break;
    case OP_UNLINK:
    case OP_RMDIR:
        ask_place(r, op->parent, op->name, ahead);
        break;
    case OP_RENAME:
        ask_place(r, op->parent, op->name, ahead);
        ask_place(r, op->new_parent, op->new_name, ahead);
        break;
    case OP_SETATTR:
        ask_owned(r, op, ahead);
        break;
    case OP_SETXATTR:
    case OP_REMOVEXATTR:
        ask_owned(r, op, ahead);
        if (op->xattr && !is_new(ahead, op->ino))
            rows_xattr(r, op->ino, op->xattr, &x);
        break;
    case OP_COMMIT:
        ask_owned(r, op, ahead);
        ask_content(r, op, is_new(ahead, op->ino) ? 0 : op->ino);
        break;
    case OP_PUT:
        ask_place(r, op->parent, op->name, ahead);
        ask_inode(r, op->ino, ahead);
        ask_content(r, op, op->name && !is_new(ahead, op->parent) && rows_dentry(r, op->parent, op->name, &d) == 0 ? d->ino : 0);
        break;
    case OP_RESTORE:
        ask_owned(r, op, ahead);
        ask_place(r, op->parent, op->name, ahead);
        rows_version(r, op->ino, op->version, &v);
        break;
    case OP_LOCK:
        ask_inode(r, op->ino, ahead);
        rows_locks(r, op->ino, &locks, &n);
        break;
    case OP_LOCK_RELEASE_ALL:
        break;
    case OP_QUARANTINE:
        ask_owned(r, op, ahead);
        rows_version(r, op->ino, op->version, &v);
        break;
    }
}
