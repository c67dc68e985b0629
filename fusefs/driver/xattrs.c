/* Extended attributes: the drive's own, and what user.cairn.* says of a file. */
#include "fusefs/driver/mount.h"
#include "common/jsonx.h"
#include "common/log.h"
#include <sys/xattr.h>

#define VIRTUAL "user.cairn."

static void reply_value(fuse_req_t req, const void *p, size_t len, size_t room)
{
    if (room == 0)
        fuse_reply_xattr(req, len);
    else if (len > room)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, p, len);
}

static struct xattr_list *list_from_json(const json_t *rows)
{
    struct xattr_list *l = mem_alloc(sizeof *l);
    l->refs = 1;
    l->entries = mem_calloc(json_array_size(rows) + 1, sizeof *l->entries);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        struct xattr_entry *e = &l->entries[l->n];
        if (jsonx_bytes(row, "name", &e->name, NULL))
            continue;
        if (jsonx_bytes(row, "value", &e->value, &e->len)) {
            free(e->name);
            e->name = NULL;
            continue;
        }
        l->n++;
    }
    return l;
}

/* *ret: a reference. */
static int fetch(struct mount *m, struct node *n, struct xattr_list **ret)
{
    int err = sync_fresh(m->sync);
    for (int tries = 0; !err && tries < 20; tries++) {
        *ret = replica_xattrs(m->replica, n);
        if (*ret)
            return 0;
        uint64_t seq;
        CLEANUP_JSON json_t *rows = NULL;
        MOUNT_ASK(m, err, remote_xattrs(m->remote, n->ino, 0, &seq, &rows));
        if (!err)
            replica_fill_xattrs(m->replica, n, seq, list_from_json(rows));
    }
    return err ? err : -EIO; /* changed each time while it was asked for */
}

/* The hash of the whole, computed by reading it. */
static int whole_sha256(struct mount *m, struct node *n, const struct attr *a, char ret[HASH_HEX_LEN + 1])
{
    struct content *c = mount_content(m, n, a);
    struct hash_stream *s = hash_stream_new();
    CLEANUP_FREE char *p = mem_alloc_raw(1 << 20);
    uint64_t off = 0;
    ssize_t got;
    while ((got = content_read(c, p, 1 << 20, off)) > 0) {
        hash_stream_update(s, p, (size_t)got);
        off += (uint64_t)got;
    }
    struct hash h;
    hash_stream_final(s, &h);
    hash_stream_free(s);
    hash_hex(&h, ret);
    content_unref(c);
    return got < 0 ? (int)got : 0;
}

static int virtual_value(struct mount *m, struct node *n, const char *key, char ret[128])
{
    struct attr a;
    int progress = 100, err = mount_attr(m, n, &a);
    if (err)
        return err;
    if (!S_ISREG(a.mode))
        return -ENODATA;
    replica_lock(m->replica);
    struct content *c = n->content ? content_ref(n->content) : NULL;
    replica_unlock(m->replica);
    const char *state = c ? content_state(c, &progress) : "clean";
    if (c)
        content_unref(c);
    if (a.quarantined)
        state = "infected";
    if (strcmp(key, "version") == 0)
        snprintf(ret, 128, "%llu", (unsigned long long)a.version);
    else if (strcmp(key, "state") == 0)
        snprintf(ret, 128, "%s", state);
    else if (strcmp(key, "progress") == 0)
        snprintf(ret, 128, "%d", progress);
    else if (strcmp(key, "sha256") == 0)
        return whole_sha256(m, n, &a, ret);
    else
        return -ENODATA;
    return 0;
}

static void get_virtual(fuse_req_t req, struct mount *m, fuse_ino_t id, const char *name, size_t size)
{
    if (id == FUSE_ROOT_ID && strcmp(name, DRIVER_STATUS_XATTR) == 0) {
        CLEANUP_FREE char *status = status_json(m);
        reply_value(req, status, strlen(status), size);
        return;
    }
    char value[128];
    int err = virtual_value(m, node_of(m, id), name + strlen(VIRTUAL), value);
    if (err)
        fuse_reply_err(req, -err);
    else
        reply_value(req, value, strlen(value), size);
}

void xattrs_get(fuse_req_t req, fuse_ino_t id, const char *name, size_t size)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        history_xattrs(req, id, name, size);
        return;
    }
    if (strncmp(name, VIRTUAL, strlen(VIRTUAL)) == 0) {
        get_virtual(req, m, id, name, size);
        return;
    }
    if (strncmp(name, "system.", 7) == 0) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    struct xattr_list *l;
    int err = fetch(m, node_of(m, id), &l);
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    const struct xattr_entry *found = NULL;
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->entries[i].name, name) == 0)
            found = &l->entries[i];
    if (found)
        reply_value(req, found->value, found->len, size);
    else
        fuse_reply_err(req, ENODATA);
    xattr_list_unref(l);
}

void xattrs_list(fuse_req_t req, fuse_ino_t id, size_t size)
{
    struct mount *m = mount_of(req);
    if (history_owns(m, id)) {
        history_xattrs(req, id, NULL, size);
        return;
    }
    struct xattr_list *l;
    int err = fetch(m, node_of(m, id), &l);
    if (err) {
        fuse_reply_err(req, -err);
        return;
    }
    CLEANUP_BUF struct buf names = {0};
    for (size_t i = 0; i < l->n; i++)
        buf_append(&names, l->entries[i].name, strlen(l->entries[i].name) + 1);
    reply_value(req, names.data, names.len, size);
    xattr_list_unref(l);
}

/* 0, or the errno with which changing this attribute is refused. */
static int refused(struct mount *m, fuse_ino_t id, const char *name)
{
    if (history_owns(m, id) || m->options.read_only)
        return EROFS;
    if (strncmp(name, VIRTUAL, strlen(VIRTUAL)) == 0)
        return EPERM;
    return strncmp(name, "system.", 7) == 0 ? EOPNOTSUPP : 0;
}

void xattrs_set(fuse_req_t req, fuse_ino_t id, const char *name, const char *value, size_t size, int flags)
{
    struct mount *m = mount_of(req);
    int err = -refused(m, id, name);
    if (!err) {
        struct op op = {.kind = OP_SETXATTR, .ino = node_of(m, id)->ino, .xattr = (char *)(uintptr_t)name,
                        .value = (char *)(uintptr_t)value, .value_len = size, .xattr_flags = flags};
        struct op_result res = {0};
        err = mount_run(m, &op, &res);
        op_result_fini(&res);
    }
    fuse_reply_err(req, -err);
}

void xattrs_remove(fuse_req_t req, fuse_ino_t id, const char *name)
{
    struct mount *m = mount_of(req);
    int err = -refused(m, id, name);
    if (!err) {
        struct op op = {.kind = OP_REMOVEXATTR, .ino = node_of(m, id)->ino, .xattr = (char *)(uintptr_t)name};
        struct op_result res = {0};
        err = mount_run(m, &op, &res);
        op_result_fini(&res);
    }
    fuse_reply_err(req, -err);
}
