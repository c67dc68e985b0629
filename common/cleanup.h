/* Scope-bound cleanup: ownership is visible where a variable is born. */
#ifndef CAIRN_COMMON_CLEANUP_H
#define CAIRN_COMMON_CLEANUP_H

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}
static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}
static inline void cleanup_json(json_t **j)
{
    json_decref(*j);
}
static inline void cleanup_file(FILE **f)
{
    if (*f)
        fclose(*f);
}
static inline void cleanup_unlock(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}

#define CLEANUP_FREE CLEANUP(cleanup_free)
#define CLEANUP_CLOSE CLEANUP(cleanup_close) /* an int fd, -1: none */
#define CLEANUP_JSON CLEANUP(cleanup_json)
#define CLEANUP_FILE CLEANUP(cleanup_file)

/* Takes a name of its own, so that several locks can be held in one scope. */
#define CAIRN_PASTE2(a, b) a##b
#define CAIRN_PASTE(a, b) CAIRN_PASTE2(a, b)
#define ACQUIRE_LOCK_FOR_CURRENT_SCOPE(mutex)                                                      \
    CLEANUP(cleanup_unlock) pthread_mutex_t *CAIRN_PASTE(scope_lock_, __LINE__) = (mutex);         \
    pthread_mutex_lock(CAIRN_PASTE(scope_lock_, __LINE__))

#endif
