#include "histogram.h"

#include <math.h>

#define SUB 32u /* buckets for each doubling; what is below 2·SUB is exact */

static unsigned bucket_of(uint64_t v)
{
    unsigned shift = v < 2 * SUB ? 0 : (unsigned)(63 - __builtin_clzll(v)) - 5;
    return shift * SUB + (unsigned)(v >> shift);
}

static uint64_t highest_of(unsigned bucket)
{
    if (bucket < 2 * SUB)
        return bucket;
    unsigned shift = bucket / SUB - 1;
    return ((uint64_t)(bucket % SUB + SUB + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t us)
{
    us = us > INT64_MAX ? INT64_MAX : us;
    h->buckets[bucket_of(us)]++;
    h->count++;
    h->sum += us;
    h->max = us > h->max ? us : h->max;
}

void histogram_merge(struct histogram *h, const struct histogram *other)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->buckets[i] += other->buckets[i];
    h->count += other->count;
    h->sum += other->sum;
    h->max = other->max > h->max ? other->max : h->max;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    uint64_t wanted = (uint64_t)ceil((double)h->count * percent / 100), seen = 0;
    wanted = wanted ? wanted : 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= wanted)
            return highest_of(i) < h->max ? highest_of(i) : h->max;
    }
    return h->max;
}
