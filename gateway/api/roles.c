#include "gateway/api/roles.h"
#include "common/clock.h"
#include "common/mem.h"

#include <pthread.h>
#include <string.h>
#include <uthash.h>

#define ROLES_MAX 10000 /* then all are forgotten */

struct role_key { /* of a drive's id: name is empty; of a name: drive is zero. Compared as bytes: zeroed first */
    struct uuid drive, user;
    char name[129];
};
struct roles {
    struct role_key key;
    struct uuid id; /* of a name: the drive */
    enum role role;
    int64_t until; /* boot ms */
    UT_hash_handle hh;
};
static pthread_mutex_t roles_lock = PTHREAD_MUTEX_INITIALIZER; /* guards app->roles */

void roles_free(struct roles *all)
{
    struct roles *r, *next;
    HASH_ITER(hh, all, r, next) {
        HASH_DEL(all, r);
        free(r);
    }
}

static bool recall(struct app *app, const struct role_key *key, int64_t now, struct uuid *ret_id, enum role *ret)
{
    struct roles *r;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&roles_lock);
    HASH_FIND(hh, app->roles, key, sizeof *key, r);
    if (!r || r->until <= now)
        return false;
    *ret_id = r->id;
    *ret = r->role;
    return true;
}

static void remember(struct app *app, const struct role_key *key, int64_t now, const struct uuid *id, enum role role)
{
    struct roles *r;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&roles_lock);
    HASH_FIND(hh, app->roles, key, sizeof *key, r);
    if (!r && HASH_COUNT(app->roles) >= ROLES_MAX) {
        roles_free(app->roles);
        app->roles = NULL;
    }
    if (!r) {
        r = mem_alloc(sizeof *r);
        r->key = *key;
        HASH_ADD(hh, app->roles, key, sizeof r->key, r);
    }
    r->id = *id;
    r->role = role;
    r->until = now + ROLE_FRESH_MS;
}

/* Only what lets somebody in is remembered: one who is given a role gets in at once. */
int roles_get(struct app *app, const struct uuid *drive, const struct uuid *user, enum role *ret)
{
    struct role_key key;
    struct uuid id;
    int64_t now = clock_boot_ms();
    memset(&key, 0, sizeof key);
    key.drive = *drive;
    key.user = *user;
    if (recall(app, &key, now, &id, ret))
        return 0;
    int err = app->meta->ops->member_role(app->meta, drive, user, ret);
    if (err == 0 && *ret != ROLE_NONE)
        remember(app, &key, now, drive, *ret);
    return err;
}

/* The long way, for a name that is not remembered: what it leads to is. */
static bool find_named(struct call *c, const char *name, enum role least, struct drive_row *ret)
{
    struct app *app = app_of(c);
    struct role_key key;
    int64_t now = clock_boot_ms();
    struct uuid id;
    enum role role;
    memset(&key, 0, sizeof key);
    key.user = principal_of(c)->user;
    bool fits = name && name[0] && strlen(name) < sizeof key.name;
    if (fits)
        strcpy(key.name, name);
    if (fits && recall(app, &key, now, &id, &role) && role >= least) {
        *ret = (struct drive_row){.id = id, .role = role};
        return true;
    }
    if (!access_drive(c, name, least, ret))
        return false;
    if (fits)
        remember(app, &key, now, &ret->id, ret->role);
    return true;
}

bool roles_drive(struct call *c, const char *drive, enum role least, struct drive_row *ret)
{
    enum role role;
    struct uuid id;
    if (!drive || uuid_parse(drive, &id))
        return find_named(c, drive, least, ret);
    if (roles_get(app_of(c), &id, &principal_of(c)->user, &role) || role < least || role == ROLE_NONE)
        return access_drive(c, drive, least, ret); /* it also says what is wrong */
    *ret = (struct drive_row){.id = id, .role = role};
    return true;
}
