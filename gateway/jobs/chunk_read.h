/* A chunk's plain bytes for a job, wherever they are stored. */
#ifndef CAIRN_GATEWAY_JOBS_CHUNK_READ_H
#define CAIRN_GATEWAY_JOBS_CHUNK_READ_H
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"

/* ret's content becomes the chunk's plain bytes, which are those of its hash. -ENOENT: the drive has no such chunk; -EIO: it is damaged or lost; -EHOSTUNREACH. */
int chunk_read(struct meta *meta, struct objects *objects, const struct uuid *drive, const struct hash *h, struct buf *ret);
#endif
