/* Who is online, of those who share a drive. */
#include "common/mem.h"
#include "gateway/api/json_out.h"
#include "gateway/api/shared.h"

#include <stdlib.h>
#include <string.h>

struct ids {
    struct uuid *ids;
    size_t n;
};

static void add(struct ids *l, const struct uuid *id)
{
    l->ids = mem_realloc(l->ids, (l->n + 1) * sizeof *l->ids);
    l->ids[l->n++] = *id;
}

static int add_drive(void *ctx, const struct drive_row *d)
{
    add(ctx, &d->id);
    return 0;
}

static int add_member(void *ctx, const struct uuid *user, enum role role)
{
    (void)role;
    add(ctx, user);
    return 0;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct uuid));
}

/* Each once. */
static void sort(struct ids *l)
{
    size_t kept = 0;
    qsort(l->ids, l->n, sizeof *l->ids, compare);
    for (size_t i = 0; i < l->n; i++)
        if (kept == 0 || !uuid_equal(&l->ids[kept - 1], &l->ids[i]))
            l->ids[kept++] = l->ids[i];
    l->n = kept;
}

/* The user, and everyone who is a member of one of the user's drives. */
static int find_users(struct app *app, const struct uuid *user, struct ids *ret)
{
    struct ids drives = {0};
    int err = app->meta->ops->drive_list(app->meta, user, add_drive, &drives);
    add(ret, user);
    for (size_t i = 0; i < drives.n && !err; i++)
        err = app->meta->ops->member_list(app->meta, &drives.ids[i], add_member, ret);
    free(drives.ids);
    sort(ret);
    return err;
}

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
    struct ids users = {0};
    int err = find_users(app, &principal_of(c)->user, &users);
    if (err) {
        free(users.ids);
        return call_errno(c, err, "listing who shares a drive");
    }
    size_t n;
    bool partial;
    CLEANUP_FREE struct presence *list = shared_present(app->shared, users.ids, users.n, &n, &partial);
    free(users.ids);
    c->status = 200;
    write_answer(&c->out, list, n, partial);
    return CALL_DONE;
}

const struct route presence_routes[] = {{HTTP_GET, "/api/v1/presence", presence, 0, 0}};
const size_t presence_routes_n = sizeof presence_routes / sizeof *presence_routes;
