/* What keeps a mount right: the stream of changes, the cache lease, and catching up (docs/protocol.md "Stream").

   Three threads: the stream's (sockets), the applier's (applies invalidations in order, tells the kernel, acknowledges), the clock's (heart-beats; empties the kernel
   before a lease is out). */
#ifndef CAIRN_FUSEFS_SYNC_SYNC_H
#define CAIRN_FUSEFS_SYNC_SYNC_H
#include "fusefs/cache/content.h"
#include "fusefs/cache/replica.h"
#include "fusefs/remote/remote.h"
#include "fusefs/sync/kernel.h"

#define SYNC_GUARD_MS 300       /* before its lease is out, the mount has emptied the kernel */
#define SYNC_SESSION_MS 25000   /* a gateway keeps the locks of a mount that is away for 30 s; before that is over, they are taken for lost */

struct sync_config {
    struct remote *remote;
    struct replica *replica;
    struct kernel *kernel;
    struct store *store;
    bool strict;
    void (*on_unlocked)(void *ctx, uint64_t ino); /* a lock was released: on the stream's thread, must not block */
    void (*on_session_lost)(void *ctx);           /* the locks of this mount are gone: on any thread, never blocks on the network */
    void *ctx;
};
struct sync;
struct sync *sync_start(const struct sync_config *cfg);
void sync_stop(struct sync *s); /* says bye, joins; sync_own may still be called */
void sync_free(struct sync *s);

/* The cache lease runs and everything up to its seq is known: the replica may be believed and the kernel may keep what it is told. Never blocks. */
bool sync_trusted(struct sync *s);
/* Makes sure that the replica is right as of this call: at once under a lease; else asks the gateway ("still N?") and catches up. 0; -EIO: cut off and strict. A mount that
   is cut off otherwise goes on from what it has (0). */
int sync_fresh(struct sync *s);
/* This mount's own operation was answered: in order of seq. */
void sync_own(struct sync *s, uint64_t seq);
/* Everything up to this seq is known. */
uint64_t sync_seq(struct sync *s);
bool sync_online(struct sync *s);
/* The latest notices, as a JSON array; the caller's. */
json_t *sync_notices(struct sync *s);
#endif
