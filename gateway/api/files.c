#include "gateway/api/files.h"
#include "gateway/api/answers.h"
#include "gateway/api/json_out.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define ENTRIES_MAX 1000

const char *file_kind(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "symlink";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    case S_IFCHR:
        return "character-device";
    default:
        return "block-device";
    }
}

/* What a directory's page says of each entry. */
static void put_brief(struct buf *out, const struct attr *a)
{
    jout_u64(out, "ino", a->ino);
    jout_str(out, "kind", file_kind(a->mode));
    jout_u64(out, "mode", a->mode & 07777);
    jout_u64(out, "size", a->size);
    if (S_ISREG(a->mode))
        jout_u64(out, "version", a->version);
    jout_time(out, "modifiedAt", a->mtime);
    if (a->quarantined)
        jout_bool(out, "quarantined", true);
}

static int put_content(struct buf *out, struct meta_tx *tx, const struct attr *a)
{
    struct version_row v = {0};
    if (a->version == 0) { /* empty, and known to be */
        hash_bytes("", 0, &v.sha256);
        v.tree_hash = v.sha256;
    } else {
        int err = tx->meta->ops->version(tx, a->ino, a->version, &v);
        if (err)
            return err;
    }
    jout_hash(out, "sha256", &v.sha256);
    jout_hash(out, "treeHash", &v.tree_hash);
    jout_u64(out, "chunkSize", a->chunk_size);
    return 0;
}

static int put_target(struct buf *out, struct meta_tx *tx, uint64_t ino)
{
    CLEANUP_BUF struct buf target = {0};
    int err = tx->meta->ops->symlink_target(tx, ino, &target);
    if (err == 0)
        jout_bytes(out, "target", target.data ? target.data : "", target.len);
    return err;
}

int file_describe(struct buf *out, struct meta_tx *tx, const char *path, const struct entry_row *e)
{
    const struct attr *a = &e->attr;
    jout_open(out, NULL, '{');
    jout_str(out, "path", path);
    put_brief(out, a);
    jout_time(out, "changedAt", a->ctime);
    jout_time(out, "createdAt", a->btime);
    jout_u64(out, "nlink", a->nlink);
    jout_u64(out, "uid", a->uid);
    jout_u64(out, "gid", a->gid);
    jout_u64(out, "seq", tx->drive.seq);
    if (S_ISREG(a->mode))
        return put_content(out, tx, a);
    return S_ISLNK(a->mode) ? put_target(out, tx, a->ino) : 0;
}

struct listing {
    struct buf *out;
    unsigned limit, n;
    bool more;
    char last[NAME_LEN_MAX + 1];
};

static int put_entry(void *ctx, const struct entry_row *e)
{
    struct listing *l = ctx;
    if (l->n == l->limit) {
        l->more = true;
        return 1;
    }
    size_t len = strlen(e->name);
    jout_open(l->out, NULL, '{');
    jout_bytes(l->out, "name", e->name, len);
    put_brief(l->out, &e->attr);
    jout_close(l->out, '}');
    if (++l->n == l->limit)
        memcpy(l->last, e->name, len + 1);
    return 0;
}

static int put_entries(struct call *c, struct meta_tx *tx, uint64_t ino, const char *after, unsigned limit)
{
    struct listing l = {.out = &c->out, .limit = limit};
    jout_open(&c->out, "entries", '[');
    int err = tx->meta->ops->entries(tx, ino, 0, after, limit + 1, put_entry, &l);
    if (err < 0)
        return err;
    jout_close(&c->out, ']');
    if (l.more)
        jout_bytes(&c->out, "next", l.last, strlen(l.last));
    else
        jout_null(&c->out, "next");
    return 0;
}

static enum call_state fail(struct call *c, int err, const char *what)
{
    buf_fini(&c->out);
    return call_errno(c, err, what);
}

/* All that the answer depends on, but drive and seq. */
static void ask(struct buf *ret, const char *path, const char *after, unsigned limit)
{
    buf_append(ret, path, strlen(path) + 1);
    buf_append(ret, after, strlen(after) + 1);
    buf_append(ret, &limit, sizeof limit);
}

static enum call_state describe(struct call *c, const struct drive_row *drive, const char *path, const char *after, unsigned limit, const struct buf *question)
{
    CLEANUP_PLACE struct place p = {0};
    struct answer_name name;
    if (!place_enter_drive(c, drive, path, ROLE_VIEWER, &p))
        return CALL_DONE;
    if (!p.entry.ino)
        return call_problem(c, 404, "not-found", "%s does not exist", p.path);
    buf_reserve(&c->out, 1024);
    int err = file_describe(&c->out, p.tx, p.path, &p.entry);
    if (err == 0 && S_ISDIR(p.entry.attr.mode))
        err = put_entries(c, p.tx, p.entry.ino, after, limit);
    if (err)
        return fail(c, err, p.path);
    jout_close(&c->out, '}');
    answer_name(&name, 'f', &drive->id, p.tx->drive.seq, question->data, question->len);
    answer_keep(app_of(c), &name, &c->out);
    c->status = 200;
    return CALL_DONE;
}

static enum call_state files_get(struct call *c)
{
    unsigned limit;
    size_t after_len = 0;
    struct drive_row drive;
    struct answer_name name;
    CLEANUP_BUF struct buf question = {0};
    const char *after = call_query(c, "after", &after_len), *path;
    if (!place_query_limit(c, ENTRIES_MAX, ENTRIES_MAX, &limit))
        return CALL_DONE;
    if (after && (after_len > NAME_LEN_MAX || strlen(after) != after_len))
        return call_problem(c, 400, "bad-query", "after is a name");
    path = access_path_query(c, "path");
    if (!path || !answer_drive(c, &drive))
        return CALL_DONE;
    after = after ? after : "";
    ask(&question, path, after, limit);
    answer_name(&name, 'f', &drive.id, drive.seq, question.data, question.len);
    if (!answer_find(app_of(c), &name, &c->out))
        return describe(c, &drive, path, after, limit, &question);
    c->status = 200;
    return CALL_DONE;
}

enum call_state file_answer(struct call *c, int status, const struct uuid *drive, const char *path)
{
    struct meta *meta = app_of(c)->meta;
    struct meta_tx *tx;
    struct entry_row e;
    int err = meta->ops->snapshot(meta, drive, &tx);
    if (err)
        return call_errno(c, err, path);
    err = place_find(tx, path, &e);
    if (err == 0 && !e.ino)
        err = -ENOENT; /* somebody was quick to move it on */
    if (err == 0)
        err = file_describe(&c->out, tx, path, &e);
    meta->ops->rollback(tx);
    if (err)
        return fail(c, err, path);
    jout_close(&c->out, '}');
    c->status = status;
    return CALL_DONE;
}

const struct route file_routes[] = {
    {HTTP_GET, "/api/v1/files", files_get, 0, 0},
    {HTTP_DELETE, "/api/v1/files", file_delete, 0, 0},
    {HTTP_GET, "/api/v1/files/content", file_content_get, 0, 0},
    {HTTP_PUT, "/api/v1/files/content", file_content_put, ROUTE_SPOOL, UINT64_C(64) << 30},
    {HTTP_GET, "/api/v1/files/download-url", file_download_url, 0, 0},
    {HTTP_GET, "/d/{}/{}", file_download, ROUTE_OPEN, 0},
    {HTTP_POST, "/api/v1/files/move", file_move, 0, 64 << 10},
    {HTTP_POST, "/api/v1/files/directory", file_directory, 0, 64 << 10},
};
const size_t file_routes_n = sizeof file_routes / sizeof *file_routes;
