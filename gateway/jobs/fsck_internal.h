/* What the files of fsck*.c share. */
#ifndef CAIRN_GATEWAY_JOBS_FSCK_INTERNAL_H
#define CAIRN_GATEWAY_JOBS_FSCK_INTERNAL_H
#include "common/mem.h"
#include "gateway/jobs/fsck.h"

#include <uthash.h>

struct fsck {
    struct meta *meta;
    struct objects *objects;
    struct meta_tx *tx;
    struct fsck_report *report;
};
void fsck_wrong(struct fsck *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* An inode as stored, and what its names say of it. */
struct fsck_inode {
    uint64_t ino;
    uint64_t parent, children, size, version;
    uint32_t mode, nlink, chunk_size;
    bool rooted, has_version;
    uint64_t names, entries, subdirectories, named_in; /* found */
    UT_hash_handle hh;
};
struct fsck_inode *fsck_inode_find(struct fsck_inode *all, uint64_t ino);

int fsck_names(struct fsck *f, struct fsck_inode **ret); /* the caller frees, also after an error */
int fsck_content(struct fsck *f, struct fsck_inode *inodes, bool contents);
#endif
