/* Brings a chunk's bytes to the gateway: hashed, recognised as zeros, encoded for the batch if small, else stored if the gateway lacks them. Thread-safe. */
#ifndef CAIRN_FUSEFS_UPLOAD_UPLOADER_H
#define CAIRN_FUSEFS_UPLOAD_UPLOADER_H
#include "fusefs/remote/remote.h"

struct uploader;
struct uploader *uploader_new(struct remote *r, unsigned threads);
void uploader_free(struct uploader *u); /* finishes what waits */
/* Runs fn on one of the uploader's threads. */
void uploader_run(struct uploader *u, void (*fn)(void *), void *arg);

struct uploaded {
    struct chunk_ref ref;         /* hash zero: nothing but zeros, a hole */
    bool rides;                   /* `content` is to ride in the batch; else the gateway has it */
    struct remote_inline content;
};
void uploaded_fini(struct uploaded *u);
#define UPLOAD_MAY_RIDE 1u /* small as stored: leave it to the batch */
#define UPLOAD_FORCE 2u    /* the gateway said that it is missing: do not ask */
#define UPLOAD_HASH_ONLY 4u
/* timeout_ms: how long a gateway that is away is waited for. -EHOSTUNREACH after that, or what the gateway said. */
int uploader_send(struct uploader *u, const void *bytes, uint32_t n, unsigned flags, unsigned timeout_ms, struct uploaded *ret);
/* Bytes that were stored through this uploader, for cairn status. */
uint64_t uploader_bytes(struct uploader *u);
uint64_t uploader_sending(struct uploader *u); /* bytes under way now */
#endif
