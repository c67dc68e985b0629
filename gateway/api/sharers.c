#include "gateway/api/sharers.h"
#include "common/mem.h"

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

int sharers_of(struct app *app, const struct uuid *user, struct uuid **ret, size_t *ret_n)
{
    struct ids drives = {0}, users = {0};
    int err = app->meta->ops->drive_list(app->meta, user, add_drive, &drives);
    add(&users, user);
    for (size_t i = 0; i < drives.n && !err; i++)
        err = app->meta->ops->member_list(app->meta, &drives.ids[i], add_member, &users);
    free(drives.ids);
    sort(&users);
    *ret = users.ids;
    *ret_n = users.n;
    return err;
}
