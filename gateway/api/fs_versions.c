/* GET versions: a path's history, for `.versions/`. */
#include "common/jsonx.h"
#include "gateway/api/fs.h"
#include "gateway/api/history.h"
#include "gateway/api/user_names.h"
#include "gateway/core/rows.h"

#include <errno.h>
#include <string.h>

#define VERSIONS_MAX 10000

struct listing {
    struct app *app;
    const struct history *history;
    struct buf *out;
    struct user_names users;
};

static int put_version(void *ctx, const struct version_row *v)
{
    struct listing *l = ctx;
    struct buf *b = l->out;
    jout_open(b, NULL, '{');
    jout_u64(b, "ino", v->ino);
    jout_u64(b, "version", v->version);
    jout_u64(b, "size", v->size);
    jout_hash(b, "sha256", &v->sha256);
    jout_hash(b, "treeHash", &v->tree_hash);
    jout_i64(b, "mtime", v->mtime);
    jout_i64(b, "at", v->at);
    jout_bytes(b, "device", v->device, strlen(v->device));
    jout_str(b, "user", user_names_get(&l->users, l->app, &v->user));
    jout_bool(b, "current", history_is_current(l->history, v));
    jout_close(b, '}');
    return 0;
}

enum call_state fs_versions(struct call *c)
{
    uint64_t parent;
    const char *name;
    if (!fs_query_u64(c, "parent", true, &parent) || !fs_query_name(c, "name", &name))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = fs_snapshot(c);
    if (!tx)
        return CALL_DONE;
    CLEANUP(history_fini) struct history h = {0};
    struct listing l = {.app = app_of(c), .history = &h, .out = &c->out};
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    jout_open(&c->out, "versions", '[');
    int err = history_of_name(tx, parent, name, &h);
    if (err == 0)
        err = history_versions(tx, &h, ALIVE, VERSIONS_MAX, put_version, &l);
    user_names_fini(&l.users);
    if (err < 0)
        return fs_fail(c, err, "versions");
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}
