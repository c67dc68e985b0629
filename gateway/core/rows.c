/* What operations ask for. */
#include "gateway/core/rows_slots.h"

#include <sys/stat.h>

int rows_inode(struct rows *r, uint64_t ino, struct inode_row **ret)
{
    struct key k;
    struct slot *s = rows_slot_decided(r, &k, rows_key(&k, WANT_INODE, ino, 0, 0));
    if (!s)
        return -EAGAIN;
    if (s->state == ABSENT)
        return -ENOENT;
    *ret = s->row;
    return 0;
}

int rows_target(struct rows *r, uint64_t ino, const char **ret)
{
    const struct inode_row *i = rows_inode_loaded(r, ino);
    if (i && i->target) {
        *ret = i->target;
        return 0;
    }
    struct key k;
    struct slot *s = rows_slot_decided(r, &k, rows_key(&k, WANT_TARGET, ino, 0, 0));
    if (!s)
        return -EAGAIN;
    if (s->state == ABSENT)
        return -ENOENT;
    *ret = *(char **)s->row;
    return 0;
}

int rows_dentry(struct rows *r, uint64_t parent, const char *name, struct dentry_row **ret)
{
    struct key k;
    struct slot *s = rows_slot_decided(r, &k, rows_key_named(&k, WANT_DENTRY, parent, name));
    if (!s)
        return -EAGAIN;
    *ret = s->row;
    return 0;
}

static bool names_oldest(const struct names *n, uint64_t ino, const struct dentry_row **ret)
{
    const struct dentry_row *oldest = NULL;
    for (size_t i = 0; i < n->n; i++)
        if (n->rows[i]->ino == ino && (!oldest || n->rows[i]->born < oldest->born))
            oldest = n->rows[i];
    if (oldest)
        *ret = oldest;
    return oldest;
}

/* Whether a name that is known is one of several of which the others may not be: which of them is meant must not depend on what else is loaded. */
static bool names_incomplete(const struct slot *s, const struct inode_row *i)
{
    return s->state != PRESENT && i && !i->fresh && !S_ISDIR(i->attr.mode) && i->attr.nlink > 1;
}

int rows_entry_of(struct rows *r, uint64_t ino, const struct dentry_row **ret)
{
    struct key k;
    size_t len = rows_key(&k, WANT_ENTRY_OF, ino, 0, 0);
    struct slot *s = rows_slot_find(r, &k, len);
    const struct inode_row *i = rows_inode_loaded(r, ino);
    if (s && names_oldest(s->row, ino, ret) && !names_incomplete(s, i))
        return 0;
    if (s && s->state == PRESENT)
        return -ENOENT;
    if (!s || s->state == ABSENT) { /* absent: names were noted, the store was not asked */
        s = rows_slot_get(r, &k, len);
        if (i && i->fresh) {
            s->state = PRESENT;
            return -ENOENT;
        }
        s->state = WANTED;
        rows_want_add(r, &k, len);
    }
    return -EAGAIN;
}

int rows_xattr(struct rows *r, uint64_t ino, const char *name, struct xattr_row **ret)
{
    struct key k;
    struct slot *s = rows_slot_decided(r, &k, rows_key_named(&k, WANT_XATTR, ino, name));
    if (!s)
        return -EAGAIN;
    *ret = s->row;
    return 0;
}

int rows_version(struct rows *r, uint64_t ino, uint64_t number, const struct version_row **ret)
{
    struct key k;
    struct slot *s = rows_slot_decided(r, &k, rows_key(&k, WANT_VERSION, ino, number, 0));
    if (!s)
        return -EAGAIN;
    if (s->state == ABSENT)
        return -ENOENT;
    *ret = s->row;
    return 0;
}

/* What this transaction itself made of a segment, as of `at`: a row, or holes by a cut. NULL: nothing; the store's row holds. */
static const struct segment_new *segment_made(const struct rows *r, uint64_t ino, uint64_t number, uint64_t at, uint64_t *ret_cut)
{
    const struct segment_new *made = NULL;
    *ret_cut = 0;
    for (size_t i = r->n_new_segments; i-- > 0 && !made;) {
        const struct segment_new *g = &r->new_segments[i];
        if (g->ino == ino && g->number == number && g->version <= at)
            made = g;
    }
    for (size_t i = r->n_new_cuts; i-- > 0 && !*ret_cut;) {
        const struct cut_new *c = &r->new_cuts[i];
        if (c->ino == ino && c->version <= at && number >= c->from_segment && (!made || c->version > made->version))
            *ret_cut = c->version;
    }
    return made;
}

int rows_segment(struct rows *r, uint64_t ino, uint64_t number, uint64_t at, const struct segment_row **ret)
{
    struct key k;
    size_t len = rows_key(&k, WANT_SEGMENT, ino, number, at);
    struct slot *s = rows_slot_find(r, &k, len);
    bool may_be_made = at == ALIVE ? !s || s->state == WANTED : at > r->index->begun;
    if (may_be_made && (r->n_new_segments || r->n_new_cuts)) {
        uint64_t cut;
        const struct segment_new *made = segment_made(r, ino, number, at, &cut);
        if (made || cut) {
            s = rows_slot_get(r, &k, len);
            struct segment_row *row = s->row;
            s->state = PRESENT;
            memset(row->chunks, 0, sizeof row->chunks);
            if (!cut)
                memcpy(row->chunks, made->chunks, sizeof row->chunks);
            row->version = cut ? 0 : made->version;
            *ret = row;
            return 0;
        }
    }
    s = rows_slot_decided(r, &k, len);
    if (!s)
        return -EAGAIN;
    *ret = s->row;
    return 0;
}

int rows_chunk(struct rows *r, const struct hash *h)
{
    struct key k;
    rows_key(&k, WANT_CHUNK, 0, 0, 0);
    struct slot *s = rows_slot_decided(r, &k, rows_key_text(&k, h->b, HASH_LEN));
    if (!s)
        return -EAGAIN;
    return s->state == PRESENT ? 0 : -ENOENT;
}

uint32_t rows_chunk_size(struct rows *r, const struct hash *h)
{
    struct key k;
    rows_key(&k, WANT_CHUNK, 0, 0, 0);
    struct slot *s = rows_slot_find(r, &k, rows_key_text(&k, h->b, HASH_LEN));
    return s ? (uint32_t) * (uint64_t *)s->row : 0;
}

int rows_locks(struct rows *r, uint64_t ino, struct lock_row **ret, size_t *ret_n)
{
    struct key k;
    struct slot *s = rows_slot_decided(r, &k, rows_key(&k, WANT_LOCKS, ino, 0, 0));
    if (!s)
        return -EAGAIN;
    struct lock_list *l = s->row;
    *ret = l->rows;
    *ret_n = l->n;
    return 0;
}
