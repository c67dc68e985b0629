/* Within fs_stream.c, fs_stream_out.c, fs_mounts.c, fs_listener.c and fs_peers.c.

   Threads: sockets, `struct stream` and coherence belong to the event loop. `lock` guards the tables of sessions and interests, which workers use
   too; nothing is called with it held. */
#ifndef CAIRN_GATEWAY_API_STREAMS_INTERNAL_H
#define CAIRN_GATEWAY_API_STREAMS_INTERNAL_H
#include "common/uuid_list.h"
#include "gateway/api/streams.h"
#include "gateway/api/hub.h"
#include "gateway/api/inval.h"
#include "gateway/api/peers.h"
#include "gateway/core/order.h"
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
    struct stream *prev_of_drive, *next_of_drive;
};

struct drive_streams { /* those of a drive that are in; loop */
    struct uuid drive;
    struct stream *first; /* at least one */
    UT_hash_handle hh;
};

struct mount { /* under lock */
    struct uuid id, drive, user;
    char user_name[65], device[129];
    struct stream *stream; /* the newest; only the loop looks into it */
    int64_t gone_since;    /* boot ms; 0 while a stream is there */
    bool locks;            /* it may hold some */
    bool foreign;          /* another gateway answers for it, as far as is known: it is only remembered for a moment */
    bool fresh;            /* nothing was known of it when it spoke: whatever locks it had are gone, and it is to be told */
    UT_hash_handle hh;
};

/* Which sessions must hear of a drive's commits, or may still trust what they know (a stream that was lost, until its lease is out). A session
   with two streams is there twice. Entered before the stream's place in the queue is known, so that no commit behind it is missed. */
struct interest { /* under lock */
    struct uuid drive;
    struct uuid_list sessions;
    uint64_t quiet_first, quiet_last; /* numbers that nobody here had to hear of, and core/order.c does not know yet; 0: none */
    UT_hash_handle hh;
};

/* Numbers of one drive and what they stand for, from a commit until everybody has acknowledged; loop, once it is there. */
struct parcel;
struct told { /* what one session did */
    struct parcel *parcel;
    const struct inval_work *what;
    struct drive_work *work; /* to be finished then; NULL: none, it was committed elsewhere */
    unsigned waits;          /* for the streams here, and for each other gateway */
};
struct parcel {
    struct streams *streams;
    struct inval inval;
    struct uuid from; /* the gateway that wants to know; zero: none */
    size_t refs;      /* one for each of `told`, for each gateway that is waited for, and for order.c */
    struct told told[];
};

struct streams {
    struct drive_listener listener; /* first: it is what the queues know */
    struct app *app;
    struct coherence *coherence; /* loop */
    struct order *order;         /* loop: knows the drives that have interests */
    bool shared;                 /* other gateways may use the store */
    bool renewing;               /* loop: a worker writes interests */
    bool over;                   /* loop: it is as if every lease and every promise were out */
    int64_t tidied_at;             /* boot ms; with heard_at */
    int64_t heard_at, heard_since; /* boot ms: when the store last took that this gateway lives, and since when it does without a break; one worker at a time */
    enum { LEAVING_NOT, LEAVING_ROWS, LEAVING_SAID } leaving; /* loop */
    struct stream *first;        /* loop: all that are in */
    struct drive_streams *of_drives; /* loop: the same ones */
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
#define ORPHAN_MS (SESSION_LOST_MS + 5000) /* a gateway that was silent for so long is dead: what of its mounts is nobody else's by now ends */
/* The stream speaks for its session from now on; the one that did is returned, to be closed. -EACCES as streams_session_use. Where the store is shared, it was claimed. */
int mount_attach(struct streams *s, struct stream *st, struct stream **ret_old);
void mount_detach(struct streams *s, struct stream *st);
void mounts_free(struct streams *s);
void mount_end(struct streams *s, const struct uuid *session); /* loop: as streams_session_end */
void mount_end_orphan(struct streams *s, const struct mount_row *r); /* any thread: its gateway is dead */
/* On the queue's worker, where the store is shared: the session is this gateway's from now on. *ret_fresh: nothing was known of it. -EACCES: it is another user's. */
int mount_claim(struct streams *s, struct meta_tx *tx, const struct uuid *session, const struct uuid *user, bool *ret_fresh);

/* fs_listener.c */
void interest_add(struct streams *s, const struct uuid *drive, const struct uuid *session);
void interest_drop(struct streams *s, const struct uuid *drive, const struct uuid *session);
void interests_free(struct streams *s);
/* Loop: core/order.c gets to know of numbers that nobody had to hear of; before anything else that is said to it of the drive. */
void interest_flush(struct streams *s, const struct uuid *drive);
void streams_committed(struct drive_listener *l, const struct uuid *drive, struct drive_work *works, const struct drive_others *others);
struct parcel *parcel_new(struct streams *s, struct inval *take); /* what *take has is taken */
void parcel_order(struct parcel *p);                              /* loop: takes it */
void parcel_release(void *streams, const struct uuid *drive, void *parcel, enum order_how how); /* order_io */
void parcel_settle(void *streams, void *parcel);                  /* peers_io */
void told_settle(struct told *t);                                 /* loop */

/* fs_peers.c; loop */
void promises_start(void *streams); /* once the server runs */
void on_order_fetch(void *streams, const struct uuid *drive, uint64_t since); /* order_io */
void on_order_cap(void *streams, const struct uuid *drive, int64_t until);
void on_peer_inval(void *streams, const struct uuid *gateway, struct inval *v); /* peers_io */
void on_peer_unlocked(void *streams, const struct uuid *drive, uint64_t ino);

/* fs_stream.c; loop */
struct stream *streams_of(const struct streams *s, const struct uuid *drive); /* the first; others by next_of_drive */
bool stream_is_join(const struct drive_work *w);
void stream_join(struct drive_work *w); /* its place is found: welcome */
void stream_tick_soon(struct streams *s);
void stream_end(struct stream *st, bool bye); /* leaves coherence and closes the socket */
void streams_cut(struct streams *s, const struct uuid *drive); /* those of the drive (NULL: all) are to come again and catch up */

/* fs_stream_out.c; loop */
void stream_on_inval(void *streams, void *stream, uint64_t seq, const char *touches); /* gathered until stream_flush_invals */
void stream_on_lease(void *streams, void *stream, uint64_t beat, unsigned ms);
void stream_flush_invals(struct streams *s);
void stream_welcome(struct stream *st, uint64_t seq);
void stream_unlocked(struct streams *s, const struct uuid *drive, uint64_t ino);
#endif
