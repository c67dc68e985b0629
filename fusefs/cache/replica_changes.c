/* What the answers to this mount's own operations, and invalidations by others, do to what it knows. */
#include "fusefs/cache/replica_internal.h"
#include "common/mem.h"
#include "fusefs/cache/content.h"

#include <sys/stat.h>

static void names_apply(struct replica *r, const struct op_result *res)
{
    for (uint32_t i = 0; i < res->n_names; i++) {
        const struct touched_name *t = &res->names[i];
        struct node *dir = replica_find(r, t->parent);
        stamp_raise(r, STAMP_NAME, t->parent, t->name, res->seq);
        stamp_raise(r, STAMP_LISTING, t->parent, NULL, res->seq);
        if (dir)
            dentry_set(dir, t->name, t->ino, res->seq, true);
    }
}

static void xattrs_forget(struct node *n)
{
    xattr_list_unref(n->xattrs);
    n->xattrs = NULL;
}

static void xattrs_changed(struct replica *r, uint64_t ino, uint64_t seq)
{
    struct node *n = replica_find(r, ino);
    stamp_raise(r, STAMP_XATTR, ino, NULL, seq);
    if (n)
        xattrs_forget(n);
}

/* All is known of what this mount has just made. */
static void node_made(struct replica *r, struct node *n, const struct op *op, const struct attr *a)
{
    n->made_order = ++r->order;
    if (S_ISDIR(a->mode)) {
        n->complete = true;
        n->parent = op->parent;
    }
    if (S_ISLNK(a->mode) && !n->target)
        n->target = mem_strdup(op->target);
    if (!n->xattrs) {
        n->xattrs = mem_alloc(sizeof *n->xattrs);
        n->xattrs->refs = 1;
    }
}

static void attr_apply(struct replica *r, const struct op *op, const struct op_result *res, const struct attr *a)
{
    struct node *n = replica_need(r, a->ino);
    stamp_raise(r, STAMP_ATTR, a->ino, NULL, res->seq);
    attr_set(n, a, res->seq);
    if (op->kind == OP_CREATE && a->ino == op->ino)
        node_made(r, n, op, a);
    if (op->kind == OP_RENAME && S_ISDIR(a->mode) && a->ino == res->ino)
        n->parent = op->new_parent;
    if (op->kind == OP_UNLINK && a->nlink == 0)
        n->unlinked_here = true;
    if (op->kind == OP_COMMIT && a->ino == res->ino && n->read_version && n->read_version < a->version)
        n->read_version = a->version; /* what this mount wrote it also knows */
}

void replica_apply_result(struct replica *r, const struct op *op, const struct op_result *res)
{
    if (res->error || !res->seq)
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    for (uint32_t i = 0; i < res->n_attrs; i++)
        attr_apply(r, op, res, &res->attrs[i]);
    names_apply(r, res);
    if (res->xattr_ino)
        xattrs_changed(r, res->xattr_ino, res->seq);
}

void replica_apply_touch(struct replica *r, const struct touch *t)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    for (size_t i = 0; i < t->n_inodes; i++) {
        struct node *n = replica_find(r, t->inodes[i]);
        stamp_raise(r, STAMP_ATTR, t->inodes[i], NULL, t->seq);
        if (n && n->attr_seq < t->seq)
            n->attr_known = false;
    }
    for (size_t i = 0; i < t->n_names; i++) {
        struct node *dir = replica_find(r, t->names[i].parent);
        stamp_raise(r, STAMP_NAME, t->names[i].parent, t->names[i].name, t->seq);
        stamp_raise(r, STAMP_LISTING, t->names[i].parent, NULL, t->seq);
        if (dir)
            dentry_set(dir, t->names[i].name, 0, t->seq, false);
    }
    if (t->xattr_ino)
        xattrs_changed(r, t->xattr_ino, t->seq);
}

void replica_empty(struct replica *r, uint64_t seq)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (r->emptied < seq)
        r->emptied = seq;
    struct node *n, *next;
    HASH_ITER(by_ino, r->nodes, n, next)
    {
        n->attr_known = false;
        children_clear(n);
        xattrs_forget(n);
    }
}

void replica_renumber(struct replica *r, uint64_t from, uint64_t to)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    struct node *n = replica_find(r, from), *there = replica_find(r, to);
    if (!n || n == r->root)
        return;
    if (there && (there->nlookup || there->users))
        return; /* the sibling is known to the kernel already: both stay what they are */
    if (there) {
        struct attr attr = there->attr;
        uint64_t seq = there->attr_seq;
        bool known = there->attr_known;
        node_free(r, there);
        n->attr_known = false;
        if (known)
            attr_set(n, &attr, seq);
    }
    HASH_DELETE(by_ino, r->nodes, n);
    n->ino = to;
    n->read_version = 0;
    xattrs_forget(n);
    HASH_ADD(by_ino, r->nodes, ino, sizeof n->ino, n);
}
