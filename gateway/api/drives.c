#include "gateway/api/app.h"

#include <string.h>

static const char *role_name(enum role r)
{
    return r == ROLE_OWNER ? "owner" : r == ROLE_EDITOR ? "editor" : "viewer";
}

static int list_drive(void *ctx, const struct drive_row *d)
{
    char id[UUID_TEXT];
    uuid_text(&d->id, id);
    json_t *o = json_pack("{s:s,s:s,s:s}", "id", id, "name", d->name, "role", role_name(d->role));
    json_object_update_new(o, d->away ? json_pack("{s:b}", "away", 1) : json_pack("{s:I,s:I,s:I}", "used", (json_int_t)d->used, "quota", (json_int_t)d->quota, "seq", (json_int_t)d->seq));
    json_array_append_new(ctx, o);
    return 0;
}

static enum call_state drives(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP_JSON json_t *array = json_array();
    int err = app->meta->ops->drive_list(app->meta, &principal_of(c)->user, list_drive, array);
    if (err)
        return call_errno(c, err, "listing the drives");
    call_json(c, 200, json_pack("{s:O}", "drives", array));
    return CALL_DONE;
}

const struct route drive_routes[] = {{HTTP_GET, "/api/v1/drives", drives, 0, 0}};
const size_t drive_routes_n = sizeof drive_routes / sizeof *drive_routes;
