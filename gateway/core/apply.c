#include "gateway/core/apply_internal.h"
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"

#include <stdio.h>

/* ---- rows ---- */

static int noted(struct apply *a, int err)
{
    if (err == -EAGAIN)
        a->again = true;
    return err;
}

int apply_inode(struct apply *a, uint64_t ino, struct inode_row **ret)
{
    return noted(a, rows_inode(a->r, ino, ret));
}

int apply_inode_of(struct apply *a, const struct dentry_row *d, struct inode_row **ret)
{
    int err = apply_inode(a, d->ino, ret);
    return err == -ENOENT ? -EIO : err;
}

int apply_dentry(struct apply *a, uint64_t parent, const char *name, struct dentry_row **ret)
{
    return noted(a, rows_dentry(a->r, parent, name, ret));
}

int apply_directory(struct apply *a, uint64_t ino, struct inode_row **ret)
{
    int err = apply_inode(a, ino, ret);
    if (err)
        return err;
    if (!S_ISDIR((*ret)->attr.mode))
        return -ENOTDIR;
    return (*ret)->attr.nlink == 0 ? -ENOENT : 0;
}

int apply_place(struct apply *a, uint64_t parent, const char *name, struct inode_row **ret_dir, struct dentry_row **ret)
{
    int dir_err = apply_directory(a, parent, ret_dir);
    int err = apply_dentry(a, parent, name, ret);
    return dir_err ? dir_err : err;
}

int apply_entry_of(struct apply *a, uint64_t ino, const struct dentry_row **ret)
{
    *ret = NULL;
    int err = noted(a, rows_entry_of(a->r, ino, ret));
    return err == -ENOENT ? 0 : err;
}

int apply_ino_unused(struct apply *a, uint64_t ino)
{
    struct inode_row *i;
    if (ino == 0 || ino >= a->r->drive.next_ino) /* never handed out */
        return -EINVAL;
    int err = apply_inode(a, ino, &i);
    return err == -ENOENT ? 0 : err == 0 ? -EINVAL : err;
}

int apply_sibling_name(struct apply *a, uint64_t parent, const char *name, struct dentry_row **ret)
{
    for (unsigned n = 1; n <= 10000; n++) {
        char sibling[NAME_LEN_MAX + 1];
        apply_conflict_name(name, a->who->device, a->r->now, n, sibling);
        int err = apply_dentry(a, parent, sibling, ret);
        if (err)
            return err;
        if ((*ret)->ino == 0)
            return 0;
    }
    return -EEXIST;
}

/* ---- changes ---- */

void apply_begin(struct apply *a)
{
    a->seq = ++a->r->drive.seq;
    a->r->drive.last_time = a->r->now;
    a->res->seq = a->seq;
}

static void answer_with(struct apply *a, struct inode_row *i)
{
    for (uint32_t n = 0; n < a->res->n_attrs; n++)
        if (a->touched[n] == i)
            return;
    if (a->res->n_attrs < OP_TOUCH_MAX)
        a->touched[a->res->n_attrs++] = i; /* its attributes are copied when they are final */
}

void apply_touch_inode(struct apply *a, struct inode_row *i)
{
    rows_inode_touch(a->r, i, a->seq);
    i->attr.ctime = a->r->now;
    answer_with(a, i);
}

void apply_touch_directory(struct apply *a, struct inode_row *dir)
{
    apply_touch_inode(a, dir);
    dir->attr.mtime = a->r->now;
}

void apply_add_name(struct apply *a, const struct dentry_row *d)
{
    if (a->res->n_names == sizeof a->res->names / sizeof *a->res->names)
        return;
    struct touched_name *t = &a->res->names[a->res->n_names++];
    t->parent = d->parent;
    t->ino = d->ino;
    memcpy(t->name, d->name, sizeof t->name);
}

struct inode_row *apply_new_inode(struct apply *a, const struct attr *attr)
{
    struct inode_row *i = rows_inode_add(a->r, attr, a->seq);
    int64_t now = a->r->now;
    i->attr.atime = i->attr.mtime = i->attr.ctime = i->attr.btime = now;
    a->r->drive.files++;
    answer_with(a, i);
    return i;
}

void apply_name_born(struct apply *a, struct inode_row *dir, struct dentry_row *d, struct inode_row *i)
{
    apply_touch_directory(a, dir);
    dir->children++;
    if (S_ISDIR(i->attr.mode)) {
        dir->attr.nlink++;
        i->parent = d->parent;
    }
    rows_dentry_set(a->r, d, i->attr.ino, a->seq);
}

void apply_name_dies(struct apply *a, struct inode_row *dir, struct dentry_row *d, struct inode_row *i)
{
    apply_touch_directory(a, dir);
    dir->children--;
    if (S_ISDIR(i->attr.mode)) {
        dir->attr.nlink--;
        i->parent = 0;
    }
    rows_dentry_set(a->r, d, 0, a->seq);
}

void apply_inode_loses_name(struct apply *a, struct inode_row *i)
{
    struct drive_row *drive = &a->r->drive;
    apply_touch_inode(a, i);
    i->attr.nlink = S_ISDIR(i->attr.mode) ? 0 : i->attr.nlink - 1;
    if (i->attr.nlink)
        return;
    drive->files -= drive->files > 0;
    if (S_ISREG(i->attr.mode))
        drive->used -= i->attr.size < drive->used ? i->attr.size : drive->used;
}

void apply_finish(struct apply *a, char kind, uint64_t ino, const struct apply_where *where)
{
    for (uint32_t n = 0; n < a->res->n_attrs; n++)
        a->res->attrs[n] = a->touched[n]->attr;
    a->res->ino = ino;
    struct change_row *c = rows_change_add(a->r);
    c->seq = a->seq;
    c->kind = kind;
    c->ino = ino;
    c->version = a->res->version;
    c->user = a->who->user;
    c->at = a->r->now;
    memcpy(c->device, a->who->device, sizeof c->device);
    c->parent = where->parent;
    c->from_parent = where->from_parent;
    if (where->name)
        snprintf(c->name, sizeof c->name, "%s", where->name);
    if (where->from_name)
        snprintf(c->from_name, sizeof c->from_name, "%s", where->from_name);
    CLEANUP_JSON json_t *touch = apply_touch(a->res, &a->who->session);
    CLEANUP_BUF struct buf text = {0};
    jsonx_dump(touch, &text);
    c->touch = buf_detach(&text);
}

json_t *apply_touch(const struct op_result *res, const struct uuid *session)
{
    json_t *o = json_object(), *inodes = json_array(), *names = json_array();
    jsonx_set_u64(o, "seq", res->seq);
    for (uint32_t i = 0; i < res->n_attrs; i++)
        json_array_append_new(inodes, json_integer((json_int_t)res->attrs[i].ino));
    json_object_set_new_nocheck(o, "inodes", inodes);
    for (uint32_t i = 0; i < res->n_names; i++) {
        json_t *n = json_object();
        jsonx_set_u64(n, "parent", res->names[i].parent);
        jsonx_set_bytes(n, "name", res->names[i].name, strlen(res->names[i].name));
        json_array_append_new(names, n);
    }
    json_object_set_new_nocheck(o, "names", names);
    if (res->content_ino) {
        json_t *content = json_object();
        jsonx_set_u64(content, "ino", res->content_ino);
        jsonx_set_u64(content, "from", res->content_from);
        jsonx_set_u64(content, "to", res->content_to);
        for (uint32_t i = 0; i < res->n_attrs; i++)
            if (res->attrs[i].ino == res->content_ino) {
                jsonx_set_u64(content, "version", res->attrs[i].version);
                jsonx_set_u64(content, "size", res->attrs[i].size);
                jsonx_set_u64(content, "chunkSize", res->attrs[i].chunk_size);
                if (res->attrs[i].quarantined)
                    json_object_set_new_nocheck(content, "quarantined", json_true());
            }
        json_object_set_new_nocheck(o, "content", content);
    }
    if (res->xattr_ino)
        jsonx_set_u64(o, "xattr", res->xattr_ino);
    char by[UUID_TEXT];
    uuid_text(session, by);
    json_object_set_new_nocheck(o, "by", json_string_nocheck(by));
    return o;
}

/* ---- conflicts' names ---- */

/* The longest beginning of s of at most max bytes that does not cut a UTF-8 sequence. */
static size_t utf8_prefix(const char *s, size_t max)
{
    size_t n = strlen(s);
    if (n <= max)
        return n;
    for (n = max; n > 0 && ((unsigned char)s[n] & 0xC0) == 0x80; n--)
        ;
    return n ? n : max; /* not UTF-8 at all */
}

#define CONFLICT_DEVICE_MAX 64
#define CONFLICT_EXT_MAX 32

void apply_conflict_name(const char *name, const char *device, int64_t at, unsigned n, char ret[NAME_LEN_MAX + 1])
{
    char time[CLOCK_TEXT], count[16] = "", by[CONFLICT_DEVICE_MAX + 1] = "unknown", tail[160];
    clock_format_path(at, time);
    if (n > 1)
        snprintf(count, sizeof count, " %u", n);
    if (*device) {
        size_t len = utf8_prefix(device, CONFLICT_DEVICE_MAX);
        memcpy(by, device, len);
        by[len] = '\0';
    }
    for (char *c = by; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
    const char *ext = strrchr(name, '.');
    if (!ext || ext == name || strlen(ext) > CONFLICT_EXT_MAX)
        ext = name + strlen(name);
    int tail_len = snprintf(tail, sizeof tail, " (conflict, %s, %s%s)%s", by, time, count, ext);
    char stem[NAME_LEN_MAX + 1];
    snprintf(stem, sizeof stem, "%.*s", (int)(ext - name), name);
    size_t len = utf8_prefix(stem, NAME_LEN_MAX - (size_t)tail_len);
    memcpy(ret, stem, len);
    memcpy(ret + len, tail, (size_t)tail_len + 1);
}

/* ---- one operation ---- */

/* Requests that did not come through op_from_json are held to the same rule. */
static int name_valid(const char *name)
{
    if (!name || !*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    return strlen(name) > NAME_LEN_MAX ? -ENAMETOOLONG : 0;
}

static int names_valid(const struct op *op)
{
    int err = 0;
    switch (op->kind) {
    case OP_RENAME:
        err = name_valid(op->new_name);
        if (err)
            return err;
        return name_valid(op->name);
    case OP_CREATE:
    case OP_LINK:
    case OP_UNLINK:
    case OP_RMDIR:
    case OP_PUT:
        return name_valid(op->name);
    case OP_RESTORE:
        return op->name ? name_valid(op->name) : 0;
    default:
        return 0;
    }
}

static int dispatch(struct apply *a)
{
    switch (a->op->kind) {
    case OP_CREATE:
        return apply_create(a);
    case OP_LINK:
        return apply_link(a);
    case OP_UNLINK:
        return apply_unlink(a);
    case OP_RMDIR:
        return apply_rmdir(a);
    case OP_RENAME:
        return apply_rename(a);
    case OP_SETATTR:
        return apply_setattr(a);
    case OP_SETXATTR:
        return apply_setxattr(a);
    case OP_REMOVEXATTR:
        return apply_removexattr(a);
    case OP_COMMIT:
        return apply_commit(a);
    case OP_PUT:
        return apply_put(a);
    case OP_RESTORE:
        return apply_restore(a);
    case OP_LOCK:
        return apply_lock(a);
    case OP_LOCK_RELEASE_ALL:
        return apply_lock_release_all(a);
    case OP_QUARANTINE:
        return apply_quarantine(a);
    }
    return -EINVAL;
}

int apply_op(struct rows *r, const struct actor *who, const struct op *op, struct op_result *ret)
{
    op_result_fini(ret);
    struct apply a = {.r = r, .who = who, .op = op, .res = ret};
    int err = names_valid(op);
    if (!err)
        err = dispatch(&a);
    if (a.again) {
        op_result_fini(ret);
        return -EAGAIN;
    }
    ret->error = err;
    return 0;
}
