/* Chunks' bytes: read from wherever they are, verified, shared between the threads that want the same ones; and made
   ready to be stored. Thread-safe; everything here may block. */
#ifndef CAIRN_GATEWAY_API_CONTENT_H
#define CAIRN_GATEWAY_API_CONTENT_H
#include "gateway/api/app.h"

/* The plain bytes of one chunk; read-only, shared by reference. */
struct chunk_data;
const char *chunk_data_bytes(const struct chunk_data *d);
size_t chunk_data_len(const struct chunk_data *d);
void chunk_data_unref(struct chunk_data *d); /* NULL is none */

/* A reference to the chunk's bytes, out of the cache where it has them. -ENOENT: the drive has no such chunk; -EIO: what
   is stored is not what its hash says; -EHOSTUNREACH. */
int content_chunk_get(struct app *app, const struct uuid *drive, const struct hash *h, struct chunk_data **ret);

/* Makes the row of a chunk with these plain bytes (at most CHUNK_SIZE_MAX). Small as stored: the row holds the bytes, and nothing is
   stored yet. Else they are in the object store, durably, when this returns. The row is to be added by the caller, with
   chunks_add or with an operation. Returns 1 where the drive has the chunk: then only hash and size are set. */
int content_chunk_make(struct app *app, const struct uuid *drive, const void *p, size_t n, struct chunk_row *ret);

/* The geometry of a file of this size where its writer does not choose: 4 MiB, more where that would be over 65,536 chunks. */
uint32_t content_chunk_size(uint64_t size);

/* SHA-256 over the chunks' hashes, 32 zero bytes for a hole. */
void content_tree_hash(const struct chunk_change *changes, size_t n, struct hash *ret);
#endif
