#include "gateway/api/put_result.h"
#include "common/jsonx.h"
#include "gateway/api/content.h"
#include "gateway/api/place.h"
#include "gateway/core/paths.h"

#include <errno.h>
#include <string.h>

static void set_hash(json_t *o, const char *key, const struct hash *h)
{
    char hex[HASH_HEX_LEN + 1];
    hash_hex(h, hex);
    json_object_set_new_nocheck(o, key, hash_is_zero(h) ? json_null() : json_string_nocheck(hex));
}

static int set_path(json_t *o, const char *key, struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at)
{
    CLEANUP_BUF struct buf path = {0};
    int err = path_of_name(tx, parent, name, at, &path);
    if (err == 0)
        jsonx_set_bytes(o, key, path.data, path.len);
    return err;
}

int put_result_json(struct meta_tx *tx, const struct drive_work *w, const struct hash *sha256, json_t **ret)
{
    const struct op *op = &w->ops[0];
    const struct op_result *r = &w->results[0];
    struct hash tree;
    CLEANUP_JSON json_t *o = json_object();
    int err = set_path(o, "path", tx, op->parent, op->name, r->seq);
    content_tree_hash(op->changes, op->n_changes, &tree);
    json_object_set_new_nocheck(o, "version", json_integer((json_int_t)r->version));
    json_object_set_new_nocheck(o, "size", json_integer((json_int_t)op->size));
    set_hash(o, "sha256", sha256);
    set_hash(o, "treeHash", &tree);
    json_object_set_new_nocheck(o, "seq", json_integer((json_int_t)r->seq));
    if (err == 0 && r->conflict_parent)
        err = set_path(o, "conflict", tx, r->conflict_parent, r->conflict_name, r->seq);
    if (err == 0)
        *ret = json_incref(o);
    return err;
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
    case EACCES:
        return call_problem(c, 403, "infected", "this version of %s is infected", path);
    case ENODATA:
        return call_problem(c, 409, "chunks-missing", "chunks of %s have been collected meanwhile: send them again", path);
    default:
        return call_errno(c, err, path);
    }
}
