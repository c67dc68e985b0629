/* Inside the server: what its files share.

   One thread, the loop, owns every socket: `struct conn` (HTTP) and `struct ws`. It runs libwebsockets' service; the HTTP sockets, the listener, the timer and
   the wake-up are in an epoll set of their own, whose descriptor libwebsockets polls along with the WebSockets (docs/decisions/0007-…). A `struct request` goes
   loop → worker → loop; whoever has it owns it, so it needs no lock. Only `jobs` (what is to run on the loop) is shared. */
#ifndef CAIRN_GATEWAY_SERVER_SERVER_H
#define CAIRN_GATEWAY_SERVER_SERVER_H
#include "common/pool.h"
#include "gateway/server/http.h"
#include "gateway/server/limits.h"
#include "gateway/server/router.h"
#include "gateway/server/timers.h"

#include <pthread.h>
#include <stdatomic.h>

#define HEAD_MAX (16u << 10)       /* bytes of request line and headers */
#define TARGET_MAX (8u << 10)      /* bytes of path and query */
#define HEADERS_MAX 100
#define ARGS_MAX 32
#define BODY_TOLERATED 1024u       /* where no body is expected */
#define BODY_EARLY_AUTH (64u << 10) /* a longer body is only taken from somebody who is known */
#define SPOOL_PIECE (1u << 20)     /* a body that passes this goes to a file, in such pieces */

#define HEAD_MS 10000     /* for a whole head, from its first byte (a new connection: from accept) */
#define BODY_IDLE_MS 30000
#define SEND_IDLE_MS 30000
#define KEEPALIVE_MS 75000
#define LINGER_MS 2000

/* ---- loop ---- */
struct source { /* something in the epoll set; first member of what it is part of */
    void (*ready)(struct source *src, uint32_t events);
};

struct job { /* something to run on the loop; lives in what it is about */
    void (*fn)(void *);
    void *arg;
    struct job *next;
};

struct listener {
    struct source src; /* first */
    struct http_server *server;
    int fd; /* -1: closed */
    int port;
    bool internal;
};

struct conn;
struct ev_loop;
struct lws;
struct lws_context;
struct lws_protocols;
struct lws_vhost;

struct http_server {
    struct http_config cfg; /* texts are our own copies */
    struct pool *pool;
    struct router *router;
    struct limits *limits;

    /* loop thread only */
    int epoll_fd, event_fd, timer_fd;
    int spare_fd;         /* given up to accept, and refuse, a connection when there is no other; -1: none */
    bool starved;         /* the last try to accept found no descriptor */
    int64_t warned_ms;    /* when that was logged last */
    struct listener public, internal;
    struct source waker, clock;
    struct timers *timers;
    int64_t clock_set_ms; /* what timer_fd is set to, -1: not */
    int64_t now_ms;       /* as of the last wake-up */
    struct conn *conns, *grave;
    unsigned n_conns;     /* HTTP */
    unsigned n_refused;   /* of these: over the limit, being told so */
    struct ws *sockets;   /* WebSockets */
    unsigned n_sockets;   /* with clients: those with other gateways are not counted */
    struct ws *adopting;  /* being handed to libwebsockets right now */
    struct lws_context *lws;
    struct ev_loop *loop; /* that it runs on; NULL: its own */
    struct lws_vhost *vhost;
    struct lws_protocols *lws_protocols;
    const struct ws_protocol *protocols;
    size_t n_protocols;
    bool epoll_adopted, ended;
    int64_t drain_from_ms, drain_until_ms;
    unsigned drain_sockets; /* there were so many when it began */
    struct metric *m_connections, *m_sockets, *m_queue, *m_refused, *m_shed, *m_received, *m_sent;

    /* any thread */
    pthread_mutex_t lock; /* guards jobs, closed */
    struct job *jobs, **jobs_last;
    bool closed;            /* the loop is gone: a call that is finished now frees itself */
    atomic_uint refs;       /* 1 + requests that exist */
    atomic_uint_fast64_t body_memory;
    atomic_bool draining;
    atomic_int stop_ms;     /* -1: not asked to stop */
};

bool server_push(struct http_server *s, struct job *j); /* any thread; runs j on the loop. false: the loop has ended, j stays the caller's */
void server_unref(struct http_server *s);
void server_poll(struct http_server *s);  /* what is ready in the epoll set */
int listener_start(struct http_server *s, struct listener *l, const char *address); /* negative errno, logged */
void listener_stop(struct listener *l);

/* ---- request ---- */
struct field {
    const char *name; /* lower case */
    const char *value;
    char *joined;     /* owned: several lines of a list became one value */
};
struct arg {
    const char *name, *value; /* decoded, NUL behind */
    size_t name_len, len;
};
enum chunk_state { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_SIZE_LF, CHUNK_DATA, CHUNK_DATA_CR, CHUNK_DATA_LF, CHUNK_TRAILER, CHUNK_TRAILER_LF, CHUNK_DONE };

struct request {
    struct call call;
    struct http_server *server;
    struct conn *conn; /* loop only; NULL: the client is gone */
    struct job job;
    const struct route *route;
    struct route_entry *entry;
    int64_t started_ns; /* CLOCK_MONOTONIC */

    char *head; /* the head's bytes, cut into texts; everything below points into it */
    char *params;
    struct field fields[HEADERS_MAX];
    unsigned n_fields;
    struct arg args[ARGS_MAX];
    unsigned n_args;
    char *query; /* NULL: none */
    int method;  /* -1: one that we do not know */
    bool http10, keep_alive, expects_continue, upgrade;
    bool internal; /* it came to the internal listener */

    bool chunked, body_done;
    uint64_t content_length, body_max;
    uint64_t counted; /* bytes of ours in server->body_memory */
    enum chunk_state chunk_state;
    uint64_t chunk_left;
    unsigned chunk_digits, chunk_noise; /* bytes of extensions and trailers so far */

    bool authenticated, bodyless; /* bodyless: the answer's body is not sent */
    struct buf answer;            /* the answer's head, without its last lines */
    struct buf piece;
    int piece_more;
    uint64_t streamed;
};

static inline struct request *request_of(const struct call *c)
{
    return (struct request *)(uintptr_t)c;
}

struct request *request_new(struct http_server *s, const char *peer);
void request_free(struct request *rq);
/* Parses the head p[0..n), which ends with an empty line. 0, or the status to refuse it with; *ret_why a static text. Framing is settled: chunked,
   content_length, body_done. */
int request_parse(struct request *rq, const char *p, size_t n, const char **ret_why);
/* Decodes what the route's pattern matched, and the query. As above. */
int request_decode(struct request *rq, const struct route_match *m, const char **ret_why);
bool text_is_token(const char *p, size_t n);       /* RFC 9110, 5.6.2 */
bool list_has(const char *list, const char *word); /* "a, b" by element, in any case; list may be NULL */

/* ---- body ---- */
enum body_result { BODY_MORE, BODY_DONE, BODY_FULL /* a piece is to be spooled first */, BODY_BAD, BODY_TOO_LARGE, BODY_NO_MEMORY };
/* Takes up to n bytes of the connection; *ret_used says how many. */
enum body_result body_take(struct request *rq, const char *p, size_t n, size_t *ret_used);
/* Room to receive into directly, where that is possible (no chunked coding); then body_received. */
size_t body_room(struct request *rq, char **ret);
enum body_result body_received(struct request *rq, size_t n);
int body_spool(struct request *rq); /* on a worker: appends what is in memory to the file */
void body_release(struct request *rq);

/* ---- response ---- */
/* Makes the answer's head, compresses; on whichever thread has the request. */
void response_prepare(struct request *rq);
void response_count(struct request *rq); /* loop: metrics and access log, when the answer has left */
void response_refuse(struct request *rq, int status, const char *why); /* a problem for what request_parse found */
const char *http_status_title(int status); /* "Not Found" */

/* ---- dispatch: from a parsed head to an answer ---- */
void dispatch_head(struct request *rq);  /* loop: route, limits; then body or handler or answer */
void dispatch_body(struct request *rq);  /* loop: the body is there */
void dispatch_spool(struct request *rq); /* loop: rq->call.body is full */
void dispatch_piece(struct request *rq); /* loop: the next piece of a streamed answer is wanted */
void dispatch_end(struct request *rq);   /* loop: answered or given up; frees it, on a worker where that may block */

/* ---- conn ---- */
void conn_new(const struct listener *l, int fd, const char *peer, bool refused);
void conn_answer(struct request *rq);       /* loop: rq's answer is prepared; rq is gone afterwards if the client is */
void conn_wants_body(struct request *rq);   /* loop */
void conn_spooled(struct request *rq);      /* loop */
void conn_piece(struct request *rq);        /* loop: rq->piece, rq->piece_more are there */
void conn_turn_away(int fd); /* says "503" to a connection that is not to be; what can be said at once */
void conn_close_all(struct http_server *s, bool idle_only);
void conn_sweep(struct http_server *s);     /* closes what has run out of time */
void conn_bury(struct http_server *s);      /* frees closed ones */
bool conn_has_input(const struct conn *c);  /* received behind the present request */
int conn_release_fd(struct conn *c);        /* the socket is the caller's, the connection is closed; c's request stays the caller's */

/* ---- ws ---- */
int ws_service_start(struct http_server *s); /* libwebsockets' context */
bool ws_service_run(struct http_server *s);  /* waits for something, and does it. false: it can go on no longer */
void ws_service_stop(struct http_server *s);
bool ws_path_known(const struct http_server *s, const char *path, bool internal);
void ws_upgrade(struct request *rq);         /* loop: a valid head with `Upgrade: websocket` for a known path */
void ws_close_some(struct http_server *s, unsigned upto); /* so many of the clients' in all are being closed then */
void ws_sweep(struct http_server *s); /* asks silent peers whether they are there, and ends those who are not */
#endif
