/* GET versions: a path's history, for `.versions/`. */
#include "common/jsonx.h"
#include "gateway/api/fs.h"
#include "gateway/api/history.h"
#include "gateway/core/rows.h"

#include <errno.h>
#include <string.h>

#define VERSIONS_MAX 10000

struct listing {
    struct app *app;
    const struct history *history;
    struct buf *out;
    unsigned n;
    struct uuid user; /* of user_name: versions in a row are mostly one user's */
    char user_name[65];
};

static void find_user(struct listing *l, const struct uuid *user)
{
    struct user_row u;
    if (l->user_name[0] && uuid_equal(&l->user, user))
        return;
    l->user = *user;
    snprintf(l->user_name, sizeof l->user_name, "?");
    if (l->app->meta->ops->user_by_id(l->app->meta, user, &u) == 0) {
        memcpy(l->user_name, u.name, sizeof l->user_name);
        user_row_fini(&u);
    }
}

static void put_hash(struct buf *b, const char *key, const struct hash *h)
{
    char hex[HASH_HEX_LEN + 1];
    hash_hex(h, hex);
    if (hash_is_zero(h))
        buf_appendf(b, ",\"%s\":null", key);
    else
        buf_appendf(b, ",\"%s\":\"%s\"", key, hex);
}

static int put_version(void *ctx, const struct version_row *v)
{
    struct listing *l = ctx;
    struct buf *b = l->out;
    find_user(l, &v->user);
    buf_append_str(b, l->n++ ? ",{" : "{");
    fs_put_member(b, "ino", v->ino);
    buf_append(b, ",", 1);
    fs_put_member(b, "version", v->version);
    buf_append(b, ",", 1);
    fs_put_member(b, "size", v->size);
    put_hash(b, "sha256", &v->sha256);
    put_hash(b, "treeHash", &v->tree_hash);
    buf_append(b, ",", 1);
    fs_put_member(b, "mtime", (uint64_t)v->mtime);
    buf_append(b, ",", 1);
    fs_put_member(b, "at", (uint64_t)v->at);
    buf_append(b, ",", 1);
    fs_put_bytes(b, "device", v->device, strlen(v->device));
    buf_append(b, ",", 1);
    fs_put_bytes(b, "user", l->user_name, strlen(l->user_name));
    buf_append_str(b, history_is_current(l->history, v) ? ",\"current\":true}" : ",\"current\":false}");
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
    buf_append(&c->out, "{", 1);
    fs_put_member(&c->out, "seq", tx->drive.seq);
    buf_append_str(&c->out, ",\"versions\":[");
    int err = history_of_name(tx, parent, name, &h);
    if (err == 0)
        err = history_versions(tx, &h, ALIVE, VERSIONS_MAX, put_version, &l);
    if (err < 0)
        return fs_fail(c, err, "versions");
    buf_append_str(&c->out, "]}");
    c->status = 200;
    return CALL_DONE;
}
