/* Connections to one PostgreSQL, in a pool, with their statements kept prepared; all speaking in pipelines.

   A thread takes a connection for a scope (PG_HERE, or a transaction's) and nobody else uses it meanwhile. Statements are sent ahead and answered together: pg_wait
   is one round trip for all that were sent since the last one. Of those that nobody reads (pg_later) the first failure is kept, and comes out of the next pg_wait.

   Errors are negative errnos: -EAGAIN (serialisation failure, deadlock, lock time-out, a connection lost where nothing can have been committed: do the transaction again),
   -ETIMEDOUT (the statement took too long, and would again), -EHOSTUNREACH (no server, one that is silent, or none that takes writes), -EEXIST (a key is taken), -ENOSPC, -EIO (anything else, logged). */
#ifndef CAIRN_GATEWAY_ADAPTERS_PG_CONN_H
#define CAIRN_GATEWAY_ADAPTERS_PG_CONN_H
#include "common/buf.h"
#include "gateway/adapters/pg_silence.h"
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pg_query;

#define PG_STATEMENTS 512 /* a power of two, well above the number of statements in the code */
#define PG_LINEAGE 48
#define PG_LINEAGE_SQL "SELECT system_identifier || ':' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM pg_control_system()"

struct pg_sent { /* a result that is still to come, in the order of sending */
    struct pg_query *reader; /* NULL: nobody reads it */
    const char **prepares; /* it is a statement that is being prepared: forgotten there if that fails */
};

struct pg_conn {
    PGconn *pq; /* NULL: lost */
    struct pg_pool *pool;
    struct pg_conn *next;           /* in the pool */
    char lineage[PG_LINEAGE];       /* the cluster's id and timeline: another one may have lost commits of this one */
    const char *statements[PG_STATEMENTS]; /* those prepared here; the literal's address is the key */
    struct pg_sent *sent;
    size_t n_sent, cap_sent;
    int failed;     /* of the transaction at hand: the first error in it; it can only be rolled back */
    bool in_tx, writing; /* writing: nothing is committed yet, so a lost connection is one more reason to do it again */
    unsigned epoch; /* of the pool, when it was connected */
    unsigned stale; /* results of a transaction's end that nobody waited for */
};

struct pg_pool {
    char *url;
    pthread_mutex_t lock; /* guards idle and n_idle; a leaf */
    struct pg_conn *idle;
    unsigned n_idle;
    atomic_uint epoch; /* raised when a connection is found broken: the older ones are then, most likely, too */
    _Atomic int64_t away_until; /* boot ms: no server was found, so nobody tries before */
    struct pg_silence silence;
};
/* Opens no connection yet. url: postgres://… as libpq understands it, several hosts too; copied. */
struct pg_pool *pg_pool_new(const char *url);
void pg_pool_free(struct pg_pool *p); /* no connection may be in use */

/* One that is connected, as far as is known. NULL: no server, or one that is silent; *ret_err says -EHOSTUNREACH or what was wrong. */
struct pg_conn *pg_conn_get(struct pg_pool *p, int *ret_err);
void pg_conn_put(struct pg_conn *c); /* back into the pool; closed where it is broken. NULL is nothing */
/* In place of one that was lost: a new connection in the same struct. 0 or -EHOSTUNREACH. */
int pg_conn_again(struct pg_conn *c);
void pg_conn_drop(struct pg_conn *c); /* closes it: it is lost */

/* A connection outside of the pool, without pipelines and time-outs of statements; PQstatus says whether it is one. Each host is waited for as many seconds as `patience` says; NULL: as
   the URL does. */
PGconn *pg_plain(const char *url, const char *patience);

/* Sends the batch, and reads the result of each that was sent. 0, or the first error among them. */
int pg_wait(struct pg_conn *c);
/* So that a transaction's end needs no waiting: what comes back is read, and forgotten, with the next pg_wait. */
void pg_leave(struct pg_conn *c);

/* Several statements without arguments, in a transaction of their own; for migrations. The connection must be fresh from pg_conn_get. */
int pg_script(struct pg_conn *c, const char *sql);

/* How often this process has waited for an answer: what a call costs in round trips. */
uint64_t pg_round_trips(void);
#endif
