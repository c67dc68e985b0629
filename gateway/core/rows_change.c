/* What operations change. */
#include "gateway/core/rows_slots.h"

struct inode_row *rows_inode_add(struct rows *r, const struct attr *a, uint64_t seq)
{
    struct key k;
    struct slot *s = rows_slot_get(r, &k, rows_key(&k, WANT_INODE, a->ino, 0, 0));
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
    struct slot *s = rows_slot_find(r, &k, rows_key(&k, WANT_ENTRY_OF, ino, 0, 0));
    if (!s) {
        s = rows_names_slot(r, ino);
        s->state = ABSENT;
    }
    rows_names_add(s, d);
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

/* A version as getters answer it; NULL where nobody asked for it. */
static struct version_row *version_loaded(struct rows *r, uint64_t ino, uint64_t number)
{
    struct key k;
    struct slot *s = rows_slot_find(r, &k, rows_key(&k, WANT_VERSION, ino, number, 0));
    return s && s->state == PRESENT ? s->row : NULL;
}

/* A version that this transaction makes, as it will be stored; NULL: it is older. */
static struct version_row *version_made(struct rows *r, uint64_t ino, uint64_t number)
{
    for (size_t i = 0; number > r->index->begun && i < r->n_new_versions; i++)
        if (r->new_versions[i].ino == ino && r->new_versions[i].version == number)
            return &r->new_versions[i];
    return NULL;
}

void rows_version_quarantine(struct rows *r, uint64_t ino, uint64_t number)
{
    struct version_row *loaded = version_loaded(r, ino, number), *made = version_made(r, ino, number);
    if (loaded)
        loaded->quarantined = true;
    if (made) {
        made->quarantined = true;
        return;
    }
    GROW(r->quarantined, r->n_quarantined);
    r->quarantined[r->n_quarantined++] = (struct version_row){.ino = ino, .version = number};
}

void rows_version_unlist(struct rows *r, uint64_t ino, uint64_t number)
{
    struct version_row *loaded = version_loaded(r, ino, number), *made = version_made(r, ino, number);
    if (loaded)
        loaded->listed = false;
    if (made) {
        made->listed = false;
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
    struct slot *s = rows_slot_get(r, &k, rows_key(&k, WANT_SEGMENT, ino, number, ALIVE));
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
    rows_key(&k, WANT_CHUNK, 0, 0, 0);
    size_t len = rows_key_text(&k, c->hash.b, HASH_LEN);
    struct slot *s = rows_slot_get(r, &k, len);
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

void rows_locks_set(struct rows *r, uint64_t ino, const struct lock_row *locks, size_t n)
{
    struct key k;
    struct slot *s = rows_slot_get(r, &k, rows_key(&k, WANT_LOCKS, ino, 0, 0));
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
            rows_locks_drop(s->row, session);
    if (was_released(r, session))
        return;
    GROW(r->released, r->n_released);
    r->released[r->n_released++] = *session;
}
