#include "common/cond.h"
#include "common/clock.h"

void cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

struct timespec cond_deadline(int64_t ms)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return clock_timespec(clock_ns(now) + ms * 1000000);
}

bool mutex_lock_within(pthread_mutex_t *m, int64_t ms)
{
    int64_t until = clock_boot_ms() + ms;
    while (pthread_mutex_trylock(m)) {
        if (clock_boot_ms() >= until)
            return false;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return true;
}
