/* One HTTP connection: an explicit state machine, stepped by the loop. While a request is with a worker nothing is read, so requests that are pipelined are
   answered in order, one at a time. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <utlist.h>

#define READ_PIECE (16u << 10)
#define BODY_READS 8          /* receives in a row, so that one fast upload does not keep the loop */
#define LINGER_BYTES (16u << 20)

enum state {
    CONN_HEAD,   /* waits for a head */
    CONN_BODY,   /* receives rq's body */
    CONN_AWAY,   /* rq is with a worker, or whoever finishes it */
    CONN_SEND,   /* sends iov; rq NULL: a refusal */
    CONN_LINGER, /* everything is sent; reads until the client closes, so that no reset overtakes the answer (RFC 9112, 9.6) */
    CONN_CLOSED,
};

struct conn { /* loop thread only */
    struct source src; /* first */
    struct http_server *server;
    int fd;
    uint32_t events; /* what epoll watches */
    enum state state;
    struct buf in; /* received, from `at` on not yet used */
    size_t at;
    struct request *rq;
    struct iovec iov[2];
    int64_t deadline_ms; /* 0: none */
    size_t lingered;
    bool close_after, processing, refused, internal;
    char peer[64];
    struct conn *prev, *next; /* server->conns; next alone: server->grave */
};

static void process(struct conn *c);

static void watch(struct conn *c, uint32_t events)
{
    if (c->events == events || c->state == CONN_CLOSED)
        return;
    struct epoll_event ev = {.events = events, .data.ptr = &c->src};
    if (epoll_ctl(c->server->epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) == 0)
        c->events = events;
}

static void deadline(struct conn *c, unsigned ms)
{
    c->deadline_ms = ms ? c->server->now_ms + ms : 0;
}

static void forget(struct conn *c)
{
    struct http_server *s = c->server;
    DL_DELETE(s->conns, c);
    c->state = CONN_CLOSED;
    c->next = s->grave; /* events of this round may still name it */
    s->grave = c;
    s->n_conns--;
    s->n_refused -= c->refused;
    metric_add(s->m_connections, -1);
}

static void conn_close(struct conn *c)
{
    if (c->state == CONN_CLOSED)
        return;
    struct request *rq = c->rq;
    bool ours = c->state != CONN_AWAY;
    c->rq = NULL;
    close(c->fd);
    forget(c);
    if (!rq)
        return;
    rq->conn = NULL; /* away: ends when it is back */
    if (ours)
        dispatch_end(rq);
}

bool conn_has_input(const struct conn *c)
{
    return c->in.len > c->at;
}

int conn_release_fd(struct conn *c)
{
    epoll_ctl(c->server->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    if (c->rq)
        c->rq->conn = NULL;
    c->rq = NULL;
    forget(c);
    return c->fd;
}

void conn_bury(struct http_server *s)
{
    for (struct conn *c = s->grave, *next; c; c = next) {
        next = c->next;
        buf_fini(&c->in);
        free(c);
    }
    s->grave = NULL;
}

/* ---- sending ---- */

static void linger(struct conn *c)
{
    shutdown(c->fd, SHUT_WR);
    c->state = CONN_LINGER;
    deadline(c, LINGER_MS);
    watch(c, EPOLLIN);
}

static void next_request(struct conn *c)
{
    c->state = CONN_HEAD;
    deadline(c, c->in.len > c->at ? HEAD_MS : KEEPALIVE_MS);
    watch(c, EPOLLIN);
    process(c);
}

static void sent(struct conn *c)
{
    struct request *rq = c->rq;
    if (!rq) {
        linger(c);
        return;
    }
    if (rq->call.stream && !rq->bodyless) {
        if (rq->piece_more) {
            c->state = CONN_AWAY;
            deadline(c, 0);
            dispatch_piece(rq);
            return;
        }
        if (rq->streamed != rq->call.stream_len) {
            log_write(LOG_LEVEL_ERROR, rq->call.trace_id, "an answer of %llu bytes was announced, %llu came", (unsigned long long)rq->call.stream_len,
                      (unsigned long long)rq->streamed);
            conn_close(c);
            return;
        }
    }
    c->rq = NULL;
    dispatch_end(rq);
    if (c->close_after)
        linger(c);
    else
        next_request(c);
}

static void advance(struct conn *c, size_t n)
{
    for (int i = 0; i < 2; i++) {
        size_t part = n < c->iov[i].iov_len ? n : c->iov[i].iov_len;
        c->iov[i].iov_base = (char *)c->iov[i].iov_base + part;
        c->iov[i].iov_len -= part;
        n -= part;
    }
}

static void send_some(struct conn *c)
{
    while (c->iov[0].iov_len + c->iov[1].iov_len) {
        struct msghdr msg = {.msg_iov = c->iov, .msg_iovlen = 2};
        ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            watch(c, EPOLLOUT);
            return;
        }
        if (n < 0) {
            conn_close(c);
            return;
        }
        advance(c, (size_t)n);
        metric_add(c->server->m_sent, (double)n);
        deadline(c, SEND_IDLE_MS);
    }
    sent(c);
}

static void send_begin(struct conn *c, const struct buf *first, const struct buf *second)
{
    c->iov[0] = (struct iovec){first->data, first->len};
    c->iov[1] = second ? (struct iovec){second->data, second->len} : (struct iovec){NULL, 0};
    c->state = CONN_SEND;
    deadline(c, SEND_IDLE_MS);
    send_some(c);
}

void conn_answer(struct request *rq)
{
    struct conn *c = rq->conn;
    if (!c) {
        dispatch_end(rq);
        return;
    }
    bool keep = rq->keep_alive && rq->body_done && !atomic_load(&rq->server->draining);
    c->close_after = !keep;
    buf_append_str(&rq->answer, !keep ? "Connection: close\r\n\r\n" : rq->http10 ? "Connection: keep-alive\r\n\r\n" : "\r\n");
    rq->piece_more = 1;
    send_begin(c, &rq->answer, rq->bodyless || rq->call.stream ? NULL : &rq->call.out);
}

void conn_piece(struct request *rq)
{
    struct conn *c = rq->conn;
    if (!c) {
        dispatch_end(rq);
        return;
    }
    rq->streamed += rq->piece.len;
    if (rq->piece_more < 0 || rq->streamed > rq->call.stream_len) {
        log_write(LOG_LEVEL_WARN, rq->call.trace_id, "an answer was cut after %llu of %llu bytes", (unsigned long long)rq->streamed,
                  (unsigned long long)rq->call.stream_len);
        c->state = CONN_SEND; /* the request is the loop's again */
        conn_close(c);
        return;
    }
    send_begin(c, &rq->piece, NULL);
}

/* ---- receiving ---- */

static void answer_now(struct request *rq)
{
    response_prepare(rq);
    conn_answer(rq);
}

static void use(struct conn *c, size_t n)
{
    c->at += n;
    if (c->at == c->in.len)
        c->at = c->in.len = 0;
}

/* true: a request began, there may be more to do. */
static bool take_head(struct conn *c)
{
    char *p = c->in.data + c->at;
    size_t n = c->in.len - c->at;
    while (n >= 2 && memcmp(p, "\r\n", 2) == 0) { /* empty lines before a request are skipped (RFC 9112, 2.2) */
        use(c, 2);
        p += 2;
        n -= 2;
    }
    char *end = n ? memmem(p, n, "\r\n\r\n", 4) : NULL;
    size_t len = end ? (size_t)(end - p) + 4 : n;
    if (!end && n <= HEAD_MAX)
        return false;
    struct request *rq = c->rq = request_new(c->server, c->peer);
    rq->conn = c;
    rq->internal = c->internal;
    c->state = CONN_AWAY;
    deadline(c, 0);
    const char *why = "the request's head is too large";
    int status = len > HEAD_MAX ? 431 : request_parse(rq, p, len, &why);
    use(c, len);
    if (status) {
        response_refuse(rq, status, why);
        answer_now(rq);
    } else {
        dispatch_head(rq);
    }
    return true;
}

static void refuse_body(struct conn *c, int status, const char *code, const char *why)
{
    c->state = CONN_AWAY;
    call_problem(&c->rq->call, status, code, "%s", why);
    answer_now(c->rq);
}

static void body_step(struct conn *c, enum body_result r)
{
    struct request *rq = c->rq;
    deadline(c, r == BODY_MORE ? BODY_IDLE_MS : 0);
    if (r != BODY_MORE)
        c->state = CONN_AWAY;
    switch (r) {
    case BODY_MORE:
        break;
    case BODY_DONE:
        dispatch_body(rq);
        break;
    case BODY_FULL:
        dispatch_spool(rq);
        break;
    case BODY_BAD:
        refuse_body(c, 400, "bad-request", "malformed chunked coding");
        break;
    case BODY_TOO_LARGE:
        refuse_body(c, 413, "too-large", "the body is too large");
        break;
    case BODY_NO_MEMORY:
        call_add_header(&rq->call, "Retry-After", "1");
        refuse_body(c, 503, "overloaded", "too many requests with large bodies at once");
        break;
    }
}

/* Uses what was received, as far as it goes. Answers that are made meanwhile come back here through sent(): hence the flag. */
static void process(struct conn *c)
{
    if (c->processing)
        return;
    c->processing = true;
    while (c->in.len > c->at) {
        if (c->state == CONN_HEAD) {
            if (!take_head(c))
                break;
        } else if (c->state == CONN_BODY) {
            size_t used;
            enum body_result r = body_take(c->rq, c->in.data + c->at, c->in.len - c->at, &used);
            use(c, used);
            body_step(c, r);
        } else {
            break;
        }
    }
    c->processing = false;
}

static void resume_body(struct request *rq)
{
    struct conn *c = rq->conn;
    c->state = CONN_BODY;
    deadline(c, BODY_IDLE_MS);
    watch(c, EPOLLIN);
    process(c);
}

void conn_wants_body(struct request *rq)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    struct conn *c = rq->conn;
    if (!c) {
        dispatch_end(rq);
        return;
    }
    if (rq->expects_continue && c->in.len == c->at && send(c->fd, go_on, sizeof go_on - 1, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof go_on - 1) {
        c->state = CONN_BODY;
        conn_close(c);
        return;
    }
    resume_body(rq);
}

void conn_spooled(struct request *rq)
{
    if (rq->conn)
        resume_body(rq);
    else
        dispatch_end(rq);
}

/* Receives into p[0..n). Length, 0: nothing more to do now (closed, or nothing there). */
static size_t receive(struct conn *c, char *p, size_t n)
{
    ssize_t got = recv(c->fd, p, n, MSG_DONTWAIT);
    if (got > 0) {
        metric_add(c->server->m_received, (double)got);
        return (size_t)got;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        conn_close(c); /* a request that is not whole runs no handler */
    return 0;
}

static void receive_in(struct conn *c)
{
    if (c->at) {
        buf_consume(&c->in, c->at);
        c->at = 0;
    }
    bool first = c->in.len == 0;
    buf_reserve(&c->in, READ_PIECE);
    size_t n = receive(c, c->in.data + c->in.len, READ_PIECE);
    if (!n)
        return;
    c->in.len += n;
    if (first && c->state == CONN_HEAD)
        deadline(c, HEAD_MS);
    process(c);
}

static void receive_body(struct conn *c)
{
    for (int i = 0; i < BODY_READS && c->state == CONN_BODY; i++) {
        char *p;
        size_t room = body_room(c->rq, &p);
        if (!room) {
            receive_in(c);
            return;
        }
        size_t n = receive(c, p, room);
        if (!n)
            return;
        body_step(c, body_received(c->rq, n));
    }
}

static void receive_lingering(struct conn *c)
{
    char waste[4096];
    c->lingered += receive(c, waste, sizeof waste);
    if (c->lingered > LINGER_BYTES)
        conn_close(c);
}

static void conn_ready(struct source *src, uint32_t events)
{
    struct conn *c = (struct conn *)src;
    if (c->state == CONN_CLOSED)
        return;
    if (events & EPOLLERR || (events & EPOLLHUP && !(events & EPOLLIN))) {
        conn_close(c);
        return;
    }
    if (events & EPOLLOUT && c->state == CONN_SEND)
        send_some(c);
    if (!(events & EPOLLIN))
        return;
    if (c->state == CONN_HEAD)
        receive_in(c);
    else if (c->state == CONN_BODY)
        receive_body(c);
    else if (c->state == CONN_LINGER)
        receive_lingering(c);
    else if (events & EPOLLHUP)
        conn_close(c);
    else
        watch(c, c->events & ~(uint32_t)EPOLLIN); /* until the answer is sent */
}

/* ---- begin and end ---- */

#define BUSY_BODY "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"too-many-connections\"}"
static char busy[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: 95\r\nRetry-After: 1\r\n"
                     "Connection: close\r\n\r\n" BUSY_BODY;
_Static_assert(sizeof BUSY_BODY - 1 == 95, "Content-Length is out of step");

void conn_turn_away(int fd)
{
    char request[4096]; /* what was received and not read would end the connection with a reset, and the answer with it */
    if (recv(fd, request, sizeof request, MSG_DONTWAIT) >= 0 || errno == EAGAIN)
        send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void conn_new(const struct listener *l, int fd, const char *peer, bool refused)
{
    struct http_server *s = l->server;
    struct conn *c = mem_alloc(sizeof *c);
    c->internal = l->internal;
    c->src.ready = conn_ready;
    c->server = s;
    c->fd = fd;
    c->events = EPOLLIN;
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    struct epoll_event ev = {.events = c->events, .data.ptr = &c->src};
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0) {
        close(fd);
        free(c);
        return;
    }
    DL_APPEND(s->conns, c);
    s->n_conns++;
    metric_add(s->m_connections, 1);
    deadline(c, HEAD_MS);
    if (refused) {
        c->refused = true;
        s->n_refused++;
        metric_add(s->m_refused, 1);
        struct buf text = {.data = busy, .len = sizeof busy - 1};
        send_begin(c, &text, NULL);
    }
}

void conn_close_all(struct http_server *s, bool idle_only)
{
    struct conn *c, *next;
    DL_FOREACH_SAFE(s->conns, c, next) {
        if (!idle_only || (c->state == CONN_HEAD && c->in.len == c->at))
            conn_close(c);
    }
}

void conn_sweep(struct http_server *s)
{
    struct conn *c, *next;
    DL_FOREACH_SAFE(s->conns, c, next) {
        if (!c->deadline_ms || c->deadline_ms > s->now_ms)
            continue;
        if (c->state == CONN_BODY)
            refuse_body(c, 408, "timed-out", "the body did not come");
        else
            conn_close(c);
    }
}
