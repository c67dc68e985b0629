/* What the files of apply*.c share. An operation is applied in two halves: it asks for every row that it needs and checks (again is set where a row is not loaded, and
   it returns at once); then apply_begin gives it its seq, and from there on nothing fails. */
#ifndef CAIRN_GATEWAY_CORE_APPLY_INTERNAL_H
#define CAIRN_GATEWAY_CORE_APPLY_INTERNAL_H
#include "gateway/core/apply.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct apply {
    struct rows *r;
    const struct actor *who;
    const struct op *op;
    struct op_result *res;
    bool again;   /* a row is wanted; the returned errno means nothing then */
    uint64_t seq; /* of this operation, from apply_begin on */
    struct inode_row *touched[OP_TOUCH_MAX];
};

/* Getters that note what is not loaded. Errors are those of rows_*; -EIO where a row that another one points to is missing. */
int apply_inode(struct apply *a, uint64_t ino, struct inode_row **ret);
int apply_inode_of(struct apply *a, const struct dentry_row *d, struct inode_row **ret); /* d->ino != 0 */
int apply_dentry(struct apply *a, uint64_t parent, const char *name, struct dentry_row **ret);
/* A living directory: -ENOENT where there is none or it was removed, -ENOTDIR. */
int apply_directory(struct apply *a, uint64_t ino, struct inode_row **ret);
/* parent and name at once, so that both are asked for in one round. */
int apply_place(struct apply *a, uint64_t parent, const char *name, struct inode_row **ret_dir, struct dentry_row **ret);
/* Any living name; *ret NULL where there is none. */
int apply_entry_of(struct apply *a, uint64_t ino, const struct dentry_row **ret);
/* 0 where a client may give this number to something new; -EINVAL. */
int apply_ino_unused(struct apply *a, uint64_t ino);
/* A free name for a conflict's sibling beside `name`. */
int apply_sibling_name(struct apply *a, uint64_t parent, const char *name, struct dentry_row **ret);

/* Changes. */
void apply_begin(struct apply *a);
void apply_touch_inode(struct apply *a, struct inode_row *i); /* before it is changed; ctime becomes now; in the answer */
void apply_touch_directory(struct apply *a, struct inode_row *dir); /* also mtime */
void apply_add_name(struct apply *a, const struct dentry_row *d); /* to the names of the answer, as it is now */
struct inode_row *apply_new_inode(struct apply *a, const struct attr *attr);
/* The name becomes ino, or nothing; counts the directory's entries and, for a directory, its links. */
void apply_name_born(struct apply *a, struct inode_row *dir, struct dentry_row *d, struct inode_row *i);
void apply_name_dies(struct apply *a, struct inode_row *dir, struct dentry_row *d, struct inode_row *i);
/* One name less: nlink, and the drive's figures with the last one. */
void apply_inode_loses_name(struct apply *a, struct inode_row *i);
struct apply_where {
    uint64_t parent, from_parent;
    const char *name, *from_name; /* may be NULL */
};
/* Ends a successful operation: the answer's attributes and its change row. */
void apply_finish(struct apply *a, char kind, uint64_t ino, const struct apply_where *where);

/* The operations. 0 or the errno of the result. */
int apply_create(struct apply *a);
int apply_link(struct apply *a);
int apply_unlink(struct apply *a);
int apply_rmdir(struct apply *a);
int apply_rename(struct apply *a);
int apply_setattr(struct apply *a);
int apply_setxattr(struct apply *a);
int apply_removexattr(struct apply *a);
int apply_commit(struct apply *a);
int apply_put(struct apply *a);
int apply_restore(struct apply *a);
int apply_lock(struct apply *a);
int apply_lock_release_all(struct apply *a);
int apply_quarantine(struct apply *a);

/* ---- apply_segments.c: a version's content from an earlier one's and changes ---- */
struct content_source {
    uint64_t ino, at; /* a version, or ALIVE: the newest */
    uint64_t size;    /* 0: there is nothing to inherit */
    uint32_t chunk_size;
};
struct content_plan {
    struct content_source from;
    bool in_place;  /* `from` is the newest of the file that is written: what stays the same is not written again */
    uint64_t limit; /* what lies beyond is not inherited */
    uint64_t size;  /* of the result */
    uint32_t chunk_size;
    const struct chunk_change *changes; /* rising n, all below chunk_count(size) */
    size_t n_changes;
};
#define CONTENT_CHUNKS_MAX (UINT64_C(1) << 22)
/* Checks the plan and asks for its rows. -EINVAL, -EFBIG; a->again. */
int content_gather(struct apply *a, const struct content_plan *p);
/* Writes it as version a->seq of the inode, fills size, chunk_size, tree_hash and sha256 of *v. had: the size of the newest before. */
void content_write(struct apply *a, const struct content_plan *p, uint64_t ino, uint64_t had, struct version_row *v);
/* Bytes that differ between the source and the result: [from, to). */
void content_range(const struct content_plan *p, uint64_t *ret_from, uint64_t *ret_to);
#endif
