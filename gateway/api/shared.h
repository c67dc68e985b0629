/* What this gateway keeps together with the others through the cache, on a thread of its own: what its limits have let through, and who is connected to it. No request and
   no event loop waits for the cache; while it is away each gateway goes by what it knows itself. */
#ifndef CAIRN_GATEWAY_API_SHARED_H
#define CAIRN_GATEWAY_API_SHARED_H
#include "gateway/api/app.h"

struct shared *shared_new(struct app *app); /* when app's cache, server and auth are there */
/* Tells what has not been told, and that this gateway has ended. From then on it does nothing. NULL is none. */
void shared_stop(struct shared *s);
void shared_free(struct shared *s);

/* A connection of a device came or went; never blocks. That the first came and the last went is told to those who share a drive with its user: by hub_announce. NULL is none. */
void shared_presence(struct shared *s, const struct principal *who, bool online);
/* The devices of these users, at whatever gateway, each once, with when it came; in order of name and device. Caller frees. *ret_partial: the cache is away, and only this
   gateway's are known. Blocks. */
struct presence *shared_present(struct shared *s, const struct uuid *users, size_t n, size_t *ret_n, bool *ret_partial);
#endif
