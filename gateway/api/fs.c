/* The driver's protocol: its table of routes, mounts, and what every handler of it needs. */
#include "gateway/api/fs.h"
#include "common/errname.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/streams.h"

#include <errno.h>
#include <string.h>

#define INODES_OF_A_MOUNT 65536
#define INODES_MAX (1u << 20)

/* ---- shared ---- */

bool fs_query_u64(struct call *c, const char *name, bool required, uint64_t *ret)
{
    const char *text = call_query(c, name, NULL);
    if (!text && !required)
        return true;
    size_t digits = text ? strspn(text, "0123456789") : 0;
    uint64_t v = digits && digits < 20 ? strtoull(text, NULL, 10) : UINT64_MAX;
    if (!digits || text[digits] || v > INT64_MAX) {
        call_problem(c, 400, "bad-query", "%s is missing or not an integer from 0 to 2^63-1", name);
        return false;
    }
    *ret = v;
    return true;
}

bool fs_query_hash(struct call *c, struct hash *ret)
{
    const char *text = call_query(c, "sha256", NULL);
    if (text && hash_parse(text, ret) == 0)
        return true;
    call_problem(c, 400, "bad-query", "sha256 is missing or not 64 hex digits");
    return false;
}

bool fs_query_name(struct call *c, const char *key, const char **ret)
{
    size_t len = 0;
    const char *name = call_query(c, key, &len);
    if (name && len > NAME_LEN_MAX) {
        fs_fail(c, -ENAMETOOLONG, key);
        return false;
    }
    if (!name || len == 0 || strlen(name) != len || strchr(name, '/')) {
        call_problem(c, 400, "bad-query", "%s is missing, empty, or has a '/' or NUL", key);
        return false;
    }
    *ret = name;
    return true;
}

bool fs_hashes_body(struct call *c, size_t most, struct fs_hashes *ret)
{
    json_t *list;
    ret->body = access_body(c);
    if (!ret->body)
        return false;
    if (jsonx_str(ret->body, "drive", &ret->drive) || jsonx_arr(ret->body, "chunks", &list) || json_array_size(list) > most) {
        call_problem(c, 400, "bad-json", "drive and chunks are needed, at most %zu", most);
        return false;
    }
    ret->hashes = mem_calloc(json_array_size(list), sizeof *ret->hashes);
    for (; ret->n < json_array_size(list); ret->n++) {
        const char *hex = json_string_value(json_array_get(list, ret->n));
        if (!hex || hash_parse(hex, &ret->hashes[ret->n])) {
            call_problem(c, 400, "bad-json", "chunk %zu is not 64 hex digits", ret->n);
            return false;
        }
    }
    return true;
}

void fs_hashes_fini(struct fs_hashes *h)
{
    json_decref(h->body);
    free(h->hashes);
}

unsigned fs_limit(uint64_t asked, unsigned usual, unsigned most)
{
    return asked == 0 ? usual : asked > most ? most : (unsigned)asked;
}

enum call_state fs_fail(struct call *c, int err, const char *what)
{
    buf_fini(&c->out);
    return call_errno(c, err, what);
}

struct meta_tx *fs_snapshot(struct call *c)
{
    struct drive_row drive;
    struct meta *meta = app_of(c)->meta;
    struct meta_tx *tx = NULL;
    if (!roles_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, &drive))
        return NULL;
    int err = meta->ops->snapshot(meta, &drive.id, &tx);
    if (err)
        fs_fail(c, err, "the drive");
    return err ? NULL : tx;
}

/* ---- mounts ---- */

static const char *role_name(enum role r)
{
    return r == ROLE_OWNER ? "owner" : r == ROLE_EDITOR ? "editor" : "viewer";
}

static enum call_state mount_answer(struct call *c, struct drive_row *drive, const struct uuid *session, bool read_only)
{
    struct app *app = app_of(c);
    uint64_t first = 0, count = read_only ? 0 : INODES_OF_A_MOUNT;
    int err = count ? access_reserve_inodes(app, &drive->id, count, &first) : 0;
    struct meta_tx *tx;
    if (err == 0)
        err = app->meta->ops->snapshot(app->meta, &drive->id, &tx);
    if (err)
        return fs_fail(c, err, "the drive");
    char session_text[UUID_TEXT], drive_text[UUID_TEXT];
    uuid_text(session, session_text);
    uuid_text(&drive->id, drive_text);
    json_t *o = json_pack("{ssssssss}", "session", session_text, "drive", drive_text, "name", drive->name, "role",
                          role_name(read_only ? ROLE_VIEWER : drive->role));
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {{"root", tx->drive.root}, {"seq", tx->drive.seq},       {"used", tx->drive.used},
                   {"quota", tx->drive.quota}, {"inoFirst", first},        {"inoCount", count},
                   {"leaseMs", LEASE_MS},      {"heartbeatMs", HEARTBEAT_MS}, {"inlineMax", CHUNK_INLINE_MAX},
                   {"batchMax", FS_BATCH_OPS_MAX}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(o, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    app->meta->ops->rollback(tx);
    call_json(c, 200, o);
    return CALL_DONE;
}

static enum call_state mount_begin(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    const char *drive_text = NULL, *journal_text, *device;
    struct drive_row drive;
    struct uuid journal, session;
    bool read_only = false;
    if (!body)
        return CALL_DONE;
    int err = jsonx_bool(body, "readOnly", &read_only);
    if ((err && err != -ENOENT) || jsonx_str(body, "journal", &journal_text) || uuid_parse(journal_text, &journal) ||
        jsonx_str(body, "drive", &drive_text) || jsonx_str(body, "device", &device))
        return call_problem(c, 400, "bad-json", "mount needs drive, device and journal (a UUID)");
    if (!access_drive(c, drive_text, ROLE_VIEWER, &drive))
        return CALL_DONE;
    uuid_new(&session);
    err = streams_session_begin(app_of(c)->streams, &session, &drive.id, principal_of(c));
    if (err)
        return fs_fail(c, err, "the session");
    return mount_answer(c, &drive, &session, read_only || drive.role < ROLE_EDITOR);
}

static enum call_state mount_end(struct call *c)
{
    struct drive_row drive;
    struct uuid session;
    const char *text = call_query(c, "session", NULL);
    if (!roles_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, &drive))
        return CALL_DONE;
    if (!text || uuid_parse(text, &session))
        return call_problem(c, 400, "bad-query", "session is missing or not a UUID");
    int err = streams_session_use(app_of(c)->streams, &session, &drive.id, principal_of(c), false);
    if (err)
        return err == -EACCES ? call_problem(c, 403, "not-yours", "this session belongs to another user or drive") : fs_fail(c, err, "the session");
    streams_session_end(app_of(c)->streams, &session);
    c->status = 204;
    return CALL_DONE;
}

static enum call_state more_inodes(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    const char *drive_text = NULL;
    struct drive_row drive;
    uint64_t count, first;
    if (!body)
        return CALL_DONE;
    if (jsonx_u64(body, "count", &count) || count == 0 || count > INODES_MAX || jsonx_str(body, "drive", &drive_text))
        return call_problem(c, 400, "bad-json", "inodes needs drive and count, 1 to %u", INODES_MAX);
    if (!roles_drive(c, drive_text, ROLE_EDITOR, &drive))
        return CALL_DONE;
    int err = access_reserve_inodes(app_of(c), &drive.id, count, &first);
    if (err)
        return fs_fail(c, err, "inode numbers");
    call_json(c, 200, json_pack("{sIsI}", "inoFirst", (json_int_t)first, "inoCount", (json_int_t)count));
    return CALL_DONE;
}

static enum call_state drive_seq(struct call *c)
{
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

static enum call_state drive_statfs(struct call *c)
{
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    call_json(c, 200, json_pack("{sIsIsIsI}", "seq", (json_int_t)tx->drive.seq, "used", (json_int_t)tx->drive.used, "quota",
                                (json_int_t)tx->drive.quota, "files", (json_int_t)tx->drive.files));
    return CALL_DONE;
}

#define JSON_MAX (1u << 20)
const struct route fs_routes[] = {
    {HTTP_POST, FS_BASE "/mount", mount_begin, 0, 4096},
    {HTTP_DELETE, FS_BASE "/mount", mount_end, 0, 0},
    {HTTP_POST, FS_BASE "/inodes", more_inodes, 0, 4096},
    {HTTP_POST, FS_BASE "/batch", fs_batch, 0, FS_BATCH_BYTES_MAX},
    {HTTP_GET, FS_BASE "/lookup", fs_lookup, 0, 0},
    {HTTP_GET, FS_BASE "/inode", fs_inode, 0, 0},
    {HTTP_GET, FS_BASE "/directory", fs_directory, 0, 0},
    {HTTP_GET, FS_BASE "/symlink", fs_symlink, 0, 0},
    {HTTP_GET, FS_BASE "/xattrs", fs_xattrs, 0, 0},
    {HTTP_POST, FS_BASE "/read", fs_read, 0, JSON_MAX},
    {HTTP_GET, FS_BASE "/chunk", fs_chunk_get, 0, 0},
    {HTTP_PUT, FS_BASE "/chunk", fs_chunk_put, 0, CHUNK_SIZE_MAX},
    {HTTP_POST, FS_BASE "/missing", fs_missing, 0, JSON_MAX},
    {HTTP_POST, FS_BASE "/where", fs_where, 0, JSON_MAX},
    {HTTP_POST, FS_BASE "/places", fs_places, 0, JSON_MAX},
    {HTTP_POST, FS_BASE "/placed", fs_placed, 0, JSON_MAX},
    {HTTP_GET, FS_BASE "/versions", fs_versions, 0, 0},
    {HTTP_GET, FS_BASE "/dead", fs_dead, 0, 0},
    {HTTP_GET, FS_BASE "/moment", fs_moment, 0, 0},
    {HTTP_GET, FS_BASE "/changes", fs_changes, 0, 0},
    {HTTP_GET, FS_BASE "/statfs", drive_statfs, 0, 0},
    {HTTP_GET, FS_BASE "/seq", drive_seq, 0, 0},
};
const size_t fs_routes_n = sizeof fs_routes / sizeof *fs_routes;
