/* An append that came too late: others have appended meanwhile, so our bytes go behind theirs.

   The end of the newest version's last chunk and our bytes are written to a file beside the backing file first (INO.append: everything from the start of that chunk on), then the journal says MOVING, then the
   backing file is changed: a crash at any moment finds either the old state, or that file to begin again with. */
#include "fusefs/cache/content_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define BLOCK (1u << 20)

struct newest {
    uint64_t version, size;
    int64_t mtime;
    uint32_t chunk_size;
    void *tail; /* the bytes of the last chunk, if it is not full */
    uint32_t tail_len;
};

static void newest_fini(struct newest *n)
{
    free(n->tail);
}

static int read_map(struct content *c, struct remote_want w, uint32_t inline_max, struct remote_read *ret)
{
    return content_read_map(c, &w, inline_max, c->store->cfg.timeout_ms, ret);
}

static int take_tail(struct content *c, const struct remote_read *rd, struct newest *ret)
{
    const struct remote_map *m = &rd->maps[0];
    if (m->n != 1 || m->version != ret->version)
        return -EAGAIN;
    const struct chunk_ref *ref = &m->chunks[0];
    uint32_t n = ref->len < ret->tail_len ? ref->len : ret->tail_len;
    ret->tail = mem_alloc(ret->tail_len); /* zeros behind what the chunk holds */
    if (hash_is_zero(&ref->hash))
        return 0;
    for (size_t i = 0; i < rd->n_contents; i++)
        if (hash_equal(&rd->contents[i].hash, &ref->hash) && rd->contents[i].size >= n) {
            memcpy(ret->tail, rd->contents[i].bytes, n);
            return 0;
        }
    CLEANUP_FREE void *bytes = mem_alloc(ref->len);
    struct remote_wait wait = {.timeout_ms = c->store->cfg.timeout_ms};
    int err;
    do
        err = remote_chunk_get(c->store->remote, &ref->hash, bytes, ref->len);
    while (remote_wait(&wait, err));
    if (!err)
        memcpy(ret->tail, bytes, n);
    return err;
}

static int read_newest(struct content *c, struct newest *ret)
{
    CLEANUP(remote_read_fini) struct remote_read head = {0}, rd = {0};
    int err = read_map(c, (struct remote_want){.ino = c->key.ino}, 0, &head);
    if (err)
        return err;
    const struct remote_map *m = &head.maps[0];
    *ret = (struct newest){.version = m->version, .size = m->size, .mtime = m->mtime, .chunk_size = m->chunk_size ? m->chunk_size : c->chunk_size};
    if (!chunk_size_valid(ret->chunk_size))
        return -EPROTO;
    ret->tail_len = (uint32_t)(ret->size % ret->chunk_size);
    if (!ret->tail_len)
        return 0;
    err = read_map(c, (struct remote_want){.ino = c->key.ino, .version = ret->version, .first = ret->size / ret->chunk_size, .count = 1}, CHUNK_INLINE_MAX, &rd);
    return err ? err : take_tail(c, &rd, ret);
}

/* n bytes of the backing file from `off` to fd, or (in) the other way round. */
static int copy(struct content *c, int fd, uint64_t fd_off, uint64_t off, uint64_t n, bool in)
{
    CLEANUP_FREE char *block = mem_alloc(n < BLOCK ? n + 1 : BLOCK);
    for (uint64_t done = 0; done < n;) {
        size_t k = n - done < BLOCK ? (size_t)(n - done) : BLOCK;
        int err = in ? 0 : backing_read(c, block, k, off + done);
        if (err)
            return err;
        ssize_t r = in ? pread(fd, block, k, (off_t)(fd_off + done)) : pwrite(fd, block, k, (off_t)(fd_off + done));
        if (r != (ssize_t)k)
            return r < 0 ? -errno : -EIO;
        err = in ? backing_write(c, block, k, off + done) : 0;
        if (err)
            return err;
        done += k;
    }
    return 0;
}

void rebase_path(struct content_key key, char ret[BACKING_PATH])
{
    backing_path(key, ret);
    size_t n = strlen(ret);
    snprintf(ret + n, BACKING_PATH - n, ".append");
}

/* Our appended bytes, and before them what the newest version has in the chunk that they begin in. */
static int save_aside(struct content *c, const struct newest *v, uint64_t from, uint64_t n, int *ret_fd)
{
    char path[BACKING_PATH];
    rebase_path(c->key, path);
    *ret_fd = openat(c->store->dir_fd, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (*ret_fd < 0)
        return -errno;
    if (v->tail_len && pwrite(*ret_fd, v->tail, v->tail_len, 0) != (ssize_t)v->tail_len)
        return -EIO;
    int err = copy(c, *ret_fd, v->tail_len, from, n, false);
    if (!err && c->store->cfg.writeback && fdatasync(*ret_fd))
        err = -errno;
    struct journal_record r = {.kind = JOURNAL_MOVING, .ino = c->key.ino, .a = v->version, .b = v->size, .len = v->chunk_size};
    return err ? err : journal_append(c->store->journal, &r, 1);
}

/* The chunk table and backing file of v, with nothing of our own. */
static int become_base(struct content *c, const struct newest *v)
{
    if (v->chunk_size != c->chunk_size) {
        chunks_reset(c, v->size, v->chunk_size);
    } else {
        static const struct chunk_ref none;
        for (uint64_t i = 0; i < c->n_chunks; i++)
            if (c->chunks[i].flags & CHUNK_DIRTY) {
                chunk_renew(c, &c->chunks[i]);
                chunk_set_clean(c, i, &none); /* and the backing file is cleared here */
            }
        chunks_resize(c, v->size);
        chunks_stale(c, 0);
    }
    c->version = v->version;
    c->infected = false; /* for all that is known yet */
    c->base_size = v->size;
    c->since = (struct since_base){.shrunk_to = v->size, .append_from = v->size, .append = true};
    return backing_resize(c, v->size);
}

int rebase_move(struct content *c, int fd, uint64_t base_size, uint64_t n)
{
    uint64_t first = base_size / c->chunk_size, start = chunk_start(c, first);
    chunks_resize(c, base_size + n);
    int err = backing_resize(c, base_size + n);
    for (uint64_t i = first; !err && i < c->n_chunks; i++) {
        err = chunk_scrub(c, i);
        chunk_set_dirty(c, i);
    }
    return err ? err : copy(c, fd, 0, start, base_size + n - start, true);
}

static int move(struct content *c, const struct newest *v)
{
    uint64_t from = c->since.append_from, n = c->size - from;
    CLEANUP_CLOSE int fd = -1;
    int err = save_aside(c, v, from, n, &fd);
    if (err)
        return err;
    err = become_base(c, v);
    if (!err)
        err = rebase_move(c, fd, v->size, n);
    c->changes++;
    if (!err)
        err = snapshot_journal(c, c->key.ino);
    if (err)
        return err;
    char path[BACKING_PATH];
    rebase_path(c->key, path);
    unlinkat(c->store->dir_fd, path, 0);
    return 0;
}

int content_rebase(struct content *c)
{
    CLEANUP(newest_fini) struct newest v = {0};
    int err = read_newest(c, &v);
    if (err)
        return err == -EAGAIN ? 0 : err; /* moved on meanwhile: the commit finds out and comes again */
    content_lock(c);
    content_freeze(c);
    if (c->dirty && c->since.append && v.version > c->version)
        err = move(c, &v);
    content_thaw(c);
    pthread_mutex_unlock(&c->lock);
    return err;
}
