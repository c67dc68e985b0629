#include "gateway/api/answers.h"
#include "common/hash.h"
#include "gateway/api/roles.h"

#include <inttypes.h>

#define KEEP_MS 60000 /* short, for the one who puts an older copy of the database in its place and not its generation */
#define ANSWER_MAX (32u << 10)

/* Where the drive is named, the row that led to it is not believed for its seq: a move that was broken off may have left an older copy of it on another shard. */
bool answer_drive(struct call *c, struct drive_row *ret)
{
    struct meta *meta = app_of(c)->meta;
    if (!roles_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, ret))
        return false;
    enum role role = ret->role;
    int err = meta->ops->drive_by_id(meta, &ret->id, ret);
    ret->role = role;
    if (err)
        call_errno(c, err, "the drive");
    return err == 0;
}

void answer_name(struct answer_name *ret, char kind, const struct uuid *drive, uint64_t seq, const void *question, size_t n)
{
    char id[33], asked[HASH_HEX_LEN + 1];
    struct hash h;
    hash_bytes(question, n, &h);
    hash_hex(&h, asked);
    hex_encode(drive->b, sizeof drive->b, id);
    snprintf(ret->key, sizeof ret->key, "answer:%c:%s:%" PRIu64 ":%s", kind, id, seq, asked);
}

bool answer_find(struct app *app, const struct answer_name *name, struct buf *ret)
{
    size_t at = ret->len;
    if (!app->answers)
        return false;
    if (app->answers->ops->get(app->answers, name->key, ret) == 0)
        return true;
    if (!app->cache->shared || cache_get_sealed(app->cache, name->key, ret) != 0)
        return false;
    app->answers->ops->put(app->answers, name->key, ret->data + at, ret->len - at, KEEP_MS);
    return true;
}

void answer_keep(struct app *app, const struct answer_name *name, const struct buf *answer)
{
    if (!app->answers || answer->len > ANSWER_MAX)
        return;
    app->answers->ops->put(app->answers, name->key, answer->data, answer->len, KEEP_MS);
    if (app->cache->shared)
        cache_put_sealed(app->cache, name->key, answer->data, answer->len, KEEP_MS);
}
