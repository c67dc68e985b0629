/* Random operations on a small drive, of which enough succeed to be worth comparing. */
#ifndef CAIRN_TESTS_RANDOM_OPS_H
#define CAIRN_TESTS_RANDOM_OPS_H
#include "common/hash.h"
#include "gateway/core/drive_queue.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* An operation with what it points to. */
struct random_op {
    struct op op;
    char names[2][16], xattr[16];
    uint8_t session;
    struct chunk_change change;
    char bytes[16];
    struct chunk_row chunk;
};

/* Numbers from `low` on: so that some are new in each round, and some are known. */
static inline void random_op(unsigned *seed, uint64_t low, struct random_op *ret)
{
    static const enum op_kind kinds[] = {OP_CREATE, OP_CREATE, OP_LINK,        OP_UNLINK, OP_RMDIR,  OP_RENAME, OP_RENAME, OP_SETATTR,
                                         OP_PUT,    OP_PUT,    OP_SETXATTR,    OP_COMMIT, OP_COMMIT, OP_LOCK,   OP_LOCK,   OP_RESTORE,
                                         OP_REMOVEXATTR, OP_LOCK_RELEASE_ALL, OP_QUARANTINE};
    static const uint32_t modes[] = {S_IFREG | 0644, S_IFDIR | 0755};
    uint64_t parents[] = {1, low + (unsigned)rand_r(seed) % 20};
    struct op op = {.kind = kinds[(size_t)rand_r(seed) % (sizeof kinds / sizeof *kinds)], .parent = parents[rand_r(seed) % 4 == 0]};
    op.new_parent = parents[rand_r(seed) % 4 == 0];
    op.mode = modes[rand_r(seed) % 2];
    op.rename_flags = (uint32_t)(rand_r(seed) % 6 == 0 ? rand_r(seed) % 3 : 0);
    op.set = SET_UID;
    op.uid = (uint32_t)rand_r(seed) % 5;
    if (op.kind != OP_UNLINK && op.kind != OP_RMDIR && op.kind != OP_RENAME)
        op.ino = low + (unsigned)rand_r(seed) % 20;
    op.size = op.shrunk_to = 1 + (unsigned)rand_r(seed) % 15;
    op.chunk_size = CHUNK_SIZE_MIN;
    op.has_base = rand_r(seed) % 2;
    op.base = rand_r(seed) % 2 ? 0 : (unsigned)rand_r(seed) % 400;
    op.version = (unsigned)rand_r(seed) % 400;
    op.lock_type = (int[]){F_RDLCK, F_WRLCK, F_UNLCK}[rand_r(seed) % 3];
    op.lock_start = (unsigned)rand_r(seed) % 10;
    op.lock_end = op.lock_start + (unsigned)rand_r(seed) % 10;
    op.lock_owner = 5;
    op.value_len = 3;
    *ret = (struct random_op){.op = op, .session = (uint8_t)(rand_r(seed) % 3)};
    for (int i = 0; i < 2; i++)
        snprintf(ret->names[i], sizeof ret->names[i], "n%d", rand_r(seed) % 8);
    snprintf(ret->xattr, sizeof ret->xattr, "user.x%d", rand_r(seed) % 2);
    snprintf(ret->bytes, sizeof ret->bytes, "content %d", rand_r(seed) % 20);
    ret->change.ref.len = (uint32_t)strlen(ret->bytes);
    hash_bytes(ret->bytes, strlen(ret->bytes), &ret->change.ref.hash);
}

/* As the only operation of a work. r must stay where it is until the work is done. */
static inline void random_op_into(struct random_op *r, struct drive_work *w)
{
    struct op *op = &w->ops[0];
    *op = r->op;
    op->name = r->op.kind == OP_RESTORE && r->session ? NULL : r->names[0];
    op->new_name = r->names[1];
    op->xattr = r->xattr;
    op->value = r->bytes;
    op->changes = &r->change;
    op->n_changes = 1;
    w->actor.session.b[0] = (uint8_t)(1 + r->session);
    memcpy(w->actor.device, "laptop", sizeof "laptop");
    r->chunk = (struct chunk_row){.hash = r->change.ref.hash, .size = r->change.ref.len, .stored_size = r->change.ref.len, .bytes = r->bytes};
    w->chunks = &r->chunk;
    w->n_chunks = 1;
}
#endif
