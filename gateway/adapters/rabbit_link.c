/* One connection to RabbitMQ, and the thread that owns it: it connects, serves until something breaks, and goes on with the next node; after each round through all of
   them there is a pause, which grows and is random. The order of the nodes is random too, and each link's own: links are spread over the cluster, and those of a node that
   died are spread over the others. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/rabbit.h"

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define HEARTBEAT_S 10
#define CONNECT_S 5
#define ANSWER_S 10
#define STEP_MS 1000 /* heart-beats are sent by what step calls */
#define PAUSE_MIN_MS 200
#define PAUSE_MAX_MS 10000
#define CERTIFICATES "/etc/ssl/certs/ca-certificates.crt"
#define FRAME_MAX 131072

struct rabbit_link {
    const struct rabbit_url *url;
    const struct rabbit_link_ops *ops;
    void *ctx;
    pthread_t thread;
    int wake_fd;
    atomic_bool up, ending;
    /* the thread's */
    size_t order[RABBIT_HOSTS_MAX], turn;
    bool told[RABBIT_HOSTS_MAX]; /* in that order: that it is away has been logged */
    bool away;                   /* the connection was lost, or a node could not be reached: to be told when it is back */
};

/* ---- errors ---- */

int rabbit_status(int status, const char *what)
{
    if (status == AMQP_STATUS_OK)
        return 0;
    log_warn("rabbitmq: %s: %s", what, amqp_error_string2(status));
    return -EHOSTUNREACH;
}

int rabbit_reply(amqp_connection_state_t c, const char *what)
{
    amqp_rpc_reply_t r = amqp_get_rpc_reply(c);
    if (r.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        return rabbit_status(r.library_error, what);
    amqp_bytes_t text = amqp_cstring_bytes("refused");
    if (r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && r.reply.id == AMQP_CHANNEL_CLOSE_METHOD)
        text = ((amqp_channel_close_t *)r.reply.decoded)->reply_text;
    else if (r.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && r.reply.id == AMQP_CONNECTION_CLOSE_METHOD)
        text = ((amqp_connection_close_t *)r.reply.decoded)->reply_text;
    log_error("rabbitmq: %s: %.*s", what, (int)text.len, (const char *)text.bytes);
    return -EHOSTUNREACH;
}

int rabbit_closing(const amqp_frame_t *f, const char *what)
{
    if (f->frame_type != AMQP_FRAME_METHOD)
        return 0;
    switch (f->payload.method.id) {
    case AMQP_CHANNEL_CLOSE_METHOD: {
        const amqp_channel_close_t *e = f->payload.method.decoded;
        log_error("rabbitmq: %s: %.*s", what, (int)e->reply_text.len, (const char *)e->reply_text.bytes);
        return -EHOSTUNREACH;
    }
    case AMQP_BASIC_CANCEL_METHOD:     /* its queue was deleted: it is declared again with the next connection */
    case AMQP_CONNECTION_CLOSE_METHOD: /* it is shutting down */
        return -EHOSTUNREACH;
    default:
        return 0;
    }
}

/* ---- connecting ---- */

static amqp_socket_t *new_socket(amqp_connection_state_t c, const struct rabbit_url *u)
{
    if (!u->tls)
        return amqp_tcp_socket_new(c);
    amqp_socket_t *s = amqp_ssl_socket_new(c);
    if (s && amqp_ssl_socket_set_cacert(s, CERTIFICATES) != AMQP_STATUS_OK)
        log_warn("rabbitmq: %s cannot be read", CERTIFICATES);
    return s;
}

static int log_in(amqp_connection_state_t c, const struct rabbit_url *u, const struct url_address *at)
{
    struct timeval connect = {.tv_sec = CONNECT_S}, answer = {.tv_sec = ANSWER_S};
    amqp_socket_t *s = new_socket(c, u);
    amqp_set_handshake_timeout(c, &answer);
    amqp_set_rpc_timeout(c, &answer);
    int status = s ? amqp_socket_open_noblock(s, at->host, at->port, &connect) : AMQP_STATUS_NO_MEMORY;
    if (status != AMQP_STATUS_OK)
        return status;
    amqp_rpc_reply_t r = amqp_login(c, u->vhost, 0, FRAME_MAX, HEARTBEAT_S, AMQP_SASL_METHOD_PLAIN, u->user, u->password);
    if (r.reply_type == AMQP_RESPONSE_NORMAL)
        return AMQP_STATUS_OK;
    return r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? r.library_error : AMQP_STATUS_BAD_AMQP_DATA; /* refused: user, password or host are wrong */
}

static const struct url_address *node(const struct rabbit_link *l)
{
    return &l->url->at[l->order[l->turn]];
}

static amqp_connection_state_t connect_once(struct rabbit_link *l)
{
    amqp_connection_state_t c = amqp_new_connection();
    int status = c ? log_in(c, l->url, node(l)) : AMQP_STATUS_NO_MEMORY;
    if (status == AMQP_STATUS_OK)
        return c;
    if (!l->told[l->turn])
        log_warn("rabbitmq at %s:%u (%s) cannot be reached: %s", node(l)->host, node(l)->port, l->ops->name,
                 status == AMQP_STATUS_BAD_AMQP_DATA ? "it refuses the user, the password or the virtual host" : amqp_error_string2(status));
    l->told[l->turn] = l->away = true;
    if (c)
        amqp_destroy_connection(c);
    return NULL;
}

/* ---- the thread ---- */

static void clear_wake(struct rabbit_link *l)
{
    uint64_t n;
    while (read(l->wake_fd, &n, sizeof n) == (ssize_t)sizeof n)
        ;
}

static void wait_for_more(struct rabbit_link *l, amqp_connection_state_t c)
{
    struct pollfd fds[] = {{.fd = amqp_get_sockfd(c), .events = POLLIN}, {.fd = l->wake_fd, .events = POLLIN}};
    if (!amqp_frames_enqueued(c) && !amqp_data_in_buffer(c))
        poll(fds, 2, STEP_MS);
}

static void serve(struct rabbit_link *l, amqp_connection_state_t c)
{
    int err = l->ops->up(l->ctx, c);
    if (!err) {
        if (l->away)
            log_info("rabbitmq (%s): connected again, to %s:%u", l->ops->name, node(l)->host, node(l)->port);
        memset(l->told, 0, sizeof l->told);
        l->away = false;
    }
    l->up = err == 0;
    while (!err && !l->ending) {
        clear_wake(l);
        err = l->ops->step(l->ctx, c);
        amqp_maybe_release_buffers(c);
        if (!err && !l->ending)
            wait_for_more(l, c);
    }
    if (!err)
        err = l->ops->step(l->ctx, c);
    if (!err)
        amqp_connection_close(c, AMQP_REPLY_SUCCESS);
    l->up = false;
    l->away = true;
    l->ops->down(l->ctx);
}

static uint32_t random_below(uint32_t n)
{
    uint32_t r = 0;
    return getrandom(&r, sizeof r, 0) < 0 ? 0 : r % n;
}

/* Half of it is fixed and half of it random: gateways that lost the broker together do not come back together. */
static void pause_before_next(struct rabbit_link *l, unsigned failures)
{
    unsigned shift = failures < 6 ? failures : 6, ms = PAUSE_MIN_MS << shift;
    ms = ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
    int64_t until = clock_boot_ms() + ms / 2 + random_below(ms / 2 + 1), now;
    while (!l->ending && (now = clock_boot_ms()) < until) {
        struct pollfd fd = {.fd = l->wake_fd, .events = POLLIN};
        if (poll(&fd, 1, (int)(until - now)) > 0) {
            clear_wake(l);
            if (!l->ending) /* work for later: it does not make the pause shorter, nor this a busy loop */
                poll(NULL, 0, 10);
        }
    }
}

/* true: it went well for a while. */
static bool try_node(struct rabbit_link *l)
{
    amqp_connection_state_t c = connect_once(l);
    if (!c)
        return false;
    int64_t began = clock_boot_ms();
    serve(l, c);
    amqp_destroy_connection(c);
    return clock_boot_ms() - began > PAUSE_MAX_MS;
}

static void *run(void *arg)
{
    struct rabbit_link *l = arg;
    unsigned failures = 0;
    size_t tried = 0; /* in this round */
    pthread_setname_np(pthread_self(), l->ops->name);
    while (!l->ending) {
        if (try_node(l))
            failures = tried = 0;
        l->turn = (l->turn + 1) % l->url->n;
        if (++tried < l->url->n || l->ending)
            continue;
        pause_before_next(l, failures++);
        tried = 0;
    }
    return NULL;
}

static void shuffle(struct rabbit_link *l)
{
    for (size_t i = 0; i < l->url->n; i++) {
        size_t j = random_below((uint32_t)i + 1);
        l->order[i] = l->order[j];
        l->order[j] = i;
    }
}

struct rabbit_link *rabbit_link_new(const struct rabbit_url *u, const struct rabbit_link_ops *ops, void *ctx)
{
    struct rabbit_link *l = mem_alloc(sizeof *l);
    l->url = u;
    l->ops = ops;
    l->ctx = ctx;
    shuffle(l);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l->wake_fd < 0 || pthread_create(&l->thread, NULL, run, l) != 0)
        abort();
    return l;
}

void rabbit_link_wake(struct rabbit_link *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->wake_fd, &one, sizeof one);
    (void)n; /* EAGAIN: it is awake */
}

bool rabbit_link_is_up(struct rabbit_link *l)
{
    return l->up;
}

void rabbit_link_free(struct rabbit_link *l)
{
    l->ending = true;
    rabbit_link_wake(l);
    pthread_join(l->thread, NULL);
    close(l->wake_fd);
    free(l);
}
