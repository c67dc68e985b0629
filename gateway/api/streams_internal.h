/* Within fs_stream.c, fs_stream_out.c, fs_mounts.c and fs_listener.c.

   Threads: sockets, `struct stream` and coherence belong to the event loop. `lock` guards the tables of sessions and interests, which workers use
   too; nothing is called with it held. */
#ifndef CAIRN_GATEWAY_API_STREAMS_INTERNAL_H
#define CAIRN_GATEWAY_API_STREAMS_INTERNAL_H
#include "gateway/api/streams.h"
#include "gateway/api/hub.h"
#include <pthread.h>
#include <uthash.h>
#include <utlist.h>

struct stream { /* one socket; loop */
    struct streams *streams;
    struct ws *ws;               /* NULL once it is closed */
    char *authorization;         /* of the upgrade, until hello */
    struct principal who;        /* from welcome on */
    struct uuid drive, session;
    uint64_t since;
    bool joining;                /* its place in the drive's queue is being found: freed only after that */
    bool interested;             /* it has an interest */
    bool present;                /* hub_presence was told */
    int64_t checked;             /* boot ms: when its user's role was looked at */
    bool fresh;                  /* as its mount's */
    struct coherence_stream *in; /* NULL before welcome */
    struct buf inval;            /* touches of the group that is being published, comma separated */
    uint64_t inval_seq;
    struct stream *next_inval; /* streams with something in `inval` */
    bool listed;
    struct stream *prev, *next; /* streams->first, while it is in */
};

struct mount { /* under lock */
    struct uuid id, drive, user;
    char user_name[65], device[129];
    struct stream *stream; /* the newest; only the loop looks into it */
    int64_t gone_since;    /* boot ms; 0 while a stream is there */
    bool locks;            /* it may hold some */
    bool fresh;            /* nothing was known of it when it spoke: whatever locks it had are gone, and it is to be told */
    UT_hash_handle hh;
};

/* Which sessions must hear of a drive's commits, or may still trust what they know (a stream that was lost, until its lease is out). A session
   with two streams is there twice. Entered before the stream's place in the queue is known, so that no commit behind it is missed. */
struct interest { /* under lock */
    struct uuid drive;
    struct uuid *sessions;
    size_t n;
    UT_hash_handle hh;
};

struct streams {
    struct drive_listener listener; /* first: it is what the queues know */
    struct app *app;
    struct coherence *coherence; /* loop */
    struct stream *first;        /* loop: all that are in */
    struct stream *invals;       /* loop: those with something in `inval` */
    struct farewell *farewells;  /* loop: interests of streams that were lost */
    uint64_t tick_timer;
    int64_t tick_at; /* boot ms of tick_timer, 0: none */
    bool session_ticking;
    pthread_mutex_t lock;
    struct mount *mounts;
    struct interest *interests;
    struct metric *m_streams, *m_waited;
};

/* fs_mounts.c */
void mounts_tick(void *streams); /* loop: ends those that are lost; goes on by itself while any is without a stream */
void mounts_watch(struct streams *s); /* loop: one is without a stream */
/* The stream speaks for its session from now on; the one that did is returned, to be closed. -EACCES as streams_session_use. */
int mount_attach(struct streams *s, struct stream *st, struct stream **ret_old);
void mount_detach(struct streams *s, struct stream *st);
void mounts_free(struct streams *s);
void mount_end(struct streams *s, const struct uuid *session); /* loop: as streams_session_end */

/* fs_listener.c */
void interest_add(struct streams *s, const struct uuid *drive, const struct uuid *session);
void interest_drop(struct streams *s, const struct uuid *drive, const struct uuid *session);
void interests_free(struct streams *s);
void streams_committed(struct drive_listener *l, const struct uuid *drive, struct drive_work *works);

/* fs_stream.c; loop */
bool stream_is_join(const struct drive_work *w);
void stream_join(struct drive_work *w); /* its place is found: welcome */
void stream_tick_soon(struct streams *s);
void stream_end(struct stream *st, bool bye); /* leaves coherence and closes the socket */

/* fs_stream_out.c; loop */
void stream_on_inval(void *streams, void *stream, uint64_t seq, const char *touches); /* gathered until stream_flush_invals */
void stream_on_lease(void *streams, void *stream, uint64_t beat, unsigned ms);
void stream_flush_invals(struct streams *s);
void stream_welcome(struct stream *st, uint64_t seq);
void stream_unlocked(struct streams *s, const struct uuid *drive, uint64_t ino);
#endif
