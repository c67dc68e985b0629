#include "gateway/api/inval.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/json_out.h"

#include <errno.h>

void inval_write(const struct inval *v, struct buf *ret)
{
    jout_open(ret, NULL, '{');
    jout_str(ret, "t", "inval");
    jout_u64(ret, "id", v->id);
    jout_uuid(ret, "drive", &v->drive);
    jout_u64(ret, "first", v->first);
    jout_u64(ret, "last", v->last);
    jout_open(ret, "works", '[');
    for (size_t i = 0; i < v->n; i++) {
        const struct inval_work *w = &v->works[i];
        jout_open(ret, NULL, '{');
        jout_uuid(ret, "session", &w->session);
        jout_u64(ret, "seq", w->seq);
        if (w->touches) {
            jout_open(ret, "changes", '[');
            buf_append_str(ret, w->touches);
            jout_close(ret, ']');
        }
        jout_close(ret, '}');
    }
    jout_close(ret, ']');
    jout_close(ret, '}');
}

static int read_uuid(const json_t *o, const char *key, struct uuid *ret)
{
    const char *text;
    return jsonx_str(o, key, &text) || uuid_parse(text, ret) ? -EINVAL : 0;
}

static char *join(const json_t *list)
{
    CLEANUP_BUF struct buf b = {0};
    size_t i;
    json_t *touch;
    json_array_foreach(list, i, touch)
    {
        if (i)
            buf_append(&b, ",", 1);
        jsonx_dump(touch, &b);
    }
    return b.len ? buf_detach(&b) : mem_strdup("");
}

static int read_work(const json_t *o, struct inval_work *ret)
{
    json_t *list = NULL;
    if (!json_is_object(o) || read_uuid(o, "session", &ret->session) || jsonx_u64(o, "seq", &ret->seq) || jsonx_arr(o, "changes", &list) == -EINVAL)
        return -EINVAL;
    ret->touches = list ? join(list) : NULL;
    return 0;
}

int inval_read(const json_t *o, struct inval *ret)
{
    struct inval v = {0};
    json_t *works;
    int err = jsonx_u64(o, "id", &v.id) || read_uuid(o, "drive", &v.drive) || jsonx_u64(o, "first", &v.first) || jsonx_u64(o, "last", &v.last) || jsonx_arr(o, "works", &works) ||
              (v.first && v.first > v.last) ? -EINVAL : 0;
    if (!err)
        v.works = mem_calloc(json_array_size(works) + 1, sizeof *v.works);
    for (size_t i = 0; !err && i < json_array_size(works); i++, v.n++)
        err = read_work(json_array_get(works, i), &v.works[i]);
    if (err)
        inval_fini(&v);
    *ret = v;
    return err;
}

void inval_fini(struct inval *v)
{
    for (size_t i = 0; i < v->n; i++)
        free(v->works[i].touches);
    free(v->works);
    *v = (struct inval){0};
}
