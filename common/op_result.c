#include "common/errname.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "common/op.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void op_result_fini(struct op_result *r)
{
    free(r->missing);
    *r = (struct op_result){0};
}

json_t *op_result_to_json(const struct op_result *r)
{
    json_t *o = json_object();
    if (r->error)
        json_object_set_new_nocheck(o, "error", json_string_nocheck(errname_of(r->error)));
    jsonx_set_u64(o, "seq", r->seq);
    if (r->ino)
        jsonx_set_u64(o, "ino", r->ino);
    if (r->version)
        jsonx_set_u64(o, "version", r->version);
    if (r->n_attrs) {
        json_t *attrs = json_array();
        for (uint32_t i = 0; i < r->n_attrs; i++)
            json_array_append_new(attrs, attr_to_json(&r->attrs[i]));
        json_object_set_new_nocheck(o, "attrs", attrs);
    }
    if (r->n_names) {
        json_t *names = json_array();
        for (uint32_t i = 0; i < r->n_names; i++) {
            json_t *n = json_object();
            jsonx_set_u64(n, "parent", r->names[i].parent);
            jsonx_set_bytes(n, "name", r->names[i].name, strlen(r->names[i].name));
            jsonx_set_u64(n, "ino", r->names[i].ino);
            json_array_append_new(names, n);
        }
        json_object_set_new_nocheck(o, "names", names);
    }
    if (r->content_ino)
        json_object_set_new_nocheck(o, "content", json_pack("{sIsIsI}", "ino", (json_int_t)r->content_ino, "from",
                                                            (json_int_t)r->content_from, "to", (json_int_t)r->content_to));
    if (r->xattr_ino)
        jsonx_set_u64(o, "xattr", r->xattr_ino);
    if (r->conflict_parent) {
        json_t *c = json_object();
        jsonx_set_u64(c, "parent", r->conflict_parent);
        jsonx_set_bytes(c, "name", r->conflict_name, strlen(r->conflict_name));
        json_object_set_new_nocheck(o, "conflict", c);
    }
    if (r->lock_type || r->lock_end)
        json_object_set_new_nocheck(o, "lock", json_pack("{sssIsIsI}", "type", r->lock_type == F_RDLCK ? "r" : r->lock_type == F_WRLCK ? "w" : "u",
                                                         "start", (json_int_t)r->lock_start, "end", (json_int_t)r->lock_end, "pid",
                                                         (json_int_t)r->lock_pid));
    if (r->n_missing) {
        json_t *missing = json_array();
        for (size_t i = 0; i < r->n_missing; i++) {
            char hex[HASH_HEX_LEN + 1];
            hash_hex(&r->missing[i], hex);
            json_array_append_new(missing, json_string_nocheck(hex));
        }
        json_object_set_new_nocheck(o, "missing", missing);
    }
    return o;
}

static int names_from_json(const json_t *o, struct op_result *r)
{
    json_t *names;
    if (jsonx_arr(o, "names", &names))
        return 0;
    if (json_array_size(names) > sizeof r->names / sizeof *r->names)
        return -EINVAL;
    for (size_t i = 0; i < json_array_size(names); i++) {
        struct touched_name *t = &r->names[r->n_names++];
        const json_t *n = json_array_get(names, i);
        CLEANUP_FREE char *name = NULL;
        size_t len;
        if (jsonx_u64(n, "parent", &t->parent) || jsonx_u64(n, "ino", &t->ino) || jsonx_bytes(n, "name", &name, &len) || len > NAME_LEN_MAX)
            return -EINVAL;
        memcpy(t->name, name, len + 1);
    }
    return 0;
}

static int missing_from_json(const json_t *o, struct op_result *r)
{
    json_t *missing;
    if (jsonx_arr(o, "missing", &missing))
        return 0;
    r->n_missing = json_array_size(missing);
    r->missing = mem_calloc(r->n_missing, sizeof *r->missing);
    for (size_t i = 0; i < r->n_missing; i++) {
        const char *hex = json_string_value(json_array_get(missing, i));
        if (!hex || hash_parse(hex, &r->missing[i]))
            return -EINVAL;
    }
    return 0;
}

static int parts_from_json(const json_t *o, struct op_result *r)
{
    json_t *part;
    if (jsonx_arr(o, "attrs", &part) == 0) {
        if (json_array_size(part) > OP_TOUCH_MAX)
            return -EINVAL;
        for (size_t i = 0; i < json_array_size(part); i++)
            if (attr_from_json(json_array_get(part, i), &r->attrs[r->n_attrs++]))
                return -EINVAL;
    }
    if (jsonx_obj(o, "content", &part) == 0 && (jsonx_u64(part, "ino", &r->content_ino) || jsonx_u64(part, "from", &r->content_from) ||
                                                jsonx_u64(part, "to", &r->content_to)))
        return -EINVAL;
    if (jsonx_obj(o, "conflict", &part) == 0) {
        CLEANUP_FREE char *name = NULL;
        size_t len;
        if (jsonx_u64(part, "parent", &r->conflict_parent) || jsonx_bytes(part, "name", &name, &len) || len > NAME_LEN_MAX)
            return -EINVAL;
        memcpy(r->conflict_name, name, len + 1);
    }
    if (jsonx_obj(o, "lock", &part) == 0) {
        const char *type;
        if (jsonx_str(part, "type", &type) || jsonx_u64(part, "start", &r->lock_start) || jsonx_u64(part, "end", &r->lock_end))
            return -EINVAL;
        r->lock_type = type[0] == 'r' ? F_RDLCK : type[0] == 'w' ? F_WRLCK : F_UNLCK;
        jsonx_u32(part, "pid", &r->lock_pid);
    }
    return 0;
}

int op_result_from_json(const json_t *o, struct op_result *ret)
{
    struct op_result r = {0};
    const char *error;
    if (jsonx_str(o, "error", &error) == 0)
        r.error = errname_parse(error);
    jsonx_u64(o, "seq", &r.seq);
    jsonx_u64(o, "ino", &r.ino);
    jsonx_u64(o, "version", &r.version);
    jsonx_u64(o, "xattr", &r.xattr_ino);
    if (!json_is_object(o) || parts_from_json(o, &r) || names_from_json(o, &r) || missing_from_json(o, &r)) {
        op_result_fini(&r);
        return -EINVAL;
    }
    *ret = r;
    return 0;
}
