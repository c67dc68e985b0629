/* Backing files: content/xx/INO, old versions content/v/INO.VERSION. At most store.fds_max are open; the one not used for longest is closed first. */
#include "fusefs/cache/content_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

void backing_path(struct content_key key, char ret[BACKING_PATH])
{
    if (key.of)
        snprintf(ret, BACKING_PATH, "content/v/%llu.%llu", (unsigned long long)key.ino, (unsigned long long)key.of);
    else
        snprintf(ret, BACKING_PATH, "content/%02x/%llu", (unsigned)(key.ino & 0xff), (unsigned long long)key.ino);
}

int backing_make_dir(struct store *s, struct content_key key)
{
    char path[BACKING_PATH];
    backing_path(key, path);
    *strrchr(path, '/') = 0;
    return mkdirat(s->dir_fd, path, 0700) && errno != EEXIST ? -errno : 0;
}

static int open_file(struct store *s, struct content_key key)
{
    char path[BACKING_PATH];
    backing_path(key, path);
    int fd = openat(s->dir_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 && errno == ENOENT) {
        int err = backing_make_dir(s, key);
        if (err)
            return err;
        fd = openat(s->dir_fd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    }
    return fd < 0 ? -errno : fd;
}

static void close_one(struct store *s, struct content *c)
{
    DL_DELETE2(s->fd_list, c, fd_prev, fd_next);
    s->n_fds--;
    close(c->fd);
    c->fd = -1;
}

static void close_idle(struct store *s)
{
    struct content *c, *next;
    DL_FOREACH_SAFE2(s->fd_list, c, next, fd_next)
    {
        if (s->n_fds < s->fds_max)
            return;
        if (c->fd_users == 0)
            close_one(s, c);
    }
}

int backing_get(struct content *c)
{
    struct store *s = c->store;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->fd_lock);
    if (c->fd < 0) {
        close_idle(s);
        int fd = open_file(s, c->key);
        if (fd < 0)
            return fd;
        c->fd = fd;
        s->n_fds++;
        DL_APPEND2(s->fd_list, c, fd_prev, fd_next);
    } else if (s->fd_list->fd_prev != c) {
        DL_DELETE2(s->fd_list, c, fd_prev, fd_next);
        DL_APPEND2(s->fd_list, c, fd_prev, fd_next);
    }
    c->fd_users++;
    return c->fd;
}

void backing_put(struct content *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->store->fd_lock);
    c->fd_users--;
}

void backing_close(struct content *c)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->store->fd_lock);
    if (c->fd >= 0 && c->fd_users == 0)
        close_one(c->store, c);
}

static int write_all(int fd, const void *p, size_t n, uint64_t off)
{
    for (size_t done = 0; done < n;) {
        ssize_t k = pwrite(fd, (const char *)p + done, n - done, (off_t)(off + done));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EIO;
        done += (size_t)k;
    }
    return 0;
}

int backing_write(struct content *c, const void *p, size_t n, uint64_t off)
{
    int fd = backing_get(c);
    if (fd < 0)
        return fd;
    int err = write_all(fd, p, n, off);
    backing_put(c);
    return err == -EDQUOT ? -ENOSPC : err;
}

int backing_write_or_evict(struct content *c, const void *p, size_t n, uint64_t off)
{
    int err = backing_write(c, p, n, off);
    if (err != -ENOSPC)
        return err;
    store_make_room(c->store, atomic_load(&c->store->cached) / 2);
    return backing_write(c, p, n, off);
}

static int read_all(int fd, void *p, size_t n, uint64_t off)
{
    size_t done = 0;
    while (done < n) {
        ssize_t k = pread(fd, (char *)p + done, n - done, (off_t)(off + done));
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        if (k == 0)
            break;
        done += (size_t)k;
    }
    memset((char *)p + done, 0, n - done);
    return 0;
}

int backing_read(struct content *c, void *p, size_t n, uint64_t off)
{
    int fd = backing_get(c);
    if (fd < 0)
        return fd;
    int err = read_all(fd, p, n, off);
    backing_put(c);
    return err;
}

static int zero(int fd, uint64_t off, uint64_t n)
{
    static const char zeros[64u << 10];
    struct stat st;
    if (fstat(fd, &st))
        return -errno;
    uint64_t end = off + n < (uint64_t)st.st_size ? off + n : (uint64_t)st.st_size;
    while (off < end) {
        size_t k = end - off < sizeof zeros ? (size_t)(end - off) : sizeof zeros;
        int err = write_all(fd, zeros, k, off);
        if (err)
            return err;
        off += k;
    }
    return 0;
}

int backing_punch(struct content *c, uint64_t off, uint64_t n)
{
    int fd = backing_get(c);
    if (fd < 0)
        return fd;
    int err = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)n) ? -errno : 0;
    if (err == -EOPNOTSUPP || err == -ENOSYS)
        err = zero(fd, off, n);
    backing_put(c);
    return err;
}

int backing_resize(struct content *c, uint64_t size)
{
    int fd = backing_get(c);
    if (fd < 0)
        return fd;
    struct stat st; /* cutting an empty file to nothing makes ext4 write it out when it is closed (auto_da_alloc) */
    bool is_so = fstat(fd, &st) == 0 && st.st_size == (off_t)size;
    int err = !is_so && ftruncate(fd, (off_t)size) ? -errno : 0;
    backing_put(c);
    return err;
}
