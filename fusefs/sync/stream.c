#include "fusefs/sync/stream.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"

#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define PROTOCOL "cairn.fs.v1"
#define PATH "/api/v1/fs/v1/stream"
#define MESSAGE_MAX (64u << 20)
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000
#define CONNECT_S 8 /* for a connection and its upgrade */

struct message {
    struct message *next;
    size_t len;
    unsigned char bytes[]; /* LWS_PRE, then the text */
};

struct stream {
    struct remote *remote;
    struct stream_handler handler;
    struct lws_context *context;
    struct lws *wsi; /* stream's thread only */
    struct lws_protocols protocols[2];
    pthread_t thread;
    char host[256], path[64];
    int port;
    bool tls;
    struct buf incoming; /* a message that comes in pieces */
    int64_t retry_at, retry_ms;
    _Atomic int64_t stop_by; /* set with `stopping` */
    pthread_mutex_t lock; /* guards the queue, connected */
    struct message *first, **last;
    bool connected;
    _Atomic bool stopping, drop;
};

static void queue_clear(struct stream *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    while (s->first) {
        struct message *m = s->first;
        s->first = m->next;
        free(m);
    }
    s->last = &s->first;
}

static struct message *queue_take(struct stream *s, bool *ret_more)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    struct message *m = s->first;
    if (m) {
        s->first = m->next;
        if (!s->first)
            s->last = &s->first;
    }
    *ret_more = s->first != NULL;
    return m;
}

static bool queue_waits(struct stream *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    return s->first != NULL;
}

bool stream_send(struct stream *s, const char *text)
{
    size_t len = strlen(text);
    struct message *m = mem_alloc(sizeof *m + LWS_PRE + len);
    m->len = len;
    memcpy(m->bytes + LWS_PRE, text, len);
    pthread_mutex_lock(&s->lock);
    bool ok = s->connected;
    if (ok) {
        *s->last = m;
        s->last = &m->next;
    }
    pthread_mutex_unlock(&s->lock);
    if (ok)
        lws_cancel_service(s->context);
    else
        free(m);
    return ok;
}

void stream_reconnect(struct stream *s)
{
    s->drop = true;
    lws_cancel_service(s->context);
}

static void set_connected(struct stream *s, bool connected)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    s->connected = connected;
}

static void lost(struct stream *s)
{
    bool was = s->connected;
    s->wsi = NULL;
    set_connected(s, false);
    queue_clear(s);
    buf_fini(&s->incoming);
    s->retry_at = clock_boot_ms() + s->retry_ms;
    s->retry_ms = s->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : s->retry_ms * 2;
    if (was)
        s->handler.disconnected(s->handler.ctx);
}

static int add_token(struct stream *s, struct lws *wsi, unsigned char **p, size_t room)
{
    CLEANUP_FREE char *token = remote_token(s->remote);
    CLEANUP_FREE char *value = mem_printf("Bearer %s", token ? token : "");
    return lws_add_http_header_by_name(wsi, (const unsigned char *)"authorization:", (const unsigned char *)value, (int)strlen(value), p,
                                       *p + room);
}

static int received(struct stream *s, struct lws *wsi, const void *in, size_t len)
{
    if (s->incoming.len + len > MESSAGE_MAX)
        return -1;
    s->retry_ms = RETRY_MIN_MS; /* not sooner: one that does not reach the drive only closes */
    buf_append(&s->incoming, in, len);
    if (lws_remaining_packet_payload(wsi) == 0 && lws_is_final_fragment(wsi)) {
        s->handler.message(s->handler.ctx, s->incoming.data, s->incoming.len);
        s->incoming.len = 0;
    }
    return 0;
}

static int send_one(struct stream *s, struct lws *wsi)
{
    bool more;
    struct message *m = queue_take(s, &more);
    if (!m)
        return s->stopping ? -1 : 0;
    int sent = lws_write(wsi, m->bytes + LWS_PRE, m->len, LWS_WRITE_TEXT);
    free(m);
    if (sent < 0)
        return -1;
    if (more || s->stopping)
        lws_callback_on_writable(wsi);
    return 0;
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    (void)user;
    struct stream *s = lws_context_user(lws_get_context(wsi));
    switch (reason) {
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return add_token(s, wsi, in, len);
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        set_connected(s, true);
        s->handler.connected(s->handler.ctx, s);
        return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        return received(s, wsi, in, len);
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return s->drop ? -1 : send_one(s, wsi);
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        if (s->wsi && (s->stopping || s->drop || queue_waits(s)))
            lws_callback_on_writable(s->wsi);
        return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_CLIENT_CLOSED:
        lost(s);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY: /* all that is told of a connection whose upgrade was not answered in time */
        if (wsi == s->wsi)
            lost(s);
        return 0;
    default:
        return 0;
    }
}

static void connect_now(struct stream *s)
{
    struct lws_client_connect_info info = {
        .context = s->context,
        .address = s->host,
        .port = s->port,
        .path = s->path,
        .host = s->host,
        .origin = s->host,
        .protocol = PROTOCOL,
        .local_protocol_name = PROTOCOL,
        .ssl_connection = s->tls ? LCCSCF_USE_SSL : 0,
        .pwsi = &s->wsi,
    };
    s->drop = false;
    s->retry_at = INT64_MAX; /* until it is lost */
    if (!lws_client_connect_via_info(&info) && s->retry_at == INT64_MAX)
        lost(s);
}

/* lws_service blocks until something happens; the ticker makes it return, so that the loop looks at the clock. */
struct ticker {
    lws_sorted_usec_list_t sul; /* first: lws hands back a pointer to it */
    struct stream *stream;
};
static void tick(lws_sorted_usec_list_t *sul)
{
    struct ticker *t = (struct ticker *)(void *)sul;
    lws_sul_schedule(t->stream->context, 0, sul, tick, 50 * LWS_US_PER_MS);
}

static void *run(void *arg)
{
    struct stream *s = arg;
    struct ticker ticker = {.stream = s};
    pthread_setname_np(pthread_self(), "stream");
    tick(&ticker.sul);
    while (!s->stopping || s->wsi) {
        int64_t now = clock_boot_ms();
        if (!s->wsi && !s->stopping && now >= s->retry_at)
            connect_now(s);
        if (s->stopping && now > s->stop_by)
            break;
        lws_service(s->context, 0);
    }
    lws_sul_cancel(&ticker.sul);
    return NULL;
}

static int parse_url(struct stream *s, const char *url)
{
    const char *rest = strstr(url, "://");
    if (!rest)
        return -1;
    s->tls = strncmp(url, "https", 5) == 0;
    rest += 3;
    size_t host_len = strcspn(rest, ":/");
    const char *after = rest + host_len;
    if (*rest == '[') {
        rest++;
        host_len = strcspn(rest, "]");
        after = rest + host_len + 1;
    }
    if (host_len == 0 || host_len >= sizeof s->host)
        return -1;
    memcpy(s->host, rest, host_len);
    s->port = *after == ':' ? atoi(after + 1) : s->tls ? 443 : 80;
    strcpy(s->path, PATH);
    return 0;
}

struct stream *stream_start(struct remote *remote, const struct stream_handler *h)
{
    struct stream *s = mem_alloc(sizeof *s);
    s->remote = remote;
    s->handler = *h;
    s->last = &s->first;
    s->retry_ms = RETRY_MIN_MS;
    pthread_mutex_init(&s->lock, NULL);
    s->protocols[0] = (struct lws_protocols){.name = PROTOCOL, .callback = callback, .rx_buffer_size = 64 << 10};
    lws_set_log_level(0, NULL);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = s->protocols,
        .user = s,
        .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .fd_limit_per_thread = 16,
        .timeout_secs = CONNECT_S,
    };
    if (parse_url(s, remote_url(remote)) || !(s->context = lws_create_context(&info)) ||
        pthread_create(&s->thread, NULL, run, s) != 0) {
        log_error("the stream to %s could not be set up", remote_url(remote));
        if (s->context)
            lws_context_destroy(s->context);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return NULL;
    }
    return s;
}

void stream_stop(struct stream *s)
{
    if (!s)
        return;
    s->stop_by = clock_boot_ms() + 1000; /* the last moment for what waits to be sent */
    s->stopping = true;
    lws_cancel_service(s->context);
    pthread_join(s->thread, NULL);
    queue_clear(s);
    lws_context_destroy(s->context);
    buf_fini(&s->incoming);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
