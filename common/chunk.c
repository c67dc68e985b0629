#include "common/chunk.h"

bool chunk_size_valid(uint64_t chunk_size)
{
    return chunk_size >= CHUNK_SIZE_MIN && chunk_size <= CHUNK_SIZE_MAX && (chunk_size & (chunk_size - 1)) == 0;
}

uint64_t chunk_count(uint64_t size, uint32_t chunk_size)
{
    return size == 0 ? 0 : (size - 1) / chunk_size + 1;
}

uint32_t chunk_length(uint64_t size, uint32_t chunk_size, uint64_t n)
{
    if (n >= chunk_count(size, chunk_size))
        return 0;
    uint64_t rest = size - n * chunk_size;
    return rest < chunk_size ? (uint32_t)rest : chunk_size;
}
