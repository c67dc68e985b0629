/* The HTTP and WebSocket server on libwebsockets: one event loop thread owns the sockets, handlers run on workers.

   A request is parsed on the loop into a `struct call`, given to its route's handler on a worker, and answered on the
   loop. A handler fills the call's response and returns CALL_DONE, or returns CALL_PENDING and somebody calls
   call_finish(call) later, exactly once, from any thread. If the client goes away meanwhile, the call stays valid until it
   is finished; its answer is dropped. */
#ifndef CAIRN_GATEWAY_SERVER_HTTP_H
#define CAIRN_GATEWAY_SERVER_HTTP_H
#include "common/buf.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_OPTIONS };
enum call_state { CALL_DONE, CALL_PENDING };
#define CALL_PARAMS_MAX 4

struct call {
    /* the request; read-only for handlers */
    enum http_method method;
    char *path;                        /* raw, without the query */
    const char *params[CALL_PARAMS_MAX]; /* what `{}` matched in the route's pattern, percent-decoded */
    struct buf body;                   /* whole body, unless body_fd >= 0 */
    int body_fd;                       /* a route with SPOOL: an unlinked file with the body, else -1 */
    uint64_t body_len;
    char peer[64];
    char trace_id[33];                 /* from traceparent, else fresh */
    int64_t started_ms;
    /* the response */
    int status;                        /* 0 until set */
    struct buf out;                    /* body */
    struct buf headers;                /* "Name: value\r\n"… besides Content-Type, Content-Length, Date */
    const char *content_type;          /* default application/json */
    /* A body that is made in pieces: called on a worker whenever the socket has room; appends the next piece to ret
       (up to a few MiB). Returns 1 while more follows, 0 at the end, <0: the connection is cut. Content-Length is
       stream_len. stream_free is called in any case. */
    int (*stream)(void *ctx, struct buf *ret);
    void (*stream_free)(void *ctx);
    void *stream_ctx;
    uint64_t stream_len;
    /* who asks; filled by the api layer's authenticate() */
    void *principal;
    void (*principal_free)(void *);
    struct http_server *server;
    void *app; /* as given to http_server_new */
    void *priv;
};

/* Header by lower-case name ("range", "x-chunk-sha256"), NULL where absent; owned by the call. Of a header that is a list, several lines are one value,
   joined by ", "; others that come twice, and oversized ones, are refused (400, 431) before a handler runs. */
const char *call_header(const struct call *c, const char *name);
/* Query argument, percent-decoded bytes, NULL where absent. ret_len may be NULL. */
const char *call_query(const struct call *c, const char *name, size_t *ret_len);
void call_add_header(struct call *c, const char *name, const char *value);
void call_json(struct call *c, int status, json_t *v /* reference is taken */);
void call_finish(struct call *c);
/* RFC 9457: {type,title,status,detail,code,traceId}; code is the stable word. Returns CALL_DONE. */
enum call_state call_problem(struct call *c, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* As call_problem, with further members (a reference to `more` is taken). */
enum call_state call_problem_with(struct call *c, int status, const char *code, json_t *more, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* The one table from negative errno to status and code. */
enum call_state call_errno(struct call *c, int err, const char *what);

#define ROUTE_OPEN 1u  /* no bearer token needed */
#define ROUTE_SPOOL 2u /* the body may be large: it is written to an unlinked file once it passes 1 MiB */
#define ROUTE_VITAL 8u /* answered however many requests wait: what tells how the gateway is */
#define ROUTE_INLINE 4u /* handler is quick and never blocks: runs on the loop. Only with ROUTE_OPEN: authenticate may block */
struct route {
    enum http_method method; /* HEAD falls to GET */
    const char *pattern;     /* "/api/v1/upload/{}/chunk/{}" */
    enum call_state (*handler)(struct call *c);
    unsigned flags;
    uint64_t body_max;       /* 0: no body expected (1 KiB is tolerated); more is 413 */
};

/* ---- WebSocket ---- */
struct ws; /* one connection; valid between on_open and on_close */
struct ws_protocol {
    const char *name; /* Sec-WebSocket-Protocol, e.g. "v12.stomp" */
    const char *path; /* the upgrade is refused (404) elsewhere */
    size_t message_max; /* longer messages close the connection with 1009 */
    /* On the loop thread, must not block. Before the upgrade is answered: a negative errno refuses it with that error's status (-EACCES: 401), and there is
       no on_close. What is sent from here leaves behind the answer. authorization: the upgrade's header or NULL. */
    int (*on_open)(struct ws *w, const char *authorization);
    void (*on_message)(struct ws *w, const char *p, size_t n, bool binary); /* whole messages */
    void (*on_close)(struct ws *w);
    bool internal;      /* spoken on the internal listener, and nowhere else */
    size_t backlog_max; /* 0: the server's ws_backlog_max */
};
/* Sends a text message; on the loop thread (from others: http_server_post). -ENOBUFS: the client does not read, more than ws_backlog_max bytes would
   wait: the connection is being dropped. -EPIPE: it is being closed already. on_close comes later, never from within. */
int ws_send(struct ws *w, const void *p, size_t n);
/* Closes behind what has been sent; on the loop thread. No message is delivered any more. */
void ws_close(struct ws *w, uint16_t code, const char *reason);
void *ws_user(struct ws *w);
void ws_set_user(struct ws *w, void *user);
const char *ws_peer(struct ws *w);
struct http_server *ws_server(struct ws *w);

void ws_set_message_max(struct ws *w, size_t n); /* from now on, instead of its protocol's */
size_t ws_backlog(const struct ws *w); /* bytes that have not left yet */
/* Connects to another gateway's WebSocket; loop thread. protocol is one of the server's; its on_open is not called. What is sent before it stands leaves as soon as it does. on_close
   comes when it ends, also where it never stood. address: numeric, without brackets. NULL: it failed at once, nothing is called. */
struct ws *ws_connect(struct http_server *s, const struct ws_protocol *protocol, const char *address, int port, void *user);
bool ws_connected(const struct ws *w); /* of one that ws_connect made: it stands */

/* ---- server ---- */
struct http_config {
    const char *listen; /* "ADDR:PORT", "[::1]:8080" */
    const char *internal; /* a second address, for other gateways: only WebSockets of internal protocols are there. It stays open while the server drains. NULL: none */
    unsigned workers_threads;
    const char *spool_dir;
    size_t ws_backlog_max;      /* bytes, default 1 MiB */
    unsigned ws_silence_ms;     /* a peer that is silent for so long is given up; after half of it it is asked. Default 30 s; looked at each second */
    uint64_t body_memory_max;   /* all bodies in memory together; over it 503 */
    unsigned connections_max;   /* over it new ones are answered 503 and closed; 0: from RLIMIT_NOFILE */
    unsigned queue_max;         /* requests that wait for a worker; over it new ones are answered 503; default 10,000 */
    bool reuse_port;            /* several processes share the port (SO_REUSEPORT) */
    unsigned close_over_ms;     /* a server that drains closes its WebSockets one by one within this time, so that they do not all come to the next one at once */
    void (*ended)(void *app);   /* loop: no client is there any more, and no timer runs: workers that wait for either are to be let go. May be NULL */
    bool (*may_end)(void *app); /* loop: asked again and again while it drains and has no clients left, until it says yes. NULL: at once */
    unsigned proxies;           /* so many are in front, one behind the other: a request's peer is what the first of them has added to X-Forwarded-For */
    double rate_limit;          /* requests a second for one user and for one address; 0 none */
    void *app;
    /* Runs on the worker before a route without ROUTE_OPEN; false: it has filled a 401 problem. */
    bool (*authenticate)(struct call *c);
    /* Key for the per-user rate limit ("" none), after authenticate. */
    const char *(*user_key)(struct call *c);
};
struct pool;
struct http_server *http_server_new(const struct http_config *cfg, const struct route *routes, size_t n_routes,
                                    const struct ws_protocol *protocols, size_t n_protocols);
int http_server_port(struct http_server *s);
int http_server_internal_port(struct http_server *s);
/* Keeps an address for several processes that are to share it (reuse_port): a descriptor, bound and not listening, so that it gets no connection; the caller closes it when they have ended. -EADDRINUSE
   where anybody listens there already, even one who would share it. Logged. */
int http_reserve_address(const char *listen, int *ret_port);
struct pool *http_server_pool(struct http_server *s);
/* Its limits for users ('u' and the key of user_key) and addresses ('a'). */
struct limits *http_server_limits(struct http_server *s);
void *http_server_app(struct http_server *s); /* http_config.app */
/* Runs fn(arg) on the loop thread soon; from any thread. */
void http_server_post(struct http_server *s, void (*fn)(void *), void *arg);
/* Runs fn(arg) on the loop thread in about ms; returns an id for http_server_timer_cancel (loop thread only). */
uint64_t http_server_timer(struct http_server *s, unsigned ms, void (*fn)(void *), void *arg);
void http_server_timer_cancel(struct http_server *s, uint64_t id);
int http_server_run(struct http_server *s);   /* the event loop, until stopped */
/* Drain: no new connections, running requests end (at most `ms`), then run returns. Async-signal-safe: only sets a flag. */
void http_server_stop(struct http_server *s, unsigned ms);
bool http_server_draining(struct http_server *s);
void http_server_free(struct http_server *s);

/* ---- metrics (gateway/server/metrics.c), Prometheus text format ---- */
enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
struct metric;
/* Registered once by name; labels is "" or `a="b",c="d"`. Thread-safe, cheap (atomics). */
struct metric *metric_get(enum metric_kind kind, const char *name, const char *labels, const char *help);
void metric_add(struct metric *m, double v);     /* counter, gauge */
void metric_set(struct metric *m, double v);     /* gauge */
void metric_observe(struct metric *m, double v); /* histogram, seconds */
void metrics_render(struct buf *ret);
#endif
