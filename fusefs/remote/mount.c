/* The mount's session, and the small questions about one inode or name. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/remote/http.h"

#include <errno.h>
#include <string.h>

static int uuid_member(const json_t *o, const char *key, struct uuid *ret)
{
    const char *text;
    return jsonx_str(o, key, &text) || uuid_parse(text, ret) ? -EINVAL : 0;
}

static int text_member(const json_t *o, const char *key, char *ret, size_t room)
{
    const char *text;
    if (jsonx_str(o, key, &text) || strlen(text) >= room)
        return -EINVAL;
    strcpy(ret, text);
    return 0;
}

static int info_from_json(const json_t *o, struct remote_mount_info *i)
{
    uint32_t lease, beat;
    if (uuid_member(o, "session", &i->session) || uuid_member(o, "drive", &i->drive) || text_member(o, "name", i->name, sizeof i->name) ||
        text_member(o, "role", i->role, sizeof i->role) || jsonx_u64(o, "root", &i->root) || jsonx_u64(o, "seq", &i->seq) ||
        jsonx_u64(o, "inoFirst", &i->ino_first) || jsonx_u64(o, "inoCount", &i->ino_count) || jsonx_u32(o, "leaseMs", &lease) ||
        jsonx_u32(o, "heartbeatMs", &beat) || jsonx_u32(o, "inlineMax", &i->inline_max) || jsonx_u32(o, "batchMax", &i->batch_max) ||
        i->root == 0 || i->batch_max == 0 || beat == 0 || i->inline_max > CHUNK_SIZE_MAX || i->ino_first > (UINT64_MAX >> 1) - i->ino_count)
        return -EINVAL;
    i->lease_ms = lease;
    i->heartbeat_ms = beat;
    jsonx_u64(o, "used", &i->used);
    jsonx_u64(o, "quota", &i->quota); /* null: none */
    return 0;
}

int remote_mount(struct remote *r, const char *drive, const char *device, const struct uuid *journal, bool read_only,
                 struct remote_mount_info *ret)
{
    char text[UUID_TEXT];
    uuid_text(journal, text);
    CLEANUP_JSON json_t *body = json_pack("{ss?ss?sssb}", "drive", drive, "device", device, "journal", text, "readOnly", read_only);
    if (!body)
        return -EINVAL;
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_post(r, "mount", body, &o);
    if (err)
        return err;
    struct remote_mount_info info = {0};
    if (info_from_json(o, &info))
        return problem_protocol("the answer to mount lacks something");
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    r->info = info;
    uuid_text(&info.session, r->session);
    if (!r->drive[0])
        uuid_text(&info.drive, r->drive);
    memcpy(r->journal, text, sizeof text);
    snprintf(r->device, sizeof r->device, "%s", device ? device : "");
    *ret = info;
    return 0;
}

void remote_bind(struct remote *r, const struct uuid *drive)
{
    uuid_text(drive, r->drive);
}

int remote_unmount(struct remote *r)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "mount");
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
        buf_appendf(&path, "&session=%s", r->session);
    }
    struct http_request req = {.method = "DELETE", .path = path.data, .timeout_ms = 5000};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    return http_exchange(r, &req, &a);
}

const struct remote_mount_info *remote_info(const struct remote *r)
{
    return &r->info;
}

int remote_inodes(struct remote *r, uint64_t count, uint64_t *ret_first)
{
    CLEANUP_JSON json_t *body = json_pack("{sssI}", "drive", r->drive, "count", (json_int_t)count);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_post(r, "inodes", body, &o);
    if (err)
        return err;
    uint64_t first, n;
    if (jsonx_u64(o, "inoFirst", &first) || jsonx_u64(o, "inoCount", &n) || first == 0 || n < count)
        return problem_protocol("the answer to inodes is too small a range");
    *ret_first = first;
    return 0;
}

static void add_at(struct buf *path, uint64_t at)
{
    if (at)
        buf_appendf(path, "&at=%llu", (unsigned long long)at);
}

static void add_bytes(struct buf *path, const char *key, const char *bytes)
{
    buf_appendf(path, "&%s=", key);
    buf_append_percent(path, bytes, strlen(bytes));
}

int remote_lookup(struct remote *r, uint64_t parent, const char *name, uint64_t at, uint64_t *ret_seq, bool *ret_found, struct attr *ret)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "lookup");
    buf_appendf(&path, "&parent=%llu", (unsigned long long)parent);
    add_bytes(&path, "name", name);
    add_at(&path, at);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    const json_t *attr = json_object_get(o, "attr");
    bool found = attr && !json_is_null(attr);
    if (!attr || jsonx_u64(o, "seq", ret_seq) || (found && attr_from_json(attr, ret)))
        return problem_protocol("the answer to lookup lacks seq or attr");
    *ret_found = found;
    return 0;
}

int remote_inode(struct remote *r, uint64_t ino, uint64_t at, uint64_t *ret_seq, struct attr *ret)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "inode");
    buf_appendf(&path, "&ino=%llu", (unsigned long long)ino);
    add_at(&path, at);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    struct attr a;
    if (jsonx_u64(o, "seq", ret_seq) || attr_from_json(json_object_get(o, "attr"), &a) || a.ino != ino)
        return problem_protocol("the answer to inode is about something else");
    *ret = a;
    return 0;
}

int remote_symlink(struct remote *r, uint64_t ino, uint64_t *ret_seq, char **ret_target)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "symlink");
    buf_appendf(&path, "&ino=%llu", (unsigned long long)ino);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    CLEANUP_FREE char *target = NULL;
    size_t len;
    if (jsonx_u64(o, "seq", ret_seq) || jsonx_bytes(o, "target", &target, &len) || len == 0 || len > SYMLINK_LEN_MAX || strlen(target) != len)
        return problem_protocol("the answer to symlink has no target");
    *ret_target = target;
    target = NULL;
    return 0;
}

int remote_xattrs(struct remote *r, uint64_t ino, uint64_t at, uint64_t *ret_seq, json_t **ret)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "xattrs");
    buf_appendf(&path, "&ino=%llu", (unsigned long long)ino);
    add_at(&path, at);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    json_t *xattrs;
    if (jsonx_u64(o, "seq", ret_seq) || jsonx_arr(o, "xattrs", &xattrs))
        return problem_protocol("the answer to xattrs lacks them");
    *ret = json_incref(xattrs);
    return 0;
}

int remote_seq(struct remote *r, uint64_t *ret)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "seq");
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    return jsonx_u64(o, "seq", ret) ? problem_protocol("the answer to seq has none") : 0;
}

int remote_statfs(struct remote *r, uint64_t *ret_used, uint64_t *ret_quota, uint64_t *ret_files)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "statfs");
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    uint64_t quota = 0;
    int no_quota = jsonx_u64(o, "quota", &quota);
    if (jsonx_u64(o, "used", ret_used) || jsonx_u64(o, "files", ret_files) || (no_quota && no_quota != -ENOENT))
        return problem_protocol("the answer to statfs lacks a figure");
    *ret_quota = quota;
    return 0;
}

int remote_changes(struct remote *r, uint64_t since, json_t **ret_changes, uint64_t *ret_next, bool *ret_more)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "changes");
    buf_appendf(&path, "&since=%llu&limit=1000", (unsigned long long)since);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    json_t *changes;
    if (jsonx_arr(o, "changes", &changes) || jsonx_u64(o, "next", ret_next) || jsonx_bool(o, "more", ret_more) || *ret_next < since ||
        (*ret_more && *ret_next == since)) /* it would be asked for ever */
        return problem_protocol("the answer to changes does not lead on");
    *ret_changes = json_incref(changes);
    return 0;
}

int remote_moment(struct remote *r, int64_t time_ns, uint64_t *ret_seq)
{
    char time[CLOCK_TEXT];
    clock_format_rfc3339(time_ns, time);
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "moment");
    add_bytes(&path, "time", time);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    return jsonx_u64(o, "at", ret_seq) ? problem_protocol("the answer to moment has no 'at'") : 0;
}

int remote_versions(struct remote *r, uint64_t parent, const char *name, uint64_t *ret_seq, json_t **ret_versions)
{
    CLEANUP_BUF struct buf path = {0};
    fs_path(r, &path, "versions");
    buf_appendf(&path, "&parent=%llu", (unsigned long long)parent);
    add_bytes(&path, "name", name);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, &path, &o);
    if (err)
        return err;
    json_t *versions;
    if (jsonx_u64(o, "seq", ret_seq) || jsonx_arr(o, "versions", &versions))
        return problem_protocol("the answer to versions lacks them");
    *ret_versions = json_incref(versions);
    return 0;
}

/* ---- pages of a directory ---- */

void remote_page_fini(struct remote_page *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->entries[i].name);
    free(p->entries);
    free(p->next);
    *p = (struct remote_page){0};
}

/* The kernel would refuse such a name or, worse, walk out of the directory with it. */
static bool name_ok(const char *name, size_t len)
{
    return len >= 1 && len <= NAME_LEN_MAX && strlen(name) == len && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int entries_from_json(const json_t *entries, struct remote_page *p)
{
    size_t n = json_array_size(entries);
    p->entries = mem_calloc(n, sizeof *p->entries);
    for (; p->n < n; p->n++) {
        const json_t *row = json_array_get(entries, p->n);
        struct remote_entry *e = &p->entries[p->n];
        size_t len;
        if (jsonx_bytes(row, "name", &e->name, &len))
            return -EINVAL;
        if (!name_ok(e->name, len) || attr_from_json(json_object_get(row, "attr"), &e->attr)) {
            free(e->name);
            return -EINVAL;
        }
    }
    return 0;
}

static int page_get(struct remote *r, struct buf *path, bool own_attr, struct remote_page *ret)
{
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_get(r, path, &o);
    if (err)
        return err;
    struct remote_page p = {0};
    json_t *entries;
    err = jsonx_u64(o, "seq", &p.seq) || jsonx_arr(o, "entries", &entries) || entries_from_json(entries, &p);
    if (!err && own_attr)
        err = jsonx_u64(o, "parent", &p.parent) || attr_from_json(json_object_get(o, "attr"), &p.attr);
    if (!err) {
        size_t len;
        int e = jsonx_bytes(o, "next", &p.next, &len);
        err = (e && e != -ENOENT) || (p.next && (!name_ok(p.next, len) || p.n == 0));
    }
    if (err) {
        remote_page_fini(&p);
        return problem_protocol("the page of a directory is not well-formed");
    }
    *ret = p;
    return 0;
}

static void begin_page(struct remote *r, struct buf *path, const char *what, uint64_t ino, const char *after, unsigned limit)
{
    fs_path(r, path, what);
    buf_appendf(path, "&ino=%llu&limit=%u", (unsigned long long)ino, limit);
    if (after && after[0])
        add_bytes(path, "after", after);
}

int remote_directory(struct remote *r, uint64_t ino, uint64_t at, const char *after, unsigned limit, struct remote_page *ret)
{
    CLEANUP_BUF struct buf path = {0};
    begin_page(r, &path, "directory", ino, after, limit);
    add_at(&path, at);
    return page_get(r, &path, true, ret);
}

int remote_dead(struct remote *r, uint64_t ino, const char *after, unsigned limit, struct remote_page *ret)
{
    CLEANUP_BUF struct buf path = {0};
    begin_page(r, &path, "dead", ino, after, limit);
    return page_get(r, &path, false, ret);
}
