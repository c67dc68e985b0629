#include "gateway/adapters/pg_conn.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/pg_query.h"
#include "gateway/adapters/pg_conn_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_S "3"     /* per host */
#define ANSWER_MS 20000   /* beyond the server's own time-outs, for a connection that is lost and does not say so; a silent server is given up sooner (pg_silence.h) */
#define GLANCE_MS 250     /* so often who waits asks about that */
#define SETTLE_MS 5000
#define AWAY_MS 250
#define IDLE_MAX 64

static _Atomic uint64_t round_trips;

/* Every query goes by an index: a plan made while a table was small must not be kept for when it is large. */
static const char settings[] = "SET client_min_messages = error; SET statement_timeout = '15s'; SET lock_timeout = '5s'; "
                               "SET idle_in_transaction_session_timeout = '60s'; SET plan_cache_mode = force_generic_plan; SET jit = off; "
                               "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off; "
                               PG_LINEAGE_SQL;

uint64_t pg_round_trips(void)
{
    return atomic_load_explicit(&round_trips, memory_order_relaxed);
}

/* ---- what went wrong ---- */

int pg_state_errno(const char *state)
{
    static const struct {
        const char *state; /* or the class, its first two characters */
        int err;
    } table[] = {
        {"40001", -EAGAIN},      {"40P01", -EAGAIN},      {"55P03", -EAGAIN},      {"57014", -ETIMEDOUT},      {"23505", -EEXIST}, {"25P02", -EAGAIN},
        {"25P03", -EAGAIN},      {"25006", -EHOSTUNREACH}, {"57P01", -EHOSTUNREACH}, {"57P02", -EHOSTUNREACH}, {"57P03", -EHOSTUNREACH}, {"53300", -EHOSTUNREACH},
        {"53100", -ENOSPC},      {"53200", -ENOMEM},      {"08", -EHOSTUNREACH},
    };
    for (size_t i = 0; state && i < sizeof table / sizeof *table; i++)
        if (strncmp(state, table[i].state, strlen(table[i].state)) == 0)
            return table[i].err;
    return -EIO;
}

/* Of a failed result; the connection is given up where the server has, or takes no writes any more. */
static int result_errno(struct pg_conn *c, const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    int err = pg_state_errno(state);
    if (!state && PQstatus(c->pq) == CONNECTION_BAD)
        err = -EHOSTUNREACH;
    if (err == -EIO)
        log_error("database: %s", PQresultErrorMessage(res));
    return err;
}

/* ---- connecting ---- */

static int refuse(PGconn *pq, const char *what)
{
    char *text = mem_strdup(PQerrorMessage(pq));
    for (char *p = text; *p; p++)
        if (*p == '\n')
            *p = p[1] ? ' ' : 0;
    log_warn("database: %s: %s", what, text);
    free(text);
    return -EHOSTUNREACH;
}

/* Until there is something to read, sending meanwhile. */
static int wait_readable(struct pg_conn *c, int64_t deadline)
{
    struct pg_silence *silence = &c->pool->silence;
    int64_t began = clock_boot_ms();
    for (;;) {
        int unsent = PQflush(c->pq);
        if (unsent < 0)
            return -EHOSTUNREACH;
        if (!PQisBusy(c->pq))
            return 0;
        int64_t left = deadline - clock_boot_ms();
        struct pollfd p = {.fd = PQsocket(c->pq), .events = (short)(POLLIN | (unsent ? POLLOUT : 0))};
        int n = left > 0 ? poll(&p, 1, (int)(left < GLANCE_MS ? left : GLANCE_MS)) : 0;
        if (n == 0 && (left <= 0 || pg_waited(silence, began))) {
            log_warn("database: no answer in time");
            return -EHOSTUNREACH;
        }
        if (n < 0 && errno != EINTR)
            return -EHOSTUNREACH;
        if (n > 0 && p.revents & (POLLIN | POLLHUP | POLLERR)) {
            if (!PQconsumeInput(c->pq))
                return -EHOSTUNREACH;
            pg_heard(silence);
        }
    }
}

PGconn *pg_plain(const char *url, const char *patience)
{
    const char *const keys[] = {"connect_timeout", "target_session_attrs", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
                                "fallback_application_name", "client_encoding", "dbname", "connect_timeout", NULL};
    const char *const values[] = {CONNECT_S, "read-write", "5", "3", "3", "10000", "cairn-gateway", "UTF8", url, patience, NULL};
    return PQconnectdbParams(keys, values, 1);
}

/* Whatever a server does that takes connections and then says nothing. */
static int settle(struct pg_conn *c)
{
    int64_t deadline = clock_boot_ms() + SETTLE_MS;
    PGresult *res = NULL;
    int err = PQsetnonblocking(c->pq, 1) == 0 && PQsendQuery(c->pq, settings) == 1 ? 0 : -EHOSTUNREACH;
    for (bool more = true; more && !err;) {
        err = wait_readable(c, deadline);
        PGresult *next = err ? NULL : PQgetResult(c->pq);
        more = next != NULL;
        if (more) {
            PQclear(res);
            res = next;
        }
    }
    if (!err && PQresultStatus(res) == PGRES_TUPLES_OK)
        snprintf(c->lineage, sizeof c->lineage, "%s", PQgetvalue(res, 0, 0));
    else
        err = -EHOSTUNREACH;
    PQclear(res);
    if (err || PQenterPipelineMode(c->pq) != 1)
        err = refuse(c->pq, "setting up a connection");
    return err;
}

static int connect_to(struct pg_conn *c)
{
    int64_t now = clock_boot_ms();
    if (now < atomic_load(&c->pool->away_until) || pg_is_silent(&c->pool->silence))
        return -EHOSTUNREACH;
    c->epoch = atomic_load(&c->pool->epoch);
    c->pq = pg_plain(c->pool->url, NULL);
    int err = PQstatus(c->pq) == CONNECTION_OK ? settle(c) : refuse(c->pq, "cannot connect");
    if (err) {
        PQfinish(c->pq);
        c->pq = NULL;
        atomic_store(&c->pool->away_until, clock_boot_ms() + AWAY_MS);
        pg_not_let_in(&c->pool->silence, now);
    }
    return err;
}

static void forget_sent(struct pg_conn *c, int err)
{
    for (size_t i = 0; i < c->n_sent; i++)
        if (c->sent[i].reader)
            c->sent[i].reader->err = err;
    c->n_sent = 0;
}

void pg_conn_drop(struct pg_conn *c)
{
    PQfinish(c->pq);
    c->pq = NULL;
    c->stale = 0;
    memset(c->statements, 0, sizeof c->statements);
}

int pg_conn_again(struct pg_conn *c)
{
    pg_conn_drop(c);
    c->failed = 0;
    c->in_tx = c->writing = false;
    return connect_to(c);
}

/* ---- the pool ---- */

struct pg_pool *pg_pool_new(const char *url)
{
    struct pg_pool *p = mem_alloc(sizeof *p);
    p->url = mem_strdup(url);
    pg_silence_init(&p->silence, p->url);
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

static void conn_free(struct pg_conn *c)
{
    PQfinish(c->pq);
    free(c->sent);
    free(c);
}

void pg_pool_free(struct pg_pool *p)
{
    if (!p)
        return;
    while (p->idle) {
        struct pg_conn *c = p->idle;
        p->idle = c->next;
        conn_free(c);
    }
    pg_silence_fini(&p->silence);
    pthread_mutex_destroy(&p->lock);
    free(p->url);
    free(p);
}

static bool is_old(const struct pg_conn *c)
{
    return c->epoch != atomic_load(&c->pool->epoch);
}

static struct pg_conn *take_idle(struct pg_pool *p)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    struct pg_conn *c = p->idle;
    if (c) {
        p->idle = c->next;
        p->n_idle--;
    }
    return c;
}

struct pg_conn *pg_conn_get(struct pg_pool *p, int *ret_err)
{
    struct pg_conn *c;
    *ret_err = pg_is_silent(&p->silence) ? -EHOSTUNREACH : 0;
    if (*ret_err)
        return NULL;
    while ((c = take_idle(p)) != NULL) {
        if (!is_old(c))
            return c;
        conn_free(c);
    }
    c = mem_alloc(sizeof *c);
    c->pool = p;
    *ret_err = connect_to(c);
    if (!*ret_err)
        return c;
    conn_free(c);
    return NULL;
}

void pg_conn_put(struct pg_conn *c)
{
    if (!c)
        return;
    struct pg_pool *p = c->pool;
    c->failed = 0;
    c->in_tx = c->writing = false;
    if (c->pq && c->n_sent == 0 && !is_old(c)) {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
        if (p->n_idle < IDLE_MAX) {
            c->next = p->idle;
            p->idle = c;
            p->n_idle++;
            return;
        }
    }
    conn_free(c);
}

/* ---- the pipeline ---- */

/* The next result that is one, NULLs between them left out. */
static int next_result(struct pg_conn *c, int64_t deadline, PGresult **ret)
{
    for (;;) {
        int err = wait_readable(c, deadline);
        if (err)
            return err;
        *ret = PQgetResult(c->pq);
        if (*ret)
            return 0;
        if (PQstatus(c->pq) == CONNECTION_BAD)
            return -EHOSTUNREACH;
    }
}

/* Takes the result of what was sent as number i. */
static void take(struct pg_conn *c, size_t i, PGresult *res, int *first)
{
    struct pg_sent *s = &c->sent[i];
    int err = 0;
    switch (PQresultStatus(res)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        break;
    case PGRES_PIPELINE_ABORTED:
        err = *first ? *first : -EAGAIN;
        break;
    default:
        err = result_errno(c, res);
    }
    if (err && !*first)
        *first = err;
    if (err && s->prepares)
        *s->prepares = NULL;
    if (s->reader) {
        s->reader->err = err;
        s->reader->res = res;
    } else {
        PQclear(res);
    }
}

static int read_stale(struct pg_conn *c, int64_t deadline)
{
    while (c->stale) {
        PGresult *res;
        int err = next_result(c, deadline, &res);
        if (err)
            return err;
        if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
            c->stale--;
        PQclear(res);
    }
    return 0;
}

static int read_all(struct pg_conn *c, int *first)
{
    int64_t deadline = clock_boot_ms() + ANSWER_MS;
    int err = read_stale(c, deadline);
    for (size_t i = 0; !err;) {
        PGresult *res;
        err = next_result(c, deadline, &res);
        if (err)
            break;
        if (PQresultStatus(res) == PGRES_PIPELINE_SYNC) {
            PQclear(res);
            break;
        }
        if (i < c->n_sent)
            take(c, i++, res, first);
        else
            PQclear(res);
    }
    return err;
}

/* One whose transaction idled for too long (-EAGAIN) is broken alone. */
static void found_broken(struct pg_conn *c, int err)
{
    unsigned epoch = c->epoch;
    if (err == -EHOSTUNREACH)
        atomic_compare_exchange_strong(&c->pool->epoch, &epoch, epoch + 1);
    pg_conn_drop(c);
}

int pg_wait(struct pg_conn *c)
{
    if (!c->pq) {
        forget_sent(c, -EHOSTUNREACH);
        return -EHOSTUNREACH;
    }
    int first = 0;
    atomic_fetch_add_explicit(&round_trips, 1, memory_order_relaxed);
    int lost = PQpipelineSync(c->pq) == 1 ? read_all(c, &first) : -EHOSTUNREACH;
    if (lost)
        forget_sent(c, first ? first : lost);
    if (!first)
        first = lost;
    c->n_sent = 0;
    if (lost || first == -EHOSTUNREACH)
        found_broken(c, first);
    pg_fail(c, first);
    return first;
}

void pg_leave(struct pg_conn *c)
{
    if (!c->pq)
        return;
    c->n_sent = 0; /* nobody reads them */
    if (PQpipelineSync(c->pq) != 1 || PQflush(c->pq) < 0)
        pg_conn_drop(c);
    else
        c->stale++;
}

void pg_fail(struct pg_conn *c, int err)
{
    if (c->in_tx && err && !c->failed)
        c->failed = c->writing && err == -EHOSTUNREACH ? -EAGAIN : err;
}

/* ---- sending ---- */

void pg_sent_add(struct pg_conn *c, struct pg_query *reader)
{
    if (c->n_sent == c->cap_sent) {
        c->cap_sent = c->cap_sent ? 2 * c->cap_sent : 16;
        c->sent = mem_realloc(c->sent, c->cap_sent * sizeof *c->sent);
    }
    c->sent[c->n_sent++] = (struct pg_sent){.reader = reader};
}

/* Prepares it where this connection has not yet, in the same batch. The name it goes by. */
int pg_prepare(struct pg_conn *c, const char *sql, char ret_name[24])
{
    size_t i = (size_t)(((uintptr_t)sql * UINT64_C(0x9e3779b97f4a7c15)) >> 40) & (PG_STATEMENTS - 1);
    while (c->statements[i] && c->statements[i] != sql)
        i = (i + 1) & (PG_STATEMENTS - 1);
    snprintf(ret_name, 24, "s%zu", i);
    if (c->statements[i])
        return 0;
    if (PQsendPrepare(c->pq, ret_name, sql, 0, NULL) != 1)
        return -EHOSTUNREACH;
    c->statements[i] = sql;
    pg_sent_add(c, NULL);
    c->sent[c->n_sent - 1].prepares = &c->statements[i];
    return 0;
}

int pg_script(struct pg_conn *c, const char *sql)
{
    if (PQsetnonblocking(c->pq, 0) != 0 || PQexitPipelineMode(c->pq) != 1)
        return -EIO;
    PGresult *res = PQexec(c->pq, sql);
    ExecStatusType status = PQresultStatus(res);
    int err = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : result_errno(c, res);
    PQclear(res);
    if (PQenterPipelineMode(c->pq) != 1 || PQsetnonblocking(c->pq, 1) != 0)
        err = err ? err : -EIO;
    return err;
}
