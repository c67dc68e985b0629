#include "fusefs/cache/replica_internal.h"
#include "common/hash.h"
#include "common/mem.h"
#include "fusefs/cache/content.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* ---- stamps ---- */

static uint64_t *stamp(struct replica *r, enum stamp_kind kind, uint64_t ino, const char *name)
{
    char key[sizeof ino + 1 + NAME_LEN_MAX];
    size_t len = name ? strlen(name) : 0;
    memcpy(key, &ino, sizeof ino);
    key[sizeof ino] = (char)kind;
    memcpy(key + sizeof ino + 1, name ? name : "", len);
    return &r->stamps[hash_xxh3(key, sizeof ino + 1 + len) & (STAMPS - 1)];
}

void stamp_raise(struct replica *r, enum stamp_kind kind, uint64_t ino, const char *name, uint64_t seq)
{
    uint64_t *s = stamp(r, kind, ino, name);
    if (*s < seq)
        *s = seq;
}

bool stamp_stale(struct replica *r, enum stamp_kind kind, uint64_t ino, const char *name, uint64_t seq)
{
    return seq < r->emptied || seq < *stamp(r, kind, ino, name);
}

/* ---- nodes ---- */

void replica_lock(struct replica *r)
{
    pthread_mutex_lock(&r->lock);
}
void replica_unlock(struct replica *r)
{
    pthread_mutex_unlock(&r->lock);
}

struct replica *replica_new(uint64_t root_ino)
{
    struct replica *r = mem_alloc(sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    r->root = replica_need(r, root_ino);
    r->root->users = 1;
    r->root->nlookup = 1;
    r->root->parent = root_ino;
    node_settle(r, r->root);
    return r;
}

uint64_t replica_id(const struct replica *r, const struct node *n)
{
    return n == r->root ? REPLICA_ROOT_ID : (uint64_t)(uintptr_t)n;
}
struct node *replica_node(struct replica *r, uint64_t id)
{
    return id == REPLICA_ROOT_ID ? r->root : (struct node *)(uintptr_t)id;
}
struct node *replica_root(struct replica *r)
{
    return r->root;
}

struct node *replica_find(struct replica *r, uint64_t ino)
{
    struct node *n;
    HASH_FIND(by_ino, r->nodes, &ino, sizeof ino, n);
    return n;
}

void xattr_list_unref(struct xattr_list *l)
{
    if (!l || __atomic_sub_fetch(&l->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    for (size_t i = 0; i < l->n; i++) {
        free(l->entries[i].name);
        free(l->entries[i].value);
    }
    free(l->entries);
    free(l);
}

void children_clear(struct node *n)
{
    struct dentry *d, *next;
    HASH_ITER(hh, n->children, d, next)
    {
        HASH_DEL(n->children, d);
        free(d);
    }
    n->complete = false;
}

static void spare_remove(struct replica *r, struct node *n)
{
    if (!n->spare)
        return;
    *(n->spare_prev ? &n->spare_prev->spare_next : &r->spare_first) = n->spare_next;
    *(n->spare_next ? &n->spare_next->spare_prev : &r->spare_last) = n->spare_prev;
    n->spare_next = n->spare_prev = NULL;
    n->spare = false;
    r->spares--;
}

void node_free(struct replica *r, struct node *n)
{
    spare_remove(r, n);
    HASH_DELETE(by_ino, r->nodes, n);
    children_clear(n);
    xattr_list_unref(n->xattrs);
    free(n->target);
    if (n->content)
        content_unref(n->content);
    free(n);
}

void node_settle(struct replica *r, struct node *n)
{
    if (n->nlookup || n->users) {
        spare_remove(r, n);
        return;
    }
    if (n->spare)
        return;
    n->spare = true;
    n->spare_prev = r->spare_last;
    *(r->spare_last ? &r->spare_last->spare_next : &r->spare_first) = n;
    r->spare_last = n;
    if (++r->spares > REPLICA_SPARE)
        node_free(r, r->spare_first);
}

struct node *replica_need(struct replica *r, uint64_t ino)
{
    struct node *n = replica_find(r, ino);
    if (n)
        return n;
    n = mem_alloc(sizeof *n);
    n->ino = ino;
    HASH_ADD(by_ino, r->nodes, ino, sizeof n->ino, n);
    node_settle(r, n);
    return n;
}

void replica_use(struct replica *r, struct node *n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    n->users++;
    node_settle(r, n);
}

void replica_leave(struct replica *r, struct node *n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    n->users--;
    node_settle(r, n);
}

void replica_forget(struct replica *r, uint64_t id, uint64_t nlookup)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    struct node *n = replica_node(r, id);
    if (n == r->root)
        return;
    n->nlookup -= nlookup < n->nlookup ? nlookup : n->nlookup;
    node_settle(r, n);
}

uint64_t replica_order(struct replica *r)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    return ++r->order;
}

size_t replica_count(struct replica *r)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    return HASH_CNT(by_ino, r->nodes);
}

void replica_free(struct replica *r)
{
    if (!r)
        return;
    struct node *n, *next;
    HASH_ITER(by_ino, r->nodes, n, next)
    node_free(r, n);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

void replica_drop_contents(struct replica *r)
{
    struct node *n, *next;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    HASH_ITER(by_ino, r->nodes, n, next)
    {
        content_unref(n->content);
        n->content = NULL;
    }
}

/* ---- names ---- */

static struct dentry *dentry_find(struct node *dir, const char *name)
{
    struct dentry *d;
    HASH_FIND_STR(dir->children, name, d);
    return d;
}

/* A negative or unknown entry in a complete directory needs no row of its own, but one that is there is changed in place. */
void dentry_set(struct node *dir, const char *name, uint64_t ino, uint64_t seq, bool known)
{
    struct dentry *d = dentry_find(dir, name);
    if (!d) {
        if (!known && !dir->complete)
            return;
        size_t len = strlen(name);
        d = mem_alloc(sizeof *d + len + 1);
        memcpy(d->name, name, len + 1);
        HASH_ADD_KEYPTR(hh, dir->children, d->name, len, d);
    } else if (d->seq > seq || (!known && d->seq == seq)) {
        return; /* newer, or this mount's own operation heard of again */
    }
    d->ino = ino;
    d->seq = seq;
    d->known = known;
    if (!known && !dir->complete) {
        HASH_DEL(dir->children, d);
        free(d);
    }
}

int replica_lookup(struct replica *r, struct node *parent, const char *name, struct node **ret_node, struct attr *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    struct dentry *d = dentry_find(parent, name);
    if (!d)
        return parent->complete ? 0 : -EAGAIN;
    if (!d->known)
        return -EAGAIN;
    if (d->ino == 0)
        return 0;
    struct node *n = replica_find(r, d->ino);
    if (!n || !n->attr_known)
        return -EAGAIN;
    n->nlookup++;
    node_settle(r, n);
    if (n != r->root)
        n->parent = parent->ino;
    *ret_node = n;
    *ret = n->attr;
    return 1;
}

bool replica_attr(struct replica *r, struct node *n, struct attr *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (n->attr_known)
        *ret = n->attr;
    return n->attr_known;
}

void attr_set(struct node *n, const struct attr *a, uint64_t seq)
{
    if (n->attr_known && n->attr_seq > seq)
        return;
    n->attr = *a;
    n->attr_seq = seq;
    n->attr_known = true;
}

bool replica_fill_name(struct replica *r, struct node *parent, const char *name, uint64_t seq, const struct attr *attr, struct node **ret_node)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (stamp_stale(r, STAMP_NAME, parent->ino, name, seq) || (attr && stamp_stale(r, STAMP_ATTR, attr->ino, NULL, seq)))
        return false;
    dentry_set(parent, name, attr ? attr->ino : 0, seq, true);
    if (!attr)
        return true;
    struct node *n = replica_need(r, attr->ino);
    attr_set(n, attr, seq);
    if (n != r->root)
        n->parent = parent->ino;
    if (ret_node) {
        n->nlookup++;
        node_settle(r, n);
        *ret_node = n;
    }
    return true;
}

bool replica_fill_attr(struct replica *r, struct node *n, uint64_t seq, const struct attr *attr)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (stamp_stale(r, STAMP_ATTR, n->ino, NULL, seq))
        return false;
    attr_set(n, attr, seq);
    return true;
}

bool replica_fill_target(struct replica *r, struct node *n, const char *target)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (!n->target) /* never changes */
        n->target = mem_strdup(target);
    return true;
}

bool replica_fill_xattrs(struct replica *r, struct node *n, uint64_t seq, struct xattr_list *list)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (stamp_stale(r, STAMP_XATTR, n->ino, NULL, seq)) {
        xattr_list_unref(list);
        return false;
    }
    xattr_list_unref(n->xattrs);
    n->xattrs = list;
    return true;
}

struct xattr_list *replica_xattrs(struct replica *r, struct node *n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (n->xattrs)
        __atomic_add_fetch(&n->xattrs->refs, 1, __ATOMIC_RELAXED);
    return n->xattrs;
}

bool replica_fill_complete(struct replica *r, struct node *dir, uint64_t seq)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (stamp_stale(r, STAMP_LISTING, dir->ino, NULL, seq))
        return false;
    /* what was known before and was not filled now is gone */
    struct dentry *d, *next;
    HASH_ITER(hh, dir->children, d, next)
    if (d->seq < seq || !d->known) {
        HASH_DEL(dir->children, d);
        free(d);
    }
    dir->complete = true;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct listing_entry *)a)->name, ((const struct listing_entry *)b)->name);
}

bool replica_listing(struct replica *r, struct node *dir, struct listing *ret)
{
    *ret = (struct listing){0};
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (!dir->complete)
        return false;
    struct listing l = {.ino = dir->ino, .parent = dir->parent ? dir->parent : dir->ino};
    l.entries = mem_calloc(HASH_COUNT(dir->children) + 1, sizeof *l.entries);
    struct dentry *d, *next;
    HASH_ITER(hh, dir->children, d, next)
    {
        if (!d->known) {
            listing_fini(&l);
            return false;
        }
        if (!d->ino)
            continue;
        struct node *n = replica_find(r, d->ino);
        l.entries[l.n++] = (struct listing_entry){d->ino, n && n->attr_known ? n->attr.mode & S_IFMT : 0, mem_strdup(d->name)};
    }
    if (l.n)
        qsort(l.entries, l.n, sizeof *l.entries, by_name);
    *ret = l;
    return true;
}

void listing_fini(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->entries[i].name);
    free(l->entries);
    *l = (struct listing){0};
}

size_t replica_small_files(struct replica *r, uint64_t ino, uint64_t max_size, struct attr *ret, size_t max)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    struct node *dir = replica_find(r, ino);
    size_t found = 0;
    struct dentry *d, *next;
    if (!dir)
        return 0;
    HASH_ITER(hh, dir->children, d, next)
    {
        struct node *n = d->known && d->ino ? replica_find(r, d->ino) : NULL;
        if (n && n->attr_known && !n->content && S_ISREG(n->attr.mode) && n->attr.size && n->attr.size <= max_size && found < max)
            ret[found++] = n->attr;
    }
    return found;
}

void replica_each(struct replica *r, void (*each)(void *ctx, struct node *n), void *ctx)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    struct node *n, *next;
    HASH_ITER(by_ino, r->nodes, n, next)
    if (n->nlookup)
        each(ctx, n);
}

void replica_names_of(struct replica *r, uint64_t ino, void (*each)(void *ctx, struct node *dir, const char *name), void *ctx)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    struct node *n, *next;
    struct dentry *d, *after;
    HASH_ITER(by_ino, r->nodes, n, next)
    HASH_ITER(hh, n->children, d, after)
    if (d->known && d->ino == ino)
        each(ctx, n, d->name);
}
