/* POSIX byte-range locks per (session, owner), and flock(2) locks, which are a kind of their own. Locks are no part of the log: they take no seq. */
#include "gateway/core/apply_internal.h"
#include "common/mem.h"
#include <fcntl.h>
#include <string.h>

#define LOCKS_MAX 4096 /* on one file */
#define LOCK_END_MAX (UINT64_MAX >> 1)

static bool mine(const struct apply *a, const struct lock_row *l)
{
    return l->owner == a->op->lock_owner && l->flock_kind == a->op->lock_flock && uuid_equal(&l->session, &a->who->session);
}

static bool overlaps(const struct op *op, const struct lock_row *l)
{
    return l->start <= op->lock_end && op->lock_start <= l->end;
}

static bool conflicts(const struct apply *a, const struct lock_row *l)
{
    return l->flock_kind == a->op->lock_flock && overlaps(a->op, l) && !mine(a, l) && (l->type == F_WRLCK || a->op->lock_type == F_WRLCK);
}

static bool stands_before(const struct lock_row *a, const struct lock_row *b)
{
    if (a->start != b->start)
        return a->start < b->start;
    int order = memcmp(&a->session, &b->session, sizeof a->session);
    return order ? order < 0 : a->owner < b->owner;
}

/* Of several the first one in the file: no store keeps them in an order. */
static const struct lock_row *find_conflict(const struct apply *a, const struct lock_row *locks, size_t n)
{
    const struct lock_row *first = NULL;
    for (size_t i = 0; i < n; i++)
        if (conflicts(a, &locks[i]) && (!first || stands_before(&locks[i], first)))
            first = &locks[i];
    return first;
}

static void tell(struct op_result *res, const struct lock_row *l)
{
    res->lock_type = l ? l->type : F_UNLCK;
    res->lock_start = l ? l->start : 0;
    res->lock_end = l ? l->end : 0;
    res->lock_pid = l ? l->pid : 0;
}

/* The file's locks with op's range of its owner set to op's type. next has room for n + 2. *ret_weaker: others may get now what they did not get before. */
static size_t with_change(const struct apply *a, const struct lock_row *locks, size_t n, struct lock_row *next, bool *ret_weaker)
{
    const struct op *op = a->op;
    struct lock_row l = {.ino = op->ino, .owner = op->lock_owner, .start = op->lock_start, .end = op->lock_end, .session = a->who->session,
                         .flock_kind = op->lock_flock, .type = op->lock_type, .pid = op->uid ? op->uid : a->who->pid};
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        struct lock_row old = locks[i];
        bool same_type = old.type == l.type;
        /* One of the same type that only touches joins as well. */
        bool adjacent = same_type && (old.start == l.end + 1 || l.start == old.end + 1);
        if (!mine(a, &old) || !(overlaps(op, &old) || adjacent)) {
            next[out++] = old;
            continue;
        }
        if (same_type) {
            l.start = old.start < l.start ? old.start : l.start;
            l.end = old.end > l.end ? old.end : l.end;
            continue;
        }
        *ret_weaker |= l.type == F_UNLCK || old.type == F_WRLCK;
        if (old.start < op->lock_start) {
            next[out] = old;
            next[out++].end = op->lock_start - 1;
        }
        if (old.end > op->lock_end) {
            next[out] = old;
            next[out++].start = op->lock_end + 1;
        }
    }
    if (l.type != F_UNLCK)
        next[out++] = l;
    return out;
}

int apply_lock(struct apply *a)
{
    const struct op *op = a->op;
    struct inode_row *i;
    struct lock_row *locks;
    size_t n;
    if (op->lock_end < op->lock_start || op->lock_end > LOCK_END_MAX)
        return -EINVAL;
    int err = apply_inode(a, op->ino, &i);
    int locks_err = rows_locks(a->r, op->ino, &locks, &n);
    if (locks_err == -EAGAIN)
        a->again = true;
    if (err || a->again)
        return err;
    a->res->seq = a->r->drive.seq;
    a->res->ino = op->ino;
    const struct lock_row *conflict = op->lock_type == F_UNLCK ? NULL : find_conflict(a, locks, n);
    if (op->lock_test || conflict)
        tell(a->res, conflict);
    if (op->lock_test)
        return 0;
    if (conflict)
        return -EAGAIN;
    CLEANUP_FREE struct lock_row *next = mem_calloc(n + 2, sizeof *next);
    size_t n_next = with_change(a, locks, n, next, &a->res->unlocked);
    if (n_next > n && n_next > LOCKS_MAX)
        return -ENOLCK;
    if (n || n_next)
        rows_locks_set(a->r, op->ino, next, n_next);
    return 0;
}

int apply_lock_release_all(struct apply *a)
{
    rows_locks_release(a->r, &a->who->session);
    a->res->seq = a->r->drive.seq;
    a->res->unlocked = true; /* of whichever files: ino stays 0 */
    return 0;
}
