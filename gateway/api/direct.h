/* The direct data path: clients fetch chunks from the object store, and bring them there, without the gateway (docs/decisions/0021). What is said here to a client about it,
   as the driver's protocol and the API have it. Functions may block. */
#ifndef CAIRN_GATEWAY_API_DIRECT_H
#define CAIRN_GATEWAY_API_DIRECT_H
#include "gateway/api/app.h"

#define DIRECT_READ_SECONDS 900  /* how long a URL to read is good */
#define DIRECT_WRITE_SECONDS 900 /* … to write, for a driver */
#define DIRECT_PLACES_MAX 256    /* in one answer */

/* ---- reading ---- */

/* Whether clients may be told of the store at all. */
bool direct_reads(struct app *app);
/* Appends the entry of a `places` array: where the bytes of a chunk that is in a pack are. -ENOTSUP: the store is not for clients. */
int direct_put_place(struct app *app, struct buf *out, const struct chunk_row *row);

/* ---- writing ---- */

/* Whether clients may bring chunks into the store: they can reach it, and it checks what they bring. */
bool direct_writes(struct app *app);
/* Begins an object that `user` is going to bring: *p with p->chunk's hash, sizes and codec, under a fresh key. */
void direct_begin(struct pending_row *p, const struct uuid *drive, const struct uuid *user, unsigned seconds);
/* Appends "url":…,"headers":{…}, by which those bytes (their SHA-256 as stored is `sum`) and no others can be brought. The row is to be recorded, with pendings_add, before that is sent. -ENOTSUP: the
   store is not for clients, or does not check what they bring. */
int direct_put_url(struct app *app, struct buf *out, const struct pending_row *p, const struct hash *sum, unsigned seconds);
/* The store has these objects, whole (the caller has looked): their chunks are the drive's now, unverified those whose hash the store could not check. ret as of pendings_settle. */
int direct_settle(struct app *app, struct pending_row *p, size_t n, int *ret);
#endif
