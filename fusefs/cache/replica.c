#include "fusefs/cache/replica.h"
#include "common/hash.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cache/content.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define STAMPS (1u << 16)

enum stamp_kind { STAMP_ATTR = 1, STAMP_NAME, STAMP_LISTING, STAMP_XATTR };

struct replica {
    pthread_mutex_t lock;
    struct node *nodes; /* by ino */
    struct node *root;
    struct node *spare_first, *spare_last; /* nobody's, least recently used first */
    unsigned spares;
    uint64_t emptied; /* nothing older than this seq is taken */
    uint64_t order;
    uint64_t stamps[STAMPS]; /* the highest seq of an invalidation, per hashed key */
};

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

static void stamp_raise(struct replica *r, enum stamp_kind kind, uint64_t ino, const char *name, uint64_t seq)
{
    uint64_t *s = stamp(r, kind, ino, name);
    if (*s < seq)
        *s = seq;
}

static bool stale(struct replica *r, enum stamp_kind kind, uint64_t ino, const char *name, uint64_t seq)
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

static void node_settle(struct replica *r, struct node *n);

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

static void children_clear(struct node *n)
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

static void node_free(struct replica *r, struct node *n)
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

/* Nobody's any more? Then it waits at the end of the spare ones, of which the oldest goes. */
static void node_settle(struct replica *r, struct node *n)
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
static void dentry_set(struct node *dir, const char *name, uint64_t ino, uint64_t seq, bool known)
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

static void attr_set(struct node *n, const struct attr *a, uint64_t seq)
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
    if (stale(r, STAMP_NAME, parent->ino, name, seq) || (attr && stale(r, STAMP_ATTR, attr->ino, NULL, seq)))
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
    if (stale(r, STAMP_ATTR, n->ino, NULL, seq))
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
    if (stale(r, STAMP_XATTR, n->ino, NULL, seq)) {
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
    if (stale(r, STAMP_LISTING, dir->ino, NULL, seq))
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

/* ---- changes ---- */

static void names_apply(struct replica *r, const struct op_result *res)
{
    for (uint32_t i = 0; i < res->n_names; i++) {
        const struct touched_name *t = &res->names[i];
        struct node *dir = replica_find(r, t->parent);
        stamp_raise(r, STAMP_NAME, t->parent, t->name, res->seq);
        stamp_raise(r, STAMP_LISTING, t->parent, NULL, res->seq);
        if (dir)
            dentry_set(dir, t->name, t->ino, res->seq, true);
    }
}

void replica_apply_result(struct replica *r, const struct op *op, const struct op_result *res)
{
    if (res->error || !res->seq)
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    for (uint32_t i = 0; i < res->n_attrs; i++) {
        const struct attr *a = &res->attrs[i];
        stamp_raise(r, STAMP_ATTR, a->ino, NULL, res->seq);
        struct node *n = replica_need(r, a->ino);
        attr_set(n, a, res->seq);
        if (op->kind == OP_CREATE && a->ino == op->ino) {
            n->made_order = ++r->order;
            if (S_ISDIR(a->mode)) {
                n->complete = true;
                n->parent = op->parent;
            }
            if (S_ISLNK(a->mode) && !n->target)
                n->target = mem_strdup(op->target);
            if (!n->xattrs) {
                n->xattrs = mem_alloc(sizeof *n->xattrs);
                n->xattrs->refs = 1;
            }
        }
        if (op->kind == OP_RENAME && S_ISDIR(a->mode) && a->ino == res->ino)
            n->parent = op->new_parent;
        if (op->kind == OP_UNLINK && a->nlink == 0)
            n->unlinked_here = true;
        if (op->kind == OP_COMMIT && a->ino == res->ino && n->read_version && n->read_version < a->version)
            n->read_version = a->version; /* what this mount wrote it also knows */
    }
    names_apply(r, res);
    if (res->xattr_ino) {
        struct node *n = replica_find(r, res->xattr_ino);
        stamp_raise(r, STAMP_XATTR, res->xattr_ino, NULL, res->seq);
        if (n) {
            xattr_list_unref(n->xattrs);
            n->xattrs = NULL;
        }
    }
}

int touch_from_json(const json_t *o, struct touch *ret)
{
    *ret = (struct touch){0};
    json_t *part;
    if (jsonx_u64(o, "seq", &ret->seq))
        return -EINVAL;
    if (jsonx_arr(o, "inodes", &part) == 0) {
        if (json_array_size(part) > OP_TOUCH_MAX)
            return -EINVAL;
        for (size_t i = 0; i < json_array_size(part); i++)
            ret->inodes[ret->n_inodes++] = (uint64_t)json_integer_value(json_array_get(part, i));
    }
    if (jsonx_arr(o, "names", &part) == 0) {
        if (json_array_size(part) > sizeof ret->names / sizeof *ret->names)
            return -EINVAL;
        for (size_t i = 0; i < json_array_size(part); i++) {
            CLEANUP_FREE char *name = NULL;
            size_t len;
            const json_t *n = json_array_get(part, i);
            if (jsonx_u64(n, "parent", &ret->names[i].parent) || jsonx_bytes(n, "name", &name, &len) || len > NAME_LEN_MAX)
                return -EINVAL;
            memcpy(ret->names[i].name, name, len + 1);
            ret->n_names++;
        }
    }
    if (jsonx_obj(o, "content", &part) == 0 &&
        (jsonx_u64(part, "ino", &ret->content_ino) || jsonx_u64(part, "version", &ret->content_version) ||
         jsonx_u64(part, "from", &ret->content_from) || jsonx_u64(part, "to", &ret->content_to) || jsonx_u64(part, "size", &ret->content_size) ||
         jsonx_u32(part, "chunkSize", &ret->content_chunk_size) || !chunk_size_valid(ret->content_chunk_size)))
        return -EINVAL;
    int err = jsonx_u64(o, "xattr", &ret->xattr_ino);
    return err && err != -ENOENT ? -EINVAL : 0;
}

void replica_apply_touch(struct replica *r, const struct touch *t)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    for (size_t i = 0; i < t->n_inodes; i++) {
        struct node *n = replica_find(r, t->inodes[i]);
        stamp_raise(r, STAMP_ATTR, t->inodes[i], NULL, t->seq);
        if (n && n->attr_seq < t->seq)
            n->attr_known = false;
    }
    for (size_t i = 0; i < t->n_names; i++) {
        struct node *dir = replica_find(r, t->names[i].parent);
        stamp_raise(r, STAMP_NAME, t->names[i].parent, t->names[i].name, t->seq);
        stamp_raise(r, STAMP_LISTING, t->names[i].parent, NULL, t->seq);
        if (dir)
            dentry_set(dir, t->names[i].name, 0, t->seq, false);
    }
    if (t->xattr_ino) {
        struct node *n = replica_find(r, t->xattr_ino);
        stamp_raise(r, STAMP_XATTR, t->xattr_ino, NULL, t->seq);
        if (n) {
            xattr_list_unref(n->xattrs);
            n->xattrs = NULL;
        }
    }
}

void replica_empty(struct replica *r, uint64_t seq)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    if (r->emptied < seq)
        r->emptied = seq;
    struct node *n, *next;
    HASH_ITER(by_ino, r->nodes, n, next)
    {
        n->attr_known = false;
        children_clear(n);
        xattr_list_unref(n->xattrs);
        n->xattrs = NULL;
    }
}

void replica_renumber(struct replica *r, uint64_t from, uint64_t to)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    struct node *n = replica_find(r, from), *there = replica_find(r, to);
    if (!n || n == r->root)
        return;
    if (there && (there->nlookup || there->users))
        return; /* the sibling is known to the kernel already: both stay what they are */
    if (there) {
        struct attr attr = there->attr;
        uint64_t seq = there->attr_seq;
        bool known = there->attr_known;
        node_free(r, there);
        n->attr_known = false;
        if (known)
            attr_set(n, &attr, seq);
    }
    HASH_DELETE(by_ino, r->nodes, n);
    n->ino = to;
    n->read_version = 0;
    xattr_list_unref(n->xattrs);
    n->xattrs = NULL;
    HASH_ADD(by_ino, r->nodes, ino, sizeof n->ino, n);
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
