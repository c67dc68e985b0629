/* What of the cache is dirty, so that it is found again after a crash: an append-only file of fixed records beside the backing files.

   A record is written before the backing file is touched. The journal keeps the records that still matter in memory too (a file's are dropped when it
   is clean), writes the file anew when most of it is history, and ends its reading at the first record that was not written whole. Thread-safe. */
#ifndef CAIRN_FUSEFS_UPLOAD_JOURNAL_H
#define CAIRN_FUSEFS_UPLOAD_JOURNAL_H
#include "common/hash.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum journal_kind {
    JOURNAL_DIRTY = 1,  /* the file is dirty on version a, which had b bytes; len: its chunk size. What was known of it before is history */
    JOURNAL_CHUNK,      /* chunk a is dirty: the backing file has its bytes */
    JOURNAL_SHRUNK,     /* it was cut to a bytes: what the base and earlier records had beyond is gone */
    JOURNAL_NOT_APPEND, /* something else than appends was done */
    JOURNAL_STORED,     /* dirty chunk a has left the backing file: the gateway has its len bytes as `hash` */
    JOURNAL_MOVING,     /* DIRTY on a (of b bytes, chunk size len); the appended bytes stand in a file of their own and go behind those b */
    JOURNAL_CLEAN,
};
struct journal_record {
    uint32_t kind, len;
    uint64_t ino, a, b;
    struct hash hash;
};

struct journal;
/* Opens or makes the file. Negative errno. */
int journal_open(const char *path, struct journal **ret);
void journal_close(struct journal *j);
/* One write(2) for all of them; they stand together for the same file. -ENOSPC, -EIO: none was written. */
int journal_append(struct journal *j, const struct journal_record *r, size_t n);
int journal_sync(struct journal *j); /* on the disk, not only in the kernel */
/* Calls fn with the living records of each dirty file, one call a file; where it returns false they are dropped. Before anything else is done with the journal;
   fn may append for the same file, and does not look at its records after that. */
void journal_each(struct journal *j, bool (*fn)(void *ctx, const struct journal_record *r, size_t n), void *ctx);
#endif
