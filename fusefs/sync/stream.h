/* The WebSocket to the gateway: connects and reconnects by itself, on a thread of its own. */
#ifndef CAIRN_FUSEFS_SYNC_STREAM_H
#define CAIRN_FUSEFS_SYNC_STREAM_H
#include "common/buf.h"
#include "fusefs/remote/remote.h"

struct stream;
struct stream_handler { /* all on the stream's thread; must not block */
    void (*connected)(void *ctx, struct stream *s);
    void (*message)(void *ctx, const char *text, size_t n);
    void (*disconnected)(void *ctx);
    void *ctx;
};
struct stream *stream_start(struct remote *remote, const struct stream_handler *h);
/* Sends a text message; from any thread; dropped while there is no connection. Returns false then. */
bool stream_send(struct stream *s, const char *text);
/* Drops the connection and makes a new one. */
void stream_reconnect(struct stream *s);
void stream_stop(struct stream *s); /* what waits to be sent is sent first, within a second */
#endif
