#include "gateway/api/sharers.h"

static int add_drive(void *ctx, const struct drive_row *d)
{
    uuid_list_add(ctx, &d->id);
    return 0;
}

static int add_member(void *ctx, const struct uuid *user, enum role role)
{
    (void)role;
    uuid_list_add(ctx, user);
    return 0;
}

int sharers_of(struct app *app, const struct uuid *user, struct uuid_list *ret)
{
    CLEANUP(uuid_list_fini) struct uuid_list drives = {0};
    int err = app->meta->ops->drive_list(app->meta, user, add_drive, &drives);
    uuid_list_add(ret, user);
    for (size_t i = 0; i < drives.n && !err; i++)
        err = app->meta->ops->member_list(app->meta, &drives.ids[i], add_member, ret);
    uuid_list_sort(ret);
    return err;
}
