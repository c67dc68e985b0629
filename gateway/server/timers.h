/* Timers of one thread: a heap by time, ids for cancelling. */
#ifndef CAIRN_GATEWAY_SERVER_TIMERS_H
#define CAIRN_GATEWAY_SERVER_TIMERS_H
#include <stdint.h>

struct timers;
struct timers *timers_new(void);
void timers_free(struct timers *t); /* what has not run is forgotten */
uint64_t timers_add(struct timers *t, int64_t at_ms, void (*fn)(void *), void *arg);
void timers_cancel(struct timers *t, uint64_t id); /* an id that has run is fine */
/* Runs all that are due; a timer added meanwhile waits for the next call. */
void timers_run(struct timers *t, int64_t now_ms);
int64_t timers_next(const struct timers *t); /* when the first is due, -1: none */
#endif
