/* The mount: runs the FUSE driver until it is unmounted. */
#ifndef CAIRN_FUSEFS_DRIVER_DRIVER_H
#define CAIRN_FUSEFS_DRIVER_DRIVER_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct remote_token_store;
struct driver_options {
    const char *url, *access_token, *refresh_token;
    const char *drive, *device;
    const char *mountpoint;  /* absolute */
    const char *cache_dir;   /* absolute; "" : the default below $XDG_CACHE_HOME/cairn, one per URL, drive and user */
    uint64_t cache_size;     /* bytes */
    unsigned timeout_s;      /* how long a call waits for a gateway that is away */
    bool foreground, writeback, direct, read_only, allow_other, strict;
    bool has_uid, has_gid;   /* all files are shown as owned by these */
    uid_t uid;
    gid_t gid;
    const char *fuse_options; /* further -o options for libfuse, comma-separated, or NULL */
    bool debug;
    void (*on_tokens)(void *ctx, const char *access, const char *refresh); /* renewed tokens are to be saved; may be NULL */
    void *ctx;
    const struct remote_token_store *token_store; /* for remote_share_tokens: other programs renew the same tokens; may be NULL */
};
/* Mounts, goes into the background (unless foreground) once the mount answers, serves until it is unmounted. The caller's process returns 0 when the mount
   is up, 1 after a message on stderr that says what was wrong. */
int driver_run(const struct driver_options *o);

/* What the mount says of itself: the extended attribute user.cairn.status of its root directory, JSON: {drive, url, device, session, pid, seq, online, lease,
   cachedBytes, dirtyBytes, dirtyFiles, uploadingBytes, uploadedBytes, pendingOperations, writeback, readOnly, since, direct, directFetchedBytes, directSentBytes, notices:[…]}. */
#define DRIVER_STATUS_XATTR "user.cairn.status"
#endif
