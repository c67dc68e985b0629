/* A drive's rows in plain arrays: loads what operations want, stores what they changed. The simplest thing that keeps the promises of gateway/ports/meta.h, to test core/
   against. Every search is linear. */
#ifndef CAIRN_TESTS_FAKE_STORE_H
#define CAIRN_TESTS_FAKE_STORE_H
#include "common/mem.h"
#include "gateway/core/apply.h"
#include "gateway/core/rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FAKE_NOW INT64_C(1700000000000000000)

#define FAKE_ARRAY(type, name)                                                                                         \
    type *name;                                                                                                        \
    size_t n_##name

struct fake_version_state { /* an inode's past */
    uint64_t ino, born, died;
    struct attr attr;
};
struct fake_xattr {
    uint64_t ino, born;
    int64_t born_at;
    char name[256];
    char value[64];
    size_t len;
};
struct fake_target {
    uint64_t ino;
    char target[256];
};
struct fake_change {
    struct change_row row;
    char touch[1024];
};

struct fake_store {
    struct drive_row drive;
    FAKE_ARRAY(struct inode_row, inodes);
    FAKE_ARRAY(struct fake_version_state, past);
    FAKE_ARRAY(struct fake_target, targets);
    FAKE_ARRAY(struct dentry_row, dentries); /* living */
    FAKE_ARRAY(struct dentry_event, dead);
    FAKE_ARRAY(struct fake_xattr, xattrs);
    FAKE_ARRAY(struct version_row, versions);
    FAKE_ARRAY(struct segment_new, segments);
    FAKE_ARRAY(struct cut_new, cuts);
    FAKE_ARRAY(struct hash, chunks);
    FAKE_ARRAY(struct lock_row, locks);
    FAKE_ARRAY(struct fake_change, changes);
    unsigned loads;
};

#define FAKE_PUSH(s, name, value)                                                                                      \
    do {                                                                                                               \
        (s)->name = mem_realloc((s)->name, ((s)->n_##name + 1) * sizeof *(s)->name);                                   \
        (s)->name[(s)->n_##name++] = (value);                                                                          \
    } while (0)
#define FAKE_DROP(s, name, i) ((s)->name[i] = (s)->name[--(s)->n_##name])

static inline void fake_init(struct fake_store *s)
{
    *s = (struct fake_store){.drive = {.root = 1, .seq = 10, .next_ino = 1000, .files = 1}};
    struct inode_row root = {.attr = {.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2}, .born = 1, .born_at = FAKE_NOW};
    FAKE_PUSH(s, inodes, root);
}

static inline void fake_fini(struct fake_store *s)
{
    free(s->inodes);
    free(s->past);
    free(s->targets);
    free(s->dentries);
    free(s->dead);
    free(s->xattrs);
    free(s->versions);
    free(s->segments);
    free(s->cuts);
    free(s->chunks);
    free(s->locks);
    free(s->changes);
}

#define FAKE_COPY(to, from, name) (to)->name = mem_dup((from)->name ? (const void *)(from)->name : "", (from)->n_##name * sizeof *(from)->name)
static inline void fake_copy(struct fake_store *to, const struct fake_store *from)
{
    *to = *from;
    FAKE_COPY(to, from, inodes);
    FAKE_COPY(to, from, past);
    FAKE_COPY(to, from, targets);
    FAKE_COPY(to, from, dentries);
    FAKE_COPY(to, from, dead);
    FAKE_COPY(to, from, xattrs);
    FAKE_COPY(to, from, versions);
    FAKE_COPY(to, from, segments);
    FAKE_COPY(to, from, cuts);
    FAKE_COPY(to, from, chunks);
    FAKE_COPY(to, from, locks);
    FAKE_COPY(to, from, changes);
}

/* The newest row of a segment that is not newer than at, cuts applied. */
static inline void fake_segment(const struct fake_store *s, uint64_t ino, uint64_t number, uint64_t at, struct segment_row *ret)
{
    *ret = (struct segment_row){.ino = ino, .number = number, .at = at};
    for (size_t i = 0; i < s->n_segments; i++) {
        const struct segment_new *g = &s->segments[i];
        if (g->ino == ino && g->number == number && g->version <= at && g->version >= ret->version) {
            ret->version = g->version;
            memcpy(ret->chunks, g->chunks, sizeof ret->chunks);
        }
    }
    for (size_t i = 0; i < s->n_cuts; i++) {
        const struct cut_new *c = &s->cuts[i];
        if (c->ino == ino && c->version <= at && c->from_segment <= number && c->version > ret->version)
            *ret = (struct segment_row){.ino = ino, .number = number, .at = at};
    }
}

static inline void fake_load_names(const struct fake_store *s, struct rows *r, const struct want *w)
{
    for (size_t i = 0; i < s->n_dentries; i++) {
        const struct dentry_row *d = &s->dentries[i];
        if (w->kind == WANT_ENTRY_OF && d->ino == w->ino)
            rows_put_entry_of(r, w->ino, d);
        if (w->kind == WANT_DENTRY && d->parent == w->ino && strcmp(d->name, w->name) == 0)
            rows_put_dentry(r, d);
    }
}

static inline void fake_load_locks(const struct fake_store *s, struct rows *r, uint64_t ino)
{
    struct lock_row *locks = mem_calloc(s->n_locks, sizeof *locks);
    size_t n = 0;
    for (size_t i = 0; i < s->n_locks; i++)
        if (s->locks[i].ino == ino)
            locks[n++] = s->locks[i];
    rows_put_locks(r, ino, locks, n);
    free(locks);
}

static inline void fake_load_one(const struct fake_store *s, struct rows *r, const struct want *w)
{
    struct segment_row g;
    switch (w->kind) {
    case WANT_INODE:
        for (size_t i = 0; i < s->n_inodes; i++)
            if (s->inodes[i].attr.ino == w->ino)
                rows_put_inode(r, &s->inodes[i]);
        break;
    case WANT_TARGET:
        for (size_t i = 0; i < s->n_targets; i++)
            if (s->targets[i].ino == w->ino)
                rows_put_target(r, w->ino, s->targets[i].target);
        break;
    case WANT_DENTRY:
    case WANT_ENTRY_OF:
        fake_load_names(s, r, w);
        break;
    case WANT_XATTR:
        for (size_t i = 0; i < s->n_xattrs; i++) {
            struct fake_xattr *f = &s->xattrs[i];
            struct xattr_row x = {.ino = f->ino, .value = f->value, .len = f->len, .born = f->born, .born_at = f->born_at};
            memcpy(x.name, f->name, sizeof x.name);
            if (f->ino == w->ino && strcmp(f->name, w->name) == 0)
                rows_put_xattr(r, &x);
        }
        break;
    case WANT_VERSION:
        for (size_t i = 0; i < s->n_versions; i++)
            if (s->versions[i].ino == w->ino && s->versions[i].version == w->number)
                rows_put_version(r, &s->versions[i]);
        break;
    case WANT_SEGMENT:
        fake_segment(s, w->ino, w->number, w->at, &g);
        rows_put_segment(r, &g);
        break;
    case WANT_CHUNK:
        for (size_t i = 0; i < s->n_chunks; i++)
            if (hash_equal(&s->chunks[i], &w->hash))
                rows_put_chunk(r, &w->hash);
        break;
    case WANT_LOCKS:
        fake_load_locks(s, r, w->ino);
        break;
    }
}

static inline void fake_load(struct fake_store *s, struct rows *r)
{
    s->loads++;
    for (size_t i = 0; i < r->n_wants; i++)
        fake_load_one(s, r, &r->wants[i]);
    rows_wants_done(r);
}

static inline void fake_save_inodes(struct fake_store *s, const struct rows *r)
{
    for (const struct inode_row *i = r->dirty_inodes; i; i = i->next_dirty) {
        size_t at = 0;
        while (at < s->n_inodes && s->inodes[at].attr.ino != i->attr.ino)
            at++;
        if (at == s->n_inodes)
            FAKE_PUSH(s, inodes, *i);
        s->inodes[at] = *i;
        if (i->has_past) {
            struct fake_version_state p = {i->attr.ino, i->past_born, i->past_died, i->past};
            FAKE_PUSH(s, past, p);
        }
        if (i->fresh && i->target) {
            struct fake_target t = {.ino = i->attr.ino};
            strncpy(t.target, i->target, sizeof t.target - 1);
            FAKE_PUSH(s, targets, t);
        }
    }
}

static inline void fake_save_names(struct fake_store *s, const struct rows *r)
{
    for (size_t e = 0; e < r->n_dentry_events; e++) {
        const struct dentry_event *v = &r->dentry_events[e];
        size_t at = 0;
        while (at < s->n_dentries && (s->dentries[at].parent != v->parent || strcmp(s->dentries[at].name, v->name) != 0))
            at++;
        if (v->dies != (at < s->n_dentries))
            abort(); /* a birth where something lives, a death where nothing does */
        struct dentry_row d = {.parent = v->parent, .ino = v->ino, .born = v->seq};
        memcpy(d.name, v->name, sizeof d.name);
        if (v->dies) {
            if (s->dentries[at].ino != v->ino)
                abort();
            FAKE_DROP(s, dentries, at);
            FAKE_PUSH(s, dead, *v);
        } else {
            FAKE_PUSH(s, dentries, d);
        }
    }
}

static inline void fake_save_xattrs(struct fake_store *s, const struct rows *r)
{
    for (const struct xattr_row *x = r->dirty_xattrs; x; x = x->next_dirty) {
        for (size_t i = 0; i < s->n_xattrs; i++)
            if (s->xattrs[i].ino == x->ino && strcmp(s->xattrs[i].name, x->name) == 0)
                FAKE_DROP(s, xattrs, i--);
        struct fake_xattr f = {.ino = x->ino, .born = x->born, .born_at = x->born_at, .len = x->len};
        if (!x->value)
            continue;
        memcpy(f.name, x->name, sizeof f.name);
        memcpy(f.value, x->value, x->len < sizeof f.value ? x->len : sizeof f.value);
        FAKE_PUSH(s, xattrs, f);
    }
}

static inline void fake_save_locks(struct fake_store *s, struct rows *r)
{
    for (size_t k = 0; k < r->n_released; k++)
        for (size_t i = 0; i < s->n_locks; i++)
            if (uuid_equal(&s->locks[i].session, &r->released[k]))
                FAKE_DROP(s, locks, i--);
    for (size_t k = 0; k < r->n_dirty_locks; k++) {
        struct lock_row *locks;
        size_t n;
        for (size_t i = 0; i < s->n_locks; i++)
            if (s->locks[i].ino == r->dirty_locks[k])
                FAKE_DROP(s, locks, i--);
        if (rows_locks(r, r->dirty_locks[k], &locks, &n))
            abort();
        for (size_t i = 0; i < n; i++)
            FAKE_PUSH(s, locks, locks[i]);
    }
}

static inline void fake_save(struct fake_store *s, struct rows *r)
{
    s->drive = r->drive;
    fake_save_inodes(s, r);
    fake_save_names(s, r);
    fake_save_xattrs(s, r);
    fake_save_locks(s, r);
    for (size_t i = 0; i < r->n_new_versions; i++)
        FAKE_PUSH(s, versions, r->new_versions[i]);
    for (size_t u = 0; u < r->n_unlisted; u++)
        for (size_t i = 0; i < s->n_versions; i++)
            if (s->versions[i].ino == r->unlisted[u].ino && s->versions[i].version == r->unlisted[u].version)
                s->versions[i].listed = false;
    for (size_t u = 0; u < r->n_quarantined; u++)
        for (size_t i = 0; i < s->n_versions; i++)
            if (s->versions[i].ino == r->quarantined[u].ino && s->versions[i].version == r->quarantined[u].version)
                s->versions[i].quarantined = true;
    for (size_t i = 0; i < r->n_new_segments; i++)
        FAKE_PUSH(s, segments, r->new_segments[i]);
    for (size_t i = 0; i < r->n_new_cuts; i++)
        FAKE_PUSH(s, cuts, r->new_cuts[i]);
    for (size_t i = 0; i < r->n_new_chunks; i++)
        FAKE_PUSH(s, chunks, r->new_chunks[i].hash);
    for (size_t i = 0; i < r->n_changes; i++) {
        struct fake_change c = {.row = r->changes[i]};
        strncpy(c.touch, c.row.touch, sizeof c.touch - 1);
        c.row.touch = NULL;
        FAKE_PUSH(s, changes, c);
    }
}

/* ---- one operation, one transaction ---- */

struct fake_world {
    struct fake_store store;
    struct actor actor;
    int64_t now;
    struct op_result res; /* of the last operation */
};

static inline void world_open(struct fake_world *w)
{
    *w = (struct fake_world){.now = FAKE_NOW, .actor = {.device = "laptop", .session.b = {1}}};
    fake_init(&w->store);
}

static inline void world_close(struct fake_world *w)
{
    op_result_fini(&w->res);
    fake_fini(&w->store);
}

static inline int world_apply(struct fake_world *w, struct rows *r, const struct op *op)
{
    uint64_t seq = r->drive.seq;
    while (apply_op(r, &w->actor, op, &w->res) == -EAGAIN) {
        if (r->n_wants == 0 || seq != r->drive.seq)
            abort();
        fake_load(&w->store, r);
    }
    return w->res.error;
}

/* Applies; what the operation did is stored. Its seq must move exactly where something changed. */
static inline int world_do(struct fake_world *w, const struct op *op)
{
    struct rows *r = rows_new(&w->store.drive, w->now);
    int err = world_apply(w, r, op);
    uint64_t moved = r->drive.seq - w->store.drive.seq;
    if (moved != r->n_changes || (err && moved) || moved > 1)
        abort();
    if (err && (r->dirty_inodes || r->n_dentry_events || r->n_new_segments || r->n_new_versions))
        abort();
    fake_save(&w->store, r);
    rows_free(r);
    return err;
}

static inline const struct inode_row *world_inode(const struct fake_world *w, uint64_t ino)
{
    for (size_t i = 0; i < w->store.n_inodes; i++)
        if (w->store.inodes[i].attr.ino == ino)
            return &w->store.inodes[i];
    return NULL;
}

static inline uint64_t world_lookup(const struct fake_world *w, uint64_t parent, const char *name)
{
    for (size_t i = 0; i < w->store.n_dentries; i++)
        if (w->store.dentries[i].parent == parent && strcmp(w->store.dentries[i].name, name) == 0)
            return w->store.dentries[i].ino;
    return 0;
}
#endif
