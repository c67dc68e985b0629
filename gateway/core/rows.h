/* Rows of one drive in memory: what an operation asks for, changes, and leaves to be stored (docs/decisions/0001).

   A getter answers 0 (*ret is the row, owned by `rows`, to be changed in place), -ENOENT (known not to exist), or -EAGAIN: not loaded; the key is now on the
   list of wants, `meta.load` fills it in, and the operation is applied again. The adapter of the metadata store is the only other user: it reads the
   wants, puts what it found, and writes what is dirty. One thread owns a `struct rows`; it lives for one transaction. */
#ifndef CAIRN_GATEWAY_CORE_ROWS_H
#define CAIRN_GATEWAY_CORE_ROWS_H
#include "gateway/ports/meta.h"

#define ALIVE INT64_MAX /* `died` of what lives */

/* An inode as it is now, and the state before this transaction where history keeps it. */
struct inode_row {
    struct attr attr;
    uint64_t parent;   /* of a directory: the directory that it is in; 0: the root, or it has no name any more */
    uint32_t children; /* of a directory: its living entries */
    char *target;      /* symlinks; owned; loaded only if asked for, written when fresh */
    uint64_t born;     /* the seq since which this state holds, and the second it was given in */
    int64_t born_at;   /* ns */
    /* to be stored */
    bool fresh, dirty;
    bool has_past;     /* `past` held from past_born until past_died: goes into the inode's history */
    struct attr past;
    uint64_t past_born, past_died;
    struct inode_row *next_dirty;
};

/* What a name in a directory is now. ino 0: nothing (the row says so: it is known). */
struct dentry_row {
    uint64_t parent, ino, born;
    char name[NAME_LEN_MAX + 1];
};
/* Births and deaths of names, in the order in which they happened. */
struct dentry_event {
    bool dies; /* else it is born */
    uint64_t parent, ino, seq;
    char name[NAME_LEN_MAX + 1];
};

struct xattr_row {
    uint64_t ino;
    char name[256];
    char *value; /* owned; NULL: there is none */
    size_t len;
    uint64_t born;
    int64_t born_at;
    bool dirty;
    /* what was there when the transaction began: 0 none; the adapter ends that row at past_died, or drops it where it is not to be kept */
    uint64_t past_born, past_died;
    bool keep_past;
    struct xattr_row *next_dirty;
};

/* 64 chunks of a file, as of a version: the newest row not newer than `at`, cuts applied. */
struct segment_row {
    uint64_t ino, number, at; /* as asked; at ALIVE: the newest */
    uint64_t version;         /* of the row that was found; 0: none, all holes */
    struct chunk_ref chunks[SEGMENT_CHUNKS];
};
/* Rows that are only ever added, in order. */
struct segment_new {
    uint64_t ino, number, version;
    struct chunk_ref chunks[SEGMENT_CHUNKS];
};
struct cut_new {
    uint64_t ino, version, from_segment;
};

enum want_kind { WANT_INODE, WANT_TARGET, WANT_DENTRY, WANT_ENTRY_OF, WANT_XATTR, WANT_VERSION, WANT_SEGMENT, WANT_CHUNK, WANT_LOCKS };
struct want {
    enum want_kind kind;
    uint64_t ino;    /* DENTRY: the parent */
    uint64_t number; /* VERSION; SEGMENT: its number */
    uint64_t at;     /* SEGMENT */
    struct hash hash;
    char name[NAME_LEN_MAX + 1]; /* DENTRY, XATTR */
};

struct rows {
    struct drive_row drive; /* under its lock; seq, used, files, last_time are changed here and stored */
    int64_t now;            /* of this transaction: not before drive.last_time */

    struct want *wants; /* what `load` is to fill; emptied by it with rows_wants_done */
    size_t n_wants;

    /* what `store` is to write */
    struct inode_row *dirty_inodes;
    struct xattr_row *dirty_xattrs;
    struct dentry_event *dentry_events;
    size_t n_dentry_events;
    struct version_row *new_versions;
    size_t n_new_versions;
    struct version_row *unlisted; /* (ino, version) only: no longer listed */
    size_t n_unlisted;
    struct version_row *quarantined; /* (ino, version) only: of those stored before this transaction */
    size_t n_quarantined;
    struct segment_new *new_segments;
    size_t n_new_segments;
    struct cut_new *new_cuts;
    size_t n_new_cuts;
    struct chunk_row *new_chunks; /* borrowed bytes: they live until the transaction ends */
    size_t n_new_chunks;
    struct change_row *changes; /* strings owned */
    size_t n_changes;
    uint64_t *dirty_locks; /* inodes whose locks are to be replaced by what rows_locks gives */
    size_t n_dirty_locks;
    struct uuid *released; /* sessions whose every lock goes, before the dirty ones are written */
    size_t n_released;

    struct rows_index *index; /* private: the hash tables */
};

struct rows *rows_new(const struct drive_row *drive, int64_t now);
void rows_free(struct rows *r);

/* ---- for operations ---- */
int rows_inode(struct rows *r, uint64_t ino, struct inode_row **ret);
int rows_target(struct rows *r, uint64_t ino, const char **ret);
int rows_dentry(struct rows *r, uint64_t parent, const char *name, struct dentry_row **ret); /* 0 also for "nothing": ino 0 */
/* The oldest living name of an inode; -ENOENT: it has none. *ret is valid until the next call that changes names. */
int rows_entry_of(struct rows *r, uint64_t ino, const struct dentry_row **ret);
int rows_xattr(struct rows *r, uint64_t ino, const char *name, struct xattr_row **ret); /* 0 also for "none": value NULL */
int rows_version(struct rows *r, uint64_t ino, uint64_t number, const struct version_row **ret);
int rows_segment(struct rows *r, uint64_t ino, uint64_t number, uint64_t at, const struct segment_row **ret);
int rows_chunk(struct rows *r, const struct hash *h); /* 0: the drive has it (or it comes with this transaction) */
uint32_t rows_chunk_size(struct rows *r, const struct hash *h); /* plain bytes of a chunk that comes with this transaction, else 0 */
int rows_locks(struct rows *r, uint64_t ino, struct lock_row **ret, size_t *ret_n);

/* Changes. seq is that of the operation. */
struct inode_row *rows_inode_add(struct rows *r, const struct attr *a, uint64_t seq);
/* Before an inode is changed: marks it dirty and keeps its past where @TIME can ask for it (docs/decisions/0002). */
void rows_inode_touch(struct rows *r, struct inode_row *i, uint64_t seq);
void rows_dentry_set(struct rows *r, struct dentry_row *d, uint64_t ino, uint64_t seq); /* ino 0: the name dies */
void rows_xattr_set(struct rows *r, struct xattr_row *x, const void *value, size_t len, uint64_t seq); /* value NULL: removed */
void rows_version_add(struct rows *r, const struct version_row *v);
void rows_version_unlist(struct rows *r, uint64_t ino, uint64_t number);
void rows_version_quarantine(struct rows *r, uint64_t ino, uint64_t number); /* a version that rows_version has given */
/* The newest content of this segment is now this; rows_segment(…, ALIVE) answers it from here on. */
void rows_segment_add(struct rows *r, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS]);
void rows_cut_add(struct rows *r, uint64_t ino, uint64_t version, uint64_t from_segment);
void rows_chunk_add(struct rows *r, const struct chunk_row *c);
struct change_row *rows_change_add(struct rows *r); /* zeroed; filled by the caller */
void rows_locks_set(struct rows *r, uint64_t ino, const struct lock_row *locks, size_t n);
void rows_locks_release(struct rows *r, const struct uuid *session);

/* ---- for the adapter's load ---- */
void rows_put_inode(struct rows *r, const struct inode_row *i); /* target is not taken */
void rows_put_target(struct rows *r, uint64_t ino, const char *target);
void rows_put_dentry(struct rows *r, const struct dentry_row *d);
void rows_put_entry_of(struct rows *r, uint64_t ino, const struct dentry_row *d); /* may be called for several names (a few are enough) */
void rows_put_xattr(struct rows *r, const struct xattr_row *x); /* the value is copied */
void rows_put_version(struct rows *r, const struct version_row *v);
void rows_put_segment(struct rows *r, const struct segment_row *s);
void rows_put_chunk(struct rows *r, const struct hash *h);
void rows_put_locks(struct rows *r, uint64_t ino, const struct lock_row *locks, size_t n);
/* Every want that nothing was put for is known not to exist; the list of wants is empty again. */
void rows_wants_done(struct rows *r);
#endif
