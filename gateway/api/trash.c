#include "gateway/api/trash.h"
#include "common/mem.h"
#include "gateway/api/files.h"
#include "gateway/api/history.h"
#include "gateway/api/json_out.h"
#include "gateway/api/user_names.h"
#include "gateway/core/paths.h"
#include "gateway/core/rows.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define LIST_MAX 1000
#define SCAN 256            /* deletions looked at in one go */
#define SCANS_FOR_A_PAGE 16 /* then the page is what was found */

struct deletions {
    struct change_row rows[SCAN];
    size_t n;
};

static int take_deletion(void *ctx, const struct change_row *c)
{
    struct deletions *d = ctx;
    d->rows[d->n] = *c;
    d->rows[d->n++].touch = NULL;
    return d->n == SCAN;
}

struct page {
    struct app *app;
    struct meta_tx *tx;
    struct buf *out;
    struct user_names users;
    unsigned n;
};

/* Whether the path has been free since this deletion. */
static int is_last(struct meta_tx *tx, const char *path, bool directory, uint64_t seq, bool *ret)
{
    CLEANUP(history_fini) struct history h = {0};
    struct entry_row now;
    int err = place_find(tx, path, &now);
    *ret = false;
    if (err == 0 && now.ino)
        return 0;
    if (err && err != -ENOENT && err != -ENOTDIR)
        return err;
    err = directory ? history_of_directory(tx, path, &h) : history_of_path(tx, path, &h);
    *ret = err == 0 && h.n && h.inodes[0].until == seq;
    return err;
}

static int put_deletion(struct page *p, const struct change_row *c)
{
    CLEANUP_BUF struct buf path = {0};
    struct attr a;
    bool last;
    int err = p->tx->meta->ops->inode(p->tx, c->ino, 0, &a);
    if (err == 0)
        err = path_of_name(p->tx, c->parent, c->name, c->seq, &path);
    if (err == 0)
        err = is_last(p->tx, path.data, S_ISDIR(a.mode), c->seq, &last);
    if (err || !last)
        return err == -ENOENT ? 0 : err; /* ENOENT: what it was is no longer kept */
    p->n++;
    jout_open(p->out, NULL, '{');
    jout_bytes(p->out, "path", path.data, path.len);
    jout_u64(p->out, "ino", c->ino);
    jout_str(p->out, "kind", file_kind(a.mode));
    jout_u64(p->out, "size", a.size);
    if (S_ISREG(a.mode))
        jout_u64(p->out, "version", a.version);
    jout_time(p->out, "modifiedAt", a.mtime);
    jout_time(p->out, "deletedAt", c->at);
    jout_u64(p->out, "seq", c->seq);
    jout_bytes(p->out, "device", c->device, strlen(c->device));
    jout_str(p->out, "user", user_names_get(&p->users, p->app, &c->user));
    jout_close(p->out, '}');
    return 0;
}

/* Newest first from *before on, which moves; 0 where the end was reached. */
static int put_page(struct page *p, unsigned limit, uint64_t *before)
{
    CLEANUP_FREE struct deletions *d = mem_alloc(sizeof *d);
    for (unsigned scan = 0; scan < SCANS_FOR_A_PAGE; scan++) {
        d->n = 0;
        int err = p->tx->meta->ops->deletions(p->tx, *before, SCAN, take_deletion, d);
        if (err < 0)
            return err;
        for (size_t i = 0; i < d->n; i++) {
            if (p->n == limit)
                return 0;
            *before = d->rows[i].seq;
            err = put_deletion(p, &d->rows[i]);
            if (err)
                return err;
        }
        if (d->n < SCAN) {
            *before = 0;
            return 0;
        }
    }
    return 0;
}

enum call_state trash_get(struct call *c)
{
    struct app *app = app_of(c);
    struct drive_row drive;
    struct page p = {.app = app, .out = &c->out};
    uint64_t before = ALIVE;
    unsigned limit;
    if (!place_query_limit(c, LIST_MAX, LIST_MAX, &limit))
        return CALL_DONE;
    if (place_query_u64(c, "before", &before) == -EINVAL)
        return call_problem(c, 400, "bad-query", "before is a number");
    if (!access_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, &drive))
        return CALL_DONE;
    int err = app->meta->ops->snapshot(app->meta, &drive.id, &p.tx);
    if (err)
        return call_errno(c, err, "the drive");
    jout_open(&c->out, NULL, '{');
    jout_open(&c->out, "entries", '[');
    err = put_page(&p, limit, &before);
    app->meta->ops->rollback(p.tx);
    user_names_fini(&p.users);
    if (err) {
        buf_fini(&c->out);
        return call_errno(c, err, "the trash");
    }
    jout_close(&c->out, ']');
    if (before)
        jout_u64(&c->out, "next", before);
    else
        jout_null(&c->out, "next");
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}
