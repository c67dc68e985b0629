/* Chunk geometry. A file is cut into chunks of a power of two; 64 chunks are a segment. */
#ifndef CAIRN_COMMON_CHUNK_H
#define CAIRN_COMMON_CHUNK_H
#include <stdbool.h>
#include <stdint.h>

#define CHUNK_SIZE_DEFAULT (4u << 20)
#define CHUNK_SIZE_MIN (64u << 10)
#define CHUNK_SIZE_MAX (64u << 20)
#define SEGMENT_CHUNKS 64
#define CHUNK_INLINE_MAX (64u << 10) /* as stored: such a chunk rides in the batch and lives in its row */
#define FILE_SIZE_MAX (INT64_C(1) << 46)

bool chunk_size_valid(uint64_t chunk_size);
/* How many chunks `size` bytes make; 0 for an empty file. */
uint64_t chunk_count(uint64_t size, uint32_t chunk_size);
/* The bytes of chunk n in a file of `size`: chunk_size, less for the last, 0 beyond the end. */
uint32_t chunk_length(uint64_t size, uint32_t chunk_size, uint64_t n);
#endif
