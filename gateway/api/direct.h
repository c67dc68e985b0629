/* The direct data path: clients fetch chunks from the object store, and bring them there, without the gateway (docs/decisions/0021). What is said here to a client about it,
   as the driver's protocol has it. Functions may block (a store that was away is asked what it can do). */
#ifndef CAIRN_GATEWAY_API_DIRECT_H
#define CAIRN_GATEWAY_API_DIRECT_H
#include "gateway/api/app.h"

#define DIRECT_READ_SECONDS 900 /* how long a URL to read is good */
#define DIRECT_PLACES_MAX 256   /* in one answer */

/* Whether clients may be told of the store at all. */
bool direct_reads(struct app *app);

/* Appends the entry of a `places` array: where the bytes of a chunk that is in a pack are. -ENOTSUP: the store is not for clients. */
int direct_put_place(struct app *app, struct buf *out, const struct chunk_row *row);
#endif
