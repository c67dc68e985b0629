#include "common/mem.h"
#include "gateway/admin.h"

#include <errno.h>
#include <string.h>

#define CLEANUP_USER CLEANUP(user_row_fini)

int admin_drive_create(const struct admin *a)
{
    CLEANUP_USER struct user_row owner = {0};
    const char *name = a->args[0], *wrong = config_drive_name_wrong(name);
    if (wrong)
        return admin_failed("\"%s\": %s", name, wrong);
    if (!a->c->owner) {
        admin_failed("--owner USER must be given");
        return 2;
    }
    int status = admin_user(a, a->c->owner, &owner);
    if (status)
        return status;
    struct drive_row d = {.owner = owner.id, .root = 1, .next_ino = 2, .files = 1, .role = ROLE_OWNER};
    uuid_new(&d.id);
    snprintf(d.name, sizeof d.name, "%s", name);
    int err = a->meta->ops->drive_add(a->meta, &d);
    if (err == -EEXIST)
        return admin_failed("%s has a drive \"%s\" already", owner.name, name);
    return err ? admin_errno(err, "making the drive") : 0;
}

/* ---- lists ---- */

void admin_drives_fini(struct drives *d)
{
    free(d->row);
}

static int collect(void *ctx, const struct drive_row *d)
{
    struct drives *all = ctx;
    all->row = mem_realloc(all->row, (all->n + 1) * sizeof *all->row);
    all->row[all->n++] = *d;
    return 0;
}

int admin_drives(const struct admin *a, struct drives *ret)
{
    return a->meta->ops->drives_each(a->meta, collect, ret);
}

static void owner_name(const struct admin *a, const struct drive_row *d, char ret[65])
{
    CLEANUP_USER struct user_row u = {0};
    if (a->meta->ops->user_by_id(a->meta, &d->owner, &u))
        snprintf(ret, 65, "?");
    else
        memcpy(ret, u.name, sizeof u.name);
}

int admin_drive_list(const struct admin *a)
{
    CLEANUP(admin_drives_fini) struct drives all = {0};
    CLEANUP_JSON json_t *array = json_array();
    int err = admin_drives(a, &all);
    if (err)
        return admin_errno(err, "listing the drives");
    for (size_t i = 0; i < all.n; i++) {
        const struct drive_row *d = &all.row[i];
        char id[UUID_TEXT], owner[65];
        uuid_text(&d->id, id);
        owner_name(a, d, owner);
        if (!a->c->json)
            printf("%s\t%s\t%s\t%llu bytes\t%s\n", d->name, owner, id, (unsigned long long)d->used, d->quota ? "quota" : "no quota");
        json_array_append_new(array, json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I}", "id", id, "name", d->name, "owner", owner, "used", (json_int_t)d->used, "quota",
                                               (json_int_t)d->quota, "files", (json_int_t)d->files, "seq", (json_int_t)d->seq));
    }
    if (a->c->json)
        admin_print(json_pack("{s:O}", "drives", array));
    return 0;
}

/* ---- changes ---- */

int admin_find_drive(const struct admin *a, struct drive_row *ret)
{
    CLEANUP(admin_drives_fini) struct drives all = {0};
    const char *name = a->args[0];
    size_t n = 0;
    struct uuid id;
    bool is_id = uuid_parse(name, &id) == 0;
    int err = admin_drives(a, &all);
    if (err)
        return admin_errno(err, "looking up the drive");
    for (size_t i = 0; i < all.n; i++) {
        char owner[65];
        if (is_id ? !uuid_equal(&all.row[i].id, &id) : strcmp(all.row[i].name, name) != 0)
            continue;
        owner_name(a, &all.row[i], owner);
        if (a->c->owner && strcmp(owner, a->c->owner) != 0)
            continue;
        *ret = all.row[i];
        n++;
    }
    if (n == 0)
        return admin_failed("there is no drive \"%s\"%s%s", name, a->c->owner ? " of " : "", a->c->owner ? a->c->owner : "");
    return n == 1 ? 0 : admin_failed("%zu drives have the name \"%s\": use --owner USER or the id", n, name);
}

int admin_drive_quota(const struct admin *a)
{
    struct drive_row d;
    uint64_t quota = 0;
    if (strcmp(a->args[1], "none") != 0 && config_parse_size(a->args[1], &quota)) {
        admin_failed("\"%s\" is no size: bytes, with K, M, G or T; or none", a->args[1]);
        return 2;
    }
    int status = admin_find_drive(a, &d);
    if (status)
        return status;
    int err = a->meta->ops->drive_quota(a->meta, &d.id, quota);
    return err ? admin_errno(err, "setting the quota") : 0;
}

int admin_drive_rename(const struct admin *a)
{
    struct drive_row d;
    const char *wrong = config_drive_name_wrong(a->args[1]);
    if (wrong)
        return admin_failed("\"%s\": %s", a->args[1], wrong);
    int status = admin_find_drive(a, &d);
    if (status)
        return status;
    int err = a->meta->ops->drive_rename(a->meta, &d.id, a->args[1]);
    if (err == -EEXIST)
        return admin_failed("its owner has a drive \"%s\" already", a->args[1]);
    return err ? admin_errno(err, "renaming the drive") : 0;
}

int admin_changes_trim(const struct admin *a)
{
    struct drive_row d;
    if (!a->c->keep_given) {
        admin_failed("--keep N must be given");
        return 2;
    }
    int status = admin_find_drive(a, &d);
    if (status)
        return status;
    /* to keep none is to forget all that is older than the end of time */
    int err = a->meta->ops->changes_trim(a->meta, &d.id, INT64_MAX, a->c->keep);
    return err ? admin_errno(err, "trimming the changes") : 0;
}
