#include "gateway/api/history.h"
#include "common/mem.h"
#include "gateway/core/rows.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* How many directories a path may have led through at one level; beyond it the oldest are left out. */
#define PLACES_MAX 64

void history_fini(struct history *h)
{
    free(h->inodes);
    *h = (struct history){0};
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

struct gathering {
    struct history *h;
    uint64_t until; /* of the directory: its names count as this path's no longer than it did */
    size_t cap;
    bool directories; /* else everything but directories */
};

static int gather(void *ctx, const struct entry_row *e)
{
    struct gathering *g = ctx;
    struct history *h = g->h;
    uint64_t until = least(e->died, g->until);
    if (e->born >= g->until || S_ISDIR(e->attr.mode) != g->directories)
        return 0;
    if (until == ALIVE)
        h->now = *e;
    if (h->n == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 8;
        h->inodes = mem_realloc(h->inodes, g->cap * sizeof *h->inodes);
    }
    h->inodes[h->n++] = (struct history_inode){e->ino, until};
    return 0;
}

static int later_first(const void *a, const void *b)
{
    const struct history_inode *x = a, *y = b;
    return (x->until < y->until) - (x->until > y->until);
}

static int same_together(const void *a, const void *b)
{
    const struct history_inode *x = a, *y = b;
    return x->ino != y->ino ? (x->ino > y->ino) - (x->ino < y->ino) : later_first(a, b);
}

/* An inode that had the name more than once counts until it lost it last. */
static void once_each(struct history *h)
{
    size_t n = 0;
    if (h->n < 2)
        return;
    qsort(h->inodes, h->n, sizeof *h->inodes, same_together);
    for (size_t i = 0; i < h->n; i++)
        if (n == 0 || h->inodes[n - 1].ino != h->inodes[i].ino)
            h->inodes[n++] = h->inodes[i];
    h->n = n;
    qsort(h->inodes, h->n, sizeof *h->inodes, later_first);
}

/* Who had `name` in any of these directories while it was the path's. */
static int step(struct meta_tx *tx, const struct history_inode *dirs, size_t n, const char *name, bool directories,
                struct history *ret)
{
    *ret = (struct history){0};
    struct gathering g = {.h = ret, .directories = directories};
    for (size_t i = 0; i < n; i++) {
        g.until = dirs[i].until;
        int err = tx->meta->ops->entry_history(tx, dirs[i].ino, name, gather, &g);
        if (err) {
            history_fini(ret);
            return err;
        }
    }
    once_each(ret);
    return 0;
}

int history_of_name(struct meta_tx *tx, uint64_t parent, const char *name, struct history *ret)
{
    struct history_inode dir = {parent, ALIVE};
    return step(tx, &dir, 1, name, false, ret);
}

/* The next component into name; *p moves behind it. 1: there is none. */
static int component(const char **p, char name[NAME_LEN_MAX + 1])
{
    *p += strspn(*p, "/");
    size_t len = strcspn(*p, "/");
    if (len == 0)
        return 1;
    if (len > NAME_LEN_MAX)
        return -ENAMETOOLONG;
    memcpy(name, *p, len);
    name[len] = 0;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return -EINVAL;
    *p += len;
    return 0;
}

static int follow(struct meta_tx *tx, const char *path, bool directory, struct history *ret)
{
    char name[NAME_LEN_MAX + 1], next[NAME_LEN_MAX + 1];
    struct history dirs = {.inodes = mem_alloc(sizeof *dirs.inodes), .n = 1};
    dirs.inodes[0] = (struct history_inode){tx->drive.root, ALIVE};
    int err = path[0] == '/' ? component(&path, name) : -EINVAL;
    if (err == 1)
        err = -EINVAL; /* the root is no file */
    while (err == 0) {
        int end = component(&path, next);
        size_t n = dirs.n < PLACES_MAX ? dirs.n : PLACES_MAX;
        err = end < 0 ? end : step(tx, dirs.inodes, n, name, end == 0 || directory, ret);
        history_fini(&dirs);
        if (err || end == 1)
            return err;
        dirs = *ret;
        memcpy(name, next, sizeof name);
    }
    history_fini(&dirs);
    return err;
}

int history_of_path(struct meta_tx *tx, const char *path, struct history *ret)
{
    return follow(tx, path, false, ret);
}

int history_of_directory(struct meta_tx *tx, const char *path, struct history *ret)
{
    return follow(tx, path, true, ret);
}

/* The newest `limit` of the versions seen so far, newest first. */
struct newest {
    struct version_row *rows;
    size_t n, limit, room;
};

static int add_version(void *ctx, const struct version_row *v)
{
    struct newest *l = ctx;
    size_t at = l->n;
    while (at > 0 && l->rows[at - 1].version < v->version)
        at--;
    if (at == l->limit)
        return 1; /* those that follow are older still */
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 16;
        l->rows = mem_realloc(l->rows, (l->room + 1) * sizeof *l->rows);
    }
    memmove(&l->rows[at + 1], &l->rows[at], (l->n - at) * sizeof *l->rows);
    l->rows[at] = *v;
    if (l->n < l->limit)
        l->n++;
    return 0;
}

int history_versions(struct meta_tx *tx, const struct history *h, uint64_t before, unsigned limit,
                     int (*each)(void *ctx, const struct version_row *v), void *ctx)
{
    struct newest l = {.limit = limit};
    int err = 0;
    if (limit == 0 || before == 0)
        return 0;
    for (size_t i = 0; i < h->n && err >= 0; i++) {
        uint64_t upto = least(h->inodes[i].until, before - 1);
        if (l.n == limit && l.rows[limit - 1].version >= upto)
            break; /* whoever comes now has only older ones */
        err = tx->meta->ops->versions(tx, h->inodes[i].ino, 0, upto, limit, add_version, &l);
    }
    if (err > 0)
        err = 0;
    for (size_t i = 0; i < l.n && err == 0; i++)
        err = each(ctx, &l.rows[i]);
    free(l.rows);
    return err;
}

bool history_is_current(const struct history *h, const struct version_row *v)
{
    return h->now.ino && h->now.ino == v->ino && h->now.attr.version == v->version;
}

int history_version(struct meta_tx *tx, const struct history *h, uint64_t number, struct version_row *ret)
{
    if (number == 0) {
        if (!h->now.ino || h->now.attr.version != 0)
            return -ENOENT;
        *ret = (struct version_row){.ino = h->now.ino, .mtime = h->now.attr.mtime};
        return 0;
    }
    for (size_t i = 0; i < h->n && h->inodes[i].until >= number; i++) {
        int err = tx->meta->ops->version(tx, h->inodes[i].ino, number, ret);
        if (err == 0)
            return ret->listed || history_is_current(h, ret) ? 0 : -ENOENT;
        if (err != -ENOENT)
            return err;
    }
    return -ENOENT;
}
