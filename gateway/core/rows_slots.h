/* The table behind `struct rows`, shared by rows*.c only. */
#ifndef CAIRN_GATEWAY_CORE_ROWS_SLOTS_H
#define CAIRN_GATEWAY_CORE_ROWS_SLOTS_H
#include "common/mem.h"
#include "gateway/core/rows.h"

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

/* Room for one more element in an array that only grows: capacities are powers of two from 8. */
static inline void *rows_grow(void *array, size_t n, size_t size)
{
    if (n != 0 && (n < 8 || (n & (n - 1)) != 0))
        return array;
    return mem_realloc(array, (n ? n * 2 : 8) * size);
}
#define GROW(array, n) ((array) = rows_grow((array), (n), sizeof *(array)))

/* Keys: each fills *k and returns its length. */
size_t rows_key(struct key *k, enum want_kind kind, uint64_t ino, uint64_t number, uint64_t at);
size_t rows_key_named(struct key *k, enum want_kind kind, uint64_t ino, const char *name);
size_t rows_key_text(struct key *k, const void *p, size_t n); /* adds a name or a hash to one that rows_key made */

struct slot *rows_slot_find(struct rows *r, const struct key *k, size_t len);
struct slot *rows_slot_get(struct rows *r, const struct key *k, size_t len); /* made if it is not there: WANTED, but on no list yet */
struct slot *rows_slot_decided(struct rows *r, const struct key *k, size_t len); /* NULL: wanted */
void rows_want_add(struct rows *r, const struct key *k, size_t len);

struct inode_row *rows_inode_loaded(struct rows *r, uint64_t ino); /* NULL: absent, or not known */
struct slot *rows_names_slot(struct rows *r, uint64_t ino);
void rows_names_add(struct slot *s, struct dentry_row *d);
void rows_locks_drop(struct lock_list *l, const struct uuid *session);
#endif
