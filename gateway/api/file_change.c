/* DELETE /files, POST /files/move, POST /files/directory. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/change.h"
#include "gateway/api/files.h"
#include "gateway/api/put_result.h"
#include "gateway/api/tree_delete.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* What a directory or a move answers with: the thing at `path`, as it is now. */
struct described {
    char *path;
    int status;
};

static void described_free(void *ctx)
{
    struct described *d = ctx;
    free(d->path);
    free(d);
}

static struct described *described_new(const char *path, int status)
{
    struct described *d = mem_alloc(sizeof *d);
    d->path = mem_strdup(path);
    d->status = status;
    return d;
}

/* ---- delete ---- */

static enum call_state delete_problem(struct call *c, int err, const char *path)
{
    if (err == -ENOTEMPTY)
        return call_problem(c, 409, "directory-not-empty", "%s is not empty: recursive=true deletes what is in it too", path);
    if (err == -ENOENT)
        return call_problem(c, 404, "not-found", "%s does not exist", path);
    return call_errno(c, err, path);
}

static void answer_delete(struct change *ch)
{
    int err = ch->work.results[0].error;
    if (err)
        delete_problem(ch->call, err, call_query(ch->call, "path", NULL));
    else
        ch->call->status = 204;
}

static enum call_state delete_tree(struct call *c, struct place *p)
{
    struct uuid drive = p->drive.id;
    struct entry_row top = p->entry;
    place_leave(p); /* the walk reads newer snapshots as it goes */
    int err = tree_delete(c, &drive, &top);
    if (err)
        return delete_problem(c, err, p->path);
    c->status = 204;
    return CALL_DONE;
}

enum call_state file_delete(struct call *c)
{
    CLEANUP_PLACE struct place p = {0};
    const char *recursive = call_query(c, "recursive", NULL);
    if (recursive && strcmp(recursive, "true") != 0 && strcmp(recursive, "false") != 0)
        return call_problem(c, 400, "bad-query", "recursive is true or false");
    if (!place_enter_query(c, ROLE_EDITOR, &p))
        return CALL_DONE;
    if (p.is_root)
        return call_problem(c, 400, "is-root", "a drive's root cannot be deleted");
    if (!p.entry.ino)
        return delete_problem(c, -ENOENT, p.path);
    bool directory = S_ISDIR(p.entry.attr.mode);
    if (directory && recursive && recursive[0] == 't')
        return delete_tree(c, &p);
    struct change *ch = change_new(c, &p.drive.id, 1);
    ch->work.ops[0] = (struct op){.kind = directory ? OP_RMDIR : OP_UNLINK, .parent = p.entry.parent, .name = mem_strdup(p.entry.name)};
    ch->answer = answer_delete;
    return change_submit(ch);
}

/* ---- directory ---- */

static void answer_directory(struct change *ch)
{
    struct described *d = ch->ctx;
    int err = ch->work.results[0].error;
    if (err)
        put_result_problem(ch->call, err, d->path);
    else
        file_answer(ch->call, d->status, &ch->work.drive, d->path);
}

enum call_state file_directory(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    CLEANUP_PLACE struct place p = {0};
    const char *path, *drive = NULL;
    bool parents = false;
    if (!body || !(path = access_path_member(c, body, "path")))
        return CALL_DONE;
    if (jsonx_str(body, "drive", &drive) == -EINVAL || jsonx_bool(body, "createParents", &parents) == -EINVAL)
        return call_problem(c, 400, "bad-json", "drive is a string, createParents true or false");
    if (parents) {
        struct drive_row d;
        if (!access_drive(c, drive, ROLE_EDITOR, &d) || !place_make_parents(c, &d, path))
            return CALL_DONE;
    }
    if (!place_enter(c, drive, path, ROLE_EDITOR, &p))
        return CALL_DONE;
    if (p.is_root || p.entry.ino)
        return put_result_problem(c, -EEXIST, path);
    uint64_t ino;
    place_leave(&p); /* a number may have to be reserved, which writes */
    int err = access_new_ino(app_of(c), &p.drive.id, &ino);
    if (err)
        return call_errno(c, err, "an inode number");
    struct change *ch = change_new(c, &p.drive.id, 1);
    ch->work.ops[0] =
        (struct op){.kind = OP_CREATE, .ino = ino, .parent = p.entry.parent, .name = mem_strdup(p.entry.name), .mode = S_IFDIR | 0755};
    ch->answer = answer_directory;
    ch->ctx = described_new(path, 201);
    ch->free_ctx = described_free;
    return change_submit(ch);
}

/* ---- move ---- */

static void answer_move(struct change *ch)
{
    struct call *c = ch->call;
    struct described *d = ch->ctx;
    switch (-ch->work.results[0].error) {
    case 0:
        file_answer(c, d->status, &ch->work.drive, d->path);
        break;
    case ENOENT:
        call_problem(c, 404, "not-found", "what was to be moved, or the directory it was to go to, is gone");
        break;
    case EINVAL:
        call_problem(c, 400, "into-itself", "a directory cannot be moved into itself");
        break;
    case ENOTEMPTY:
        call_problem(c, 409, "directory-not-empty", "%s is a directory with something in it", d->path);
        break;
    default:
        put_result_problem(c, ch->work.results[0].error, d->path);
    }
}

static enum call_state submit_move(struct call *c, const struct place *from, const struct entry_row *to, const char *to_path, bool replace)
{
    if (!from->entry.ino)
        return call_problem(c, 404, "not-found", "%s does not exist", from->path);
    if (to->ino && !replace && to->ino != from->entry.ino)
        return put_result_problem(c, -EEXIST, to_path);
    struct change *ch = change_new(c, &from->drive.id, 1);
    ch->work.ops[0] = (struct op){.kind = OP_RENAME,
                                  .ino = from->entry.ino,
                                  .parent = from->entry.parent,
                                  .name = mem_strdup(from->entry.name),
                                  .new_parent = to->parent,
                                  .new_name = mem_strdup(to->name),
                                  .rename_flags = replace ? 0 : OP_RENAME_NOREPLACE};
    ch->answer = answer_move;
    ch->ctx = described_new(to_path, 200);
    ch->free_ctx = described_free;
    return change_submit(ch);
}

enum call_state file_move(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    CLEANUP_PLACE struct place from = {0};
    struct entry_row to;
    const char *from_path, *to_path, *drive = NULL;
    bool replace = false;
    if (!body || !(from_path = access_path_member(c, body, "from")) || !(to_path = access_path_member(c, body, "to")))
        return CALL_DONE;
    if (jsonx_str(body, "drive", &drive) == -EINVAL || jsonx_bool(body, "replace", &replace) == -EINVAL)
        return call_problem(c, 400, "bad-json", "drive is a string, replace true or false");
    struct drive_row d;
    if (!access_drive(c, drive, ROLE_EDITOR, &d))
        return CALL_DONE;
    if (!place_enter(c, drive, from_path, ROLE_VIEWER, &from)) /* a missing directory there: not-found */
        return CALL_DONE;
    int err = place_find(from.tx, to_path, &to);
    if (from.is_root || (err == 0 && to.name[0] == 0))
        return call_problem(c, 400, "is-root", "a drive's root cannot be moved or replaced");
    if (err)
        return put_result_problem(c, err, to_path);
    return submit_move(c, &from, &to, to_path, replace);
}
