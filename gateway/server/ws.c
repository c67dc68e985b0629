/* WebSockets. Those of clients: the upgrade's request is read by request.c like any other and checked here; libwebsockets then gets the socket together with a plain request made
   from what was checked, so that it negotiates exactly what we chose, and does the framing from there on. Loop thread only. */
#include "common/base64.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <errno.h>
#include <ev.h>
#include <libwebsockets.h>
#include <string.h>
#include <utlist.h>

#define RX_PIECE 1024 /* each connection keeps a buffer of this for as long as it lives; what clients say is mostly shorter */
#define REASON_MAX 123  /* RFC 6455, 5.5: 125 bytes with the code */
#define CONNECT_SECS 3  /* for a connection to another gateway */
#define CLOSE_SECS 5    /* for a close to be answered */

struct message {
    struct message *next;
    size_t len;
    unsigned char data[]; /* LWS_PRE bytes of room, then len */
};

struct ws {
    struct http_server *server;
    const struct ws_protocol *protocol;
    struct lws *wsi; /* NULL before it stands */
    void *user;
    size_t message_max;
    char peer[64];
    struct buf in; /* a message that is not whole yet */
    struct message *out;
    size_t backlog;   /* bytes of out, and of what is in flight */
    size_t in_flight; /* given to libwebsockets, which is through with it at the next writeable callback */
    bool closing, dropped;
    bool inner;       /* with another gateway */
    bool connecting;  /* within ws_connect */
    bool established;
    bool ask, asked;  /* for a ping: it is to be sent, it was sent and nothing has come since */
    int64_t heard_ms; /* when something came last */
    uint16_t code;
    char reason[REASON_MAX + 1];
    struct ws *prev, *next;
};

/* ---- for the handlers ---- */

static void drop(struct ws *w)
{
    w->closing = w->dropped = true;
    if (w->wsi)
        lws_set_timeout(w->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
}

int ws_send(struct ws *w, const void *p, size_t n)
{
    if (w->closing)
        return w->dropped ? -ENOBUFS : -EPIPE;
    size_t most = w->protocol->backlog_max ? w->protocol->backlog_max : w->server->cfg.ws_backlog_max;
    if (n > most || w->backlog + n > most) {
        log_info("%s does not read its WebSocket and is dropped", w->peer);
        drop(w);
        return -ENOBUFS;
    }
    struct message *m = mem_alloc(sizeof *m + LWS_PRE + n);
    m->len = n;
    memcpy(m->data + LWS_PRE, p, n);
    LL_APPEND(w->out, m);
    w->backlog += n;
    if (w->wsi)
        lws_callback_on_writable(w->wsi);
    return 0;
}

void ws_close(struct ws *w, uint16_t code, const char *reason)
{
    if (w->closing)
        return;
    w->closing = true;
    w->code = code;
    snprintf(w->reason, sizeof w->reason, "%s", reason ? reason : "");
    if (!w->wsi)
        return;
    lws_set_timeout(w->wsi, PENDING_TIMEOUT_USER_REASON_BASE, CLOSE_SECS);
    lws_callback_on_writable(w->wsi);
}

void *ws_user(struct ws *w)
{
    return w->user;
}

void ws_set_user(struct ws *w, void *user)
{
    w->user = user;
}

const char *ws_peer(struct ws *w)
{
    return w->peer;
}

struct http_server *ws_server(struct ws *w)
{
    return w->server;
}

void ws_set_message_max(struct ws *w, size_t n)
{
    w->message_max = n;
}

size_t ws_backlog(const struct ws *w)
{
    return w->backlog;
}

bool ws_connected(const struct ws *w)
{
    return w->established;
}

/* ---- life ---- */

static void ws_free(struct ws *w)
{
    for (struct message *m = w->out, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    buf_fini(&w->in);
    free(w);
}

static void ws_begin(struct ws *w)
{
    struct http_server *s = w->server;
    DL_APPEND(s->sockets, w);
    if (w->inner)
        return;
    s->n_sockets++;
    metric_add(s->m_sockets, 1);
}

static void ws_end(struct ws *w)
{
    struct http_server *s = w->server;
    w->closing = true;
    w->wsi = NULL;
    if (w->connecting) { /* ws_connect frees it */
        w->connecting = false;
        return;
    }
    w->protocol->on_close(w);
    DL_DELETE(s->sockets, w);
    if (!w->inner) {
        s->n_sockets--;
        metric_add(s->m_sockets, -1);
    }
    ws_free(w);
}

void ws_close_some(struct http_server *s, unsigned upto)
{
    struct ws *w;
    unsigned gone = s->drain_sockets - s->n_sockets; /* none comes any more */
    DL_FOREACH(s->sockets, w) {
        if (gone >= upto)
            return;
        if (w->inner)
            continue;
        gone++;
        ws_close(w, LWS_CLOSE_STATUS_GOINGAWAY, "the gateway is being stopped");
    }
}

static void heard(struct ws *w)
{
    w->heard_ms = w->server->now_ms;
    w->ask = w->asked = false;
}

/* libwebsockets would do this itself, with a sorted list of all connections' timers: one that it adds to behind thousands of others costs more than everything else. */
void ws_sweep(struct http_server *s)
{
    struct ws *w;
    DL_FOREACH(s->sockets, w) {
        int64_t silent = s->now_ms - w->heard_ms;
        if (!w->wsi || w->closing || silent < s->cfg.ws_silence_ms / 2)
            continue;
        if (silent >= s->cfg.ws_silence_ms) {
            drop(w);
        } else if (!w->asked) {
            w->ask = w->asked = true;
            lws_callback_on_writable(w->wsi);
        }
    }
}

/* ---- what libwebsockets tells ---- */

static int on_established(struct http_server *s, struct lws *wsi)
{
    struct ws *w = lws_get_opaque_user_data(wsi);
    if (!w) {
        w = s->adopting;
        s->adopting = NULL;
    }
    if (!w || w->dropped)
        return -1;
    lws_set_opaque_user_data(wsi, w);
    w->wsi = wsi;
    w->established = true;
    if (w->closing)
        lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, CLOSE_SECS);
    if (w->closing || w->out)
        lws_callback_on_writable(wsi);
    return 0;
}

static int on_writeable(struct ws *w)
{
    unsigned char ping[LWS_PRE + 1] = {[LWS_PRE] = '?'}; /* libwebsockets tells only of answers that are not empty */
    w->backlog -= w->in_flight;
    w->in_flight = 0;
    if (w->ask && lws_write(w->wsi, ping + LWS_PRE, 1, LWS_WRITE_PING) < 0)
        return -1;
    w->ask = false;
    while (w->out) {
        struct message *m = w->out;
        LL_DELETE(w->out, m);
        int n = lws_write(w->wsi, m->data + LWS_PRE, m->len, LWS_WRITE_TEXT);
        w->in_flight += m->len;
        free(m);
        if (n < 0)
            return -1;
        if (lws_send_pipe_choked(w->wsi)) {
            lws_callback_on_writable(w->wsi);
            return 0;
        }
        w->backlog -= w->in_flight;
        w->in_flight = 0;
    }
    if (!w->closing)
        return 0;
    lws_close_reason(w->wsi, w->code, (unsigned char *)w->reason, strlen(w->reason));
    return -1;
}

static int on_receive(struct ws *w, const char *p, size_t n)
{
    heard(w);
    if (w->closing)
        return 0;
    if (n > w->message_max || w->in.len + n > w->message_max) {
        static unsigned char why[] = "the message is too long";
        lws_close_reason(w->wsi, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, why, sizeof why - 1);
        w->closing = true;
        return -1;
    }
    bool whole = lws_is_final_fragment(w->wsi) && lws_remaining_packet_payload(w->wsi) == 0;
    if (w->in.len || !whole)
        buf_append(&w->in, p, n);
    if (!whole)
        return 0;
    if (w->in.len)
        w->protocol->on_message(w, w->in.data, w->in.len, lws_frame_is_binary(w->wsi));
    else
        w->protocol->on_message(w, n ? p : "", n, lws_frame_is_binary(w->wsi));
    w->in.len = 0;
    if (w->in.cap > 64 * RX_PIECE)
        buf_fini(&w->in);
    return 0;
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    (void)user;
    if (reason == LWS_CALLBACK_RAW_RX_FILE) {
        server_poll(lws_context_user(lws_get_context(wsi)));
        return 0;
    }
    if (reason == LWS_CALLBACK_HTTP)
        return -1; /* not a WebSocket after all */
    if (reason == LWS_CALLBACK_ESTABLISHED || reason == LWS_CALLBACK_CLIENT_ESTABLISHED)
        return on_established(lws_context_user(lws_get_context(wsi)), wsi);
    struct ws *w = lws_get_opaque_user_data(wsi);
    if (!w)
        return 0;
    switch (reason) {
    case LWS_CALLBACK_SERVER_WRITEABLE:
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return on_writeable(w);
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return on_receive(w, in, len);
    case LWS_CALLBACK_RECEIVE_PONG:
    case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
        heard(w);
        return 0;
    case LWS_CALLBACK_CLOSED:
    case LWS_CALLBACK_CLIENT_CLOSED:
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_WSI_DESTROY:
        lws_set_opaque_user_data(wsi, NULL);
        ws_end(w);
        return 0;
    default:
        return 0;
    }
}

/* ---- connecting ---- */

struct ws *ws_connect(struct http_server *s, const struct ws_protocol *protocol, const char *address, int port, void *user)
{
    struct ws *w = mem_alloc(sizeof *w);
    w->server = s;
    w->protocol = protocol;
    w->user = user;
    w->heard_ms = s->now_ms;
    w->message_max = protocol->message_max;
    w->inner = w->connecting = true;
    snprintf(w->peer, sizeof w->peer, "%s", address);
    struct lws_client_connect_info info = {
        .context = s->lws,
        .vhost = s->vhost,
        .address = address,
        .port = port,
        .path = protocol->path,
        .host = address,
        .origin = address,
        .protocol = protocol->name,
        .local_protocol_name = protocol->name,
        .opaque_user_data = w,
    };
    struct lws *wsi = s->lws ? lws_client_connect_via_info(&info) : NULL; /* the server may have ended */
    if (!wsi || !w->connecting) { /* it may have told so already, and may not */
        ws_free(w);
        return NULL;
    }
    w->connecting = false;
    ws_begin(w);
    return w;
}

/* ---- the upgrade ---- */

bool ws_path_known(const struct http_server *s, const char *path, bool internal)
{
    for (size_t i = 0; i < s->n_protocols; i++)
        if (s->protocols[i].internal == internal && strcmp(s->protocols[i].path, path) == 0)
            return true;
    return false;
}

/* The first of the client's sub-protocols that is spoken at this path. A client that names none gets the path's first, and is told none. */
static const struct ws_protocol *choose(const struct http_server *s, const char *path, const char *offered)
{
    const struct ws_protocol *best = NULL;
    const char *best_at = NULL;
    for (size_t i = 0; i < s->n_protocols; i++) {
        const struct ws_protocol *p = &s->protocols[i];
        if (strcmp(p->path, path) != 0)
            continue;
        if (!offered)
            return p;
        size_t n = strlen(p->name);
        for (const char *at = offered; *at; at += strcspn(at, ",")) {
            at += strspn(at, ", \t");
            if (strcspn(at, ", \t") == n && memcmp(at, p->name, n) == 0 && (!best_at || at < best_at)) {
                best = p;
                best_at = at;
            }
        }
    }
    return best;
}

static bool key_valid(const char *key)
{
    CLEANUP_BUF struct buf raw = {0};
    return key && strlen(key) == 24 && base64_decode(key, 24, false, &raw) == 0 && raw.len == 16;
}

/* Hands the socket over. w ends by itself if that fails. */
static void adopt(struct ws *w, int fd, const char *key, bool named)
{
    struct http_server *s = w->server;
    CLEANUP_BUF struct buf head = {0};
    buf_appendf(&head, "GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n", key);
    if (named)
        buf_appendf(&head, "Sec-WebSocket-Protocol: %s\r\n", w->protocol->name);
    buf_append_str(&head, "\r\n");
    s->adopting = w;
    struct lws *wsi = lws_adopt_socket_vhost_readbuf(s->vhost, fd, head.data, head.len); /* usually calls on_established from within */
    if (!s->adopting)
        return;
    s->adopting = NULL;
    if (wsi)
        lws_set_opaque_user_data(wsi, w);
    else
        ws_end(w);
}

static void refuse(struct request *rq)
{
    response_prepare(rq);
    conn_answer(rq);
}

void ws_upgrade(struct request *rq)
{
    struct call *c = &rq->call;
    struct http_server *s = rq->server;
    const char *version = call_header(c, "sec-websocket-version"), *key = call_header(c, "sec-websocket-key");
    const char *offered = call_header(c, "sec-websocket-protocol");
    const struct ws_protocol *protocol = choose(s, c->path, offered);
    rq->keep_alive = false;
    if (!version || strcmp(version, "13") != 0) {
        call_add_header(c, "Sec-WebSocket-Version", "13");
        call_problem(c, 426, "upgrade-required", "version 13 of the WebSocket protocol is spoken here");
    } else if (!key_valid(key) || !protocol || conn_has_input(rq->conn)) {
        call_problem(c, 400, protocol ? "bad-request" : "no-such-protocol", protocol ? "malformed WebSocket upgrade" : "none of these sub-protocols is spoken here");
    } else if (atomic_load(&s->draining) && !rq->internal) {
        call_problem(c, 503, "draining", "the gateway is being stopped");
    }
    if (c->status) {
        refuse(rq);
        return;
    }
    struct ws *w = mem_alloc(sizeof *w);
    w->server = s;
    w->protocol = protocol;
    w->message_max = protocol->message_max;
    w->inner = rq->internal;
    w->heard_ms = s->now_ms;
    memcpy(w->peer, c->peer, sizeof w->peer);
    int err = protocol->on_open(w, call_header(c, "authorization"));
    if (err) {
        ws_free(w);
        if (err == -EACCES) {
            call_add_header(c, "WWW-Authenticate", "Bearer");
            call_problem(c, 401, "unauthorized", "a valid bearer token is needed");
        } else {
            call_errno(c, err, "opening the WebSocket");
        }
        refuse(rq);
        return;
    }
    ws_begin(w);
    adopt(w, conn_release_fd(rq->conn), key, offered != NULL);
    c->status = 101;
    dispatch_end(rq);
}

/* ---- libwebsockets' context ---- */

/* Its levels are no guide: it reports an ordinary adoption as an error, and what matters comes back to us as a result. */
static void on_log(int level, const char *line)
{
    (void)level;
    log_write(LOG_LEVEL_DEBUG, NULL, "libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

/* On libev's loop, which is epoll: its own, poll, looks at every connection each time that something happens. */
static void make_context(struct http_server *s, struct lws_context_creation_info *info)
{
    struct lws_context_creation_info plain = *info;
    s->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    void *loops[] = {s->loop};
    info->foreign_loops = loops;
    info->options |= LWS_SERVER_OPTION_LIBEV;
    s->lws = s->loop ? lws_create_context(info) : NULL;
    if (s->lws)
        return;
    if (s->loop)
        ev_loop_destroy(s->loop);
    s->loop = NULL;
    log_warn("libwebsockets has no libev here (package libwebsockets-evlib-ev): many WebSockets will be slow");
    s->lws = lws_create_context(&plain);
}

bool ws_service_run(struct http_server *s)
{
    if (!s->loop)
        return lws_service(s->lws, 0) >= 0;
    ev_run(s->loop, EVRUN_ONCE);
    return true;
}

int ws_service_start(struct http_server *s)
{
    static const lws_retry_bo_t none = {0}; /* ws_sweep does it */
    static const char inner[] = "cairn-epoll";
    struct lws_protocols *p = s->lws_protocols = mem_calloc(s->n_protocols + 2, sizeof *p);
    p[0] = (struct lws_protocols){.name = inner, .callback = on_event, .rx_buffer_size = RX_PIECE};
    for (size_t i = 0; i < s->n_protocols; i++)
        p[i + 1] = (struct lws_protocols){.name = s->protocols[i].name, .callback = on_event, .rx_buffer_size = RX_PIECE};
    lws_set_log_level(LLL_ERR | LLL_WARN, on_log);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = p,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .user = s,
        .options = LWS_SERVER_OPTION_VALIDATE_UTF8,
        .retry_and_idle_policy = &none,
        .timeout_secs = HEAD_MS / 1000,
        .connect_timeout_secs = CONNECT_SECS,
    };
    make_context(s, &info);
    if (!s->lws)
        return -ENOMEM;
    s->vhost = lws_get_vhost_by_name(s->lws, "default");
    lws_sock_file_fd_type fd = {.filefd = s->epoll_fd};
    s->epoll_adopted = true; /* closed by libwebsockets, even if this fails */
    return s->vhost && lws_adopt_descriptor_vhost(s->vhost, LWS_ADOPT_RAW_FILE_DESC, fd, inner, NULL) ? 0 : -EIO;
}

void ws_service_stop(struct http_server *s)
{
    if (s->lws)
        lws_context_destroy(s->lws);
    s->lws = NULL;
    if (s->loop)
        ev_loop_destroy(s->loop);
    s->loop = NULL;
    while (s->sockets)
        ws_end(s->sockets);
    free(s->lws_protocols);
    s->lws_protocols = NULL;
}
