#include "fusefs/upload/journal.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#define HISTORY_MIN (1u << 20) /* bytes of file below which it is not worth writing anew */

struct stored { /* as in the file, host byte order: a cache folder belongs to one machine */
    uint64_t check;
    struct journal_record r;
};
_Static_assert(sizeof(struct stored) == 72, "no padding: it is hashed");

struct file {
    uint64_t ino;
    struct journal_record *r;
    size_t n, cap;
    UT_hash_handle hh;
};

struct journal {
    pthread_mutex_t lock; /* guards all below */
    int fd;
    char *path;
    uint64_t size; /* of the file, whole records */
    size_t living;
    struct file *files;
};

static uint64_t check_of(const struct journal_record *r)
{
    return hash_xxh3(r, sizeof *r) ^ UINT64_C(0x636169726e6a6f75);
}

static void forget(struct journal *j, struct file *f)
{
    HASH_DEL(j->files, f);
    j->living -= f->n;
    free(f->r);
    free(f);
}

static void learn(struct journal *j, const struct journal_record *r)
{
    struct file *f;
    HASH_FIND(hh, j->files, &r->ino, sizeof r->ino, f);
    if (r->kind == JOURNAL_CLEAN) {
        if (f)
            forget(j, f);
        return;
    }
    if (!f) {
        f = mem_alloc(sizeof *f);
        f->ino = r->ino;
        HASH_ADD(hh, j->files, ino, sizeof f->ino, f);
    }
    if (r->kind == JOURNAL_DIRTY || r->kind == JOURNAL_MOVING) {
        j->living -= f->n;
        f->n = 0;
    }
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 4;
        f->r = mem_realloc(f->r, f->cap * sizeof *f->r);
    }
    f->r[f->n++] = *r;
    j->living++;
}

static int write_all(int fd, const void *p, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t k = write(fd, (const char *)p + done, n - done);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        done += (size_t)k;
    }
    return 0;
}

static int put(int fd, const struct journal_record *r, size_t n)
{
    enum { AT_ONCE = 32 };
    struct stored s[AT_ONCE];
    for (size_t done = 0; done < n;) {
        size_t k = n - done < AT_ONCE ? n - done : AT_ONCE;
        for (size_t i = 0; i < k; i++)
            s[i] = (struct stored){check_of(&r[done + i]), r[done + i]};
        int err = write_all(fd, s, k * sizeof *s);
        if (err)
            return err;
        done += k;
    }
    return 0;
}

/* The living records into a new file that takes the place of the old one. On failure the old one goes on. */
static void rewrite(struct journal *j)
{
    CLEANUP_FREE char *fresh = mem_printf("%s.new", j->path);
    int fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    int err = fd < 0 ? -errno : 0;
    struct file *f, *next;
    HASH_ITER(hh, j->files, f, next)
    {
        if (!err)
            err = put(fd, f->r, f->n);
    }
    if (!err && (fdatasync(fd) || rename(fresh, j->path)))
        err = -errno;
    if (err) {
        log_warn("the journal could not be written anew: %s", strerror(-err));
        if (fd >= 0)
            close(fd);
        return;
    }
    close(j->fd);
    j->fd = fd;
    j->size = j->living * sizeof(struct stored);
}

static int replay(struct journal *j)
{
    CLEANUP_FREE struct stored *s = mem_calloc(256, sizeof *s);
    for (;;) {
        ssize_t k = pread(j->fd, s, 256 * sizeof *s, (off_t)j->size);
        if (k < 0)
            return -errno;
        size_t n = (size_t)k / sizeof *s;
        for (size_t i = 0; i < n; i++) {
            if (s[i].check != check_of(&s[i].r))
                return 0;
            learn(j, &s[i].r);
            j->size += sizeof *s;
        }
        if (n < 256)
            return 0;
    }
}

int journal_open(const char *path, struct journal **ret)
{
    struct journal *j = mem_alloc(sizeof *j);
    j->path = mem_strdup(path);
    pthread_mutex_init(&j->lock, NULL);
    j->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int err = j->fd < 0 ? -errno : replay(j);
    if (!err && ftruncate(j->fd, (off_t)j->size))
        err = -errno;
    if (err) {
        journal_close(j);
        return err;
    }
    *ret = j;
    return 0;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    struct file *f, *next;
    HASH_ITER(hh, j->files, f, next)
    {
        forget(j, f);
    }
    if (j->fd >= 0)
        close(j->fd);
    pthread_mutex_destroy(&j->lock);
    free(j->path);
    free(j);
}

int journal_append(struct journal *j, const struct journal_record *r, size_t n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&j->lock);
    int err = put(j->fd, r, n);
    if (err) {
        if (ftruncate(j->fd, (off_t)j->size))
            log_error("the journal cannot be cut: %s", strerror(errno));
        return err;
    }
    for (size_t i = 0; i < n; i++)
        learn(j, &r[i]);
    j->size += n * sizeof(struct stored);
    if (j->size > HISTORY_MIN && j->size / sizeof(struct stored) > 4 * j->living)
        rewrite(j);
    return 0;
}

int journal_sync(struct journal *j)
{
    /* The descriptor may be replaced by a rewrite, which syncs: so not without the lock, but on one of our own. */
    pthread_mutex_lock(&j->lock);
    int fd = fcntl(j->fd, F_DUPFD_CLOEXEC, 0);
    pthread_mutex_unlock(&j->lock);
    if (fd < 0)
        return -errno;
    int err = fdatasync(fd) ? -errno : 0;
    close(fd);
    return err;
}

void journal_each(struct journal *j, bool (*fn)(void *ctx, const struct journal_record *r, size_t n), void *ctx)
{
    struct file *f, *next;
    HASH_ITER(hh, j->files, f, next)
    {
        struct journal_record clean = {.kind = JOURNAL_CLEAN, .ino = f->ino};
        if (!fn(ctx, f->r, f->n) && journal_append(j, &clean, 1))
            log_warn("the journal cannot be written to");
    }
}
