/* state.db: which chunks of which contents are in the cache, so that a remount finds them. SQLite, one connection, thread-safe. What is dirty is not
   here but in the journal. A row may be behind the truth: after an unclean end every chunk that it names is to be verified. */
#ifndef CAIRN_FUSEFS_CACHE_STATE_H
#define CAIRN_FUSEFS_CACHE_STATE_H
#include "common/buf.h"
#include "common/hash.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct state;
struct state_row {
    uint64_t ino, of, version, size, bytes; /* bytes: in the backing file */
    uint32_t chunk_size;
    uint32_t used;    /* seconds; the order in which contents go */
    bool unverified;  /* written before an unclean end */
    struct buf chunks; /* struct state_chunk after struct state_chunk */
};
struct state_chunk {
    uint32_t n, len;
    uint32_t flags; /* CHUNK_PRESENT, CHUNK_UNVERIFIED */
    struct hash hash;
};
/* ret_unclean: the last user did not call state_close(clean), or the machine was started anew since: then nobody knows what of the backing files reached the disk. */
int state_open(const char *path, struct state **ret, bool *ret_unclean);
void state_close(struct state *s, bool clean);
int state_load(struct state *s, uint64_t ino, uint64_t of, struct state_row *ret); /* -ENOENT; the caller ends chunks */
int state_save(struct state *s, const struct state_row *row);
void state_delete(struct state *s, uint64_t ino, uint64_t of);
void state_begin(struct state *s); /* several changes in one transaction; keeps others out until state_end */
void state_end(struct state *s);
uint64_t state_total(struct state *s); /* sum of bytes */
/* The least recently used rows, without chunks. Returns how many. */
size_t state_oldest(struct state *s, struct state_row *ret, size_t n);
bool state_has(struct state *s, uint64_t ino, uint64_t of, uint64_t version);
#endif
