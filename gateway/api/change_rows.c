#include "gateway/api/change_rows.h"
#include "common/mem.h"
#include "gateway/api/json_out.h"
#include "gateway/core/paths.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

struct directory_path {
    uint64_t ino;
    char *path; /* ends in '/' */
    UT_hash_handle hh;
};

static const char *kind_name(char kind)
{
    switch (kind) {
    case 'c':
        return "created";
    case 'm':
        return "modified";
    case 'd':
        return "deleted";
    case 'v':
        return "moved";
    case 'r':
        return "restored";
    default:
        return "attributes";
    }
}

static void forget_paths(struct change_rows *w)
{
    struct directory_path *d, *next;
    HASH_ITER(hh, w->paths, d, next)
    {
        HASH_DEL(w->paths, d);
        free(d->path);
        free(d);
    }
}

void change_rows_fini(struct change_rows *w)
{
    forget_paths(w);
    user_names_fini(&w->users);
}

static int directory_path(struct change_rows *w, uint64_t dir, uint64_t at, const char **ret)
{
    struct directory_path *d;
    HASH_FIND(hh, w->paths, &dir, sizeof dir, d);
    if (!d) {
        CLEANUP_BUF struct buf path = {0};
        int err = path_of_directory(w->tx, dir, at, &path);
        if (err)
            return err;
        if (path.data[path.len - 1] != '/')
            buf_append_str(&path, "/");
        d = mem_alloc(sizeof *d);
        d->ino = dir;
        d->path = buf_detach(&path);
        HASH_ADD(hh, w->paths, ino, sizeof d->ino, d);
    }
    *ret = d->path;
    return 0;
}

static int put_path(struct change_rows *w, struct buf *b, const char *key, uint64_t parent, const char *name, uint64_t at)
{
    CLEANUP_BUF struct buf path = {0};
    const char *dir = "/"; /* of the root itself, which is in no directory */
    int err = parent ? directory_path(w, parent, at, &dir) : 0;
    if (err == -ENOENT) { /* its past is no longer kept: the change happened all the same */
        jout_null(b, key);
        return 0;
    }
    if (err)
        return err;
    buf_append_str(&path, dir);
    buf_append_str(&path, name);
    jout_bytes(b, key, path.data, path.len);
    return 0;
}

static int put_members(struct change_rows *w, const struct change_row *c, struct buf *b)
{
    jout_u64(b, "seq", c->seq);
    jout_str(b, "kind", kind_name(c->kind));
    int err = put_path(w, b, "path", c->parent, c->name, c->seq);
    if (!err && c->kind == 'v')
        err = put_path(w, b, "from", c->from_parent, c->from_name, c->seq);
    if (err)
        return err;
    jout_u64(b, "ino", c->ino);
    if (c->version)
        jout_u64(b, "version", c->version);
    jout_bytes(b, "device", c->device, strlen(c->device));
    jout_str(b, "user", user_names_get(&w->users, w->app, &c->user));
    jout_time(b, "at", c->at);
    if (w->drive)
        jout_str(b, "drive", w->drive);
    return 0;
}

int change_rows_put(struct change_rows *w, const struct change_row *row, struct buf *ret)
{
    size_t before = ret->len;
    if (!row->parent && row->ino != w->tx->drive.root)
        return 1;
    if (row->kind == 'v')
        forget_paths(w); /* it may have been a directory that others' paths go through */
    jout_open(ret, NULL, '{');
    int err = put_members(w, row, ret);
    jout_close(ret, '}');
    if (err)
        ret->len = before;
    return err;
}
