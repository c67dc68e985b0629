/* Attributes: what stat shows, and what chmod, chown, utimes and truncate change. */
#include "fusefs/driver/mount.h"
#include "common/clock.h"
#include <sys/sysmacros.h>

/* Lock held. */
static void pending_over(const struct node *n, struct attr *a)
{
    if (n->pending_set & SET_MODE)
        a->mode = (a->mode & S_IFMT) | n->pending.mode;
    if (n->pending_set & SET_UID)
        a->uid = n->pending.uid;
    if (n->pending_set & SET_GID)
        a->gid = n->pending.gid;
    if (n->pending_set & SET_ATIME)
        a->atime = n->pending.atime;
}

bool mount_overlay(struct mount *m, struct node *n, struct attr *a)
{
    replica_lock(m->replica);
    struct content *c = n->content ? content_ref(n->content) : NULL;
    pending_over(n, a);
    replica_unlock(m->replica);
    if (!c)
        return false;
    uint64_t size;
    int64_t mtime;
    bool dirty;
    content_stat(c, &size, &mtime, &dirty);
    content_unref(c);
    if (!dirty)
        return false;
    a->size = size;
    a->mtime = mtime;
    if (a->ctime < mtime)
        a->ctime = mtime;
    return true;
}

int mount_attr(struct mount *m, struct node *n, struct attr *ret)
{
    int err = sync_fresh(m->sync);
    if (err)
        return err;
    if (replica_attr(m->replica, n, ret))
        return 0;
    for (int tries = 0;; tries++) {
        uint64_t seq;
        MOUNT_ASK(m, err, remote_inode(m->remote, n->ino, 0, &seq, ret));
        if (err)
            return err;
        if (replica_fill_attr(m->replica, n, seq, ret) || tries == 20)
            return 0;
    }
}

static void last_attr(struct mount *m, const struct node *n, struct attr *ret)
{
    replica_lock(m->replica);
    *ret = n->attr;
    replica_unlock(m->replica);
}

void mount_stat(const struct mount *m, const struct attr *a, struct stat *ret)
{
    *ret = (struct stat){
        .st_ino = a->ino,
        .st_mode = a->mode,
        .st_nlink = a->nlink,
        .st_uid = m->options.has_uid ? m->options.uid : a->uid,
        .st_gid = m->options.has_gid ? m->options.gid : a->gid,
        .st_rdev = makedev((unsigned)(a->rdev >> 32), (unsigned)a->rdev),
        .st_size = (off_t)a->size,
        .st_blksize = 1 << 17,
        .st_blocks = (blkcnt_t)((a->size + 511) / 512),
        .st_atim = clock_timespec(a->atime),
        .st_mtim = clock_timespec(a->mtime),
        .st_ctim = clock_timespec(a->ctime),
    };
}

double mount_attr_seconds(struct mount *m, bool unsent)
{
    return !unsent && sync_trusted(m->sync) ? KERNEL_FOREVER : 0;
}

void mount_entry(struct mount *m, struct node *parent, struct node *n, const struct attr *a, struct fuse_entry_param *ret)
{
    struct attr now = *a;
    bool unsent = S_ISREG(a->mode) && mount_overlay(m, n, &now);
    *ret = (struct fuse_entry_param){.ino = replica_id(m->replica, n), .generation = 1};
    ret->attr_timeout = mount_attr_seconds(m, unsent);
    if (sync_trusted(m->sync)) {
        replica_lock(m->replica);
        ret->entry_timeout = kernel_name_seconds(m->kernel, parent);
        replica_unlock(m->replica);
    }
    mount_stat(m, &now, &ret->attr);
}

void attrs_getattr(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    (void)fi;
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        history_getattr(req, id);
        return;
    }
    struct node *n = node_of(m, id);
    struct attr a;
    struct stat st;
    int err = mount_attr(m, n, &a);
    if (err == -EIO && id == FUSE_ROOT_ID && replica_attr(m->replica, n, &a))
        err = 0; /* cut off and strict: `cairn status` has to get in all the same */
    if (err == -ENOENT)
        err = -ESTALE; /* it was removed elsewhere, and the kernel holds it still */
    if (err && id == FUSE_ROOT_ID) { /* so that the mount's status can be asked for, and says what is wrong */
        last_attr(m, n, &a);
        mount_stat(m, &a, &st);
        fuse_reply_attr(req, &st, 0);
        return;
    }
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    bool unsent = S_ISREG(a.mode) && mount_overlay(m, n, &a);
    mount_stat(m, &a, &st);
    fuse_reply_attr(req, &st, mount_attr_seconds(m, unsent));
}

/* truncate: by path it is a whole change of its own; through a handle it goes with the handle's next commit. */
static int set_size(struct mount *m, struct node *n, const struct attr *a, uint64_t size, struct fuse_file_info *fi)
{
    if (a->quarantined && size)
        return -EACCES;
    struct content *c = mount_content(m, n, a);
    int err = content_truncate(c, size);
    if (fi && handle_of(fi)->content)
        handle_of(fi)->wrote = true;
    else if (!err)
        err = mount_publish(m, n, c, false);
    content_unref(c);
    return err;
}

/* Moves what `which` names from the operation to what waits for the node's commit. */
static void make_pending(struct mount *m, struct node *n, struct op *op, unsigned which)
{
    ACQUIRE_REPLICA_FOR_CURRENT_SCOPE(m);
    if (op->set & which & SET_MODE)
        n->pending.mode = op->mode;
    if (op->set & which & SET_UID)
        n->pending.uid = op->uid;
    if (op->set & which & SET_GID)
        n->pending.gid = op->gid;
    if (op->set & which & (SET_ATIME | SET_ATIME_NOW)) {
        n->pending.atime = op->set & SET_ATIME_NOW ? clock_wall_ns() : op->atime;
        n->pending_set |= SET_ATIME;
    }
    n->pending_set |= op->set & which & (SET_MODE | SET_UID | SET_GID);
    op->set &= ~which;
}

/* What close has to publish goes in one request. Times of content that is not sent yet go with it; of a file whose very first content is not sent yet, all attributes do. A mode
   or owner that stays as it is needs no operation either, since the commit moves ctime. Returns what is left to be sent now. */
static unsigned settle_with_content(struct mount *m, struct node *n, const struct attr *a, struct op *op)
{
    replica_lock(m->replica);
    struct content *c = n->content ? content_ref(n->content) : NULL;
    replica_unlock(m->replica);
    if (!c)
        return op->set;
    bool dirty;
    content_stat(c, NULL, NULL, &dirty);
    if (dirty) {
        bool times = op->set & (SET_MTIME | SET_MTIME_NOW);
        if (times && content_set_mtime(c, op->set & SET_MTIME_NOW ? clock_wall_ns() : op->mtime))
            op->set &= ~(SET_MTIME | SET_MTIME_NOW);
        else
            times = false;
        if (a->version == 0)
            make_pending(m, n, op, SET_MODE | SET_UID | SET_GID | SET_ATIME | SET_ATIME_NOW);
        else if (times)
            make_pending(m, n, op, SET_ATIME | SET_ATIME_NOW);
        if ((op->set & SET_MODE) && op->mode == (a->mode & 07777))
            op->set &= ~SET_MODE;
        if ((op->set & SET_UID) && op->uid == a->uid && (!(op->set & SET_GID) || op->gid == a->gid))
            op->set &= ~(SET_UID | SET_GID);
    }
    content_unref(c);
    return op->set;
}

struct op mount_take_pending(struct mount *m, struct node *n)
{
    ACQUIRE_REPLICA_FOR_CURRENT_SCOPE(m);
    struct op op = {.kind = OP_SETATTR, .ino = n->ino, .set = n->pending_set, .mode = n->pending.mode, .uid = n->pending.uid,
                    .gid = n->pending.gid, .atime = n->pending.atime};
    n->pending_set = 0;
    return op;
}

struct late {
    struct mount *mount;
    struct node *node; /* in use */
    struct op op;
};

/* The content is journalled and is sent once the gateway is back; its attributes follow here. */
static void send_late(void *arg)
{
    struct late *l = arg;
    struct mount *m = l->mount;
    int err = -EIO;
    while (err == -EIO && !m->stopping) {
        struct timespec pause = {.tv_nsec = 200 * 1000000};
        nanosleep(&pause, NULL);
        if (!sync_online(m->sync))
            continue;
        struct op_result res = {0};
        err = mount_run(m, &l->op, &res);
        op_result_fini(&res);
    }
    replica_leave(m->replica, l->node);
    free(l);
}

void mount_send_late(struct mount *m, struct node *n, const struct op *op)
{
    struct late *l = mem_alloc(sizeof *l);
    *l = (struct late){m, n, *op};
    replica_use(m->replica, n);
    pool_run(m->late, send_late, l);
}

static struct op setattr_op(const struct node *n, const struct stat *attr, int valid)
{
    struct op op = {.kind = OP_SETATTR, .ino = n->ino, .mode = attr->st_mode & 07777, .uid = attr->st_uid, .gid = attr->st_gid,
                    .atime = clock_ns(attr->st_atim), .mtime = clock_ns(attr->st_mtim)};
    static const struct {
        int fuse;
        unsigned set;
    } bits[] = {{FUSE_SET_ATTR_MODE, SET_MODE}, {FUSE_SET_ATTR_UID, SET_UID}, {FUSE_SET_ATTR_GID, SET_GID}};
    for (size_t i = 0; i < sizeof bits / sizeof *bits; i++)
        if (valid & bits[i].fuse)
            op.set |= bits[i].set;
    if (valid & FUSE_SET_ATTR_ATIME)
        op.set |= valid & FUSE_SET_ATTR_ATIME_NOW ? SET_ATIME_NOW : SET_ATIME;
    if (valid & FUSE_SET_ATTR_MTIME)
        op.set |= valid & FUSE_SET_ATTR_MTIME_NOW ? SET_MTIME_NOW : SET_MTIME;
    return op;
}

void attrs_setattr(fuse_req_t req, fuse_ino_t id, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id) || m->options.read_only) {
        fuse_reply_err(req, EROFS);
        return;
    }
    struct node *n = node_of(m, id);
    struct attr a;
    int err = mount_attr(m, n, &a);
    if (!err && (valid & FUSE_SET_ATTR_SIZE))
        err = set_size(m, n, &a, (uint64_t)attr->st_size, fi);
    struct op op = setattr_op(n, attr, valid);
    if (!err && op.set && settle_with_content(m, n, &a, &op)) {
        struct op_result res = {0};
        err = mount_run(m, &op, &res);
        op_result_fini(&res);
    }
    if (!err)
        err = mount_attr(m, n, &a);
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    struct stat st;
    bool unsent = S_ISREG(a.mode) && mount_overlay(m, n, &a);
    mount_stat(m, &a, &st);
    fuse_reply_attr(req, &st, mount_attr_seconds(m, unsent));
}

void attrs_statfs(fuse_req_t req, fuse_ino_t id)
{
    (void)id;
    struct mount *m = mount_of(req);
    uint64_t used = 0, quota = 0, files = 0;
    int err;
    MOUNT_ASK(m, err, remote_statfs(m->remote, &used, &quota, &files));
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    uint64_t total = quota ? quota : used + (UINT64_C(1) << 50); /* without a quota: what is used and a pebibyte */
    uint64_t blocks = total / DRIVER_BLOCK, left = total > used ? (total - used) / DRIVER_BLOCK : 0;
    struct statvfs st = {.f_bsize = DRIVER_BLOCK, .f_frsize = DRIVER_BLOCK, .f_blocks = blocks, .f_bfree = left, .f_bavail = left,
                         .f_files = files + (UINT64_C(1) << 32), .f_ffree = UINT64_C(1) << 32, .f_favail = UINT64_C(1) << 32,
                         .f_namemax = NAME_LEN_MAX};
    fuse_reply_statfs(req, &st);
}
