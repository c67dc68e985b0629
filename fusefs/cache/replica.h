/* What this mount knows of its drive's names and attributes: nodes (what the kernel holds by a node id), directory entries, listings, xattrs, targets.

   Everything is as of some seq. What is newer wins; what is older than an invalidation of the same thing is refused and must be asked again: stamps,
   docs/decisions/0004. Whether the whole may be trusted at this moment (the cache lease) is the caller's to know, not the replica's.

   Thread-safe: one lock guards the tables and all fields of a `struct node` that are not said to be constant; it is never held across I/O. A node lives while
   the kernel knows it (nlookup), somebody uses it (users), or it is among the latest REPLICA_SPARE that nobody does. */
#ifndef CAIRN_FUSEFS_CACHE_REPLICA_H
#define CAIRN_FUSEFS_CACHE_REPLICA_H
#include "common/op.h"
#include <pthread.h>
#include <uthash.h>

#define REPLICA_ROOT_ID 1u /* FUSE_ROOT_ID */
#define REPLICA_SPARE 50000u

struct content;

/* One name in a directory. */
struct dentry {
    uint64_t ino; /* 0: known to be nothing */
    uint64_t seq; /* known since */
    bool known;   /* false: was touched and is not known any more (in a directory whose other names are) */
    UT_hash_handle hh;
    char name[];
};

struct xattr_entry {
    char *name, *value;
    size_t len;
};
struct xattr_list { /* immutable, counted */
    unsigned refs;
    struct xattr_entry *entries;
    size_t n;
};

struct node {
    uint64_t ino; /* changes once, when a conflict makes it another file's sibling */
    struct attr attr;
    uint64_t attr_seq; /* 0: attr is not known */
    bool attr_known;
    uint64_t nlookup; /* what the kernel holds */
    uint32_t users;   /* open handles and running calls */
    uint64_t parent;  /* the directory it was found in last; the root's is itself */
    /* directories */
    struct dentry *children;
    bool complete;           /* a name that is not in `children` is not there */
    uint32_t names_in_flight;   /* calls that may hold the kernel's lock of this directory */
    int64_t contended_until_ms; /* its names get time-out 0 until then: the kernel could not be told in time */
    uint32_t cold_lookups;      /* names asked for one by one: a hint to ask for all; beyond the limit where it is too large for that */
    uint32_t small_reads;       /* cold small files read here: a hint to fetch the others ahead */
    /* symlinks, xattrs */
    char *target;
    struct xattr_list *xattrs; /* NULL: not known */
    /* files */
    struct content *content; /* while it is open or dirty; counted reference */
    uint64_t read_version;   /* newest version that a program of this mount opened for reading, 0 none */
    uint64_t read_order, made_order; /* when, and when this mount created it: counted by `order` */
    uint32_t pending_set;    /* SET_… of op.h: attributes set while content was unsent, which go with its commit; their values in `pending` */
    struct attr pending;
    bool unlinked_here;      /* its last name was removed by this mount */
    /* private */
    UT_hash_handle by_ino;
    struct node *spare_next, *spare_prev;
    bool spare;
};

struct replica;
struct replica *replica_new(uint64_t root_ino);
void replica_free(struct replica *r);
void replica_drop_contents(struct replica *r); /* no node keeps one: before the store is closed */
void replica_lock(struct replica *r);
void replica_unlock(struct replica *r);

/* ---- nodes ---- */
uint64_t replica_id(const struct replica *r, const struct node *n); /* the FUSE node id */
struct node *replica_node(struct replica *r, uint64_t id);          /* the kernel holds it, so it is there */
struct node *replica_root(struct replica *r);
/* By inode number; NULL where there is none. Lock held. */
struct node *replica_find(struct replica *r, uint64_t ino);
/* A node for it, made if need be. Lock held. */
struct node *replica_need(struct replica *r, uint64_t ino);
void replica_use(struct replica *r, struct node *n);   /* users++ ; lock not held */
void replica_leave(struct replica *r, struct node *n); /* users-- */
void replica_forget(struct replica *r, uint64_t id, uint64_t nlookup);
uint64_t replica_order(struct replica *r); /* rising */

/* ---- answers from what is known ---- */
/* 1: there (*ret_node's nlookup was raised, *ret its attributes), 0: known not to be there, -EAGAIN: ask. */
int replica_lookup(struct replica *r, struct node *parent, const char *name, struct node **ret_node, struct attr *ret);
bool replica_attr(struct replica *r, struct node *n, struct attr *ret);

/* ---- what the gateway answered: false where it is older than an invalidation (ask again) ---- */
/* attr NULL: the name is not there. ret_node (may be NULL) gets the node with nlookup raised. */
bool replica_fill_name(struct replica *r, struct node *parent, const char *name, uint64_t seq, const struct attr *attr, struct node **ret_node);
bool replica_fill_attr(struct replica *r, struct node *n, uint64_t seq, const struct attr *attr);
bool replica_fill_target(struct replica *r, struct node *n, const char *target);
/* Takes the list over (also when it is refused). */
bool replica_fill_xattrs(struct replica *r, struct node *n, uint64_t seq, struct xattr_list *list);
/* The directory's names are those filled since `seq`, and no others. */
bool replica_fill_complete(struct replica *r, struct node *dir, uint64_t seq);

struct xattr_list *replica_xattrs(struct replica *r, struct node *n); /* a reference, NULL: not known */
void xattr_list_unref(struct xattr_list *l);

/* A listing as it is now; false where it is not complete. Entries are copies, in order of name. */
struct listing_entry {
    uint64_t ino;
    uint32_t mode; /* type bits; 0 where the attributes are not known */
    char *name;
};
struct listing {
    uint64_t ino, parent;
    struct listing_entry *entries;
    size_t n;
};
bool replica_listing(struct replica *r, struct node *dir, struct listing *ret);
void listing_fini(struct listing *l);
/* Attributes of the small files of a directory that have none of their content in use, at most `max`. Returns how many. */
size_t replica_small_files(struct replica *r, uint64_t dir, uint64_t max_size, struct attr *ret, size_t max);

/* ---- changes ---- */
/* This mount's own operation. */
void replica_apply_result(struct replica *r, const struct op *op, const struct op_result *res);
/* Another's: what the kernel must be told of. */
struct touch {
    uint64_t seq;
    uint64_t inodes[OP_TOUCH_MAX];
    size_t n_inodes;
    struct {
        uint64_t parent;
        char name[NAME_LEN_MAX + 1];
    } names[4];
    size_t n_names;
    uint64_t content_ino, content_version, content_from, content_to, content_size; /* content_ino 0: none */
    uint32_t content_chunk_size;
    bool content_quarantined; /* that version is infected */
    uint64_t xattr_ino;
};
int touch_from_json(const json_t *o, struct touch *ret); /* -EINVAL */
void replica_apply_touch(struct replica *r, const struct touch *t);
/* Nothing is known any more, after seq (a lost lease that could not be caught up, a reset). Nodes stay. */
void replica_empty(struct replica *r, uint64_t seq);
/* A node that the kernel holds becomes another inode (a conflict's sibling). */
void replica_renumber(struct replica *r, uint64_t from, uint64_t to);
/* Calls each for every node that the kernel holds; lock held meanwhile. */
void replica_each(struct replica *r, void (*each)(void *ctx, struct node *n), void *ctx);
/* Every (directory, name) in which this inode is known to be; lock held meanwhile. */
void replica_names_of(struct replica *r, uint64_t ino, void (*each)(void *ctx, struct node *dir, const char *name), void *ctx);
size_t replica_count(struct replica *r);
#endif
