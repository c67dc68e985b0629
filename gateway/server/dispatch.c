/* From a parsed head to an answer: route, limits, who asks, body, handler. Each step runs on the loop or on a worker and hands the request on. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <errno.h>
#include <string.h>

static void answer(struct request *rq) /* loop */
{
    response_prepare(rq);
    conn_answer(rq);
}

static void answer_job(void *arg)
{
    conn_answer(arg);
}

/* Hands rq from a worker to the loop. */
static void to_loop(struct request *rq, void (*fn)(void *))
{
    rq->job.fn = fn;
    rq->job.arg = rq;
    if (!server_push(rq->server, &rq->job))
        request_free(rq); /* the loop has ended: nobody is left to answer */
}

void call_finish(struct call *c)
{
    struct request *rq = request_of(c);
    response_prepare(rq);
    to_loop(rq, answer_job);
}

static enum call_state too_many(struct call *c, unsigned seconds)
{
    char text[16];
    snprintf(text, sizeof text, "%u", seconds);
    call_add_header(c, "Retry-After", text);
    return call_problem(c, 429, "rate-limited", "too many requests; try again in %u s", seconds);
}

/* On a worker. false: the answer is made. */
static bool authenticate(struct request *rq)
{
    struct http_server *s = rq->server;
    if (rq->authenticated || (rq->route->flags & ROUTE_OPEN) || !s->cfg.authenticate)
        return true;
    if (!s->cfg.authenticate(&rq->call))
        return false;
    rq->authenticated = true;
    const char *user = s->cfg.user_key ? s->cfg.user_key(&rq->call) : "";
    unsigned wait = user && *user ? limits_take(s->limits, 'u', user, clock_boot_ms()) : 0;
    if (wait)
        too_many(&rq->call, wait);
    return wait == 0;
}

static void handle_job(void *arg) /* worker */
{
    struct request *rq = arg;
    struct call *c = &rq->call;
    int err = 0;
    if (c->body_fd >= 0 && c->body.len)
        err = body_spool(rq);
    if (err)
        call_errno(c, err, "storing the body");
    else if (authenticate(rq) && rq->route->handler(c) == CALL_PENDING)
        return; /* rq may be gone by now */
    call_finish(c);
}

/* ---- before the body ---- */

static void early_done(void *arg) /* loop */
{
    struct request *rq = arg;
    if (rq->call.status)
        answer(rq);
    else
        conn_wants_body(rq);
}

static void early_job(void *arg) /* worker */
{
    authenticate(arg);
    to_loop(arg, early_done);
}

static void allow_header(struct call *c, unsigned allow)
{
    char text[64] = "";
    for (int m = 0; m < HTTP_METHODS; m++)
        if (allow & 1u << m)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", *text ? ", " : "", http_method_name(m));
    call_add_header(c, "Allow", text);
}

/* false: the answer is made. */
static bool find_route(struct request *rq)
{
    struct call *c = &rq->call;
    struct route_match m = {0};
    if (!rq->internal)
        router_find(rq->server->router, rq->method, c->path, &m);
    if (!m.found && ws_path_known(rq->server, c->path, rq->internal)) {
        call_add_header(c, "Upgrade", "websocket");
        call_problem(c, 426, "upgrade-required", "this is a WebSocket");
        return false;
    }
    if (!m.found) {
        call_problem(c, 404, "no-such-endpoint", "there is nothing at this path");
        return false;
    }
    if (!m.entry) {
        allow_header(c, m.allow);
        if (rq->method == HTTP_OPTIONS)
            c->status = 204;
        else
            call_problem(c, 405, "method-not-allowed", "this path has other methods");
        return false;
    }
    rq->entry = m.entry;
    rq->route = &m.entry->route;
    rq->body_max = rq->route->body_max ? rq->route->body_max : BODY_TOLERATED;
    const char *why;
    int status = request_decode(rq, &m, &why);
    if (status)
        call_problem(c, status, "bad-request", "%s", why);
    return status == 0;
}

/* More wait for a worker than can be answered soon: a new one is told at once to come back, so that neither the wait of those before it nor memory grows. What has
   begun goes on, so that work that was done is not lost. */
static bool overloaded(struct request *rq)
{
    struct http_server *s = rq->server;
    if (rq->route->flags & (ROUTE_VITAL | ROUTE_INLINE) || pool_waiting(s->pool) < s->cfg.queue_max)
        return false;
    metric_add(s->m_shed, 1);
    call_add_header(&rq->call, "Retry-After", "1");
    call_problem(&rq->call, 503, "overloaded", "too many requests are waiting");
    return true;
}

void dispatch_head(struct request *rq)
{
    struct call *c = &rq->call;
    unsigned wait = rq->internal ? 0 : limits_take(rq->server->limits, 'a', c->peer, rq->server->now_ms); /* other gateways are no clients */
    if (wait) {
        too_many(c, wait);
        answer(rq);
        return;
    }
    if (rq->upgrade && rq->method == HTTP_GET && rq->body_done && ws_path_known(rq->server, c->path, rq->internal)) {
        ws_upgrade(rq);
        return;
    }
    if (!find_route(rq) || overloaded(rq)) {
        answer(rq);
        return;
    }
    if (rq->content_length > rq->body_max) {
        call_problem(c, 413, "too-large", "the body may have %llu bytes", (unsigned long long)rq->body_max);
        answer(rq);
        return;
    }
    bool large = rq->chunked ? rq->body_max > BODY_EARLY_AUTH : rq->content_length > BODY_EARLY_AUTH;
    if (rq->body_done)
        dispatch_body(rq);
    else if (large && !(rq->route->flags & ROUTE_OPEN) && rq->server->cfg.authenticate)
        pool_run(rq->server->pool, early_job, rq);
    else
        conn_wants_body(rq);
}

void dispatch_body(struct request *rq)
{
    if ((rq->route->flags & (ROUTE_INLINE | ROUTE_OPEN)) != (ROUTE_INLINE | ROUTE_OPEN)) {
        pool_run(rq->server->pool, handle_job, rq);
        return;
    }
    if (rq->route->handler(&rq->call) == CALL_DONE)
        answer(rq);
}

/* ---- the body's pieces ---- */

static void spool_done(void *arg) /* loop */
{
    struct request *rq = arg;
    if (rq->call.status)
        answer(rq);
    else
        conn_spooled(rq);
}

static void spool_job(void *arg) /* worker */
{
    struct request *rq = arg;
    int err = body_spool(rq);
    if (err)
        call_errno(&rq->call, err, "storing the body");
    to_loop(rq, spool_done);
}

void dispatch_spool(struct request *rq)
{
    pool_run(rq->server->pool, spool_job, rq);
}

/* ---- the answer's pieces ---- */

static void piece_done(void *arg) /* loop */
{
    conn_piece(arg);
}

static void piece_job(void *arg) /* worker */
{
    struct request *rq = arg;
    rq->piece_more = rq->call.stream(rq->call.stream_ctx, &rq->piece);
    to_loop(rq, piece_done);
}

void dispatch_piece(struct request *rq)
{
    rq->piece.len = 0;
    pool_run(rq->server->pool, piece_job, rq);
}

static void free_job(void *arg) /* worker */
{
    request_free(arg);
}

void dispatch_end(struct request *rq)
{
    response_count(rq);
    if (rq->call.stream_free || rq->call.body_fd >= 0)
        pool_run(rq->server->pool, free_job, rq);
    else
        request_free(rq);
}
