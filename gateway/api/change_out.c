#include "gateway/api/change_out.h"
#include "common/mem.h"
#include "gateway/api/json_out.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

struct directory_path {
    uint64_t ino;
    char *path; /* ends in '/' */
    UT_hash_handle hh;
};

const char *change_kind_name(char kind)
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

static void forget_paths(struct change_out *o)
{
    struct directory_path *d, *next;
    HASH_ITER(hh, o->paths, d, next)
    {
        HASH_DEL(o->paths, d);
        free(d->path);
        free(d);
    }
}

void change_out_fini(struct change_out *o)
{
    forget_paths(o);
    user_names_fini(&o->users);
}

static int directory_path(struct change_out *o, uint64_t dir, uint64_t at, const char **ret)
{
    struct directory_path *d;
    HASH_FIND(hh, o->paths, &dir, sizeof dir, d);
    if (!d) {
        CLEANUP_BUF struct buf path = {0};
        int err = access_path_of(o->tx, dir, at, &path);
        if (err)
            return err;
        if (path.data[path.len - 1] != '/')
            buf_append_str(&path, "/");
        d = mem_alloc(sizeof *d);
        d->ino = dir;
        d->path = buf_detach(&path);
        HASH_ADD(hh, o->paths, ino, sizeof d->ino, d);
    }
    *ret = d->path;
    return 0;
}

static int put_path(struct change_out *o, struct buf *b, const char *key, uint64_t parent, const char *name, uint64_t at)
{
    CLEANUP_BUF struct buf path = {0};
    const char *dir = "/"; /* of the root itself, which is in no directory */
    int err = parent ? directory_path(o, parent, at, &dir) : 0;
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

int change_out_put(struct change_out *o, struct buf *ret, const struct uuid *drive, const struct change_row *c)
{
    int err;
    if (!c->parent && c->ino != o->tx->drive.root)
        return 0;
    if (c->kind == 'v')
        forget_paths(o); /* it may have been a directory that others' paths go through */
    jout_open(ret, NULL, '{');
    if (drive)
        jout_uuid(ret, "drive", drive);
    jout_u64(ret, "seq", c->seq);
    jout_str(ret, "kind", change_kind_name(c->kind));
    err = put_path(o, ret, "path", c->parent, c->name, c->seq);
    if (!err && c->kind == 'v')
        err = put_path(o, ret, "from", c->from_parent, c->from_name, c->seq);
    if (err)
        return err;
    jout_u64(ret, "ino", c->ino);
    if (c->version)
        jout_u64(ret, "version", c->version);
    jout_bytes(ret, "device", c->device, strlen(c->device));
    jout_str(ret, "user", user_names_get(&o->users, o->app, &c->user));
    jout_time(ret, "at", c->at);
    jout_close(ret, '}');
    return 0;
}
