/* After the last user of the folder: what was dirty is dirty again, and files that nobody knows of go. */
#include "fusefs/cache/content_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* -ENOENT: a commit had just given it another inode number, under which it is found. */
static int read_size(struct content *c, uint64_t *ret_size, int64_t *ret_mtime)
{
    char path[BACKING_PATH];
    backing_path(c->key, path);
    struct stat st;
    if (fstatat(c->store->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW))
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size > FILE_SIZE_MAX)
        return -EINVAL;
    *ret_size = (uint64_t)st.st_size;
    *ret_mtime = clock_ns(st.st_mtim);
    return 0;
}

static void replay_one(struct content *c, const struct journal_record *r)
{
    switch (r->kind) {
    case JOURNAL_CHUNK:
        if (r->a < c->n_chunks)
            chunk_set_dirty(c, r->a);
        break;
    case JOURNAL_STORED:
        if (r->a < c->n_chunks && r->len <= c->chunk_size) {
            chunk_set_dirty(c, r->a);
            chunk_set_stored(c, r->a, &(struct chunk_ref){r->hash, r->len});
            chunk_set_absent(c, r->a, false);
        }
        break;
    case JOURNAL_SHRUNK: /* the file is as it was in the end: nothing is cut from it again */
        for (uint64_t i = chunk_count(r->a < c->size ? r->a : c->size, c->chunk_size); i < c->n_chunks; i++) {
            free(c->chunks[i].stored);
            c->chunks[i].stored = NULL;
            c->chunks[i].flags = CHUNK_MAPPED;
            chunk_account(c, i);
        }
        break;
    case JOURNAL_NOT_APPEND:
        c->since.append = false;
        break;
    default:
        break;
    }
}

/* A move that was under way: begun again from the bytes that stand aside. */
static int replay_moving(struct content *c)
{
    char path[BACKING_PATH];
    rebase_path(c->key, path);
    CLEANUP_CLOSE int fd = openat(c->store->dir_fd, path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return -errno;
    uint64_t before = c->base_size % c->chunk_size;
    if ((uint64_t)st.st_size < before)
        return -EIO;
    chunks_reset(c, c->base_size, c->chunk_size);
    int err = rebase_move(c, fd, c->base_size, (uint64_t)st.st_size - before);
    if (!err)
        err = snapshot_journal(c, c->key.ino);
    if (!err)
        unlinkat(c->store->dir_fd, path, 0);
    return err;
}

static int replay_file(struct content *c, const struct journal_record *r, size_t n)
{
    uint64_t size = 0;
    int64_t mtime = 0;
    int err = read_size(c, &size, &mtime);
    if (err || !chunk_size_valid(r[0].len) || r[0].b > (uint64_t)FILE_SIZE_MAX)
        return err ? err : -EINVAL;
    content_load(c);
    if (c->version != r[0].a || c->size != r[0].b || c->chunk_size != r[0].len)
        chunks_reset(c, r[0].b, r[0].len);
    c->version = r[0].a;
    c->base_size = r[0].b;
    c->mtime = mtime;
    c->since = (struct since_base){.shrunk_to = r[0].b, .append_from = r[0].b, .append = true};
    for (uint64_t i = 0; i < c->n_chunks; i++) /* a state is as old as its last save */
        if (!(c->chunks[i].flags & CHUNK_PRESENT))
            c->chunks[i].flags |= CHUNK_JUNK;
    if (r[0].kind == JOURNAL_MOVING)
        return replay_moving(c);
    for (size_t i = 1; i < n; i++)
        if (r[i].kind == JOURNAL_SHRUNK && r[i].a < c->since.shrunk_to)
            c->since.shrunk_to = r[i].a;
    if (size < c->since.shrunk_to)
        c->since.shrunk_to = size;
    c->dirty = true; /* chunks from here on are holes without junk: the file was cut there */
    chunks_resize(c, c->since.shrunk_to);
    chunks_resize(c, size);
    for (size_t i = 1; i < n; i++)
        replay_one(c, &r[i]);
    return 0;
}

static bool replay(void *ctx, const struct journal_record *r, size_t n)
{
    struct store *s = ctx;
    uint64_t ino = r[0].ino;
    if (r[0].kind != JOURNAL_DIRTY && r[0].kind != JOURNAL_MOVING)
        return false;
    bool fresh;
    struct content *c = store_make(s, (struct content_key){.ino = ino}, &fresh);
    int err = replay_file(c, r, n);
    if (!err) {
        c->recovered = true;
        c->changes = 1;
        store_mark_dirty(c);
        log_info("inode %llu was written to and not committed: continuing", (unsigned long long)ino);
    } else {
        c->dirty = false;
        if (err != -ENOENT)
            log_error("what was written to inode %llu before the last end cannot be read: %s", (unsigned long long)ino, strerror(-err));
    }
    pthread_mutex_unlock(&c->lock);
    content_unref(c);
    return err != -ENOENT;
}

/* ---- files that no state and no journal names ---- */

static bool is_known(struct store *s, const char *name)
{
    char *end;
    struct content_key key = {.ino = strtoull(name, &end, 10)};
    if (*end == '.' && end[1] >= '0' && end[1] <= '9')
        key.of = strtoull(end + 1, &end, 10);
    struct content *c = store_find(s, key);
    content_unref(c);
    struct state_row row;
    if (c || *end)
        return c && !*end;
    if (state_load(s->state, key.ino, key.of, &row))
        return false;
    buf_fini(&row.chunks);
    return true;
}

static void sweep(struct store *s, const char *path)
{
    int fd = openat(s->dir_fd, path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && !is_known(s, e->d_name))
            unlinkat(fd, e->d_name, 0);
    closedir(d);
}

void store_recover(struct store *s, bool unclean)
{
    journal_each(s->journal, replay, s);
    if (!unclean)
        return;
    for (int i = -1; i < 256; i++) {
        char path[16];
        snprintf(path, sizeof path, i < 0 ? "content/v" : "content/%02x", (unsigned)i);
        sweep(s, path);
    }
}
