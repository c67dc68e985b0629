/* What the files of the driver's protocol (docs/protocol.md) share. */
#ifndef CAIRN_GATEWAY_API_FS_H
#define CAIRN_GATEWAY_API_FS_H
#include "gateway/api/app.h"
#include "gateway/api/json_out.h"
#include "gateway/api/roles.h"

#define FS_BASE "/api/v1/fs/v1"
#define FS_BATCH_OPS_MAX 1000
#define FS_BATCH_BYTES_MAX (16u << 20)

/* As attr_to_json, written by hand: look-ups and listings consist of it. */
void fs_put_attr(struct buf *b, const char *key, const struct attr *a);

/* ---- arguments; each fills a problem and returns false on failure ---- */
bool fs_query_u64(struct call *c, const char *name, bool required, uint64_t *ret); /* untouched where it is absent */
bool fs_query_hash(struct call *c, struct hash *ret);                              /* `sha256` */
/* Name of a directory entry: 1…255 bytes, no '/' or NUL. */
bool fs_query_name(struct call *c, const char *key, const char **ret);
/* A body {drive, chunks:[sha256…]}; `drive` is borrowed from it. Ended by the caller in any case. */
struct fs_hashes {
    json_t *body;
    const char *drive;
    struct hash *hashes;
    size_t n;
};
bool fs_hashes_body(struct call *c, size_t most, struct fs_hashes *ret);
void fs_hashes_fini(struct fs_hashes *h);
unsigned fs_limit(uint64_t asked, unsigned usual, unsigned most);
/* A problem document with the member `errno`; whatever was written into the answer is dropped. */
enum call_state fs_fail(struct call *c, int err, const char *what);

/* ---- snapshots ---- */
/* The drive of the query and a snapshot of it, for a caller who may read it. NULL: a problem was filled. */
struct meta_tx *fs_snapshot(struct call *c);
static inline void fs_end(struct meta_tx **tx)
{
    if (*tx)
        (*tx)->meta->ops->rollback(*tx);
}
#define CLEANUP_SNAPSHOT CLEANUP(fs_end)

/* ---- handlers of other files ---- */
enum call_state fs_batch(struct call *c);       /* fs_batch.c */
enum call_state fs_lookup(struct call *c);      /* fs_names.c */
enum call_state fs_inode(struct call *c);
enum call_state fs_directory(struct call *c);
enum call_state fs_symlink(struct call *c);
enum call_state fs_xattrs(struct call *c);
enum call_state fs_dead(struct call *c);
enum call_state fs_moment(struct call *c);      /* fs_past.c */
enum call_state fs_changes(struct call *c);
enum call_state fs_versions(struct call *c);    /* fs_versions.c */
enum call_state fs_read(struct call *c);        /* fs_content.c */
enum call_state fs_chunk_get(struct call *c);
enum call_state fs_chunk_put(struct call *c);
enum call_state fs_missing(struct call *c);
enum call_state fs_where(struct call *c);       /* fs_direct.c */
enum call_state fs_places(struct call *c);
enum call_state fs_placed(struct call *c);
#endif
