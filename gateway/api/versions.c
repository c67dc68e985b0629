/* The versions of a path, and what is in the trash. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/change.h"
#include "gateway/api/files.h"
#include "gateway/api/history.h"
#include "gateway/api/json_out.h"
#include "gateway/api/put_result.h"
#include "gateway/api/trash.h"
#include "gateway/api/user_names.h"
#include "gateway/core/rows.h"

#include <errno.h>
#include <string.h>

#define VERSIONS_MAX 1000

static void end_snapshot(struct meta_tx **tx)
{
    if (*tx)
        (*tx)->meta->ops->rollback(*tx);
}

/* ---- GET /files/versions ---- */

struct listing {
    struct app *app;
    const struct history *history;
    struct buf *out;
    struct user_names users;
    unsigned limit, n;
    uint64_t last;
    bool more;
};

static int put_version(void *ctx, const struct version_row *v)
{
    struct listing *l = ctx;
    struct buf *b = l->out;
    if (l->n++ == l->limit) {
        l->more = true;
        return 1;
    }
    l->last = v->version;
    jout_open(b, NULL, '{');
    jout_u64(b, "version", v->version);
    jout_u64(b, "size", v->size);
    jout_hash(b, "sha256", &v->sha256);
    jout_hash(b, "treeHash", &v->tree_hash);
    jout_time(b, "modifiedAt", v->mtime);
    jout_time(b, "createdAt", v->at);
    jout_bytes(b, "device", v->device, strlen(v->device));
    jout_str(b, "user", user_names_get(&l->users, l->app, &v->user));
    jout_bool(b, "current", history_is_current(l->history, v));
    if (v->quarantined)
        jout_bool(b, "quarantined", true);
    jout_close(b, '}');
    return 0;
}

static int put_versions(struct call *c, struct meta_tx *tx, const struct history *h, uint64_t before, unsigned limit)
{
    struct listing l = {.app = app_of(c), .history = h, .out = &c->out, .limit = limit};
    jout_open(&c->out, NULL, '{');
    jout_open(&c->out, "versions", '[');
    int err = history_versions(tx, h, before, limit + 1, put_version, &l);
    jout_close(&c->out, ']');
    if (l.more)
        jout_u64(&c->out, "next", l.last);
    else
        jout_null(&c->out, "next");
    jout_close(&c->out, '}');
    user_names_fini(&l.users);
    return err < 0 ? err : 0;
}

static enum call_state versions_get(struct call *c)
{
    struct app *app = app_of(c);
    struct drive_row drive;
    CLEANUP(history_fini) struct history h = {0};
    CLEANUP(end_snapshot) struct meta_tx *tx = NULL;
    uint64_t before = ALIVE;
    unsigned limit;
    const char *path = access_path_query(c, "path");
    if (!path || !place_query_limit(c, VERSIONS_MAX, VERSIONS_MAX, &limit))
        return CALL_DONE;
    if (place_query_u64(c, "before", &before) == -EINVAL)
        return call_problem(c, 400, "bad-query", "before is a version's number");
    if (!access_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, &drive))
        return CALL_DONE;
    int err = app->meta->ops->snapshot(app->meta, &drive.id, &tx);
    if (err == 0 && path[1])
        err = history_of_path(tx, path, &h);
    if (err == 0 && h.n == 0)
        return call_problem(c, 404, "not-found", "there is and was no file %s", path);
    if (err == 0)
        err = put_versions(c, tx, &h, before, limit);
    if (err) {
        buf_fini(&c->out);
        return call_errno(c, err, path);
    }
    c->status = 200;
    return CALL_DONE;
}

/* ---- POST /files/versions/restore ---- */

struct restoring {
    char *path;
    struct version_row old;
};

static void restoring_free(void *ctx)
{
    struct restoring *r = ctx;
    free(r->path);
    free(r);
}

static void answer_restore(struct change *ch)
{
    struct restoring *r = ch->ctx;
    struct buf *b = &ch->call->out;
    const struct op_result *res = &ch->work.results[0];
    if (res->error) {
        put_result_problem(ch->call, res->error, r->path);
        return;
    }
    jout_open(b, NULL, '{');
    jout_str(b, "path", r->path);
    jout_u64(b, "version", res->version);
    jout_u64(b, "size", r->old.size);
    jout_hash(b, "sha256", &r->old.sha256);
    jout_hash(b, "treeHash", &r->old.tree_hash);
    jout_u64(b, "seq", res->seq);
    jout_u64(b, "restored", r->old.version);
    jout_close(b, '}');
    ch->call->status = 200;
}

static bool find_version(struct call *c, const struct place *p, uint64_t number, struct version_row *ret)
{
    CLEANUP(history_fini) struct history h = {0};
    int err = number && !p->is_root ? history_of_path(p->tx, p->path, &h) : -ENOENT;
    if (err == 0)
        err = history_version(p->tx, &h, number, ret);
    if (err == -ENOENT)
        call_problem(c, 404, "version-not-found", "%s has no version %llu", p->path, (unsigned long long)number);
    else if (err)
        call_errno(c, err, p->path);
    else if (ret->quarantined)
        call_problem(c, 403, "infected", "this version is infected");
    else
        return true;
    return false;
}

static enum call_state versions_restore(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    CLEANUP_PLACE struct place p = {0};
    const char *path, *drive = NULL;
    uint64_t number;
    struct version_row old;
    if (!body || !(path = access_path_member(c, body, "path")))
        return CALL_DONE;
    if (jsonx_str(body, "drive", &drive) == -EINVAL || jsonx_u64(body, "version", &number))
        return call_problem(c, 400, "bad-request", "drive is a string, version a number");
    if (!place_enter(c, drive, path, ROLE_EDITOR, &p) || !find_version(c, &p, number, &old) || !place_takes_file(c, &p))
        return CALL_DONE;
    struct change *ch = change_new(c, &p.drive.id, 1);
    struct restoring *r = mem_alloc(sizeof *r);
    r->path = mem_strdup(path);
    r->old = old;
    ch->work.ops[0] = (struct op){.kind = OP_RESTORE, .ino = old.ino, .version = number, .parent = p.entry.parent,
                                  .name = mem_strdup(p.entry.name), .sha256 = old.sha256};
    ch->ctx = r;
    ch->free_ctx = restoring_free;
    ch->answer = answer_restore;
    return change_submit(ch);
}

const struct route version_routes[] = {
    {HTTP_GET, "/api/v1/files/versions", versions_get, 0, 0},
    {HTTP_POST, "/api/v1/files/versions/restore", versions_restore, 0, 64 << 10},
    {HTTP_GET, "/api/v1/trash", trash_get, 0, 0},
    {HTTP_POST, "/api/v1/trash/restore", trash_restore, 0, 64 << 10},
};
const size_t version_routes_n = sizeof version_routes / sizeof *version_routes;
