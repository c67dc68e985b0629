/* Inodes against the names that they have. */
#include "gateway/jobs/fsck_internal.h"

#include <sys/stat.h>

#define LL(v) ((unsigned long long)(v))

struct names {
    struct fsck *f;
    struct fsck_inode *inodes;
};

struct fsck_inode *fsck_inode_find(struct fsck_inode *all, uint64_t ino)
{
    struct fsck_inode *i;
    HASH_FIND(hh, all, &ino, sizeof ino, i);
    return i;
}

static int take_inode(void *ctx, const struct attr *a, uint64_t parent, uint64_t children)
{
    struct names *n = ctx;
    struct fsck_inode *i = mem_alloc(sizeof *i);
    *i = (struct fsck_inode){.ino = a->ino, .parent = parent, .children = children, .size = a->size, .version = a->version,
                             .mode = a->mode, .nlink = a->nlink, .chunk_size = a->chunk_size};
    HASH_ADD(hh, n->inodes, ino, sizeof i->ino, i);
    n->f->report->inodes++;
    return 0;
}

static int take_name(void *ctx, uint64_t parent, const char *name, uint64_t ino)
{
    struct names *n = ctx;
    struct fsck_inode *dir = fsck_inode_find(n->inodes, parent), *i = fsck_inode_find(n->inodes, ino);
    n->f->report->entries++;
    if (!dir || !S_ISDIR(dir->mode))
        fsck_wrong(n->f, "\"%s\" is in %llu, which is no directory", name, LL(parent));
    if (!i)
        fsck_wrong(n->f, "\"%s\" in %llu is inode %llu, which is not there", name, LL(parent), LL(ino));
    if (dir)
        dir->entries++;
    if (i) {
        i->names++;
        i->named_in = parent;
    }
    if (dir && i)
        dir->subdirectories += S_ISDIR(i->mode);
    return 0;
}

static void check_directory(struct names *n, const struct fsck_inode *i)
{
    bool root = i->ino == n->f->tx->drive.root;
    uint64_t links = i->names || root ? 2 + i->subdirectories : 0;
    if (i->names > 1 || (root && i->names))
        fsck_wrong(n->f, "directory %llu has %llu names", LL(i->ino), LL(i->names));
    if (i->parent != i->named_in)
        fsck_wrong(n->f, "directory %llu has the parent %llu and a name in %llu", LL(i->ino), LL(i->parent), LL(i->named_in));
    if (i->children != i->entries)
        fsck_wrong(n->f, "directory %llu counts %llu entries and has %llu", LL(i->ino), LL(i->children), LL(i->entries));
    if (i->nlink != links)
        fsck_wrong(n->f, "directory %llu counts %u links and has %llu", LL(i->ino), i->nlink, LL(links));
}

/* Up from a directory until what is known to hang below the root. More steps than there are inodes: it goes in a circle. */
static bool hangs_below_root(struct names *n, struct fsck_inode *from)
{
    uint64_t steps = n->f->report->inodes;
    struct fsck_inode *i = from;
    while (i && !i->rooted && steps--)
        i = fsck_inode_find(n->inodes, i->named_in);
    if (!i || !i->rooted)
        return false;
    for (i = from; !i->rooted; i = fsck_inode_find(n->inodes, i->named_in))
        i->rooted = true;
    return true;
}

static void check_inodes(struct names *n)
{
    const struct drive_row *d = &n->f->tx->drive;
    struct fsck_inode *i, *next, *root = fsck_inode_find(n->inodes, d->root);
    uint64_t used = 0, files = 0;
    if (root)
        root->rooted = true;
    else
        fsck_wrong(n->f, "the root directory %llu is not there", LL(d->root));
    HASH_ITER(hh, n->inodes, i, next)
    {
        if (i->ino >= d->next_ino)
            fsck_wrong(n->f, "inode %llu was never handed out: the next one is %llu", LL(i->ino), LL(d->next_ino));
        if (S_ISDIR(i->mode))
            check_directory(n, i);
        else if (i->nlink != i->names)
            fsck_wrong(n->f, "inode %llu counts %u links and has %llu names", LL(i->ino), i->nlink, LL(i->names));
        if (S_ISDIR(i->mode) && i->names && !hangs_below_root(n, i))
            fsck_wrong(n->f, "directory %llu cannot be reached from the root", LL(i->ino));
        if (i->names || i == root)
            files++;
        if (i->names && S_ISREG(i->mode))
            used += i->size;
    }
    if (files != d->files)
        fsck_wrong(n->f, "the drive counts %llu files and has %llu", LL(d->files), LL(files));
    if (used != d->used)
        fsck_wrong(n->f, "the drive counts %llu bytes and has %llu", LL(d->used), LL(used));
}

int fsck_names(struct fsck *f, struct fsck_inode **ret)
{
    struct names n = {.f = f};
    int err = f->meta->ops->inodes_each(f->tx, take_inode, &n);
    if (!err)
        err = f->meta->ops->dentries_each(f->tx, take_name, &n);
    if (!err)
        check_inodes(&n);
    *ret = n.inodes;
    return err;
}
