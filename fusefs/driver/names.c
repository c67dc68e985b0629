/* Names: look-up, create, link, unlink, rename. Each change is one operation, answered when the gateway has it. */
#include "fusefs/driver/mount.h"
#include "common/clock.h"
#include <sys/sysmacros.h>

int mount_run(struct mount *m, const struct op *op, struct op_result *ret)
{
    int err = opqueue_run(m->ops, op, 1, NULL, 0, ret);
    return err ? err : ret->error;
}

int mount_new_ino(struct mount *m, uint64_t *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&m->ino_lock);
    if (m->ino_next == m->ino_end) { /* rare: a range is thousands of numbers; others who create wait for the same answer */
        uint64_t count = m->info->ino_count ? m->info->ino_count : 1024, first;
        int err;
        MOUNT_ASK(m, err, remote_inodes(m->remote, count, &first));
        if (err)
            return err;
        m->ino_next = first;
        m->ino_end = first + count;
    }
    *ret = m->ino_next++;
    return 0;
}

/* ---- look-up ---- */

#define TRIES 50

int mount_ask_name(struct mount *m, struct node *parent, const char *name, struct node **ret_node, struct attr *ret)
{
    uint64_t seq;
    bool found;
    int err;
    MOUNT_ASK(m, err, remote_lookup(m->remote, parent->ino, name, 0, &seq, &found, ret));
    if (err)
        return err;
    if (!replica_fill_name(m->replica, parent, name, seq, found ? ret : NULL, ret_node))
        return -EAGAIN;
    return found ? 0 : -ENOENT;
}

int mount_lookup(struct mount *m, struct node *parent, const char *name, struct node **ret_node, struct attr *ret)
{
    int err = sync_fresh(m->sync);
    if (err)
        return err;
    for (int tries = 0; tries < TRIES; tries++) {
        int known = replica_lookup(m->replica, parent, name, ret_node, ret);
        if (known >= 0)
            return known ? 0 : -ENOENT;
        if (mount_list_ahead(m, parent))
            continue;
        err = mount_ask_name(m, parent, name, ret_node, ret);
        if (err != -EAGAIN)
            return err;
    }
    return -EIO; /* changed each time while it was asked for */
}

static void reply_missing(fuse_req_t req, struct mount *m, struct node *parent)
{
    struct fuse_entry_param e = {0}; /* ino 0: the kernel may keep the "no" */
    if (sync_trusted(m->sync)) {
        replica_lock(m->replica);
        e.entry_timeout = kernel_name_seconds(m->kernel, parent);
        replica_unlock(m->replica);
    }
    fuse_reply_entry(req, &e);
}

static void reply_entry(fuse_req_t req, struct mount *m, struct node *parent, struct node *n, const struct attr *a)
{
    struct fuse_entry_param e;
    mount_entry(m, parent, n, a, &e);
    if (fuse_reply_entry(req, &e) == -ENOENT) /* the caller was interrupted: the kernel did not take it */
        replica_forget(m->replica, e.ino, 1);
}

void names_lookup(fuse_req_t req, fuse_ino_t parent_id, const char *name)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, parent_id)) {
        history_lookup(req, parent_id, name);
        return;
    }
    if (parent_id == FUSE_ROOT_ID && strcmp(name, HISTORY_NAME) == 0) {
        history_lookup_top(req);
        return;
    }
    if (strlen(name) > NAME_LEN_MAX) {
        fuse_reply_err(req, ENAMETOOLONG);
        return;
    }
    struct node *parent = node_of(m, parent_id), *n;
    struct attr a;
    int err = mount_lookup(m, parent, name, &n, &a);
    if (err == -ENOENT)
        reply_missing(req, m, parent);
    else if (err)
        fuse_reply_err(req, -err);
    else
        reply_entry(req, m, parent, n, &a);
}

static void forget(struct mount *m, fuse_ino_t id, uint64_t nlookup)
{
    if (history_owns(m, id))
        history_forget(m, id, nlookup);
    else
        replica_forget(m->replica, id, nlookup);
}

void names_forget(fuse_req_t req, fuse_ino_t id, uint64_t nlookup)
{
    forget(mount_of(req), id, nlookup);
    fuse_reply_none(req);
}

void names_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget(mount_of(req), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

/* ---- changes ---- */

/* Marks that the kernel holds this directory's lock until the call is answered. */
static void busy(struct mount *m, struct node *dir, int by)
{
    if (by > 0)
        replica_use(m->replica, dir);
    replica_lock(m->replica);
    dir->names_in_flight = (uint32_t)((int)dir->names_in_flight + by);
    replica_unlock(m->replica);
    if (by < 0)
        replica_leave(m->replica, dir);
}

/* 0, or the errno with which a change of names in this directory is refused. */
static int refused(struct mount *m, fuse_ino_t parent, const char *name)
{
    if (history_owns(m, parent) || m->options.read_only)
        return EROFS;
    if (parent == FUSE_ROOT_ID && strcmp(name, HISTORY_NAME) == 0)
        return EPERM;
    return strlen(name) > NAME_LEN_MAX ? ENAMETOOLONG : 0;
}

/* In a directory with the setgid bit what is made belongs to its group, and directories pass the bit on (inode_init_owner in Linux). */
static int create_op(fuse_req_t req, struct mount *m, struct node *parent, const char *name, mode_t mode, struct op *ret)
{
    const struct fuse_ctx *who = fuse_req_ctx(req);
    struct attr dir;
    uint64_t ino;
    int err = mount_attr(m, parent, &dir);
    if (!err)
        err = mount_new_ino(m, &ino);
    if (err)
        return err;
    *ret = (struct op){.kind = OP_CREATE, .ino = ino, .parent = parent->ino, .name = (char *)(uintptr_t)name, .mode = mode, .uid = who->uid, .gid = who->gid};
    if (dir.mode & S_ISGID) {
        ret->gid = dir.gid;
        if (S_ISDIR(mode))
            ret->mode |= S_ISGID;
    }
    return 0;
}

/* Runs a create or link and finds the node of what was made (nlookup raised). */
static int make(struct mount *m, struct node *parent, const struct op *op, struct node **ret_node, struct attr *ret)
{
    struct op_result res = {0};
    int err = mount_run(m, op, &res);
    bool found = false;
    for (uint32_t i = 0; !err && i < res.n_attrs; i++)
        if (res.attrs[i].ino == op->ino) {
            *ret = res.attrs[i];
            found = true;
        }
    if (!err && !found)
        err = -EPROTO;
    if (!err && !replica_fill_name(m->replica, parent, op->name, res.seq, ret, ret_node))
        err = mount_lookup(m, parent, op->name, ret_node, ret); /* changed again already */
    op_result_fini(&res);
    return err;
}

static void create(fuse_req_t req, fuse_ino_t parent_id, const char *name, mode_t mode, dev_t rdev, const char *target)
{
    struct mount *m = mount_of(req);
    int err = -refused(m, parent_id, name);
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    struct node *parent = node_of(m, parent_id), *n;
    struct attr a;
    struct op op;
    busy(m, parent, 1);
    err = create_op(req, m, parent, name, mode, &op);
    if (!err) {
        op.rdev = (uint64_t)major(rdev) << 32 | minor(rdev);
        op.target = (char *)(uintptr_t)target;
        err = make(m, parent, &op, &n, &a);
    }
    if (err)
        fuse_reply_err(req, -err);
    else
        reply_entry(req, m, parent, n, &a);
    busy(m, parent, -1);
}

void names_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    create(req, parent, name, mode & S_IFMT ? mode : mode | S_IFREG, S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0, NULL);
}
void names_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    create(req, parent, name, S_IFDIR | (mode & 07777), 0, NULL);
}
void names_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    create(req, parent, name, S_IFLNK | 0777, 0, target);
}

/* Makes the file, or finds the one that was made elsewhere between the kernel's look-up and now: of which the gateway knows, and this mount perhaps not yet. */
static int make_or_find(struct mount *m, struct node *parent, const struct op *op, struct node **ret_node, struct attr *ret)
{
    int err = make(m, parent, op, ret_node, ret);
    for (int tries = 0; tries < TRIES && (err == -EEXIST || err == -EAGAIN); tries++) {
        err = mount_ask_name(m, parent, op->name, ret_node, ret);
        if (err == -ENOENT) /* and removed again */
            err = make(m, parent, op, ret_node, ret);
    }
    return err == -EAGAIN ? -EIO : err;
}

void names_create(fuse_req_t req, fuse_ino_t parent_id, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    struct mount *m = mount_of(req);
    int err = -refused(m, parent_id, name);
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    struct node *parent = node_of(m, parent_id), *n = NULL;
    struct attr a;
    struct op op;
    busy(m, parent, 1);
    err = create_op(req, m, parent, name, S_IFREG | (mode & 07777), &op);
    if (!err)
        err = fi->flags & O_EXCL ? make(m, parent, &op, &n, &a) : make_or_find(m, parent, &op, &n, &a);
    if (!err && !S_ISREG(a.mode)) {
        replica_forget(m->replica, replica_id(m->replica, n), 1);
        err = S_ISDIR(a.mode) ? -EISDIR : -EEXIST;
    }
    if (err) {
        fuse_reply_err(req, -err);
    } else {
        struct fuse_entry_param e;
        struct handle *h = files_handle(m, n, &a, fi->flags);
        h->made = true;
        fi->fh = (uint64_t)(uintptr_t)h;
        fi->keep_cache = 1;
        mount_entry(m, parent, n, &a, &e);
        if (fuse_reply_create(req, &e, fi) == -ENOENT) {
            files_abandon(m, fi);
            replica_forget(m->replica, e.ino, 1);
        }
    }
    busy(m, parent, -1);
}

void names_link(fuse_req_t req, fuse_ino_t id, fuse_ino_t parent_id, const char *name)
{
    struct mount *m = mount_of(req);
    int err = -refused(m, parent_id, name);
    if (!err && history_owns(m, id))
        err = -EXDEV;
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    struct node *parent = node_of(m, parent_id), *n = node_of(m, id);
    struct attr a;
    struct op op = {.kind = OP_LINK, .ino = n->ino, .parent = parent->ino, .name = (char *)(uintptr_t)name};
    busy(m, parent, 1);
    err = make(m, parent, &op, &n, &a);
    if (err)
        fuse_reply_err(req, -err);
    else
        reply_entry(req, m, parent, n, &a);
    busy(m, parent, -1);
}

static void removal(fuse_req_t req, fuse_ino_t parent_id, const char *name, enum op_kind kind)
{
    struct mount *m = mount_of(req);
    int err = -refused(m, parent_id, name);
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    struct node *parent = node_of(m, parent_id);
    struct op op = {.kind = kind, .parent = parent->ino, .name = (char *)(uintptr_t)name};
    struct op_result res = {0};
    busy(m, parent, 1);
    err = mount_run(m, &op, &res);
    fuse_reply_err(req, -err);
    busy(m, parent, -1);
    op_result_fini(&res);
}

void names_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    removal(req, parent, name, OP_UNLINK);
}
void names_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    removal(req, parent, name, OP_RMDIR);
}

/* The version of the file about to be replaced that programs of this mount have read, if they had before the new file was made (docs/decisions/0006). */
static uint64_t target_base(struct mount *m, struct node *from, const char *name, struct node *to, const char *new_name)
{
    struct node *source = NULL, *target = NULL;
    struct attr a;
    uint64_t base = 0;
    if (replica_lookup(m->replica, from, name, &source, &a) == 1 && replica_lookup(m->replica, to, new_name, &target, &a) == 1) {
        replica_lock(m->replica);
        if (target->read_version && target->read_order < source->made_order)
            base = target->read_version;
        replica_unlock(m->replica);
    }
    if (source)
        replica_forget(m->replica, replica_id(m->replica, source), 1);
    if (target)
        replica_forget(m->replica, replica_id(m->replica, target), 1);
    return base;
}

void names_rename(fuse_req_t req, fuse_ino_t from_id, const char *name, fuse_ino_t to_id, const char *new_name, unsigned flags)
{
    struct mount *m = mount_of(req);
    int err = -refused(m, from_id, name);
    if (!err)
        err = -refused(m, to_id, new_name);
    if (!err && flags & ~(OP_RENAME_NOREPLACE | OP_RENAME_EXCHANGE))
        err = -EINVAL;
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    struct node *from = node_of(m, from_id), *to = node_of(m, to_id);
    struct op op = {.kind = OP_RENAME, .parent = from->ino, .name = (char *)(uintptr_t)name, .new_parent = to->ino,
                    .new_name = (char *)(uintptr_t)new_name, .rename_flags = flags};
    struct op_result res = {0};
    if (!flags)
        op.target_base = target_base(m, from, name, to, new_name);
    busy(m, from, 1);
    busy(m, to, 1);
    err = mount_run(m, &op, &res);
    struct kernel_item item = {.what = KERNEL_NAME, .id = to_id, .dir_ino = to->ino};
    strcpy(item.name, new_name); /* it is the request's, which the answer ends */
    bool elsewhere = !err && res.conflict_parent; /* the kernel will believe that it moved to new_name */
    bool doubted = elsewhere && kernel_doubt_names(m->kernel);
    fuse_reply_err(req, -err);
    if (elsewhere && !doubted)
        kernel_invalidate_later(m->kernel, &item);
    busy(m, from, -1);
    busy(m, to, -1);
    op_result_fini(&res);
}

void names_readlink(fuse_req_t req, fuse_ino_t id)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        history_readlink(req, id);
        return;
    }
    struct node *n = node_of(m, id);
    replica_lock(m->replica);
    CLEANUP_FREE char *target = mem_strdup(n->target);
    replica_unlock(m->replica);
    int err = 0;
    if (!target) {
        uint64_t seq;
        MOUNT_ASK(m, err, remote_symlink(m->remote, n->ino, &seq, &target));
        if (!err)
            replica_fill_target(m->replica, n, target);
    }
    if (err)
        fuse_reply_err(req, -err);
    else
        fuse_reply_readlink(req, target);
}
