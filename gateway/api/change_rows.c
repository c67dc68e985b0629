#include "gateway/api/change_rows.h"
#include "common/clock.h"
#include "gateway/api/fs.h"

#include <errno.h>
#include <string.h>

void change_rows_fini(struct change_rows *w)
{
    buf_fini(&w->path);
}

static const char *kind_name(char kind)
{
    switch (kind) {
    case 'c': return "created";
    case 'm': return "modified";
    case 'd': return "deleted";
    case 'v': return "moved";
    case 'r': return "restored";
    default: return "attributes";
    }
}

/* The directory's path as of the seq, with a slash behind it, into w->path. */
static int directory_path(struct change_rows *w, uint64_t dir, uint64_t seq)
{
    if (w->parent == dir && w->path.len)
        return 0;
    w->parent = 0;
    w->path.len = 0;
    int err = access_path_of(w->tx, dir, seq, &w->path);
    if (err && err != -ENOENT)
        return err;
    if (w->path.len == 0 || w->path.data[w->path.len - 1] != '/')
        buf_append(&w->path, "/", 1);
    w->parent = dir;
    return 0;
}

static int put_path(struct change_rows *w, const char *key, uint64_t dir, const char *name, uint64_t seq, struct buf *ret)
{
    int err = dir ? directory_path(w, dir, seq) : 0;
    if (err)
        return err;
    CLEANUP_BUF struct buf path = {0};
    if (dir)
        buf_append(&path, w->path.data, w->path.len);
    else
        buf_append(&path, "/", 1); /* the root itself */
    buf_append_str(&path, name);
    buf_append(ret, ",", 1);
    fs_put_bytes(ret, key, path.data, path.len);
    return 0;
}

static const char *name_of(struct change_rows *w, const struct uuid *user)
{
    struct user_row u;
    if (!w->user_name[0] || !uuid_equal(&w->user, user)) {
        w->user = *user;
        snprintf(w->user_name, sizeof w->user_name, "?");
        if (w->app->meta->ops->user_by_id(w->app->meta, user, &u) == 0) {
            memcpy(w->user_name, u.name, sizeof w->user_name);
            user_row_fini(&u);
        }
    }
    return w->user_name;
}

static int put_members(struct change_rows *w, const struct change_row *row, struct buf *b)
{
    char at[CLOCK_TEXT];
    buf_append(b, "{", 1);
    fs_put_member(b, "seq", row->seq);
    buf_appendf(b, ",\"kind\":\"%s\"", kind_name(row->kind));
    int err = put_path(w, "path", row->parent, row->name, row->seq, b);
    if (err == 0 && row->from_parent)
        err = put_path(w, "from", row->from_parent, row->from_name, row->seq, b);
    if (err)
        return err;
    buf_append(b, ",", 1);
    fs_put_member(b, "ino", row->ino);
    if (row->version) {
        buf_append(b, ",", 1);
        fs_put_member(b, "version", row->version);
    }
    buf_append(b, ",", 1);
    fs_put_bytes(b, "device", row->device, strlen(row->device));
    const char *user = name_of(w, &row->user);
    buf_append(b, ",", 1);
    fs_put_bytes(b, "user", user, strlen(user));
    clock_format_rfc3339(row->at, at);
    buf_appendf(b, ",\"at\":\"%s\"", at);
    if (w->drive)
        buf_appendf(b, ",\"drive\":\"%s\"", w->drive);
    buf_append(b, "}", 1);
    return 0;
}

int change_rows_put(struct change_rows *w, const struct change_row *row, struct buf *ret)
{
    size_t before = ret->len;
    int err = put_members(w, row, ret);
    if (row->kind == 'v')
        w->parent = 0; /* a directory may have moved: what was remembered is not true any more */
    if (err)
        ret->len = before;
    return err;
}
