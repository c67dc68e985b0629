#include "common/log.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define ACCEPT_BATCH 64
#define ACCEPT_PAUSE_MS 100
#define WARN_EVERY_MS 5000
/* Connections beyond the limit that are told so at a time; more than these are closed without a word. */
#define REFUSALS_MAX 64

static void keep_spare(struct http_server *s)
{
    if (s->spare_fd < 0)
        s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void resume(void *arg)
{
    struct listener *l = arg;
    keep_spare(l->server);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &l->src};
    if (l->fd >= 0)
        epoll_ctl(l->server->epoll_fd, EPOLL_CTL_MOD, l->fd, &ev);
}

/* Whoever wants to connect waits in the backlog, and the loop is not woken in vain. */
static void pause_accepting(struct listener *l)
{
    struct epoll_event ev = {.events = 0, .data.ptr = &l->src};
    epoll_ctl(l->server->epoll_fd, EPOLL_CTL_MOD, l->fd, &ev);
    http_server_timer(l->server, ACCEPT_PAUSE_MS, resume, l);
}

static void accepted(struct listener *l, int fd, const struct sockaddr_storage *from, socklen_t len)
{
    struct http_server *s = l->server;
    char peer[64] = "?";
    getnameinfo((const struct sockaddr *)from, len, peer, sizeof peer, NULL, 0, NI_NUMERICHOST);
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    bool full = !l->internal && s->n_conns - s->n_refused + s->n_sockets >= s->cfg.connections_max;
    if (full && s->n_refused >= REFUSALS_MAX) {
        metric_add(s->m_refused, 1);
        close(fd);
        return;
    }
    conn_new(l, fd, peer, full);
}

/* No descriptor is to be had: the spare one serves to tell a client so. false: there is nobody, or no spare. */
static bool turn_away(const struct listener *l)
{
    struct http_server *s = l->server;
    if (s->spare_fd < 0)
        return false;
    close(s->spare_fd);
    s->spare_fd = -1;
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        metric_add(s->m_refused, 1);
        conn_turn_away(fd);
        close(fd);
    }
    keep_spare(s);
    return fd >= 0;
}

static void no_descriptors(struct listener *l, int err)
{
    struct http_server *s = l->server;
    if (s->now_ms - s->warned_ms >= WARN_EVERY_MS || !s->warned_ms) {
        s->warned_ms = s->now_ms;
        log_warn("cannot accept: %s", strerror(err));
    }
    for (int i = 0; s->starved && i < ACCEPT_BATCH && turn_away(l); i++)
        ;
    s->starved = true; /* for a moment they wait; then they are told */
    pause_accepting(l);
}

static void listener_ready(struct source *src, uint32_t events)
{
    (void)events;
    struct listener *l = (struct listener *)src;
    for (int i = 0; i < ACCEPT_BATCH && l->fd >= 0; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        int fd = accept4(l->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            l->server->starved = false;
            accepted(l, fd, &from, len);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED)
            continue;
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            no_descriptors(l, errno);
        return;
    }
}

/* "ADDR:PORT" or "[ADDR]:PORT". */
static int resolve(const char *listen, struct addrinfo **ret)
{
    CLEANUP_FREE char *text = mem_strdup(listen);
    char *colon = strrchr(text, ':'), *host = text;
    if (!colon)
        return -EINVAL;
    *colon = 0;
    if (*host == '[' && colon[-1] == ']') {
        host++;
        colon[-1] = 0;
    }
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    return getaddrinfo(*host ? host : NULL, colon + 1, &hints, ret) == 0 ? 0 : -EINVAL;
}

static int port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        return -errno;
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port : ((struct sockaddr_in *)&at)->sin_port);
}

/* A bound socket. */
static int bind_socket(const struct addrinfo *a, bool shared)
{
    CLEANUP_CLOSE int fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    int one = 1;
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) != 0)
        return -errno;
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0)
        return -errno;
    int mine = fd;
    fd = -1;
    return mine;
}

static int open_socket(struct listener *l, const struct addrinfo *a)
{
    CLEANUP_CLOSE int fd = bind_socket(a, !l->internal && l->server->cfg.reuse_port);
    if (fd < 0)
        return fd;
    if (listen(fd, SOMAXCONN) != 0)
        return -errno;
    l->port = port_of(fd);
    if (l->port < 0)
        return l->port;
    int mine = fd;
    fd = -1;
    return mine;
}

/* Not shared, first: that alone fails where one listens who would share it. */
static int reserve(struct addrinfo *a, int *ret_port)
{
    int alone = bind_socket(a, false);
    if (alone < 0)
        return alone;
    *ret_port = port_of(alone);
    close(alone);
    in_port_t port = htons((uint16_t)*ret_port);
    if (a->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)a->ai_addr)->sin6_port = port;
    else
        ((struct sockaddr_in *)a->ai_addr)->sin_port = port;
    return bind_socket(a, true);
}

int http_reserve_address(const char *listen, int *ret_port)
{
    struct addrinfo *list = NULL;
    int fd = resolve(listen, &list);
    if (fd == 0) {
        fd = -EADDRNOTAVAIL;
        for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
            fd = reserve(a, ret_port);
        freeaddrinfo(list);
    }
    if (fd < 0)
        log_error("cannot listen on %s: %s", listen, strerror(-fd));
    return fd;
}

int listener_start(struct http_server *s, struct listener *l, const char *address)
{
    struct addrinfo *list = NULL;
    int fd = resolve(address, &list);
    l->server = s;
    if (fd == 0) {
        fd = -EADDRNOTAVAIL;
        for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next)
            fd = open_socket(l, a);
        freeaddrinfo(list);
    }
    if (fd < 0) {
        log_error("cannot listen on %s: %s", address, strerror(-fd));
        return fd;
    }
    l->fd = fd;
    l->src.ready = listener_ready;
    keep_spare(s);
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = &l->src};
    return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

void listener_stop(struct listener *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
    if (!l->internal && l->server && l->server->spare_fd >= 0) {
        close(l->server->spare_fd);
        l->server->spare_fd = -1;
    }
}
