/* Where chunks are in the object store, for drivers that fetch them there themselves. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/direct.h"
#include "gateway/api/fs.h"

enum call_state fs_where(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP_JSON json_t *body = access_body(c);
    const char *text = NULL;
    struct drive_row drive;
    json_t *list;
    if (!body)
        return CALL_DONE;
    if (jsonx_str(body, "drive", &text) || jsonx_arr(body, "chunks", &list) || json_array_size(list) > DIRECT_PLACES_MAX)
        return call_problem(c, 400, "bad-json", "where needs drive and chunks, at most %d", DIRECT_PLACES_MAX);
    if (!roles_drive(c, text, ROLE_VIEWER, &drive))
        return CALL_DONE;
    size_t n = json_array_size(list);
    CLEANUP_FREE struct hash *h = mem_calloc(n, sizeof *h);
    CLEANUP_FREE struct chunk_row *rows = mem_calloc(n, sizeof *rows);
    for (size_t i = 0; i < n; i++) {
        const char *hex = json_string_value(json_array_get(list, i));
        if (!hex || hash_parse(hex, &h[i]))
            return call_problem(c, 400, "bad-json", "chunk %zu is not 64 hex digits", i);
    }
    int err = n ? app->meta->ops->chunks_find(app->meta, &drive.id, h, n, rows) : 0;
    if (err)
        return fs_fail(c, err, "chunks");
    jout_open(&c->out, NULL, '{');
    bool direct = direct_reads(app);
    jout_u64(&c->out, "seconds", direct ? DIRECT_READ_SECONDS : 0);
    jout_open(&c->out, "places", '[');
    for (size_t i = 0; i < n && direct; i++)
        if (rows[i].pack[0])
            direct_put_place(app, &c->out, &rows[i]);
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}
