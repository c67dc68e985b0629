/* Files: open, read, write, and what close and fsync publish. */
#include "fusefs/driver/mount.h"
#include <linux/falloc.h>

#define COPY_PIECE (1u << 20)
#define SMALL_FILE (64u << 10)
#define PREFETCH_MAX 256
#define READ_AHEAD_EVERY 64

static bool for_writing(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

struct content *mount_content(struct mount *m, struct node *n, const struct attr *a)
{
    struct content *c = content_get(m->store, a), *old = NULL;
    replica_lock(m->replica);
    if (n->content != c) {
        old = n->content;
        n->content = content_ref(c);
    }
    replica_unlock(m->replica);
    if (old)
        content_unref(old);
    return c;
}

/* Once nobody has the file open and all of it is sent, the node lets go of its content. */
static void let_go(struct mount *m, struct node *n)
{
    replica_lock(m->replica);
    struct content *c = n->content && n->users <= 1 ? content_ref(n->content) : NULL;
    replica_unlock(m->replica);
    if (!c)
        return;
    bool dirty;
    content_stat(c, NULL, NULL, &dirty);
    replica_lock(m->replica);
    bool drop = !dirty && n->content == c && n->users <= 1;
    if (drop)
        n->content = NULL;
    replica_unlock(m->replica);
    if (drop)
        content_unref(c); /* the node's */
    content_unref(c);
}

struct handle *files_handle(struct mount *m, struct node *n, const struct attr *a, int flags)
{
    struct handle *h = mem_alloc(sizeof *h);
    pthread_mutex_init(&h->lock, NULL);
    h->node = n;
    h->flags = flags;
    replica_use(m->replica, n);
    h->content = mount_content(m, n, a);
    content_opened(h->content);
    return h;
}

/* ---- publishing ---- */

static void name_changed(void *ctx, struct node *dir, const char *name)
{
    struct mount *m = ctx;
    if (!dir->nlookup && dir != replica_root(m->replica))
        return;
    struct kernel_item item = {.what = KERNEL_NAME, .id = replica_id(m->replica, dir), .dir_ino = dir->ino};
    strcpy(item.name, name);
    kernel_invalidate_later(m->kernel, &item);
}

/* The content became a sibling: the node that programs have open is the sibling now, and the name is looked up anew. */
static void became_sibling(struct mount *m, struct node *n, uint64_t sibling)
{
    uint64_t was = n->ino;
    replica_renumber(m->replica, was, sibling);
    if (!kernel_doubt_names(m->kernel))
        replica_names_of(m->replica, was, name_changed, m);
}

static void data_moved(struct mount *m, struct node *n)
{
    struct kernel_item item = {.what = KERNEL_DATA, .id = replica_id(m->replica, n)};
    kernel_invalidate_later(m->kernel, &item);
}

int mount_publish(struct mount *m, struct node *n, struct content *c, bool last)
{
    uint64_t before, after;
    struct op_result res_extra = {0}, res = {0};
    replica_lock(m->replica);
    bool gone = n->unlinked_here && n->attr.nlink == 0;
    replica_unlock(m->replica);
    if (gone)
        return 0; /* its last name was removed here: nobody can open it any more */
    struct op extra = mount_take_pending(m, n);
    content_stat(c, &before, NULL, NULL);
    int err = content_publish(c, &extra, extra.set ? 1 : 0, &res_extra, &res, last);
    content_stat(c, &after, NULL, NULL);
    if (!err && extra.set)
        err = res_extra.error;
    if (err && extra.set && !res_extra.seq && !res_extra.error)
        mount_send_late(m, n, &extra); /* what kept the content from being sent is not to lose them */
    if (!err && res.ino && res.ino != n->ino)
        became_sibling(m, n, res.ino);
    else if (before != after && !err)
        data_moved(m, n); /* what was appended went behind what others had appended meanwhile */
    op_result_fini(&res);
    op_result_fini(&res_extra);
    return err;
}

/* ---- operations ---- */

/* Who reads one small file of a directory reads its neighbours next: at the first, and again at each READ_AHEAD_EVERY. */
static void read_ahead_of_reader(struct mount *m, struct node *n, const struct attr *a)
{
    if (a->size == 0 || a->size > SMALL_FILE)
        return;
    replica_lock(m->replica);
    struct node *dir = replica_find(m->replica, n->parent);
    uint32_t reads = dir && dir->complete ? ++dir->small_reads : 0; /* before that, its neighbours are not known */
    uint64_t ino = dir ? dir->ino : 0;
    replica_unlock(m->replica);
    if (reads % READ_AHEAD_EVERY != 1)
        return;
    CLEANUP_FREE struct attr *small = mem_calloc(PREFETCH_MAX, sizeof *small);
    size_t count = replica_small_files(m->replica, ino, SMALL_FILE, small, PREFETCH_MAX);
    store_prefetch(m->store, small, count);
}

static void remember_read(struct mount *m, struct node *n, const struct attr *a)
{
    uint64_t order = replica_order(m->replica);
    replica_lock(m->replica);
    n->read_version = a->version;
    n->read_order = order;
    replica_unlock(m->replica);
}

void files_open(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        history_open(req, id, fi);
        return;
    }
    struct node *n = node_of(m, id);
    struct attr a;
    int err = for_writing(fi->flags) && m->options.read_only ? -EROFS : mount_attr(m, n, &a);
    bool emptied = (fi->flags & O_TRUNC) && for_writing(fi->flags);
    if (!err && a.quarantined && (fi->flags & O_ACCMODE) != O_WRONLY && !emptied)
        err = -EACCES;
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    struct handle *h = files_handle(m, n, &a, fi->flags);
    if (emptied) {
        err = content_truncate(h->content, 0);
        h->wrote = true;
    } else if ((fi->flags & O_ACCMODE) != O_WRONLY) {
        remember_read(m, n, &a);
        if (!for_writing(fi->flags))
            read_ahead_of_reader(m, n, &a);
    }
    fi->fh = (uint64_t)(uintptr_t)h;
    fi->keep_cache = 1;
    if (err || fuse_reply_open(req, fi) == -ENOENT) {
        files_abandon(m, fi);
        if (err)
            fuse_reply_err(req, -err);
    }
}

void files_read(fuse_req_t req, fuse_ino_t id, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)id;
    struct handle *h = handle_of(fi);
    if (h->node && locks_lost(mount_of(req), h)) {
        fuse_reply_err(req, EIO);
        return;
    }
    CLEANUP_FREE char *p = mem_alloc_raw(size);
    ssize_t n;
    uint64_t version;
    int tries = 0;
    do { /* what was changed elsewhere meanwhile is read again: the kernel may keep these bytes */
        version = content_version(h->content);
        n = content_read(h->content, p, size, (uint64_t)off);
    } while (n >= 0 && version != content_version(h->content) && ++tries < 10);
    if (n < 0)
        fuse_reply_err(req, mount_errno(n));
    else
        fuse_reply_buf(req, p, (size_t)n);
}

void files_write(fuse_req_t req, fuse_ino_t id, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)id;
    struct handle *h = handle_of(fi);
    if (!h->node || locks_lost(mount_of(req), h)) {
        fuse_reply_err(req, EIO);
        return;
    }
    uint64_t at = (uint64_t)off;
    bool append = (h->flags & O_APPEND) && !fi->writepage;
    h->wrote = true;
    ssize_t n = content_write(h->content, buf, size, &at, append);
    if (n < 0) {
        fuse_reply_err(req, mount_errno(n));
        return;
    }
    if (append && at != (uint64_t)off) /* the kernel put it where it thought that the end was */
        data_moved(mount_of(req), h->node); /* before the answer: with it the handle may be gone */
    fuse_reply_write(req, (size_t)n);
}

int mount_sync_names(struct mount *m)
{
    return m->options.writeback ? 0 : opqueue_sync(m->ops);
}

static int publish_handle(struct mount *m, struct handle *h, bool last)
{
    if (h->node && locks_lost(m, h))
        return -EIO; /* what it wrote becomes a sibling once nobody has it open */
    return h->wrote && h->node ? mount_publish(m, h->node, h->content, last) : 0;
}

void files_flush(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    (void)id;
    struct mount *m = mount_of(req);
    struct handle *h = handle_of(fi);
    int err = publish_handle(m, h, false);
    if (!err && h->made && !h->wrote)
        err = mount_sync_names(m); /* an empty file is as safe when close returns as one with content */
    if (h->node)
        locks_close(m, h, fi->lock_owner, false);
    fuse_reply_err(req, mount_errno(err));
}

static void close_handle(struct mount *m, struct handle *h)
{
    content_closed(h->content);
    content_unref(h->content);
    if (h->node) {
        let_go(m, h->node);
        replica_leave(m->replica, h->node);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void files_abandon(struct mount *m, struct fuse_file_info *fi)
{
    close_handle(m, handle_of(fi));
}

void files_release(fuse_req_t req, fuse_ino_t id, struct fuse_file_info *fi)
{
    (void)id;
    struct mount *m = mount_of(req);
    struct handle *h = handle_of(fi);
    if (h->node) {
        publish_handle(m, h, true); /* an error was told by flush; what is left stays journalled and is tried again */
        locks_close(m, h, fi->lock_owner, true);
    }
    close_handle(m, h);
    fuse_reply_err(req, 0);
}

void files_fsync(fuse_req_t req, fuse_ino_t id, int datasync, struct fuse_file_info *fi)
{
    (void)id;
    (void)datasync;
    int err = publish_handle(mount_of(req), handle_of(fi), false);
    if (!err)
        err = mount_sync_names(mount_of(req));
    fuse_reply_err(req, mount_errno(err));
}

void files_fallocate(fuse_req_t req, fuse_ino_t id, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
    (void)id;
    struct handle *h = handle_of(fi);
    if (!h->node || locks_lost(mount_of(req), h)) {
        fuse_reply_err(req, h->node ? EIO : EBADF);
        return;
    }
    h->wrote = true;
    int err = content_fallocate(h->content, mode, (uint64_t)off, (uint64_t)len);
    fuse_reply_err(req, -err);
}

void files_lseek(fuse_req_t req, fuse_ino_t id, off_t off, int whence, struct fuse_file_info *fi)
{
    (void)id;
    int64_t at = content_seek(handle_of(fi)->content, (uint64_t)off, whence);
    if (at < 0)
        fuse_reply_err(req, (int)-at);
    else
        fuse_reply_lseek(req, at);
}

void files_copy(fuse_req_t req, fuse_ino_t in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t out, off_t off_out,
                struct fuse_file_info *fi_out, size_t len, int flags)
{
    (void)in;
    (void)out;
    (void)flags;
    struct handle *from = handle_of(fi_in), *to = handle_of(fi_out);
    CLEANUP_FREE char *piece = mem_alloc_raw(COPY_PIECE);
    size_t done = 0;
    ssize_t n = 0;
    if ((from->node && locks_lost(mount_of(req), from)) || (to->node && locks_lost(mount_of(req), to))) {
        fuse_reply_err(req, EIO);
        return;
    }
    to->wrote = true;
    if (len > 64 * (size_t)COPY_PIECE)
        len = 64 * (size_t)COPY_PIECE; /* a short copy is allowed; the caller goes on */
    while (done < len) {
        size_t want = len - done < COPY_PIECE ? len - done : COPY_PIECE;
        uint64_t at = (uint64_t)off_out + done;
        n = content_read(from->content, piece, want, (uint64_t)off_in + done);
        if (n > 0)
            n = content_write(to->content, piece, (size_t)n, &at, false);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    if (done == 0 && n < 0)
        fuse_reply_err(req, mount_errno(n));
    else
        fuse_reply_write(req, done);
}
