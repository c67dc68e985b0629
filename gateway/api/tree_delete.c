#include "gateway/api/tree_delete.h"
#include "common/mem.h"
#include "gateway/api/change.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define BATCH 500

/* A directory that is being emptied. Those on top of it in the stack are in it, and are removed before it goes on. */
struct level {
    uint64_t parent, ino;
    char *name, *after; /* after: the last of its names that was read */
    bool read;          /* to its end */
};

struct walk {
    struct call *call;
    struct uuid drive;
    struct level *stack;
    size_t depth, room;
    struct op ops[BATCH];
    size_t n_ops;
    bool changed_meanwhile; /* something was not as it had been read */
};

static void push(struct walk *w, uint64_t parent, uint64_t ino, const char *name)
{
    if (w->depth == w->room) {
        w->room = w->room ? 2 * w->room : 16;
        w->stack = mem_realloc(w->stack, w->room * sizeof *w->stack);
    }
    w->stack[w->depth++] = (struct level){.parent = parent, .ino = ino, .name = mem_strdup(name), .after = mem_strdup("")};
}

static void pop(struct walk *w)
{
    struct level *l = &w->stack[--w->depth];
    free(l->name);
    free(l->after);
}

static int flush(struct walk *w)
{
    if (w->n_ops == 0)
        return 0;
    struct drive_work work = {.drive = w->drive, .ops = w->ops, .n_ops = w->n_ops, .go_on = true};
    work.results = mem_calloc(w->n_ops, sizeof *work.results);
    access_actor(w->call, &work.actor);
    int err = drive_queues_run(app_of(w->call)->queues, &work);
    for (size_t i = 0; i < w->n_ops; i++) {
        int one = work.results[i].error;
        if (one == -ENOTEMPTY || one == -ESTALE || one == -EISDIR || one == -ENOTDIR)
            w->changed_meanwhile = true;
        else if (one && one != -ENOENT && err == 0)
            err = one;
        op_result_fini(&work.results[i]);
        op_fini(&w->ops[i]);
    }
    free(work.results);
    w->n_ops = 0;
    return err;
}

static void add(struct walk *w, enum op_kind kind, uint64_t parent, uint64_t ino, const char *name)
{
    w->ops[w->n_ops++] = (struct op){.kind = kind, .parent = parent, .ino = ino, .name = mem_strdup(name)};
}

struct page {
    struct walk *walk;
    size_t level, n, room;
};

static int take_entry(void *ctx, const struct entry_row *e)
{
    struct page *p = ctx;
    struct level *l = &p->walk->stack[p->level];
    if (p->n == p->room)
        return 1;
    p->n++;
    free(l->after);
    l->after = mem_strdup(e->name);
    if (S_ISDIR(e->attr.mode))
        push(p->walk, e->parent, e->ino, e->name); /* moves the stack: l is not used any more */
    else
        add(p->walk, OP_UNLINK, e->parent, e->ino, e->name);
    return 0;
}

/* The next names of the directory on top: files to the operations, directories onto the stack. */
static int read_page(struct walk *w)
{
    struct meta *meta = app_of(w->call)->meta;
    struct page page = {.walk = w, .level = w->depth - 1, .room = BATCH - w->n_ops};
    CLEANUP_FREE char *after = mem_strdup(w->stack[page.level].after);
    struct meta_tx *tx;
    int err = meta->ops->snapshot(meta, &w->drive, &tx);
    if (err)
        return err;
    err = meta->ops->entries(tx, w->stack[page.level].ino, 0, after, (unsigned)page.room, take_entry, &page);
    meta->ops->rollback(tx);
    w->stack[page.level].read = page.n < page.room;
    return err < 0 ? err : 0;
}

static int walk_once(struct walk *w, const struct entry_row *top)
{
    int err = 0;
    w->changed_meanwhile = false;
    push(w, top->parent, top->ino, top->name);
    while (w->depth && err == 0) {
        struct level *l = &w->stack[w->depth - 1];
        if (!l->read) {
            err = read_page(w);
        } else {
            add(w, OP_RMDIR, l->parent, l->ino, l->name);
            pop(w);
        }
        if (err == 0 && w->n_ops == BATCH)
            err = flush(w);
    }
    while (w->depth)
        pop(w);
    if (err == 0)
        err = flush(w);
    change_ops_clear(w->ops, w->n_ops);
    w->n_ops = 0;
    return err;
}

int tree_delete(struct call *c, const struct uuid *drive, const struct entry_row *top)
{
    struct walk *w = mem_alloc(sizeof *w);
    w->call = c;
    w->drive = *drive;
    int err = 0;
    for (int attempt = 0; attempt < 4; attempt++) {
        err = walk_once(w, top);
        if (err || !w->changed_meanwhile)
            break;
        err = -ENOTEMPTY;
    }
    free(w->stack);
    free(w);
    return err;
}
