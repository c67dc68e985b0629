/* A fixed pool of worker threads with one FIFO queue. */
#ifndef CAIRN_COMMON_POOL_H
#define CAIRN_COMMON_POOL_H
#include <stdbool.h>
#include <stddef.h>
struct pool;
struct pool *pool_new(unsigned threads, const char *name);
void pool_run(struct pool *p, void (*fn)(void *), void *arg); /* never blocks */
size_t pool_waiting(struct pool *p);                          /* jobs not yet begun */
void pool_drain(struct pool *p);                              /* waits until idle */
bool pool_drain_for(struct pool *p, unsigned ms);             /* … at most so long; false: it is not */
void pool_free(struct pool *p);                               /* finishes what waits, joins */
#endif
