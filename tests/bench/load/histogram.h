/* Latencies in buckets whose width grows with the value (as HdrHistogram's do): any value up to 2^63 microseconds within 1/32 of itself, in 15 KiB, without an
   allocation, so that it can lie in memory that several processes share. One writer. */
#ifndef CAIRN_BENCH_HISTOGRAM_H
#define CAIRN_BENCH_HISTOGRAM_H
#include <stdint.h>

#define HISTOGRAM_BUCKETS 1888

struct histogram { /* zeroed: empty */
    uint64_t count, sum, max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};
void histogram_add(struct histogram *h, uint64_t us);
void histogram_merge(struct histogram *h, const struct histogram *other);
/* The least value that `percent` of all values do not exceed, at most 1/32 too high and never above the maximum; 0 where there is none. */
uint64_t histogram_percentile(const struct histogram *h, double percent);
#endif
