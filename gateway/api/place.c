#include "gateway/api/place.h"
#include "common/mem.h"
#include "gateway/api/change.h"
#include "gateway/api/roles.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int place_find(struct meta_tx *tx, const char *path, struct entry_row *ret)
{
    struct entry_row e = {0};
    int err = access_path(tx, path, 0, &e.parent, e.name);
    if (err)
        return err;
    if (e.name[0] == 0) {
        *ret = (struct entry_row){.ino = tx->drive.root};
        return tx->meta->ops->inode(tx, tx->drive.root, 0, &ret->attr);
    }
    *ret = e;
    err = tx->meta->ops->entry(tx, e.parent, e.name, 0, ret);
    if (err == -ENOENT) {
        *ret = e;
        err = 0;
    }
    return err;
}

void place_leave(struct place *p)
{
    if (p->tx)
        p->tx->meta->ops->rollback(p->tx);
    p->tx = NULL;
}

/* A snapshot, and what is at the path. tx stays NULL where there is none. */
static int enter(struct call *c, struct place *p)
{
    struct meta *meta = app_of(c)->meta;
    int err = meta->ops->snapshot(meta, &p->drive.id, &p->tx);
    if (err) {
        p->tx = NULL;
        return err;
    }
    return place_find(p->tx, p->path, &p->entry);
}

static bool is_in_root(const char *path)
{
    return !access_path_wrong(path) && path[1] && !strchr(path + 1, '/');
}

/* The same in one exchange with the store. */
static int enter_in_root(struct call *c, struct place *p)
{
    struct meta *meta = app_of(c)->meta;
    int err = meta->ops->snapshot_entry(meta, &p->drive.id, DRIVE_ROOT, p->path + 1, &p->tx, &p->entry);
    if (err) {
        p->tx = NULL;
        return err;
    }
    p->entry.parent = DRIVE_ROOT;
    snprintf(p->entry.name, sizeof p->entry.name, "%s", p->path + 1);
    return 0;
}

bool place_enter(struct call *c, const char *drive, const char *path, enum role least, struct place *ret)
{
    struct drive_row row;
    *ret = (struct place){.path = path};
    return (least == ROLE_VIEWER ? roles_drive : access_drive)(c, drive, least, &row) && place_enter_drive(c, &row, path, least, ret);
}

bool place_enter_drive(struct call *c, const struct drive_row *drive, const char *path, enum role least, struct place *ret)
{
    *ret = (struct place){.path = path, .drive = *drive};
    int err = is_in_root(path) ? enter_in_root(c, ret) : enter(c, ret);
    if (!ret->tx) {
        call_errno(c, err, "the drive");
        return false;
    }
    enum role role = ret->drive.role;
    ret->drive = ret->tx->drive;
    ret->drive.role = role;
    if ((err == -ENOENT || err == -ENOTDIR) && least == ROLE_VIEWER) {
        ret->entry = (struct entry_row){0};
        snprintf(ret->entry.name, sizeof ret->entry.name, "%s", strrchr(path, '/') + 1);
        err = 0;
    }
    ret->is_root = ret->entry.name[0] == 0;
    if (err == 0)
        return true;
    place_leave(ret);
    if (err == -ENOENT)
        call_problem(c, 404, "parent-not-found", "a directory of %s does not exist", path);
    else if (err == -ENOTDIR)
        call_problem(c, 409, "not-a-directory", "%s leads through something that is no directory", path);
    else
        call_errno(c, err, path);
    return false;
}

bool place_enter_query(struct call *c, enum role least, struct place *ret)
{
    *ret = (struct place){0};
    const char *path = access_path_query(c, "path");
    return path && place_enter(c, call_query(c, "drive", NULL), path, least, ret);
}

bool place_takes_file(struct call *c, const struct place *p)
{
    if (!p->is_root && (!p->entry.ino || S_ISREG(p->entry.attr.mode)))
        return true;
    if (p->is_root || S_ISDIR(p->entry.attr.mode))
        call_problem(c, 409, "is-a-directory", "%s is a directory", p->path);
    else
        call_problem(c, 409, "not-a-file", "%s is no regular file", p->path);
    return false;
}

int place_query_u64(struct call *c, const char *name, uint64_t *ret)
{
    size_t len;
    const char *text = call_query(c, name, &len);
    if (!text)
        return -ENOENT;
    if (len == 0 || len > 18 || strspn(text, "0123456789") != len)
        return -EINVAL;
    *ret = strtoull(text, NULL, 10);
    return 0;
}

bool place_query_limit(struct call *c, unsigned usual, unsigned most, unsigned *ret)
{
    uint64_t v = usual;
    int err = place_query_u64(c, "limit", &v);
    if (err == -EINVAL || v == 0) {
        call_problem(c, 400, "bad-query", "limit is a number of at least 1");
        return false;
    }
    *ret = v < most ? (unsigned)v : most;
    return true;
}

/* ---- missing directories ---- */

/* The first missing directory on the way to path, as operations that make it and all below it; n is 0 where none is missing. Their inode
   numbers are still to be set. */
static int plan_parents(struct meta_tx *tx, const char *path, struct op **ret, size_t *ret_n)
{
    const char *last = strrchr(path, '/');
    uint64_t parent = tx->drive.root;
    for (const char *p = path + 1; p < last; p += strcspn(p, "/") + 1) {
        struct entry_row e;
        CLEANUP_FREE char *name = mem_dup(p, strcspn(p, "/"));
        if (*ret_n == 0) {
            int err = tx->meta->ops->entry(tx, parent, name, 0, &e);
            if (err == 0 && !S_ISDIR(e.attr.mode))
                return -ENOTDIR;
            if (err == 0) {
                parent = e.ino;
                continue;
            }
            if (err != -ENOENT)
                return err;
        }
        *ret = mem_realloc(*ret, (*ret_n + 1) * sizeof **ret);
        (*ret)[(*ret_n)++] = (struct op){.kind = OP_CREATE, .parent = parent, .name = name, .mode = S_IFDIR | 0755};
        name = NULL;
    }
    return 0;
}

static int number_parents(struct app *app, const struct uuid *drive, struct op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int err = access_new_ino(app, drive, &ops[i].ino);
        if (err)
            return err;
        if (i > 0)
            ops[i].parent = ops[i - 1].ino;
    }
    return 0;
}

static int make_parents_once(struct call *c, const struct drive_row *drive, const char *path)
{
    struct app *app = app_of(c);
    struct meta_tx *tx;
    struct op *ops = NULL;
    size_t n = 0;
    int err = app->meta->ops->snapshot(app->meta, &drive->id, &tx);
    if (err)
        return err;
    err = plan_parents(tx, path, &ops, &n);
    app->meta->ops->rollback(tx);
    if (err == 0)
        err = number_parents(app, &drive->id, ops, n);
    if (err == 0 && n)
        err = change_run(c, &drive->id, ops, n);
    change_ops_free(ops, n);
    return err;
}

bool place_make_parents(struct call *c, const struct drive_row *drive, const char *path)
{
    int err = -EEXIST;
    /* Somebody else may make the same directory between the look and the making. */
    for (int attempt = 0; attempt < 4 && (err == -EEXIST || err == -ENOENT); attempt++)
        err = make_parents_once(c, drive, path);
    if (err == -ENOTDIR)
        call_problem(c, 409, "not-a-directory", "%s leads through something that is no directory", path);
    else if (err)
        call_errno(c, err, path);
    return err == 0;
}
