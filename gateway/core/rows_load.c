/* What the store puts in. */
#include "gateway/core/rows_slots.h"

/* The slot that a loaded row fills, or NULL: it is known already, and what is known may have been changed. */
static struct slot *slot_to_fill(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s = rows_slot_get(r, k, len);
    if (s->state != WANTED)
        return NULL;
    s->state = PRESENT;
    return s;
}

void rows_put_inode(struct rows *r, const struct inode_row *i)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, rows_key(&k, WANT_INODE, i->attr.ino, 0, 0));
    if (!s)
        return;
    struct inode_row *row = s->row;
    *row = *i;
    row->target = NULL;
    row->fresh = row->dirty = row->has_past = false;
    row->next_dirty = NULL;
}

void rows_put_target(struct rows *r, uint64_t ino, const char *target)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, rows_key(&k, WANT_TARGET, ino, 0, 0));
    if (s)
        *(char **)s->row = mem_strdup(target);
}

void rows_put_dentry(struct rows *r, const struct dentry_row *d)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, rows_key_named(&k, WANT_DENTRY, d->parent, d->name));
    if (!s)
        return;
    *(struct dentry_row *)s->row = *d;
    if (!d->ino)
        return;
    struct slot *names = rows_slot_find(r, &k, rows_key(&k, WANT_ENTRY_OF, d->ino, 0, 0));
    if (!names) {
        names = rows_names_slot(r, d->ino);
        names->state = ABSENT;
    }
    rows_names_add(names, s->row);
}

void rows_put_entry_of(struct rows *r, uint64_t ino, const struct dentry_row *d)
{
    rows_put_dentry(r, d);
    struct slot *s = rows_names_slot(r, ino);
    s->state = PRESENT;
}

void rows_put_xattr(struct rows *r, const struct xattr_row *x)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, rows_key_named(&k, WANT_XATTR, x->ino, x->name));
    if (!s)
        return;
    struct xattr_row *row = s->row;
    row->value = mem_dup(x->value, x->len);
    row->len = x->len;
    row->born = x->born;
    row->born_at = x->born_at;
}

void rows_put_version(struct rows *r, const struct version_row *v)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, rows_key(&k, WANT_VERSION, v->ino, v->version, 0));
    if (s)
        *(struct version_row *)s->row = *v;
}

void rows_put_segment(struct rows *r, const struct segment_row *g)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, rows_key(&k, WANT_SEGMENT, g->ino, g->number, g->at));
    if (s)
        *(struct segment_row *)s->row = *g;
}

void rows_put_chunk(struct rows *r, const struct hash *h)
{
    struct key k;
    rows_key(&k, WANT_CHUNK, 0, 0, 0);
    slot_to_fill(r, &k, rows_key_text(&k, h->b, HASH_LEN));
}

void rows_put_locks(struct rows *r, uint64_t ino, const struct lock_row *locks, size_t n)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, rows_key(&k, WANT_LOCKS, ino, 0, 0));
    if (!s)
        return;
    struct lock_list *l = s->row;
    l->rows = n ? mem_dup(locks, n * sizeof *locks) : NULL;
    l->n = n;
    for (size_t i = 0; i < r->n_released; i++)
        rows_locks_drop(l, &r->released[i]);
}

void rows_wants_done(struct rows *r)
{
    for (size_t i = 0; i < r->n_wants; i++) {
        const struct want *w = &r->wants[i];
        struct key k;
        size_t len = rows_key(&k, w->kind, w->ino, w->number, w->at);
        if (w->kind == WANT_CHUNK)
            len = rows_key_text(&k, w->hash.b, HASH_LEN);
        else
            len = rows_key_text(&k, w->name, strlen(w->name));
        struct slot *s = rows_slot_find(r, &k, len);
        if (s && s->state == WANTED)
            s->state = w->kind == WANT_ENTRY_OF ? PRESENT : ABSENT; /* of names, PRESENT means: the store was asked */
    }
    r->n_wants = 0;
}
