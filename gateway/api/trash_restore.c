#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/change.h"
#include "gateway/api/files.h"
#include "gateway/api/history.h"
#include "gateway/api/trash.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define PAGE 500
/* What was deleted this long before its directory went with it: `rm -r` takes a while. */
#define WITH_IT_NS (INT64_C(600) * 1000000000)

/* A directory that was made again, whose contents are still to come. */
struct pending {
    uint64_t old_ino, new_ino, died;
    int64_t died_at;
};

struct restore {
    struct call *call;
    struct uuid drive;
    uint64_t inos[PAGE]; /* fresh numbers: reserving one writes, which a thread in the middle of a snapshot must not */
    size_t n_inos;
    struct op ops[PAGE];
    size_t n_ops;
    struct pending *dirs;
    size_t n_dirs, room_dirs;
};

static int take_one(void *ctx, const struct change_row *c)
{
    struct change_row *ret = ctx;
    *ret = *c;
    ret->touch = NULL;
    return 1;
}

/* The deletion with this seq; -ENOENT: what happened then was none (a name also dies when it is moved). */
static int deletion_at(struct meta_tx *tx, uint64_t seq, struct change_row *ret)
{
    *ret = (struct change_row){0};
    int err = tx->meta->ops->deletions(tx, seq + 1, 1, take_one, ret);
    return err < 0 ? err : ret->seq == seq ? 0 : -ENOENT;
}

static int need_inos(struct restore *r, size_t n)
{
    int err = 0;
    while (err == 0 && r->n_inos < n)
        err = access_new_ino(app_of(r->call), &r->drive, &r->inos[r->n_inos++]);
    return err;
}

/* What somebody made under the same name meanwhile stays, and what is infected is left in the trash; strict: both are errors. */
static int flush(struct restore *r, bool strict)
{
    if (r->n_ops == 0)
        return 0;
    struct drive_work w = {.drive = r->drive, .ops = r->ops, .n_ops = r->n_ops, .go_on = true};
    w.results = mem_calloc(r->n_ops, sizeof *w.results);
    access_actor(r->call, &w.actor);
    int err = drive_queues_run(app_of(r->call)->queues, &w);
    for (size_t i = 0; i < r->n_ops; i++) {
        int failed = w.results[i].error;
        if (err == 0 && failed && (strict || (failed != -EEXIST && failed != -EACCES)))
            err = failed;
        op_result_fini(&w.results[i]);
        op_fini(&r->ops[i]);
    }
    free(w.results);
    r->n_ops = 0;
    return err;
}

/* The operation that brings an inode back at a name. */
static int add_op(struct restore *r, struct meta_tx *tx, uint64_t parent, const char *name, const struct attr *a, uint64_t *ret_ino)
{
    struct op op = {.parent = parent, .restored = true, .mode = a->mode, .uid = a->uid, .gid = a->gid, .rdev = a->rdev};
    if (S_ISREG(a->mode) && a->version) {
        op.kind = OP_RESTORE;
        op.ino = a->ino;
        op.version = a->version;
    } else {
        op.ino = r->inos[--r->n_inos];
        op.kind = S_ISREG(a->mode) ? OP_PUT : OP_CREATE;
        op.whole = S_ISREG(a->mode);
        op.chunk_size = CHUNK_SIZE_DEFAULT;
    }
    if (S_ISLNK(a->mode)) {
        CLEANUP_BUF struct buf target = {0};
        int err = tx->meta->ops->symlink_target(tx, a->ino, &target);
        if (err)
            return err;
        op.target = buf_detach(&target);
    }
    op.name = mem_strdup(name);
    r->ops[r->n_ops++] = op;
    *ret_ino = op.ino;
    return 0;
}

static int add(struct restore *r, struct meta_tx *tx, uint64_t parent, const char *name, const struct attr *a, const struct change_row *death)
{
    uint64_t ino;
    int err = add_op(r, tx, parent, name, a, &ino);
    if (err || !S_ISDIR(a->mode))
        return err;
    if (r->n_dirs == r->room_dirs) {
        r->room_dirs = r->room_dirs ? 2 * r->room_dirs : 16;
        r->dirs = mem_realloc(r->dirs, r->room_dirs * sizeof *r->dirs);
    }
    r->dirs[r->n_dirs++] = (struct pending){a->ino, ino, death->seq, death->at};
    return 0;
}

/* ---- what was in a directory ---- */

struct names {
    struct entry_row rows[PAGE];
    size_t n;
};

static int take_name(void *ctx, const struct entry_row *e)
{
    struct names *n = ctx;
    n->rows[n->n++] = *e;
    return n->n == PAGE;
}

static int plan_page(struct restore *r, struct meta_tx *tx, const struct pending *dir, struct names *page)
{
    uint64_t from;
    int err = tx->meta->ops->seq_at(tx, dir->died_at - WITH_IT_NS, &from);
    for (size_t i = 0; i < page->n && err == 0; i++) {
        const struct entry_row *e = &page->rows[i];
        struct change_row death;
        struct attr a;
        if (e->died <= from) {
            page->n = i; /* the newest come first: all that follow are older */
            break;
        }
        if (e->died > dir->died)
            continue;
        err = deletion_at(tx, e->died, &death);
        if (err == -ENOENT) {
            err = 0;
            continue;
        }
        if (err == 0)
            err = tx->meta->ops->inode(tx, e->ino, 0, &a);
        if (err == 0)
            err = add(r, tx, dir->new_ino, e->name, &a, &death);
    }
    return err;
}

static int restore_page(struct restore *r, const struct pending *dir, struct names *page, char after[NAME_LEN_MAX + 1])
{
    struct meta *meta = app_of(r->call)->meta;
    struct meta_tx *tx;
    int err = need_inos(r, PAGE);
    if (err == 0)
        err = meta->ops->snapshot(meta, &r->drive, &tx);
    if (err)
        return err;
    page->n = 0;
    err = meta->ops->entries_dead(tx, dir->old_ino, after, PAGE, take_name, page);
    if (err >= 0)
        err = plan_page(r, tx, dir, page);
    meta->ops->rollback(tx);
    if (page->n)
        memcpy(after, page->rows[page->n - 1].name, NAME_LEN_MAX + 1);
    return err ? err : flush(r, false);
}

static int restore_contents(struct restore *r, const struct pending *dir)
{
    CLEANUP_FREE struct names *page = mem_alloc(sizeof *page);
    char after[NAME_LEN_MAX + 1] = "";
    int err;
    do
        err = restore_page(r, dir, page, after);
    while (err == 0 && page->n == PAGE);
    return err;
}

/* ---- the request ---- */

/* Who had the path last, and how it went. */
static int find_deleted(struct meta_tx *tx, const char *path, struct attr *ret, struct change_row *ret_death)
{
    CLEANUP(history_fini) struct history files = {0}, dirs = {0};
    int err = history_of_path(tx, path, &files);
    if (err == 0)
        err = history_of_directory(tx, path, &dirs);
    if (err)
        return err;
    const struct history *h = dirs.n && (!files.n || dirs.inodes[0].until > files.inodes[0].until) ? &dirs : &files;
    if (h->n == 0)
        return -ENOENT;
    err = deletion_at(tx, h->inodes[0].until, ret_death);
    return err ? err : tx->meta->ops->inode(tx, h->inodes[0].ino, 0, ret);
}

static int plan_top(struct restore *r, struct meta_tx *tx, const char *path)
{
    struct attr a;
    struct change_row death;
    struct entry_row now;
    int err = place_find(tx, path, &now);
    if (err == 0 && (now.ino || !now.name[0]))
        err = -EEXIST;
    if (err == 0)
        err = find_deleted(tx, path, &a, &death);
    return err ? err : add(r, tx, now.parent, now.name, &a, &death);
}

static int restore_all(struct restore *r, const char *path)
{
    struct meta *meta = app_of(r->call)->meta;
    struct meta_tx *tx;
    int err = need_inos(r, 1);
    if (err == 0)
        err = meta->ops->snapshot(meta, &r->drive, &tx);
    if (err)
        return err;
    err = plan_top(r, tx, path);
    meta->ops->rollback(tx);
    if (err == 0)
        err = flush(r, true);
    while (err == 0 && r->n_dirs) {
        struct pending dir = r->dirs[--r->n_dirs];
        err = restore_contents(r, &dir);
    }
    return err;
}

static int restore(struct call *c, const struct uuid *drive, const char *path)
{
    struct restore *r = mem_alloc(sizeof *r);
    r->call = c;
    r->drive = *drive;
    int err = restore_all(r, path);
    change_ops_clear(r->ops, r->n_ops);
    free(r->dirs);
    free(r);
    return err;
}

/* Before directories are made for it: is there anything to restore? */
static int look(struct call *c, const struct uuid *drive, const char *path)
{
    struct meta *meta = app_of(c)->meta;
    struct meta_tx *tx;
    struct attr a;
    struct change_row death;
    struct entry_row now;
    int err = meta->ops->snapshot(meta, drive, &tx);
    if (err)
        return err;
    err = place_find(tx, path, &now);
    if (err == 0 && (now.ino || !now.name[0]))
        err = -EEXIST;
    else if (err == 0 || err == -ENOENT || err == -ENOTDIR)
        err = find_deleted(tx, path, &a, &death);
    meta->ops->rollback(tx);
    return err;
}

enum call_state trash_restore(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    const char *path, *drive = NULL;
    struct drive_row d;
    if (!body || !(path = access_path_member(c, body, "path")))
        return CALL_DONE;
    if (jsonx_str(body, "drive", &drive) == -EINVAL)
        return call_problem(c, 400, "bad-request", "drive is a string");
    if (!access_drive(c, drive, ROLE_EDITOR, &d))
        return CALL_DONE;
    int err = look(c, &d.id, path);
    if (err == 0 && !place_make_parents(c, &d, path))
        return CALL_DONE;
    if (err == 0)
        err = restore(c, &d.id, path);
    if (err == -ENOENT)
        return call_problem(c, 404, "not-in-trash", "no %s has been deleted, or it is no longer kept", path);
    if (err == -EEXIST)
        return call_problem(c, 409, "already-exists", "%s exists: its earlier versions are in its history", path);
    if (err == -EACCES)
        return call_problem(c, 403, "infected", "%s is infected", path);
    return err ? call_errno(c, err, path) : file_answer(c, 200, &d.id, path);
}
