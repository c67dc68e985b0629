/* bench-passthrough SOURCE MOUNTPOINT: the least that a FUSE file system can do, as the bench's physical limit.

   Each node is an O_PATH descriptor of the file behind it; the kernel caches names and attributes for a day. Runs in the foreground until it is
   unmounted. Not for use: an inode looked up twice gets two nodes, and nobody else may change SOURCE. */
#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CACHED 86400.0

struct node {
    int fd; /* O_PATH */
    uint64_t lookups;
};
static struct node root = {-1, 1};

static struct node *node_of(fuse_ino_t ino)
{
    return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}
static int fd_of(fuse_ino_t ino)
{
    return node_of(ino)->fd;
}

static void proc_path(char ret[64], int fd)
{
    snprintf(ret, 64, "/proc/self/fd/%d", fd);
}

static int entry_fill(fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
    memset(e, 0, sizeof *e);
    e->attr_timeout = e->entry_timeout = CACHED;
    int fd = openat(fd_of(parent), name, O_PATH | O_NOFOLLOW);
    if (fd < 0)
        return errno;
    if (fstatat(fd, "", &e->attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
        int err = errno;
        close(fd);
        return err;
    }
    struct node *n = malloc(sizeof *n);
    if (!n)
        abort();
    *n = (struct node){fd, 1};
    e->ino = (fuse_ino_t)(uintptr_t)n;
    return 0;
}

static void reply_entry(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    int err = entry_fill(parent, name, &e);
    if (err)
        fuse_reply_err(req, err);
    else
        fuse_reply_entry(req, &e);
}

static void pt_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;
    int err = entry_fill(parent, name, &e);
    if (err && err != ENOENT)
        fuse_reply_err(req, err);
    else
        fuse_reply_entry(req, &e); /* ino 0: a cached "no" */
}

static void forget_one(fuse_ino_t ino, uint64_t n)
{
    struct node *node = node_of(ino);
    if (node == &root || (node->lookups -= n) > 0)
        return;
    close(node->fd);
    free(node);
}
static void pt_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    forget_one(ino, n);
    fuse_reply_none(req);
}
static void pt_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++)
        forget_one(forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void pt_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    struct stat st;
    if (fstatat(fd_of(ino), "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
        fuse_reply_err(req, errno);
    else
        fuse_reply_attr(req, &st, CACHED);
}

static void pt_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int valid, struct fuse_file_info *fi)
{
    char path[64];
    proc_path(path, fd_of(ino));
    if ((valid & FUSE_SET_ATTR_MODE) && chmod(path, attr->st_mode) < 0)
        goto fail;
    if ((valid & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) &&
        fchownat(fd_of(ino), "", (valid & FUSE_SET_ATTR_UID) ? attr->st_uid : (uid_t)-1,
                 (valid & FUSE_SET_ATTR_GID) ? attr->st_gid : (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
        goto fail;
    if ((valid & FUSE_SET_ATTR_SIZE) && (fi ? ftruncate((int)fi->fh, attr->st_size) : truncate(path, attr->st_size)) < 0)
        goto fail;
    if (valid & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) {
        struct timespec tv[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};
        if (valid & FUSE_SET_ATTR_ATIME)
            tv[0] = (valid & FUSE_SET_ATTR_ATIME_NOW) ? (struct timespec){.tv_nsec = UTIME_NOW} : attr->st_atim;
        if (valid & FUSE_SET_ATTR_MTIME)
            tv[1] = (valid & FUSE_SET_ATTR_MTIME_NOW) ? (struct timespec){.tv_nsec = UTIME_NOW} : attr->st_mtim;
        if (utimensat(AT_FDCWD, path, tv, 0) < 0)
            goto fail;
    }
    pt_getattr(req, ino, fi);
    return;
fail:
    fuse_reply_err(req, errno);
}

static void pt_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[4097];
    ssize_t n = readlinkat(fd_of(ino), "", target, sizeof target - 1);
    if (n < 0) {
        fuse_reply_err(req, errno);
        return;
    }
    target[n] = 0;
    fuse_reply_readlink(req, target);
}

static void pt_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    if (mknodat(fd_of(parent), name, mode, rdev) < 0)
        fuse_reply_err(req, errno);
    else
        reply_entry(req, parent, name);
}
static void pt_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    if (mkdirat(fd_of(parent), name, mode) < 0)
        fuse_reply_err(req, errno);
    else
        reply_entry(req, parent, name);
}
static void pt_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    if (symlinkat(target, fd_of(parent), name) < 0)
        fuse_reply_err(req, errno);
    else
        reply_entry(req, parent, name);
}
static void pt_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    char path[64];
    proc_path(path, fd_of(ino));
    if (linkat(AT_FDCWD, path, fd_of(parent), name, AT_SYMLINK_FOLLOW) < 0)
        fuse_reply_err(req, errno);
    else
        reply_entry(req, parent, name);
}
static void pt_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    fuse_reply_err(req, unlinkat(fd_of(parent), name, 0) < 0 ? errno : 0);
}
static void pt_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    fuse_reply_err(req, unlinkat(fd_of(parent), name, AT_REMOVEDIR) < 0 ? errno : 0);
}
static void pt_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *new_name, unsigned flags)
{
    fuse_reply_err(req, renameat2(fd_of(parent), name, fd_of(to), new_name, flags) < 0 ? errno : 0);
}

static void pt_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    char path[64];
    proc_path(path, fd_of(ino));
    int fd = open(path, fi->flags & ~O_NOFOLLOW);
    if (fd < 0) {
        fuse_reply_err(req, errno);
        return;
    }
    fi->fh = (uint64_t)fd;
    fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}
static void pt_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    int fd = openat(fd_of(parent), name, (fi->flags | O_CREAT) & ~O_NOFOLLOW, mode);
    if (fd < 0) {
        fuse_reply_err(req, errno);
        return;
    }
    fi->fh = (uint64_t)fd;
    struct fuse_entry_param e;
    int err = entry_fill(parent, name, &e);
    if (err)
        fuse_reply_err(req, err);
    else
        fuse_reply_create(req, &e, fi);
}
static void pt_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);
    buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    buf.buf[0].fd = (int)fi->fh;
    buf.buf[0].pos = off;
    fuse_reply_data(req, &buf, FUSE_BUF_SPLICE_MOVE);
}
static void pt_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    ssize_t n = pwrite((int)fi->fh, p, size, off);
    if (n < 0)
        fuse_reply_err(req, errno);
    else
        fuse_reply_write(req, (size_t)n);
}
static void pt_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    close((int)fi->fh);
    fuse_reply_err(req, 0);
}
static void pt_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    (void)ino;
    fuse_reply_err(req, (datasync ? fdatasync((int)fi->fh) : fsync((int)fi->fh)) < 0 ? errno : 0);
}

static void pt_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    int fd = openat(fd_of(ino), ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        fuse_reply_err(req, errno);
        return;
    }
    fi->fh = (uint64_t)(uintptr_t)dir;
    fi->cache_readdir = fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}
static void pt_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    DIR *dir = (DIR *)(uintptr_t)fi->fh;
    char *out = malloc(size);
    if (!out)
        abort();
    size_t used = 0;
    seekdir(dir, off);
    for (struct dirent *d; (d = readdir(dir));) {
        struct stat st = {.st_ino = d->d_ino, .st_mode = (mode_t)d->d_type << 12};
        size_t n = fuse_add_direntry(req, out + used, size - used, d->d_name, &st, d->d_off);
        if (n > size - used)
            break;
        used += n;
    }
    fuse_reply_buf(req, out, used);
    free(out);
}
static void pt_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    closedir((DIR *)(uintptr_t)fi->fh);
    fuse_reply_err(req, 0);
}
static void pt_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs st;
    if (fstatvfs(fd_of(ino), &st) < 0)
        fuse_reply_err(req, errno);
    else
        fuse_reply_statfs(req, &st);
}

static const struct fuse_lowlevel_ops operations = {
    .lookup = pt_lookup,
    .forget = pt_forget,
    .forget_multi = pt_forget_multi,
    .getattr = pt_getattr,
    .setattr = pt_setattr,
    .readlink = pt_readlink,
    .mknod = pt_mknod,
    .mkdir = pt_mkdir,
    .symlink = pt_symlink,
    .link = pt_link,
    .unlink = pt_unlink,
    .rmdir = pt_rmdir,
    .rename = pt_rename,
    .open = pt_open,
    .create = pt_create,
    .read = pt_read,
    .write = pt_write,
    .release = pt_release,
    .fsync = pt_fsync,
    .opendir = pt_opendir,
    .readdir = pt_readdir,
    .releasedir = pt_releasedir,
    .statfs = pt_statfs,
};

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: bench-passthrough SOURCE MOUNTPOINT\n");
        return 2;
    }
    umask(0);
    root.fd = open(argv[1], O_PATH | O_DIRECTORY);
    if (root.fd < 0) {
        perror(argv[1]);
        return 1;
    }
    char *fuse_argv[] = {argv[0], "-odefault_permissions,fsname=bench-passthrough", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(2, fuse_argv);
    struct fuse_session *se = fuse_session_new(&args, &operations, sizeof operations, NULL);
    if (!se || fuse_set_signal_handlers(se) != 0 || fuse_session_mount(se, argv[2]) != 0)
        return 1;
    int err = fuse_session_loop(se);
    fuse_session_unmount(se);
    fuse_remove_signal_handlers(se);
    fuse_session_destroy(se);
    return err ? 1 : 0;
}
