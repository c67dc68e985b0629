/* A chunk's plain bytes, wherever they are stored. */
#ifndef CAIRN_GATEWAY_CORE_CHUNK_READ_H
#define CAIRN_GATEWAY_CORE_CHUNK_READ_H
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"

/* Reads the chunk, and sees to it that its bytes are those of its hash. `room` is asked at most once, for where its n plain bytes are to go; what is there is good only if this
   returns 0. -ENOENT: the drive has no such chunk; -EIO: it is damaged (logged) or lost; -EHOSTUNREACH. Blocks. */
int chunk_read(struct meta *meta, struct objects *objects, const struct uuid *drive, const struct hash *h, char *(*room)(void *ctx, size_t n), void *ctx);
#endif
