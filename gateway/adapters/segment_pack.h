/* A segment's chunks as they lie in a row: 36 bytes each, hash and valid length (little endian); holes at the end are left out. */
#ifndef CAIRN_GATEWAY_ADAPTERS_SEGMENT_PACK_H
#define CAIRN_GATEWAY_ADAPTERS_SEGMENT_PACK_H
#include "common/op.h"
#include "gateway/core/rows.h"

#define SEGMENT_ENTRY (HASH_LEN + 4)
size_t segment_pack(const struct chunk_ref chunks[SEGMENT_CHUNKS], uint8_t *ret); /* bytes; ret has room for all */
int segment_unpack(const void *p, size_t len, struct chunk_ref ret[SEGMENT_CHUNKS]); /* -EIO; holes behind the last entry */
/* Chunk n of this version: what lies beyond the file's end is no part of it, whatever the segment's row says. */
void segment_clip(struct chunk_ref *ref, const struct version_row *v, uint64_t n);
#endif
