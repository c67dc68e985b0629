/* Shared by shared.c (the thread, limits) and shared_presence.c. */
#ifndef CAIRN_GATEWAY_API_SHARED_INTERNAL_H
#define CAIRN_GATEWAY_API_SHARED_INTERNAL_H
#include "gateway/api/shared.h"
#include <pthread.h>
#include <stddef.h>
#include <uthash.h>

struct coming { /* or going */
    struct presence device;
    bool online;
};
struct here { /* a device connected to this gateway */
    struct uuid user;
    char device[CACHE_DEVICE_MAX + 1]; /* zeroed behind its text: hashed with user, as a whole */
    unsigned connections;
    struct presence row;
    UT_hash_handle hh;
};
struct other { /* another gateway */
    struct uuid id;
    bool seen, alive, told; /* seen: in the list of this round; told: its devices were said to be offline */
    int64_t silent_since;   /* boot ms, while it is not alive */
    UT_hash_handle hh;
};

struct shared {
    struct app *app;
    struct uuid gateway;
    pthread_t thread;
    pthread_mutex_t lock; /* guards these */
    pthread_cond_t wake;
    bool ending;
    struct buf queue; /* struct coming */
    struct here *here;
    /* the thread's alone */
    struct other *others;
    int64_t beat_at, put_at; /* boot ms: when the next is due */
    struct metric *m_up;
};

#define HERE_KEY_LEN (sizeof(struct uuid) + CACHE_DEVICE_MAX + 1)
_Static_assert(offsetof(struct here, device) == sizeof(struct uuid), "user and device are one key");

/* What has come and gone since the last time: into the cache, and told. */
void shared_presence_queue(struct shared *s);
/* The heart-beat of this gateway, and a look at the others'; when due. */
void shared_presence_beat(struct shared *s, int64_t now_ms);
/* The last word. */
void shared_presence_end(struct shared *s);
void shared_presence_free(struct shared *s);
#endif
