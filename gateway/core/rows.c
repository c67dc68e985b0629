#include "gateway/core/rows.h"
#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* One table for all kinds of rows. A slot is asked for (wanted), then filled or known to be absent. */
enum state { WANTED, ABSENT, PRESENT };

struct key {
    uint64_t kind, ino, number, at;
    char text[NAME_LEN_MAX + 1]; /* a name without its NUL, or a hash */
};
#define KEY_FIXED offsetof(struct key, text)

struct names { /* of one inode: directory entries that are, or were, it */
    struct dentry_row **rows;
    size_t n;
};
struct lock_list {
    struct lock_row *rows;
    size_t n;
};

struct slot {
    UT_hash_handle hh;
    enum want_kind kind;
    enum state state;
    void *row; /* of the kind's type (a chunk: its size), in this allocation; the key follows */
};

struct rows_index {
    struct slot *slots;
    size_t cap_wants;
    uint64_t begun; /* the drive's seq when the transaction began: what is stored is not newer */
};

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

/* Room for one more element in an array that only grows: capacities are powers of two from 8. */
static void *grow(void *array, size_t n, size_t size)
{
    if (n != 0 && (n < 8 || (n & (n - 1)) != 0))
        return array;
    return mem_realloc(array, (n ? n * 2 : 8) * size);
}
#define GROW(array, n) ((array) = grow((array), (n), sizeof *(array)))

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
    free(r->new_segments);
    free(r->new_cuts);
    free(r->new_chunks);
    free(r->changes);
    free(r->dirty_locks);
    free(r->released);
    free(r);
}

/* ---- slots ---- */

static size_t key_text(struct key *k, const void *p, size_t n)
{
    memcpy(k->text, p, n);
    return KEY_FIXED + n;
}

static size_t key_make(struct key *k, enum want_kind kind, uint64_t ino, uint64_t number, uint64_t at)
{
    k->kind = kind;
    k->ino = ino;
    k->number = number;
    k->at = at;
    return KEY_FIXED;
}

static size_t key_named(struct key *k, enum want_kind kind, uint64_t ino, const char *name)
{
    key_make(k, kind, ino, 0, 0);
    return key_text(k, name, strnlen(name, NAME_LEN_MAX));
}

static struct slot *slot_find(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s;
    HASH_FIND(hh, r->index->slots, k, len, s);
    return s;
}

static struct slot *slot_get(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s = slot_find(r, k, len);
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

static struct inode_row *inode_loaded(struct rows *r, uint64_t ino)
{
    struct key k;
    struct slot *s = slot_find(r, &k, key_make(&k, WANT_INODE, ino, 0, 0));
    return s && s->state == PRESENT ? s->row : NULL;
}

static void want_add(struct rows *r, const struct key *k, size_t len)
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
static struct slot *slot_decided(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s = slot_find(r, k, len);
    if (s)
        return s->state == WANTED ? NULL : s;
    s = slot_get(r, k, len);
    if (k->kind != WANT_INODE && k->kind != WANT_CHUNK) {
        const struct inode_row *i = inode_loaded(r, k->ino);
        if (i && i->fresh) {
            s->state = ABSENT;
            return s;
        }
    }
    want_add(r, k, len);
    return NULL;
}

/* ---- getters ---- */

int rows_inode(struct rows *r, uint64_t ino, struct inode_row **ret)
{
    struct key k;
    struct slot *s = slot_decided(r, &k, key_make(&k, WANT_INODE, ino, 0, 0));
    if (!s)
        return -EAGAIN;
    if (s->state == ABSENT)
        return -ENOENT;
    *ret = s->row;
    return 0;
}

int rows_target(struct rows *r, uint64_t ino, const char **ret)
{
    const struct inode_row *i = inode_loaded(r, ino);
    if (i && i->target) {
        *ret = i->target;
        return 0;
    }
    struct key k;
    struct slot *s = slot_decided(r, &k, key_make(&k, WANT_TARGET, ino, 0, 0));
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
    struct slot *s = slot_decided(r, &k, key_named(&k, WANT_DENTRY, parent, name));
    if (!s)
        return -EAGAIN;
    *ret = s->row;
    return 0;
}

static struct slot *names_slot(struct rows *r, uint64_t ino)
{
    struct key k;
    return slot_get(r, &k, key_make(&k, WANT_ENTRY_OF, ino, 0, 0));
}

static void names_add(struct slot *s, struct dentry_row *d)
{
    struct names *n = s->row;
    for (size_t i = 0; i < n->n; i++)
        if (n->rows[i] == d)
            return;
    GROW(n->rows, n->n);
    n->rows[n->n++] = d;
}

static bool names_living(const struct names *n, uint64_t ino, const struct dentry_row **ret)
{
    for (size_t i = 0; i < n->n; i++)
        if (n->rows[i]->ino == ino) {
            *ret = n->rows[i];
            return true;
        }
    return false;
}

int rows_entry_of(struct rows *r, uint64_t ino, const struct dentry_row **ret)
{
    struct key k;
    size_t len = key_make(&k, WANT_ENTRY_OF, ino, 0, 0);
    struct slot *s = slot_find(r, &k, len);
    if (s && names_living(s->row, ino, ret))
        return 0;
    if (s && s->state == PRESENT)
        return -ENOENT;
    if (!s || s->state == ABSENT) { /* absent: names were noted, the store was not asked */
        const struct inode_row *i = inode_loaded(r, ino);
        s = slot_get(r, &k, len);
        if (i && i->fresh) {
            s->state = PRESENT;
            return -ENOENT;
        }
        s->state = WANTED;
        want_add(r, &k, len);
    }
    return -EAGAIN;
}

int rows_xattr(struct rows *r, uint64_t ino, const char *name, struct xattr_row **ret)
{
    struct key k;
    struct slot *s = slot_decided(r, &k, key_named(&k, WANT_XATTR, ino, name));
    if (!s)
        return -EAGAIN;
    *ret = s->row;
    return 0;
}

int rows_version(struct rows *r, uint64_t ino, uint64_t number, const struct version_row **ret)
{
    struct key k;
    struct slot *s = slot_decided(r, &k, key_make(&k, WANT_VERSION, ino, number, 0));
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
    size_t len = key_make(&k, WANT_SEGMENT, ino, number, at);
    struct slot *s = slot_find(r, &k, len);
    bool may_be_made = at == ALIVE ? !s || s->state == WANTED : at > r->index->begun;
    if (may_be_made && (r->n_new_segments || r->n_new_cuts)) {
        uint64_t cut;
        const struct segment_new *made = segment_made(r, ino, number, at, &cut);
        if (made || cut) {
            s = slot_get(r, &k, len);
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
    s = slot_decided(r, &k, len);
    if (!s)
        return -EAGAIN;
    *ret = s->row;
    return 0;
}

int rows_chunk(struct rows *r, const struct hash *h)
{
    struct key k;
    key_make(&k, WANT_CHUNK, 0, 0, 0);
    struct slot *s = slot_decided(r, &k, key_text(&k, h->b, HASH_LEN));
    if (!s)
        return -EAGAIN;
    return s->state == PRESENT ? 0 : -ENOENT;
}

uint32_t rows_chunk_size(struct rows *r, const struct hash *h)
{
    struct key k;
    key_make(&k, WANT_CHUNK, 0, 0, 0);
    struct slot *s = slot_find(r, &k, key_text(&k, h->b, HASH_LEN));
    return s ? (uint32_t) * (uint64_t *)s->row : 0;
}

int rows_locks(struct rows *r, uint64_t ino, struct lock_row **ret, size_t *ret_n)
{
    struct key k;
    struct slot *s = slot_decided(r, &k, key_make(&k, WANT_LOCKS, ino, 0, 0));
    if (!s)
        return -EAGAIN;
    struct lock_list *l = s->row;
    *ret = l->rows;
    *ret_n = l->n;
    return 0;
}

/* ---- changes ---- */

struct inode_row *rows_inode_add(struct rows *r, const struct attr *a, uint64_t seq)
{
    struct key k;
    struct slot *s = slot_get(r, &k, key_make(&k, WANT_INODE, a->ino, 0, 0));
    struct inode_row *i = s->row;
    *i = (struct inode_row){.attr = *a, .born = seq, .born_at = r->now, .fresh = true, .dirty = true, .next_dirty = r->dirty_inodes};
    s->state = PRESENT;
    r->dirty_inodes = i;
    return i;
}

static bool same_second(int64_t a, int64_t b)
{
    return a / 1000000000 == b / 1000000000;
}

void rows_inode_touch(struct rows *r, struct inode_row *i, uint64_t seq)
{
    if (!i->dirty) {
        i->dirty = true;
        i->next_dirty = r->dirty_inodes;
        r->dirty_inodes = i;
    }
    /* Within one second the new state takes the old one's place, and holds since that was born. */
    if (i->fresh || i->has_past || same_second(i->born_at, r->now))
        return;
    i->has_past = true;
    i->past = i->attr;
    i->past_born = i->born;
    i->past_died = seq;
    i->born = seq;
    i->born_at = r->now;
}

static void dentry_event(struct rows *r, const struct dentry_row *d, bool dies, uint64_t seq)
{
    GROW(r->dentry_events, r->n_dentry_events);
    struct dentry_event *e = &r->dentry_events[r->n_dentry_events++];
    *e = (struct dentry_event){.dies = dies, .parent = d->parent, .ino = d->ino, .seq = seq};
    memcpy(e->name, d->name, sizeof e->name);
}

void rows_dentry_set(struct rows *r, struct dentry_row *d, uint64_t ino, uint64_t seq)
{
    if (d->ino)
        dentry_event(r, d, true, seq);
    d->ino = ino;
    d->born = seq;
    if (!ino)
        return;
    dentry_event(r, d, false, seq);
    struct key k;
    struct slot *s = slot_find(r, &k, key_make(&k, WANT_ENTRY_OF, ino, 0, 0));
    if (!s) {
        s = names_slot(r, ino);
        s->state = ABSENT;
    }
    names_add(s, d);
}

void rows_xattr_set(struct rows *r, struct xattr_row *x, const void *value, size_t len, uint64_t seq)
{
    if (!x->dirty) {
        x->dirty = true;
        x->next_dirty = r->dirty_xattrs;
        r->dirty_xattrs = x;
        if (x->value) {
            x->past_born = x->born;
            x->past_died = seq;
            x->keep_past = !same_second(x->born_at, r->now);
        }
    }
    free(x->value);
    x->value = value ? mem_dup(value, len) : NULL;
    x->len = value ? len : 0;
    x->born = seq;
    x->born_at = r->now;
}

void rows_version_add(struct rows *r, const struct version_row *v)
{
    rows_put_version(r, v);
    GROW(r->new_versions, r->n_new_versions);
    r->new_versions[r->n_new_versions++] = *v;
}

void rows_version_unlist(struct rows *r, uint64_t ino, uint64_t number)
{
    struct key k;
    struct slot *s = slot_find(r, &k, key_make(&k, WANT_VERSION, ino, number, 0));
    if (s && s->state == PRESENT)
        ((struct version_row *)s->row)->listed = false;
    if (number > r->index->begun) /* made in this transaction */
        for (size_t i = 0; i < r->n_new_versions; i++)
            if (r->new_versions[i].ino == ino && r->new_versions[i].version == number) {
                r->new_versions[i].listed = false;
                return;
            }
    GROW(r->unlisted, r->n_unlisted);
    r->unlisted[r->n_unlisted++] = (struct version_row){.ino = ino, .version = number};
}

void rows_segment_add(struct rows *r, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS])
{
    GROW(r->new_segments, r->n_new_segments);
    struct segment_new *g = &r->new_segments[r->n_new_segments++];
    *g = (struct segment_new){.ino = ino, .number = number, .version = version};
    memcpy(g->chunks, chunks, sizeof g->chunks);
    struct key k;
    struct slot *s = slot_get(r, &k, key_make(&k, WANT_SEGMENT, ino, number, ALIVE));
    struct segment_row *row = s->row;
    s->state = PRESENT;
    row->version = version;
    memmove(row->chunks, chunks, sizeof row->chunks);
}

void rows_cut_add(struct rows *r, uint64_t ino, uint64_t version, uint64_t from_segment)
{
    GROW(r->new_cuts, r->n_new_cuts);
    r->new_cuts[r->n_new_cuts++] = (struct cut_new){.ino = ino, .version = version, .from_segment = from_segment};
    for (struct slot *s = r->index->slots; s; s = s->hh.next) {
        struct segment_row *row = s->row;
        if (s->kind != WANT_SEGMENT || s->state != PRESENT || row->ino != ino || row->at != ALIVE || row->number < from_segment)
            continue;
        row->version = 0;
        memset(row->chunks, 0, sizeof row->chunks);
    }
}

void rows_chunk_add(struct rows *r, const struct chunk_row *c)
{
    struct key k;
    key_make(&k, WANT_CHUNK, 0, 0, 0);
    size_t len = key_text(&k, c->hash.b, HASH_LEN);
    struct slot *s = slot_get(r, &k, len);
    *(uint64_t *)s->row = c->size;
    if (s->state == PRESENT)
        return;
    s->state = PRESENT;
    GROW(r->new_chunks, r->n_new_chunks);
    r->new_chunks[r->n_new_chunks++] = *c;
}

struct change_row *rows_change_add(struct rows *r)
{
    GROW(r->changes, r->n_changes);
    struct change_row *c = &r->changes[r->n_changes++];
    *c = (struct change_row){0};
    return c;
}

static bool was_released(const struct rows *r, const struct uuid *session)
{
    for (size_t i = 0; i < r->n_released; i++)
        if (uuid_equal(&r->released[i], session))
            return true;
    return false;
}

static void locks_drop_session(struct lock_list *l, const struct uuid *session)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->n; i++)
        if (!uuid_equal(&l->rows[i].session, session))
            l->rows[kept++] = l->rows[i];
    l->n = kept;
}

void rows_locks_set(struct rows *r, uint64_t ino, const struct lock_row *locks, size_t n)
{
    struct key k;
    struct slot *s = slot_get(r, &k, key_make(&k, WANT_LOCKS, ino, 0, 0));
    struct lock_list *l = s->row;
    struct lock_row *copy = n ? mem_dup(locks, n * sizeof *locks) : NULL; /* locks may be l->rows */
    free(l->rows);
    *l = (struct lock_list){.rows = copy, .n = n};
    s->state = PRESENT;
    for (size_t i = 0; i < r->n_dirty_locks; i++)
        if (r->dirty_locks[i] == ino)
            return;
    GROW(r->dirty_locks, r->n_dirty_locks);
    r->dirty_locks[r->n_dirty_locks++] = ino;
}

void rows_locks_release(struct rows *r, const struct uuid *session)
{
    for (struct slot *s = r->index->slots; s; s = s->hh.next)
        if (s->kind == WANT_LOCKS && s->state == PRESENT)
            locks_drop_session(s->row, session);
    if (was_released(r, session))
        return;
    GROW(r->released, r->n_released);
    r->released[r->n_released++] = *session;
}

/* ---- load ---- */

/* The slot that a loaded row fills, or NULL: it is known already, and what is known may have been changed. */
static struct slot *slot_to_fill(struct rows *r, const struct key *k, size_t len)
{
    struct slot *s = slot_get(r, k, len);
    if (s->state != WANTED)
        return NULL;
    s->state = PRESENT;
    return s;
}

void rows_put_inode(struct rows *r, const struct inode_row *i)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, key_make(&k, WANT_INODE, i->attr.ino, 0, 0));
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
    struct slot *s = slot_to_fill(r, &k, key_make(&k, WANT_TARGET, ino, 0, 0));
    if (s)
        *(char **)s->row = mem_strdup(target);
}

void rows_put_dentry(struct rows *r, const struct dentry_row *d)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, key_named(&k, WANT_DENTRY, d->parent, d->name));
    if (!s)
        return;
    *(struct dentry_row *)s->row = *d;
    if (!d->ino)
        return;
    struct slot *names = slot_find(r, &k, key_make(&k, WANT_ENTRY_OF, d->ino, 0, 0));
    if (!names) {
        names = names_slot(r, d->ino);
        names->state = ABSENT;
    }
    names_add(names, s->row);
}

void rows_put_entry_of(struct rows *r, uint64_t ino, const struct dentry_row *d)
{
    rows_put_dentry(r, d);
    struct slot *s = names_slot(r, ino);
    s->state = PRESENT;
}

void rows_put_xattr(struct rows *r, const struct xattr_row *x)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, key_named(&k, WANT_XATTR, x->ino, x->name));
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
    struct slot *s = slot_to_fill(r, &k, key_make(&k, WANT_VERSION, v->ino, v->version, 0));
    if (s)
        *(struct version_row *)s->row = *v;
}

void rows_put_segment(struct rows *r, const struct segment_row *g)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, key_make(&k, WANT_SEGMENT, g->ino, g->number, g->at));
    if (s)
        *(struct segment_row *)s->row = *g;
}

void rows_put_chunk(struct rows *r, const struct hash *h)
{
    struct key k;
    key_make(&k, WANT_CHUNK, 0, 0, 0);
    slot_to_fill(r, &k, key_text(&k, h->b, HASH_LEN));
}

void rows_put_locks(struct rows *r, uint64_t ino, const struct lock_row *locks, size_t n)
{
    struct key k;
    struct slot *s = slot_to_fill(r, &k, key_make(&k, WANT_LOCKS, ino, 0, 0));
    if (!s)
        return;
    struct lock_list *l = s->row;
    l->rows = n ? mem_dup(locks, n * sizeof *locks) : NULL;
    l->n = n;
    for (size_t i = 0; i < r->n_released; i++)
        locks_drop_session(l, &r->released[i]);
}

void rows_wants_done(struct rows *r)
{
    for (size_t i = 0; i < r->n_wants; i++) {
        const struct want *w = &r->wants[i];
        struct key k;
        size_t len = key_make(&k, w->kind, w->ino, w->number, w->at);
        if (w->kind == WANT_CHUNK)
            len = key_text(&k, w->hash.b, HASH_LEN);
        else
            len = key_text(&k, w->name, strlen(w->name));
        struct slot *s = slot_find(r, &k, len);
        if (s && s->state == WANTED)
            s->state = w->kind == WANT_ENTRY_OF ? PRESENT : ABSENT; /* of names, PRESENT means: the store was asked */
    }
    r->n_wants = 0;
}
