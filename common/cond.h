/* Condition variables, and mutexes, with bounds. */
#ifndef CAIRN_COMMON_COND_H
#define CAIRN_COMMON_COND_H
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* One whose timed waits count on CLOCK_MONOTONIC, so that nobody's setting the time makes them longer or shorter. */
void cond_init(pthread_cond_t *c);
/* So many milliseconds from now, for pthread_cond_timedwait on one of those. */
struct timespec cond_deadline(int64_t ms);
/* Locks it if that can be within so many milliseconds. false: it is not locked. (ThreadSanitizer does not know pthread_mutex_clocklock.) */
bool mutex_lock_within(pthread_mutex_t *m, int64_t ms);
#endif
