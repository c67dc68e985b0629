/* Shards: which there are, and which drive is where. */
#include "common/url.h"
#include "gateway/admin.h"

#include <errno.h>
#include <string.h>

#define NO_SHARDS "the metadata store has no shards: that takes PostgreSQL"

int admin_shard_add(const struct admin *a)
{
    const char *name = a->args[0], *url = a->args[1], *wrong = meta_url_wrong(url);
    if (!*name || strlen(name) > 63 || strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(name)) {
        admin_failed("\"%s\": a shard's name is 1 to 63 of a-z, 0-9, \"-\" and \"_\"", name);
        return 2;
    }
    if (wrong || strncmp(url, "postgres", 8) != 0) {
        CLEANUP_FREE char *shown = url_shown(url);
        admin_failed("\"%s\": %s", shown, wrong ? wrong : "must be postgres://…");
        return 2;
    }
    int err = a->meta->ops->shard_add(a->meta, name, url);
    if (err == -ENOTSUP)
        return admin_failed(NO_SHARDS);
    if (err == -EEXIST)
        return admin_failed("there is a shard \"%s\" already", name);
    return err ? admin_errno(err, "adding the shard") : 0;
}

struct listing {
    json_t *array;
    bool print;
};

static int list_one(void *ctx, const char *name, const char *url, uint64_t drives)
{
    struct listing *l = ctx;
    CLEANUP_FREE char *shown = url_shown(url);
    if (l->print)
        printf("%s\t%llu drives\t%s\n", name, (unsigned long long)drives, shown);
    json_array_append_new(l->array, json_pack("{s:s,s:s,s:I}", "name", name, "url", shown, "drives", (json_int_t)drives));
    return 0;
}

int admin_shard_list(const struct admin *a)
{
    CLEANUP_JSON json_t *array = json_array();
    struct listing l = {array, !a->c->json};
    int err = a->meta->ops->shard_list(a->meta, list_one, &l);
    if (err == -ENOTSUP)
        return admin_failed(NO_SHARDS);
    if (err)
        return admin_errno(err, "listing the shards");
    if (a->c->json)
        admin_print(json_pack("{s:O}", "shards", array));
    return 0;
}

int admin_drive_move(const struct admin *a)
{
    struct drive_row d;
    int status = admin_find_drive(a, &d);
    if (status)
        return status;
    int err = a->meta->ops->drive_move(a->meta, &d.id, a->args[1]);
    if (err == -ENOTSUP)
        return admin_failed(NO_SHARDS);
    if (err == -ENODEV)
        return admin_failed("there is no shard \"%s\" that can be reached; admin shard list shows them", a->args[1]);
    if (err == -EBUSY)
        return admin_failed("the drive is being moved already: wait until that has ended, some seconds after the drive has arrived");
    return err ? admin_failed("moving the drive: %s; run it again to go on, until then the drive may be away", strerror(-err)) : 0;
}
