/* Who is online, of those who share a drive. */
#include "common/mem.h"
#include "gateway/api/json_out.h"
#include "gateway/api/sharers.h"
#include "gateway/api/shared.h"

#include <string.h>

static void write_answer(struct buf *out, const struct presence *list, size_t n, bool partial)
{
    jout_open(out, NULL, '{');
    jout_open(out, "presence", '[');
    for (size_t i = 0; i < n; i++) {
        jout_open(out, NULL, '{');
        jout_str(out, "user", list[i].name);
        jout_bytes(out, "device", list[i].device, strlen(list[i].device));
        jout_str(out, "state", "online");
        jout_time(out, "at", list[i].since);
        jout_close(out, '}');
    }
    jout_close(out, ']');
    jout_bool(out, "partial", partial);
    jout_close(out, '}');
}

static enum call_state presence(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP(uuid_list_fini) struct uuid_list users = {0};
    size_t n;
    bool partial;
    int err = sharers_of(app, &principal_of(c)->user, &users);
    if (err)
        return call_errno(c, err, "listing who shares a drive");
    CLEANUP_FREE struct presence *list = shared_present(app->shared, users.ids, users.n, &n, &partial);
    c->status = 200;
    write_answer(&c->out, list, n, partial);
    return CALL_DONE;
}

const struct route presence_routes[] = {{HTTP_GET, "/api/v1/presence", presence, 0, 0}};
const size_t presence_routes_n = sizeof presence_routes / sizeof *presence_routes;
