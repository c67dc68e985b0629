#include "common/jsonx.h"
#include "common/base64.h"
#include "common/mem.h"
#include "common/utf8.h"

#include <errno.h>
#include <string.h>

/* jansson's own recursion limit is far deeper than anything we send; nesting is checked before it is built. */
static bool too_deep(const char *p, size_t n)
{
    int depth = 0;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        if (string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                string = false;
        } else if (c == '"') {
            string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSONX_DEPTH_MAX)
                return true;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return false;
}

json_t *jsonx_parse(const char *p, size_t n, const char **ret_why)
{
    static _Thread_local char why[JSON_ERROR_TEXT_LENGTH];
    const char *ignored;
    if (!ret_why)
        ret_why = &ignored;
    if (too_deep(p ? p : "", n)) {
        *ret_why = "nested too deeply";
        return NULL;
    }
    if (!utf8_valid(p ? p : "", n)) {
        *ret_why = "not valid UTF-8";
        return NULL;
    }
    json_error_t err;
    json_t *v = json_loadb(p ? p : "", n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &err);
    if (!v) {
        memcpy(why, err.text, sizeof why);
        *ret_why = why;
    }
    return v;
}

static const json_t *member(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

int jsonx_str(const json_t *o, const char *key, const char **ret)
{
    const json_t *v = member(o, key);
    if (!v)
        return -ENOENT;
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v))
        return -EINVAL;
    *ret = json_string_value(v);
    return 0;
}

int jsonx_i64(const json_t *o, const char *key, int64_t *ret)
{
    const json_t *v = member(o, key);
    if (!v)
        return -ENOENT;
    if (!json_is_integer(v))
        return -EINVAL;
    *ret = json_integer_value(v);
    return 0;
}

int jsonx_u64(const json_t *o, const char *key, uint64_t *ret)
{
    int64_t v;
    int err = jsonx_i64(o, key, &v);
    if (err)
        return err;
    if (v < 0)
        return -EINVAL;
    *ret = (uint64_t)v;
    return 0;
}

int jsonx_u32(const json_t *o, const char *key, uint32_t *ret)
{
    uint64_t v;
    int err = jsonx_u64(o, key, &v);
    if (err)
        return err;
    if (v > UINT32_MAX)
        return -EINVAL;
    *ret = (uint32_t)v;
    return 0;
}

int jsonx_bool(const json_t *o, const char *key, bool *ret)
{
    const json_t *v = member(o, key);
    if (!v)
        return -ENOENT;
    if (!json_is_boolean(v))
        return -EINVAL;
    *ret = json_is_true(v);
    return 0;
}

int jsonx_arr(const json_t *o, const char *key, json_t **ret)
{
    json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v))
        return -ENOENT;
    if (!json_is_array(v))
        return -EINVAL;
    *ret = v;
    return 0;
}

int jsonx_obj(const json_t *o, const char *key, json_t **ret)
{
    json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v))
        return -ENOENT;
    if (!json_is_object(v))
        return -EINVAL;
    *ret = v;
    return 0;
}

static void key64(const char *key, char ret[64])
{
    snprintf(ret, 64, "%s64", key);
}

int jsonx_bytes(const json_t *o, const char *key, char **ret, size_t *ret_len)
{
    const char *text;
    int err = jsonx_str(o, key, &text);
    if (err == 0) {
        size_t n = strlen(text);
        *ret = mem_dup(text, n);
        if (ret_len)
            *ret_len = n;
        return 0;
    }
    if (err != -ENOENT)
        return err;
    char other[64];
    key64(key, other);
    err = jsonx_str(o, other, &text);
    if (err)
        return err;
    struct buf b = {0};
    err = base64_decode(text, strlen(text), false, &b);
    if (err) {
        buf_fini(&b);
        return err;
    }
    if (ret_len)
        *ret_len = b.len;
    *ret = buf_detach(&b);
    return 0;
}

void jsonx_set_bytes(json_t *o, const char *key, const void *p, size_t n)
{
    if (n == 0 || (utf8_valid(p, n) && !memchr(p, 0, n))) {
        json_object_set_new_nocheck(o, key, json_stringn_nocheck(n ? p : "", n));
        return;
    }
    char other[64];
    CLEANUP_BUF struct buf b = {0};
    key64(key, other);
    base64_append(&b, p, n, false);
    json_object_set_new_nocheck(o, other, json_stringn_nocheck(b.data, b.len));
}

void jsonx_set_u64(json_t *o, const char *key, uint64_t v)
{
    json_object_set_new_nocheck(o, key, json_integer((json_int_t)v));
}

static int dump_piece(const char *p, size_t n, void *data)
{
    buf_append(data, p, n);
    return 0;
}

void jsonx_dump(const json_t *v, struct buf *ret)
{
    json_dump_callback(v, dump_piece, ret, JSON_COMPACT | JSON_ENCODE_ANY);
}
