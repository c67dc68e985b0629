#include "gateway/core/rows_slots.h"

static size_t row_size(enum want_kind kind)
{
    switch (kind) {
    case WANT_INODE:
        return sizeof(struct inode_row);
    case WANT_TARGET:
        return sizeof(char *);
    case WANT_DENTRY:
        return sizeof(struct dentry_row);
    case WANT_ENTRY_OF:
        return sizeof(struct names);
    case WANT_XATTR:
        return sizeof(struct xattr_row);
    case WANT_VERSION:
        return sizeof(struct version_row);
    case WANT_SEGMENT:
        return sizeof(struct segment_row);
    case WANT_CHUNK:
        return sizeof(uint64_t);
    case WANT_LOCKS:
        return sizeof(struct lock_list);
    }
    return 0;
}

struct rows *rows_new(const struct drive_row *drive, int64_t now)
{
    struct rows *r = mem_alloc(sizeof *r);
    r->drive = *drive;
    r->now = now > drive->last_time ? now : drive->last_time;
    r->index = mem_alloc(sizeof *r->index);
    r->index->begun = drive->seq;
    return r;
}

static void slot_free(struct slot *s)
{
    switch (s->kind) {
    case WANT_INODE:
        free(((struct inode_row *)s->row)->target);
        break;
    case WANT_TARGET:
        free(*(char **)s->row);
        break;
    case WANT_ENTRY_OF:
        free(((struct names *)s->row)->rows);
        break;
    case WANT_XATTR:
        free(((struct xattr_row *)s->row)->value);
        break;
    case WANT_LOCKS:
        free(((struct lock_list *)s->row)->rows);
        break;
    case WANT_DENTRY:
    case WANT_VERSION:
    case WANT_SEGMENT:
    case WANT_CHUNK:
        break;
    }
    free(s);
}

void rows_free(struct rows *r)
{
    if (!r)
        return;
    struct slot *s = r->index->slots, *next;
    HASH_CLEAR(hh, r->index->slots); /* the slots' own links stay as they were */
    for (; s; s = next) {
        next = s->hh.next;
        slot_free(s);
    }
    for (size_t i = 0; i < r->n_changes; i++)
        free(r->changes[i].touch);
    free(r->index);
    free(r->wants);
    free(r->dentry_events);
    free(r->new_versions);
    free(r->unlisted);
    free(r->quarantined);
    free(r->new_segments);
    free(r->new_cuts);
    free(r->new_chunks);
    free(r->changes);
    free(r->dirty_locks);
    free(r->released);
    free(r);
}

/* ---- slots ---- */

size_t rows_key_text(struct key *k, const void *p, size_t n)
{
    memcpy(k->text, p, n);
    return KEY_FIXED + n;
}

size_t rows_key(struct key *k, enum want_kind kind, uint64_t ino, uint64_t number, uint64_t at)
{
    k->kind = kind;
    k->ino = ino;
    k->number = number;
    k->at = at;
    return KEY_FIXED;
}

size_t rows_key_named(struct key *k, enum want_kind kind, uint64_t ino, const char *name)
{
    rows_key(k, kind, ino, 0, 0);
    return rows_key_text(k, name, strnlen(name, NAME_LEN_MAX));
}

struct slot *rows_slot_find(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s;
    HASH_FIND(hh, r->index->slots, k, len, s);
    return s;
}

struct slot *rows_slot_get(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s = rows_slot_find(r, k, len);
    if (s)
        return s;
    enum want_kind kind = (enum want_kind)k->kind;
    size_t size = row_size(kind);
    s = mem_alloc(sizeof *s + size + len);
    s->kind = kind;
    s->row = s + 1;
    char *key = (char *)s->row + size;
    memcpy(key, k, len);
    switch (kind) { /* rows that exist even where there is nothing tell what they are about */
    case WANT_DENTRY: {
        struct dentry_row *d = s->row;
        d->parent = k->ino;
        memcpy(d->name, k->text, len - KEY_FIXED);
        break;
    }
    case WANT_XATTR: {
        struct xattr_row *x = s->row;
        x->ino = k->ino;
        memcpy(x->name, k->text, len - KEY_FIXED);
        break;
    }
    case WANT_SEGMENT: {
        struct segment_row *g = s->row;
        g->ino = k->ino;
        g->number = k->number;
        g->at = k->at;
        break;
    }
    default:
        break;
    }
    HASH_ADD_KEYPTR(hh, r->index->slots, key, len, s);
    return s;
}

struct inode_row *rows_inode_loaded(struct rows *r, uint64_t ino)
{
    struct key k;
    struct slot *s = rows_slot_find(r, &k, rows_key(&k, WANT_INODE, ino, 0, 0));
    return s && s->state == PRESENT ? s->row : NULL;
}

void rows_want_add(struct rows *r, const struct key *k, size_t len)
{
    if (r->n_wants == r->index->cap_wants) {
        r->index->cap_wants = r->n_wants ? r->n_wants * 2 : 16;
        r->wants = mem_realloc(r->wants, r->index->cap_wants * sizeof *r->wants);
    }
    struct want *w = &r->wants[r->n_wants++];
    w->kind = (enum want_kind)k->kind;
    w->ino = k->ino;
    w->number = k->number;
    w->at = k->at;
    if (w->kind == WANT_CHUNK) {
        memcpy(w->hash.b, k->text, HASH_LEN);
    } else {
        memcpy(w->name, k->text, len - KEY_FIXED);
        w->name[len - KEY_FIXED] = '\0';
    }
}

/* The slot, decided, or NULL: wanted. What belongs to an inode made in this transaction is known to be absent. */
struct slot *rows_slot_decided(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s = rows_slot_find(r, k, len);
    if (s)
        return s->state == WANTED ? NULL : s;
    s = rows_slot_get(r, k, len);
    if (k->kind != WANT_INODE && k->kind != WANT_CHUNK) {
        const struct inode_row *i = rows_inode_loaded(r, k->ino);
        if (i && i->fresh) {
            s->state = ABSENT;
            return s;
        }
    }
    rows_want_add(r, k, len);
    return NULL;
}

struct slot *rows_names_slot(struct rows *r, uint64_t ino)
{
    struct key k;
    return rows_slot_get(r, &k, rows_key(&k, WANT_ENTRY_OF, ino, 0, 0));
}

void rows_names_add(struct slot *s, struct dentry_row *d)
{
    struct names *n = s->row;
    for (size_t i = 0; i < n->n; i++)
        if (n->rows[i] == d)
            return;
    GROW(n->rows, n->n);
    n->rows[n->n++] = d;
}

void rows_locks_drop(struct lock_list *l, const struct uuid *session)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++)
        if (!uuid_equal(&l->rows[i].session, session))
            l->rows[kept++] = l->rows[i];
    l->n = kept;
}
