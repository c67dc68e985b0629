/* What happens, told to people's programs: STOMP on /ws, and long-polls. Within api/: stomp.c (connections), hub.c (who hears what),
   hub_feed.c (changes of drives), hub_wait.c (long-polls), hub_presence.c, hub_progress.c.

   Connections belong to the event loop. Workers only hand over what is to be said; `lock` guards what both touch, and nothing is called with it held. */
#ifndef CAIRN_GATEWAY_API_HUB_H
#define CAIRN_GATEWAY_API_HUB_H
#include "common/stomp.h"
#include "gateway/api/app.h"
#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>
#include <utlist.h>

enum topic { TOPIC_FILE_CHANGES, TOPIC_SYNC, TOPIC_UPLOAD_PROGRESS, TOPIC_PRESENCE, TOPICS };
/* -ENOENT: there is no such destination. */
int topic_parse(const char *destination, enum topic *ret);

#define SUBSCRIPTIONS_MAX 64 /* of one connection */
struct subscription {
    char *id, *destination; /* as the client said them; id may be NULL in 1.0 */
    enum topic topic;
    struct uuid drive; /* FILE_CHANGES: only this one; zero: all that the user may see */
};

struct conn { /* one STOMP connection; loop */
    struct hub *hub;
    struct ws *ws; /* NULL once closed */
    char *authorization; /* of the upgrade */
    struct stomp_parser parser;
    struct principal who;
    enum stomp_version version;
    bool connected, closing;
    bool busy; /* a worker looks something up for it: its next frames wait, and it is not freed */
    unsigned send_ms, expect_ms;
    int64_t opened, sent, received; /* boot ms */
    struct subscription *subs; /* room for n_subs, at most SUBSCRIPTIONS_MAX: most have one, and there may be very many connections */
    size_t n_subs;
    uint64_t messages;
    struct conn *prev, *next;
    struct conn *prev_of_user, *next_of_user; /* while it has subscriptions */
};

struct feed;          /* hub_feed.c: changes of one drive on their way to subscribers; under lock */
struct waiting_drive; /* hub_wait.c; under lock */
struct progress;      /* hub_progress.c; under lock */
struct listening_user { /* who has subscriptions; under lock, but changed on the loop alone */
    struct uuid user;
    unsigned n, of[TOPICS];
    struct conn *conns; /* the loop's */
    UT_hash_handle hh;
};

struct hub {
    struct app *app;
    struct conn *conns; /* loop */
    bool ticking;       /* loop */
    atomic_size_t subscribers[TOPICS];
    atomic_size_t n_waits;
    pthread_mutex_t lock;
    struct listening_user *users;
    struct feed *feeds;
    struct waiting_drive *waiting;
    struct progress *progress;
    struct hub_remote *remote; /* hub_remote.c: what other gateways tell; NULL: there are none */
};

/* ---- hub.c; loop, unless it says otherwise ---- */
void hub_subscribed(struct hub *h, struct conn *c, const struct subscription *s, bool on); /* keeps the figures; called while it is among the connection's */
/* A message to the user's connections that have subscribed to this. drive: those narrowed to another one are left out; may be NULL. */
void hub_deliver(struct hub *h, enum topic topic, const struct uuid *user, const struct uuid *drive, const char *body, size_t n);
void hub_tick_on(struct hub *h); /* the tick goes on while there is anything to do */
void hub_post_tick(struct hub *h); /* any thread */
/* A connection of a user's device came or went: shared.h counts them. */
void hub_presence(struct hub *h, const struct principal *who, bool online);

/* Any thread. A device is online or offline: told to those who share a drive with its user, here, and everywhere by a message. */
void hub_announce(struct hub *h, const struct presence *p, bool online, bool everywhere);

bool hub_listens(struct hub *h, enum topic topic, const struct uuid *user); /* any thread */
/* Any thread. A worker has found out who may hear this: delivered to these users. Takes users and bodies. drive may be NULL. */
void hub_post_delivery(struct hub *h, enum topic topic, const struct uuid *drive, struct uuid *users, size_t n_users, char **bodies, size_t n_bodies);

/* Loop: a user who has a STOMP connection here. */
bool hub_user_by_name(struct hub *h, const char *name, struct uuid *ret);

/* ---- hub_remote.c ---- */
struct hub_remote *remote_new(struct hub *h);
void remote_stop(struct hub_remote *r); /* hears no more; NULL is none */
void remote_free(struct hub_remote *r);
void remote_user(struct hub *h, const struct principal *who, bool present);                                                  /* loop: a connection came or went */
void remote_subscribed(struct hub *h, const struct principal *who, const struct subscription *s, bool on);                  /* loop */
/* Worker, before a subscription to changes is confirmed: all that is committed once it has returned 0 will be told. drive NULL: those of all drives that the user may see.
   A negative errno: nothing is watched. */
int remote_watch(struct hub *h, const struct uuid *user, const struct drive_row *drive);
void remote_unwatch(struct hub *h, const struct uuid *user, const struct uuid *drive); /* any thread, its end; drive zero: all */
void remote_want_drive(struct hub *h, const struct uuid *drive, bool on); /* any thread, without the hub's lock */

/* ---- hub_feed.c, for what happens elsewhere; any thread, without the hub's lock ---- */
void feed_watch(struct hub *h, const struct drive_row *drive);                 /* counted; what comes after the row's seq is told, if nothing was told of it before */
void feed_unwatch(struct hub *h, const struct uuid *drive);
void feed_watch_for(struct hub *h, const struct uuid *drive, unsigned ms);     /* for so long, from now on */
void feed_moved(struct hub *h, const struct uuid *drive, uint64_t seq);        /* it has come to seq; UINT64_MAX: it may have moved */
void feeds_forget(struct hub *h);                                              /* those that nobody watches any more */
void feeds_look(struct hub *h, unsigned most, bool all);                       /* watched ones (all, or those that could not be read) may have moved; the longest unseen first */

void waits_moved(struct hub *h, const struct uuid *drive, uint64_t seq);       /* hub_wait.c */
void progress_heard(struct hub *h, const struct uuid *user, const char *json);   /* hub_progress.c; loop */
void presence_heard(struct hub *h, const json_t *message);                     /* hub_presence.c; any thread */

/* ---- called by the tick; each tells whether it has more to do ---- */
bool conn_tick_all(struct hub *h, int64_t now);
bool waits_tick(struct hub *h, int64_t now);
bool progress_tick(struct hub *h, int64_t now);

/* ---- stomp.c ---- */
void conn_message(struct conn *c, const struct subscription *s, const char *body, size_t n);

/* ---- for hub_committed and the end ---- */
void feed_committed(struct hub *h, const struct uuid *drive, const struct drive_work *works);
void waits_committed(struct hub *h, const struct uuid *drive, const struct drive_work *works);
void feeds_free(struct hub *h);
void waits_free(struct hub *h);
void progress_free(struct hub *h);
#endif
