/* Upload sessions: what their endpoints share. A session is its owner's alone: to others it does not exist. A chunk is acknowledged when its
   bytes and its row are durable, so that a session goes on where it was, whatever happened to the gateway. */
#ifndef CAIRN_GATEWAY_API_UPLOADS_H
#define CAIRN_GATEWAY_API_UPLOADS_H
#include "gateway/api/app.h"

#define UPLOAD_URLS_MAX 1024 /* in one answer */
#define UPLOAD_LIVES_NS (INT64_C(24) * 3600 * 1000000000)

/* The session of the path's first parameter, its state as of now. False: a problem was filled. */
bool upload_load(struct call *c, struct upload_row *ret);
/* The problem for something that only an active session takes. */
enum call_state upload_not_active(struct call *c, char state);
uint64_t upload_total(const struct upload_row *u);
unsigned upload_progress(uint64_t received, uint64_t total); /* 0–100 */

/* uploads.c */
enum call_state upload_initiate(struct call *c);
/* Chunks that the client says it has: numbers, hashes and sizes, in order of number. */
struct upload_hints {
    struct upload_chunk_row *rows;
    size_t n;
};
void upload_hints_fini(struct upload_hints *h);
/* The member `chunks` of a body, which may be absent. NULL, or what is wrong with it. */
const char *upload_hints_parse(const json_t *body, const struct upload_row *u, struct upload_hints *ret);
/* upload_direct.c */
/* Appends the member `uploadUrls` for the first of these chunks, as far as the store takes them from clients. */
int upload_put_urls(struct app *app, struct buf *out, const struct upload_row *u, const struct upload_chunk_row *chunks, size_t n);
enum call_state upload_urls(struct call *c);
/* Looks for what has arrived by these URLs, and records it; u->received is that of then. -EHOSTUNREACH: the store is away. */
int upload_take_arrived(struct app *app, struct upload_row *u);
/* upload_chunk.c */
enum call_state upload_chunk(struct call *c);
void upload_tell_progress(struct app *app, const struct upload_row *u, uint64_t received); /* to its user's subscribers */
/* upload_complete.c */
enum call_state upload_complete(struct call *c);
enum call_state upload_cancel(struct call *c);

/* upload_claim.c: one request at a time ends a session within this process (across processes, the drive's lock does it). True: this
   one may, and calls upload_release. False: another one is at it; `again` is called with c once that has ended, and
   c is answered then: return CALL_PENDING. */
bool upload_claim(const struct uuid *id, struct call *c, enum call_state (*again)(struct call *c));
void upload_release(const struct uuid *id);
#endif
