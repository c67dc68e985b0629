/* Sessions of mounts, and who must hear of what is committed in a drive. Within api/: fs.c, fs_batch.c, fs_stream.c, fs_stream_out.c, fs_mounts.c, fs_listener.c. */
#ifndef CAIRN_GATEWAY_API_STREAMS_H
#define CAIRN_GATEWAY_API_STREAMS_H
#include "gateway/api/app.h"

/* ---- sessions (fs_mounts.c); any thread ---- */
/* A new mount. Without a stream within SESSION_LOST_MS, or once that has been gone for as long, it ends. */
#define SESSION_LOST_MS 30000
int streams_session_begin(struct streams *s, const struct uuid *session, const struct uuid *drive, const struct principal *who);
/* A request or stream says that it is of this session, one that this gateway has never heard of included (it may have been
   restarted): 0; -EACCES: it is another user's or drive's; else the store cannot say. locks: it may take locks from now on. */
int streams_session_use(struct streams *s, const struct uuid *session, const struct uuid *drive, const struct principal *who, bool locks);
/* On the queue's worker: the session takes locks with this transaction. One that has ended meanwhile gets a row again, so that they end with it. */
int streams_session_locks(struct streams *s, struct meta_tx *tx, const struct uuid *session, const struct uuid *user);
/* Ends it: its locks are released, its stream is closed, nobody waits for it any longer. */
void streams_session_end(struct streams *s, const struct uuid *session);
#endif
