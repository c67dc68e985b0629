#include "gateway/adapters/dentry_fold.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct name {
    UT_hash_handle hh;
    const struct dentry_event *birth; /* it lives since; NULL: it is dead */
    struct {
        uint64_t parent;
        char name[NAME_LEN_MAX + 1];
    } key;
};

static struct name *name_of(struct name **all, const struct dentry_event *e, bool *ret_fresh)
{
    struct name k;
    size_t len = sizeof k.key.parent + strlen(e->name);
    memcpy(&k.key.parent, &e->parent, sizeof e->parent);
    memcpy(k.key.name, e->name, strlen(e->name));
    struct name *found;
    HASH_FIND(hh, *all, &k.key, len, found);
    *ret_fresh = !found;
    if (found)
        return found;
    found = mem_alloc(sizeof *found);
    memcpy(&found->key, &k.key, len);
    HASH_ADD(hh, *all, key, len, found);
    return found;
}

static void dies(struct dentry_fold *f, struct name *x, bool fresh, const struct dentry_event *e)
{
    if (fresh) {
        f->deaths.rows[f->deaths.n++] = e;
    } else if (!x->birth) {
        log_error("a name dies twice in one transaction");
        f->err = -EIO;
    } else {
        if (x->birth->seq < e->seq)
            f->lives.rows[f->lives.n++] = (struct dentry_life){x->birth, e->seq};
        x->birth = NULL;
    }
}

struct dentry_fold dentry_fold(const struct dentry_event *events, size_t n)
{
    struct dentry_fold f = {0};
    struct name *all = NULL, *x, *next;
    f.deaths.rows = mem_calloc(n + 1, sizeof *f.deaths.rows);
    f.lives.rows = mem_calloc(n + 1, sizeof *f.lives.rows);
    f.births.rows = mem_calloc(n + 1, sizeof *f.births.rows);
    for (size_t i = 0; i < n; i++) {
        bool fresh;
        x = name_of(&all, &events[i], &fresh);
        if (events[i].dies)
            dies(&f, x, fresh, &events[i]);
        else
            x->birth = &events[i];
    }
    HASH_ITER (hh, all, x, next) {
        if (x->birth)
            f.births.rows[f.births.n++] = x->birth;
        HASH_DEL(all, x);
        free(x);
    }
    return f;
}

void dentry_fold_fini(struct dentry_fold *f)
{
    free(f->deaths.rows);
    free(f->lives.rows);
    free(f->births.rows);
}
