/* Objects as files of a directory: DIR/ab/cd/KEY, where abcd is from the key's hash and each '/' of the key is a '_', so that no directory
   grows large and a listing can tell the keys back. An object is written to DIR/new/ID, synced, and linked to its name: it is there whole or
   not at all, and never replaced. The sha256 of `put` is not checked again: there is no network between the caller's memory and the file. */
#include "common/cleanup.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "gateway/ports/objects.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define KEY_MAX OBJECTS_KEY_MAX
#define NEW "new"
#define STALE_NS (INT64_C(24) * 3600 * 1000000000) /* what a killed process left in NEW */
#define PATH_LEN (6 + KEY_MAX + 1)

struct objects_dir {
    struct objects base;
    int fd;
};
static int dir_of(struct objects *o)
{
    return ((struct objects_dir *)o)->fd;
}

static void cleanup_dir(DIR **d)
{
    if (*d)
        closedir(*d);
}

/* ---- keys and paths ---- */

static int key_path(const char *key, char ret[PATH_LEN])
{
    size_t n = strnlen(key, KEY_MAX + 1);
    if (!objects_key_valid(key))
        return -EINVAL;
    unsigned fan = (unsigned)(hash_xxh3(key, n) & 0xffff);
    snprintf(ret, PATH_LEN, "%02x/%02x/%s", fan >> 8, fan & 0xff, key);
    for (char *p = ret + 6; *p; p++)
        if (*p == '/')
            *p = '_';
    return 0;
}

static int file_key(const char *name, char ret[KEY_MAX + 1])
{
    size_t n = strnlen(name, KEY_MAX + 1);
    if (n > KEY_MAX)
        return -EINVAL;
    for (size_t i = 0; i <= n; i++)
        ret[i] = name[i] == '_' ? '/' : name[i];
    return objects_key_valid(ret) ? 0 : -EINVAL;
}

/* ---- writing ---- */

static int sync_dir(int at, const char *path)
{
    CLEANUP_CLOSE int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) ? -errno : 0;
}

/* Makes the directory `path` in `parent`; its name is durable before it is used. */
static int make_dir(int at, const char *path, const char *parent)
{
    if (mkdirat(at, path, 0700) == 0)
        return sync_dir(at, parent);
    return errno == EEXIST ? 0 : -errno;
}

static int write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        p += done;
        n -= (size_t)done;
    }
    return fdatasync(fd) ? -errno : 0;
}

static int link_new(int at, const char *from, char *path)
{
    char mid[] = "ab/cd", top[] = "ab";
    memcpy(mid, path, 5);
    memcpy(top, path, 2);
    int err = linkat(at, from, at, path, 0) ? -errno : 0;
    if (err == -ENOENT) { /* the first one there */
        err = make_dir(at, top, ".");
        if (!err)
            err = make_dir(at, mid, top);
        if (!err)
            err = linkat(at, from, at, path, 0) ? -errno : 0;
    }
    return err ? err : sync_dir(at, mid);
}

static int dir_put(struct objects *o, const char *key, const void *p, size_t n, const struct hash *sha256)
{
    (void)sha256;
    char path[PATH_LEN], temp[sizeof NEW "/" + UUID_TEXT] = NEW "/";
    int err = key_path(key, path);
    if (err)
        return err;
    struct uuid id;
    uuid_new(&id);
    uuid_text(&id, temp + strlen(temp));
    int at = dir_of(o);
    CLEANUP_CLOSE int fd = openat(at, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    err = write_all(fd, p, n);
    if (!err)
        err = link_new(at, temp, path);
    unlinkat(at, temp, 0);
    return err;
}

static int dir_remove(struct objects *o, const char *key)
{
    char path[PATH_LEN];
    int err = key_path(key, path);
    if (err)
        return err;
    return unlinkat(dir_of(o), path, 0) && errno != ENOENT ? -errno : 0;
}

static int dir_remove_many(struct objects *o, const char *const *keys, size_t n)
{
    int err = 0;
    for (size_t i = 0; i < n && !err; i++)
        err = dir_remove(o, keys[i]);
    return err;
}

/* ---- reading ---- */

static int dir_get(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret)
{
    char path[PATH_LEN];
    int err = key_path(key, path);
    if (err)
        return err;
    CLEANUP_CLOSE int fd = openat(dir_of(o), path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return -errno;
    if (offset > (uint64_t)st.st_size || len > (uint64_t)st.st_size - offset)
        return -ERANGE;
    buf_reserve(ret, len);
    size_t before = ret->len;
    while (ret->len - before < len) {
        size_t have = ret->len - before;
        ssize_t n = pread(fd, ret->data + ret->len, len - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        err = n < 0 ? -errno : n == 0 ? -ERANGE : 0;
        if (err)
            break;
        ret->len += (size_t)n;
    }
    if (err)
        ret->len = before;
    if (ret->data)
        ret->data[ret->len] = 0;
    return err;
}

struct listing {
    const char *prefix;
    int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns);
    void *ctx;
};

static DIR *dir_open(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *d = fdopendir(fd);
    if (!d)
        close(fd);
    return d;
}

static int list_leaf(const struct listing *l, int at, const char *name)
{
    CLEANUP(cleanup_dir) DIR *d = dir_open(at, name);
    const struct dirent *e;
    if (!d)
        return errno == ENOENT ? 0 : -errno;
    while ((e = readdir(d))) {
        char key[KEY_MAX + 1];
        struct stat st;
        if (file_key(e->d_name, key) || strncmp(key, l->prefix, strlen(l->prefix)) != 0)
            continue;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
            continue; /* removed meanwhile */
        int err = l->each(l->ctx, key, (uint64_t)st.st_size, clock_ns(st.st_mtim));
        if (err)
            return err;
    }
    return 0;
}

static bool is_fan(const char *name)
{
    return strlen(name) == 2 && strspn(name, "0123456789abcdef") == 2;
}

static int dir_list(struct objects *o, const char *prefix,
                    int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns), void *ctx)
{
    struct listing l = {.prefix = prefix, .each = each, .ctx = ctx};
    CLEANUP(cleanup_dir) DIR *top = dir_open(dir_of(o), ".");
    const struct dirent *a, *b;
    if (!top)
        return -errno;
    while ((a = readdir(top))) {
        if (!is_fan(a->d_name))
            continue;
        CLEANUP(cleanup_dir) DIR *mid = dir_open(dirfd(top), a->d_name);
        if (!mid)
            return -errno;
        while ((b = readdir(mid))) {
            int err = is_fan(b->d_name) ? list_leaf(&l, dirfd(mid), b->d_name) : 0;
            if (err)
                return err;
        }
    }
    return 0;
}

/* ---- the rest ---- */

static int dir_presign_get(struct objects *o, const char *key, unsigned seconds, struct buf *ret_url)
{
    (void)o;
    (void)key;
    (void)seconds;
    (void)ret_url;
    return -ENOTSUP;
}

static int dir_presign_put(struct objects *o, const char *key, uint64_t len, const struct hash *sha256, unsigned seconds,
                           struct buf *ret_url, struct buf *ret_headers_json)
{
    (void)o;
    (void)key;
    (void)len;
    (void)sha256;
    (void)seconds;
    (void)ret_url;
    (void)ret_headers_json;
    return -ENOTSUP;
}

static int dir_ping(struct objects *o)
{
    return faccessat(dir_of(o), NEW, W_OK | X_OK, 0) ? -errno : 0;
}

static void dir_free(struct objects *o)
{
    struct objects_dir *d = (struct objects_dir *)o;
    if (d->fd >= 0)
        close(d->fd);
    free(d);
}

static const struct objects_ops dir_ops = {
    .put = dir_put,
    .get = dir_get,
    .remove = dir_remove,
    .remove_many = dir_remove_many,
    .list = dir_list,
    .presign_get = dir_presign_get,
    .presign_put = dir_presign_put,
    .ping = dir_ping,
    .free = dir_free,
};

static void remove_stale(int at)
{
    CLEANUP(cleanup_dir) DIR *d = dir_open(at, NEW);
    const struct dirent *e;
    while (d && (e = readdir(d))) {
        struct stat st;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            clock_ns(st.st_mtim) < clock_wall_ns() - STALE_NS)
            unlinkat(dirfd(d), e->d_name, 0);
    }
}

int objects_dir_open(const char *dir, struct objects **ret)
{
    if (mkdir(dir, 0700) && errno != EEXIST) {
        int err = -errno;
        log_error("object store: cannot make %s: %s", dir, strerror(-err));
        return err;
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = fd < 0 ? -errno : make_dir(fd, NEW, ".");
    if (err) {
        log_error("object store: cannot use %s: %s", dir, strerror(-err));
        if (fd >= 0)
            close(fd);
        return err;
    }
    remove_stale(fd);
    struct objects_dir *o = mem_alloc(sizeof *o);
    o->base.ops = &dir_ops;
    o->fd = fd;
    *ret = &o->base;
    return 0;
}
