#include "gateway/api/put_result.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "gateway/api/content.h"
#include "gateway/api/place.h"

#include <errno.h>
#include <string.h>

static void set_hash(json_t *o, const char *key, const struct hash *h)
{
    char hex[HASH_HEX_LEN + 1];
    hash_hex(h, hex);
    json_object_set_new_nocheck(o, key, hash_is_zero(h) ? json_null() : json_string_nocheck(hex));
}

static void set_conflict(json_t *o, struct app *app, const struct drive_work *w)
{
    const struct op_result *r = &w->results[0];
    CLEANUP_BUF struct buf path = {0};
    struct meta_tx *tx;
    int err = app->meta->ops->snapshot(app->meta, &w->drive, &tx);
    if (err == 0) {
        err = place_path_of(tx, r->conflict_parent, r->conflict_name, r->seq, &path);
        app->meta->ops->rollback(tx);
    }
    if (err) { /* the content is safe; its name alone still says where */
        log_warn("the path of a conflict's sibling cannot be told: %s", strerror(-err));
        buf_fini(&path);
        buf_append_str(&path, r->conflict_name);
    }
    jsonx_set_bytes(o, "conflict", path.data, path.len);
}

json_t *put_result_json(struct app *app, const struct drive_work *w, const char *path, const struct hash *sha256)
{
    const struct op *op = &w->ops[0];
    const struct op_result *r = &w->results[0];
    struct hash tree;
    json_t *o = json_object();
    content_tree_hash(op->changes, op->n_changes, &tree);
    jsonx_set_bytes(o, "path", path, strlen(path));
    json_object_set_new_nocheck(o, "version", json_integer((json_int_t)r->version));
    json_object_set_new_nocheck(o, "size", json_integer((json_int_t)op->size));
    set_hash(o, "sha256", sha256);
    set_hash(o, "treeHash", &tree);
    json_object_set_new_nocheck(o, "seq", json_integer((json_int_t)r->seq));
    if (r->conflict_parent)
        set_conflict(o, app, w);
    return o;
}

enum call_state put_result_problem(struct call *c, int err, const char *path)
{
    switch (-err) {
    case ENOENT:
        return call_problem(c, 404, "parent-not-found", "the directory of %s does not exist any more", path);
    case ENOTDIR:
        return call_problem(c, 409, "not-a-directory", "%s leads through something that is no directory", path);
    case EISDIR:
        return call_problem(c, 409, "is-a-directory", "%s is a directory", path);
    case EEXIST:
        return call_problem(c, 409, "already-exists", "%s exists", path);
    case ENODATA:
        return call_problem(c, 409, "chunks-missing", "chunks of %s have been collected meanwhile: send them again", path);
    default:
        return call_errno(c, err, path);
    }
}
