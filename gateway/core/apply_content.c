/* commit, put, restore: new versions of files' content, and conflicts. */
#include "gateway/core/apply_internal.h"
#include "common/mem.h"

/* ---- checks ---- */

/* Every chunk that the operation names must be there, else -ENODATA with the list. */
static int check_chunks(struct apply *a)
{
    const struct op *op = a->op;
    for (size_t i = 0; i < op->n_changes; i++) {
        const struct hash *h = &op->changes[i].ref.hash;
        if (hash_is_zero(h))
            continue;
        int err = rows_chunk(a->r, h);
        if (err == -EAGAIN) {
            a->again = true;
        } else if (err) {
            if (!a->res->missing)
                a->res->missing = mem_calloc(op->n_changes, sizeof *a->res->missing);
            a->res->missing[a->res->n_missing++] = *h;
        }
    }
    return a->res->n_missing ? -ENODATA : 0;
}

static int check_quota(const struct apply *a, uint64_t had, uint64_t size)
{
    const struct drive_row *d = &a->r->drive;
    uint64_t others = d->used > had ? d->used - had : 0;
    return d->quota && size > had && others + size > d->quota ? -EDQUOT : 0;
}

static int check_regular(const struct inode_row *i)
{
    if (S_ISREG(i->attr.mode))
        return 0;
    return S_ISDIR(i->attr.mode) ? -EISDIR : S_ISLNK(i->attr.mode) ? -ELOOP : -EINVAL;
}

static bool is_stale(const struct op *op, const struct inode_row *i)
{
    return op->has_base && i->attr.version != op->base && (op->replaces == 0 || i->attr.version != op->replaces);
}

/* ---- plans ---- */

static struct content_plan plan_for(const struct op *op, const struct inode_row *i)
{
    struct content_plan p = {.limit = op->whole ? 0 : op->shrunk_to,
                             .size = op->size,
                             .chunk_size = op->chunk_size,
                             .changes = op->changes,
                             .n_changes = op->n_changes};
    if (i) {
        p.in_place = true;
        p.from = (struct content_source){.ino = i->attr.ino, .at = ALIVE, .size = i->attr.size, .chunk_size = i->attr.chunk_size};
    }
    return p;
}

static int plan_from_version(struct apply *a, struct content_plan *p, uint64_t ino, uint64_t version)
{
    const struct version_row *v;
    int err = rows_version(a->r, ino, version, &v);
    if (err == -EAGAIN)
        a->again = true;
    if (err)
        return err;
    p->in_place = false;
    p->from = (struct content_source){.ino = ino, .at = version, .size = v->size, .chunk_size = v->chunk_size};
    return 0;
}

/* The content that the writer had before it, plus its changes. A base that is no longer kept does no harm where everything is given. */
static int plan_from_base(struct apply *a, struct content_plan *p, const struct inode_row *i)
{
    const struct op *op = a->op;
    p->in_place = false;
    p->from = (struct content_source){0};
    if (op->base == 0 || p->limit == 0 || op->n_changes == chunk_count(op->size, op->chunk_size))
        return 0;
    int err = plan_from_version(a, p, i->attr.ino, op->base);
    return err == -ENOENT ? -ESTALE : err;
}

/* ---- writing ---- */

static void write_version(struct apply *a, const struct content_plan *p, struct inode_row *i, int64_t mtime)
{
    struct attr *attr = &i->attr;
    struct drive_row *drive = &a->r->drive;
    struct version_row v = {.ino = attr->ino, .version = a->seq, .sha256 = a->op->sha256, .mtime = mtime, .at = a->r->now, .user = a->who->user, .listed = true};
    memcpy(v.device, a->who->device, sizeof v.device);
    v.quarantined = attr->quarantined;
    content_write(a, p, attr->ino, attr->size, &v);
    rows_version_add(a->r, &v);
    if (attr->nlink) {
        drive->used -= attr->size < drive->used ? attr->size : drive->used;
        drive->used += v.size;
    }
    if (p->in_place) {
        content_range(p, &a->res->content_from, &a->res->content_to);
    } else {
        a->res->content_from = 0;
        a->res->content_to = attr->size > v.size ? attr->size : v.size;
    }
    a->res->content_ino = attr->ino;
    a->res->version = a->seq;
    attr->version = a->seq;
    attr->size = v.size;
    attr->chunk_size = v.chunk_size;
    attr->mtime = mtime;
}

static int64_t mtime_of(const struct apply *a)
{
    return a->op->has_mtime ? a->op->mtime : a->r->now;
}

/* A new version of a file, at the place where it is (none: it was unlinked). */
static void replace_content(struct apply *a, const struct content_plan *p, struct inode_row *i, const struct apply_where *where)
{
    apply_begin(a);
    apply_touch_inode(a, i);
    if (a->op->replaces && a->op->replaces == i->attr.version)
        rows_version_unlist(a->r, i->attr.ino, i->attr.version);
    i->attr.quarantined = false;
    write_version(a, p, i, mtime_of(a));
    apply_finish(a, a->op->restored ? 'r' : 'm', i->attr.ino, where);
}

/* A new file at a free name, with this content. */
static struct inode_row *make_file(struct apply *a, const struct content_plan *p, const struct attr *attr, struct inode_row *dir, struct dentry_row *d,
                                   int64_t mtime)
{
    struct attr fresh = {.ino = attr->ino, .mode = attr->mode, .uid = attr->uid, .gid = attr->gid, .nlink = 1, .quarantined = attr->quarantined};
    struct inode_row *i = apply_new_inode(a, &fresh);
    apply_name_born(a, dir, d, i);
    apply_add_name(a, d);
    write_version(a, p, i, mtime);
    return i;
}

/* Nothing is lost and nobody is overwritten: the later content becomes a file of its own beside `name`. */
static int make_sibling(struct apply *a, struct content_plan *p, const struct inode_row *i, const struct dentry_row *name)
{
    struct inode_row *dir;
    struct dentry_row *d;
    uint64_t parent = name->parent;
    int err = plan_from_base(a, p, i);
    int dir_err = apply_directory(a, parent, &dir);
    int name_err = apply_sibling_name(a, parent, name->name, &d);
    if (a->again || err || dir_err || name_err)
        return err ? err : dir_err ? dir_err : name_err;
    err = content_gather(a, p);
    if (!err)
        err = check_quota(a, 0, p->size);
    if (a->again || err)
        return err;

    apply_begin(a);
    struct attr attr = i->attr;
    attr.ino = a->r->drive.next_ino++;
    attr.quarantined = false;
    make_file(a, p, &attr, dir, d, mtime_of(a));
    apply_add_name(a, name);
    a->res->conflict_parent = parent;
    memcpy(a->res->conflict_name, d->name, sizeof a->res->conflict_name);
    apply_finish(a, 'c', attr.ino, &(struct apply_where){.parent = parent, .name = d->name});
    return 0;
}

/* ---- operations ---- */

/* name NULL: the file has none any more, and so nobody else to be in conflict with. */
static int commit_to(struct apply *a, struct inode_row *i, const struct dentry_row *name)
{
    struct content_plan p = plan_for(a->op, i);
    int err = check_chunks(a);
    if (a->again || err)
        return err;
    if (is_stale(a->op, i) || a->op->aside) {
        if (a->op->exact)
            return -ESTALE;
        if (a->op->append && !a->op->aside) { /* the writer puts its bytes behind what is there now, and comes again */
            a->res->attrs[0] = i->attr;
            a->res->n_attrs = 1;
            a->res->ino = i->attr.ino;
            return -ESTALE;
        }
        if (name)
            return make_sibling(a, &p, i, name);
        err = plan_from_base(a, &p, i);
        if (err)
            return err;
    }
    err = content_gather(a, &p);
    if (!err && i->attr.nlink)
        err = check_quota(a, i->attr.size, p.size);
    if (a->again || err)
        return err;
    replace_content(a, &p, i, name ? &(struct apply_where){.parent = name->parent, .name = name->name} : &(struct apply_where){0});
    return 0;
}

int apply_commit(struct apply *a)
{
    struct inode_row *i;
    const struct dentry_row *name;
    int err = apply_inode(a, a->op->ino, &i);
    int name_err = apply_entry_of(a, a->op->ino, &name);
    if (a->again) {
        check_chunks(a); /* asks for them in the same round */
        return -EAGAIN;
    }
    if (err || name_err)
        return err ? err : name_err;
    err = check_regular(i);
    return err ? err : commit_to(a, i, name);
}

static int put_new(struct apply *a, struct inode_row *dir, struct dentry_row *d)
{
    const struct op *op = a->op;
    struct content_plan p = plan_for(op, NULL);
    int err = check_chunks(a);
    int ino_err = apply_ino_unused(a, op->ino);
    if (a->again || err || ino_err)
        return err ? err : ino_err;
    if (op->has_base && op->base && !op->whole && op->n_changes < chunk_count(op->size, op->chunk_size))
        return -ESTALE; /* what it builds on is gone */
    err = content_gather(a, &p);
    if (!err)
        err = check_quota(a, 0, op->size);
    if (a->again || err)
        return err;

    apply_begin(a);
    uint32_t bits = op->mode ? op->mode & 07777u : 0644u;
    struct attr attr = {.ino = op->ino, .mode = S_IFREG | bits, .uid = op->uid, .gid = op->gid};
    make_file(a, &p, &attr, dir, d, mtime_of(a));
    apply_finish(a, op->restored ? 'r' : 'c', op->ino, &(struct apply_where){.parent = op->parent, .name = op->name});
    return 0;
}

int apply_put(struct apply *a)
{
    struct inode_row *dir, *i;
    struct dentry_row *d;
    int err = apply_place(a, a->op->parent, a->op->name, &dir, &d);
    if (a->again) {
        check_chunks(a);
        return -EAGAIN;
    }
    if (err)
        return err;
    if (a->op->exact && (d->ino != 0) != (a->op->base != 0))
        return d->ino ? -EEXIST : -ESTALE;
    if (!d->ino)
        return put_new(a, dir, d);
    err = apply_inode_of(a, d, &i);
    if (!err)
        err = check_regular(i);
    return err ? err : commit_to(a, i, d);
}

/* Where restored content goes: an inode that is there, and a name that it is to get (d, if that is free). */
struct restore_place {
    struct inode_row *dir, *i; /* i NULL: a new file */
    struct dentry_row *d;
    struct apply_where where;
};

static int find_restore_place(struct apply *a, struct inode_row *owner, struct restore_place *ret)
{
    const struct op *op = a->op;
    const struct dentry_row *name;
    *ret = (struct restore_place){.i = owner};
    if (!op->name) {
        int err = apply_entry_of(a, op->ino, &name);
        if (err)
            return err;
        if (!name)
            return -ENOENT; /* a deleted file comes back by its name */
        ret->where = (struct apply_where){.parent = name->parent, .name = name->name};
        return 0;
    }
    ret->where = (struct apply_where){.parent = op->parent, .name = op->name};
    int err = apply_place(a, op->parent, op->name, &ret->dir, &ret->d);
    if (err)
        return err;
    if (ret->d->ino) {
        err = apply_inode_of(a, ret->d, &ret->i);
        return err ? err : check_regular(ret->i);
    }
    if (owner->attr.nlink)
        ret->i = NULL;
    return 0;
}

static void restore_write(struct apply *a, const struct content_plan *p, const struct inode_row *owner, struct restore_place *at)
{
    struct inode_row *i = at->i;
    bool reborn = i && at->d && !at->d->ino;
    apply_begin(a);
    if (!i) {
        struct attr attr = owner->attr;
        attr.ino = a->r->drive.next_ino++;
        attr.quarantined = false;
        i = make_file(a, p, &attr, at->dir, at->d, a->r->now);
        apply_finish(a, 'r', i->attr.ino, &at->where);
        return;
    }
    apply_touch_inode(a, i);
    if (reborn) {
        a->r->drive.used += i->attr.size; /* as if it had never gone; write_version counts from there */
        a->r->drive.files++;
        i->attr.nlink = 1;
        apply_name_born(a, at->dir, at->d, i);
        apply_add_name(a, at->d);
    }
    i->attr.quarantined = false;
    write_version(a, p, i, a->r->now);
    apply_finish(a, 'r', i->attr.ino, &at->where);
}

int apply_restore(struct apply *a)
{
    const struct op *op = a->op;
    struct inode_row *owner;
    const struct version_row *v;
    struct restore_place at;
    struct content_plan p = {0};
    int err = apply_inode(a, op->ino, &owner);
    int v_err = plan_from_version(a, &p, op->ino, op->version);
    if (a->again || err || v_err)
        return err ? err : v_err;
    err = find_restore_place(a, owner, &at);
    if (err)
        return err;
    rows_version(a->r, op->ino, op->version, &v);
    struct version_row old = *v;
    if (old.quarantined)
        return -EACCES; /* infected content does not become new content */
    p.limit = p.size = old.size;
    p.chunk_size = old.chunk_size;
    err = content_gather(a, &p);
    if (!err)
        err = check_quota(a, at.i && at.i->attr.nlink ? at.i->attr.size : 0, p.size);
    if (a->again || err)
        return err;
    restore_write(a, &p, owner, &at);
    return 0;
}
