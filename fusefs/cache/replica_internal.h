/* Within replica.c (nodes and names: look-ups and fills) and replica_changes.c (what results and invalidations change). The caller holds `lock`. */
#ifndef CAIRN_FUSEFS_CACHE_REPLICA_INTERNAL_H
#define CAIRN_FUSEFS_CACHE_REPLICA_INTERNAL_H
#include "fusefs/cache/replica.h"

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

/* name NULL where the kind has none. */
void stamp_raise(struct replica *r, enum stamp_kind kind, uint64_t ino, const char *name, uint64_t seq);
/* Whether what was read as of seq may have been overtaken by an invalidation. */
bool stamp_stale(struct replica *r, enum stamp_kind kind, uint64_t ino, const char *name, uint64_t seq);

/* Nobody's any more? Then it waits at the end of the spare ones, of which the oldest goes. */
void node_settle(struct replica *r, struct node *n);
void node_free(struct replica *r, struct node *n);
/* Forgets what is known of a directory's names. */
void children_clear(struct node *dir);
void attr_set(struct node *n, const struct attr *a, uint64_t seq);
/* known false: nothing is known of the name any more. What is there and newer stays. */
void dentry_set(struct node *dir, const char *name, uint64_t ino, uint64_t seq, bool known);
#endif
