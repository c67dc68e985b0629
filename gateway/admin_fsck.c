/* admin fsck, admin scrub: what is stored, checked. */
#include "common/mem.h"
#include "gateway/admin.h"
#include "gateway/jobs/fsck.h"

static void say(void *ctx, const char *text)
{
    printf("%s: %s\n", (const char *)ctx, text);
}

static void objects_close(struct objects **o)
{
    if (*o)
        (*o)->ops->free(*o);
}

static int check(const struct admin *a, bool contents)
{
    CLEANUP(admin_drives_fini) struct drives all = {0};
    CLEANUP(objects_close) struct objects *objects = NULL;
    if (!a->c->objects) {
        admin_failed("where the chunks are must be said: --embedded DIR, or --objects URL");
        return 2;
    }
    int err = objects_open(a->c->objects, &objects);
    if (err)
        return admin_errno(err, "the object store");
    err = admin_drives(a, &all);
    if (err)
        return admin_errno(err, "listing the drives");
    uint64_t problems = 0;
    for (size_t i = 0; i < all.n; i++) {
        struct fsck_report r = {.wrong = say, .ctx = all.row[i].name};
        err = fsck_drive(a->meta, objects, &all.row[i].id, contents, &r);
        if (err)
            return admin_errno(err, all.row[i].name);
        problems += r.problems;
        printf("%s: %llu inodes, %llu names, %llu versions, %llu chunks%s: ", all.row[i].name, (unsigned long long)r.inodes, (unsigned long long)r.entries,
               (unsigned long long)r.versions, (unsigned long long)r.chunks, contents ? " read" : "");
        printf(r.problems ? "%llu PROBLEMS\n" : "right\n", (unsigned long long)r.problems);
    }
    return problems ? 1 : 0;
}

int admin_fsck(const struct admin *a)
{
    return check(a, false);
}

int admin_scrub(const struct admin *a)
{
    return check(a, true);
}
