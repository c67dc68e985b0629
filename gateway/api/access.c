#include "common/jsonx.h"
#include "common/mem.h"
#include "common/utf8.h"
#include "gateway/api/roles.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

json_t *access_body(struct call *c)
{
    const char *why = "";
    json_t *body = jsonx_parse(c->body.data, c->body.len, &why);
    if (json_is_object(body))
        return body;
    if (!body && !utf8_valid(c->body.data ? c->body.data : "", c->body.len))
        call_problem(c, 400, "bad-utf8", "The body is not valid UTF-8; a name that is not can be given only to a mount.");
    else
        call_problem(c, 400, "bad-json", body ? "The body must be a JSON object." : "The body is not JSON: %s.", why);
    json_decref(body);
    return NULL;
}

void access_actor(struct call *c, struct actor *ret)
{
    const struct principal *p = principal_of(c);
    *ret = (struct actor){.user = p->user};
    memcpy(ret->user_name, p->name, sizeof ret->user_name);
    memcpy(ret->device, p->device, sizeof ret->device);
}

/* ---- drives ---- */

struct named {
    const char *name;
    struct drive_row *ret;
    unsigned n;
};

static int match_name(void *ctx, const struct drive_row *d)
{
    struct named *want = ctx;
    if (strcmp(d->name, want->name) == 0 && want->n++ == 0)
        *want->ret = *d;
    return 0;
}

/* 0, -ENOENT (also where the user is no member), -ENOTUNIQ. */
static int find_drive(struct meta *m, const struct uuid *user, const char *drive, struct drive_row *ret)
{
    struct uuid id;
    if (uuid_parse(drive, &id) == 0) {
        enum role role = ROLE_NONE;
        int err = m->ops->member_role(m, &id, user, &role);
        if (!err && role != ROLE_NONE)
            err = m->ops->drive_by_id(m, &id, ret);
        if (!err && role != ROLE_NONE)
            ret->role = role;
        if ((err && err != -ENOENT) || (!err && role != ROLE_NONE))
            return err;
    }
    struct named want = {.name = drive, .ret = ret};
    int err = m->ops->drive_list(m, user, match_name, &want);
    return err ? err : want.n == 0 ? -ENOENT : want.n > 1 ? -ENOTUNIQ : ret->away ? -EHOSTUNREACH : 0;
}

bool access_drive(struct call *c, const char *drive, enum role least, struct drive_row *ret)
{
    if (!drive || !drive[0]) {
        call_problem(c, 400, "drive-missing", "\"drive\" must be given: the id or the name of a drive.");
        return false;
    }
    int err = find_drive(app_of(c)->meta, &principal_of(c)->user, drive, ret);
    if (err == -ENOENT)
        call_problem(c, 404, "drive-not-found", "You have no drive of this id or name.");
    else if (err == -ENOTUNIQ)
        call_problem(c, 409, "drive-ambiguous", "Several of your drives have this name: use the id.");
    else if (err)
        call_errno(c, err, "looking up the drive");
    else if (ret->role < least)
        call_problem(c, 403, "read-only", "Your role in this drive does not allow this.");
    else
        return true;
    return false;
}

/* ---- paths ---- */

const char *access_path_wrong(const char *path)
{
    if (path[0] != '/')
        return "it must start with '/'";
    if (path[1] == 0)
        return NULL;
    for (const char *p = path; *p;) {
        const char *name = p + 1;
        size_t n = strcspn(name, "/");
        if (n == 0)
            return "it has an empty component";
        if (n > NAME_LEN_MAX)
            return "a component is longer than 255 bytes";
        if (name[0] == '.' && (n == 1 || (n == 2 && name[1] == '.')))
            return "\".\" and \"..\" are not allowed";
        p = name + n;
    }
    return NULL;
}

static const char *checked_path(struct call *c, const char *key, const char *path, size_t n)
{
    const char *wrong = !path ? "it is missing" : memchr(path, 0, n) ? "it contains a NUL" : access_path_wrong(path);
    if (path && !utf8_valid(path, n))
        call_problem(c, 400, "bad-utf8", "\"%s\" is not valid UTF-8.", key);
    else if (wrong)
        call_problem(c, 400, "bad-path", "\"%s\" is not a path: %s.", key, wrong);
    else
        return path;
    return NULL;
}

const char *access_path_query(struct call *c, const char *name)
{
    size_t n = 0;
    const char *path = call_query(c, name, &n);
    return checked_path(c, name, path, n);
}

const char *access_path_member(struct call *c, const json_t *body, const char *name)
{
    const json_t *v = json_object_get(body, name);
    if (v && !json_is_string(v) && !json_is_null(v)) {
        call_problem(c, 400, "bad-request", "\"%s\" must be a string.", name);
        return NULL;
    }
    return checked_path(c, name, json_string_value(v), json_string_length(v));
}

int access_path(struct meta_tx *tx, const char *path, uint64_t at, uint64_t *ret_parent, char ret_name[NAME_LEN_MAX + 1])
{
    if (access_path_wrong(path))
        return -EINVAL;
    uint64_t dir = tx->drive.root;
    const char *p = path + 1;
    for (;;) {
        size_t n = strcspn(p, "/");
        char name[NAME_LEN_MAX + 1];
        memcpy(name, p, n);
        name[n] = 0;
        if (p[n] == 0) {
            *ret_parent = dir;
            memcpy(ret_name, name, n + 1);
            return 0;
        }
        struct entry_row e;
        int err = tx->meta->ops->entry(tx, dir, name, at, &e);
        if (err)
            return err;
        if (!S_ISDIR(e.attr.mode))
            return -ENOTDIR;
        dir = e.ino;
        p += n + 1;
    }
}

/* ---- inode numbers ---- */

#define RESERVE_TRIES 20
#define RESERVE_PER_PROCESS 4096

struct ino_range {
    struct uuid drive;
    uint64_t next, end;
    UT_hash_handle hh;
};
static pthread_mutex_t ranges_lock = PTHREAD_MUTEX_INITIALIZER; /* guards app->inodes and what hangs on it */

int access_reserve_inodes(struct app *app, const struct uuid *drive, uint64_t count, uint64_t *ret_first)
{
    int err = -EAGAIN;
    for (int i = 0; i < RESERVE_TRIES && err == -EAGAIN; i++)
        err = app->meta->ops->inodes_reserve(app->meta, drive, count, ret_first);
    return err;
}

static bool take_from_range(struct app *app, const struct uuid *drive, uint64_t *ret)
{
    struct ino_range *r;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&ranges_lock);
    HASH_FIND(hh, app->inodes, drive, sizeof *drive, r);
    if (!r || r->next == r->end)
        return false;
    *ret = r->next++;
    return true;
}

static void put_range(struct app *app, const struct uuid *drive, uint64_t first)
{
    struct ino_range *r;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&ranges_lock);
    HASH_FIND(hh, app->inodes, drive, sizeof *drive, r);
    if (!r) {
        r = mem_alloc(sizeof *r);
        r->drive = *drive;
        HASH_ADD(hh, app->inodes, drive, sizeof *drive, r);
    }
    /* what two threads reserved at once: one range is given up, numbers are not scarce */
    r->next = first;
    r->end = first + RESERVE_PER_PROCESS;
}

int access_new_ino(struct app *app, const struct uuid *drive, uint64_t *ret)
{
    while (!take_from_range(app, drive, ret)) {
        uint64_t first;
        int err = access_reserve_inodes(app, drive, RESERVE_PER_PROCESS, &first);
        if (err)
            return err;
        put_range(app, drive, first);
    }
    return 0;
}

void access_free(struct app *app)
{
    roles_free(app->roles);
    app->roles = NULL;
    struct ino_range *r, *next;
    HASH_ITER(hh, app->inodes, r, next)
    {
        HASH_DEL(app->inodes, r);
        free(r);
    }
}
