/* Whether a PostgreSQL says anything. One that is frozen, or behind a cable that is cut, takes connections and statements and is silent: each call would wait for it until
   its time is over, on a thread that others need, and so would the next.

   Who has waited for a while doubts it, unless the server has said something to anybody meanwhile. Then a thread looks, by a connection of its own: a server that is there, and only has
   much to do or a lock to wait for, lets it in. Where it does not, the server is silent: who waits gives up, who comes is refused at once, and the thread looks again and again until it is
   let in. It runs no longer than that. */
#ifndef CAIRN_GATEWAY_ADAPTERS_PG_SILENCE_H
#define CAIRN_GATEWAY_ADAPTERS_PG_SILENCE_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pg_silence {
    const char *url;
    atomic_bool silent;
    _Atomic int64_t heard; /* boot ms: when the server last said anything, to anybody */
    pthread_mutex_t lock;  /* guards what follows; a leaf */
    pthread_cond_t wake;
    pthread_t thread;
    bool looking, joinable, ending;
};
void pg_silence_init(struct pg_silence *s, const char *url); /* url is borrowed */
void pg_silence_fini(struct pg_silence *s); /* may wait for the end of a look: two seconds for each host */

bool pg_is_silent(const struct pg_silence *s);
void pg_heard(struct pg_silence *s);
/* For who has waited for an answer since then (boot ms), now and then. true: it is to give up. */
bool pg_waited(struct pg_silence *s, int64_t since);
/* A connection that was begun then could not be made. */
void pg_not_let_in(struct pg_silence *s, int64_t since);
#endif
