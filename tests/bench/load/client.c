#include "client.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define READ_PIECE (64u << 10)
#define EVENTS 512

uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int add_gateway(struct client *c, const char *url)
{
    struct address at;
    const char *path;
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *list = NULL;
    if (c->n_to == CLIENT_GATEWAYS_MAX || url_parse(url, &at, &path) != 0 || getaddrinfo(at.host, at.port, &hints, &list) != 0)
        return -EINVAL;
    memcpy(&c->to[c->n_to++], list->ai_addr, sizeof *c->to);
    freeaddrinfo(list);
    snprintf(c->host, sizeof c->host, "%s:%s", at.host, at.port);
    return 0;
}

int client_init(struct client *c, const char *url, const char *token, unsigned sources, double limit_s)
{
    *c = (struct client){.token = token, .epoll_fd = -1};
    CLEANUP_FREE char *all = mem_strdup(url);
    char *rest = all;
    for (char *one; (one = strsep(&rest, ","));)
        if (add_gateway(c, one) != 0) {
            fprintf(stderr, "cairn-load: %s: not http://HOST:PORT[,…], %d at most\n", url, CLIENT_GATEWAYS_MAX);
            return -EINVAL;
        }
    if ((ntohl(c->to[0].sin_addr.s_addr) >> 24) == 127)
        c->sources = sources;
    c->end_us = now_us() + (uint64_t)(limit_s * 1e6);
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return c->epoll_fd < 0 ? -errno : 0;
}

void client_fini(struct client *c)
{
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
}

void link_close(struct link *l)
{
    if (l->fd <= 0)
        return;
    close(l->fd);
    l->client->open--;
    l->client->connecting -= !l->connected;
    l->fd = 0;
    l->connected = l->in_body = l->websocket = false;
    l->sent = 0;
    buf_fini(&l->in);
    buf_fini(&l->out);
    buf_fini(&l->body);
}

static void failed(struct link *l, const char *why)
{
    link_close(l);
    l->on_failure(l, why);
}

static int link_connect(struct link *l)
{
    struct client *c = l->client;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->sources) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000101u + c->next_source++ % c->sources)};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
            goto out;
    }
    if (connect(fd, (struct sockaddr *)&c->to[c->next_to++ % c->n_to], sizeof *c->to) != 0 && errno != EINPROGRESS)
        goto out;
    l->events = EPOLLIN | EPOLLOUT;
    struct epoll_event ev = {.events = l->events, .data.ptr = l};
    if (epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &ev) != 0)
        goto out;
    l->fd = fd;
    c->open++;
    c->connecting++;
    return 0;
out:;
    int err = -errno;
    close(fd);
    return err;
}

static void watch(struct link *l, unsigned events)
{
    struct epoll_event ev = {.events = events, .data.ptr = l};
    if (l->events != events && epoll_ctl(l->client->epoll_fd, EPOLL_CTL_MOD, l->fd, &ev) == 0)
        l->events = events;
}

static void flush(struct link *l)
{
    while (l->connected && l->sent < l->out.len) {
        ssize_t n = send(l->fd, l->out.data + l->sent, l->out.len - l->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            watch(l, EPOLLIN | EPOLLOUT);
            return;
        }
        if (n < 0) {
            failed(l, strerror(errno));
            return;
        }
        l->sent += (size_t)n;
    }
    if (!l->connected)
        return;
    l->out.len = l->sent = 0;
    if (l->websocket || l->out.cap > READ_PIECE)
        buf_fini(&l->out);
    watch(l, EPOLLIN);
}

void link_request(struct link *l, const char *method, const char *path, const char *headers, const void *body, size_t n)
{
    l->began_us = now_us();
    l->head_only = strcmp(method, "HEAD") == 0;
    l->body.len = 0;
    buf_appendf(&l->out, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, l->client->host);
    const char *token = l->token ? l->token : l->client->token;
    if (token)
        buf_appendf(&l->out, "Authorization: Bearer %s\r\n", token);
    if (body || strcmp(method, "GET") != 0)
        buf_appendf(&l->out, "Content-Length: %zu\r\n", n);
    buf_appendf(&l->out, "%s\r\n", headers ? headers : "");
    buf_append(&l->out, body, n);
    int err = l->fd > 0 ? 0 : link_connect(l);
    if (err)
        l->on_failure(l, strerror(-err));
    else
        flush(l);
}

void link_upgrade(struct link *l, const char *path, const char *protocol)
{
    CLEANUP_BUF struct buf headers = {0};
    buf_appendf(&headers, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: %s\r\n",
                protocol);
    link_request(l, "GET", path, headers.data, NULL, 0);
}

void link_send(struct link *l, const void *p, size_t n)
{
    ws_frame_put(&l->out, WS_TEXT, p, n);
    flush(l);
}

/* ---- receiving ---- */

static void take_body(struct link *l)
{
    size_t n = l->in.len < l->left ? l->in.len : (size_t)l->left;
    if (l->on_body)
        l->on_body(l, l->in.data, n);
    else
        buf_append(&l->body, l->in.data, n);
    l->left -= n;
    buf_consume(&l->in, n);
}

/* false: nothing more can be done now. */
static bool take_http(struct link *l)
{
    if (!l->in_body) {
        int got = http_head_parse(l->in.data, l->in.len, l->head_only, &l->head);
        if (got < 0)
            failed(l, "malformed answer");
        if (got <= 0)
            return false;
        buf_consume(&l->in, l->head.length);
        if (l->head.status == 100)
            return true;
        l->in_body = true;
        l->left = l->head.body;
    }
    take_body(l);
    if (l->left)
        return false;
    l->in_body = false;
    int status = l->head.status;
    l->websocket = status == 101;
    if (l->head.close) {
        struct buf body = l->body; /* on_answer may want it */
        l->body = (struct buf){0};
        link_close(l);
        l->body = body;
    }
    l->on_answer(l, status);
    return l->fd > 0;
}

static bool take_frame(struct link *l)
{
    struct ws_frame f;
    int got = l->in.len ? ws_frame_parse(l->in.data, l->in.len, &f) : 0;
    if (got < 0 || (got && f.opcode == WS_CLOSE)) {
        failed(l, got < 0 ? "malformed frame" : "closed by the gateway");
        return false;
    }
    if (got == 0)
        return false;
    if (f.opcode == WS_PING) {
        ws_frame_put(&l->out, WS_PONG, f.payload, f.length);
        flush(l);
        if (l->fd <= 0)
            return false;
    } else if (f.opcode != WS_PONG) {
        l->on_message(l, f.payload, f.length); /* the gateway does not split what it says to subscribers */
    }
    if (l->fd > 0)
        buf_consume(&l->in, f.whole);
    return l->fd > 0;
}

static void readable(struct link *l)
{
    static char piece[READ_PIECE]; /* many links: none keeps a buffer while nothing comes */
    ssize_t n = recv(l->fd, piece, sizeof piece, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        failed(l, n < 0 ? strerror(errno) : "closed by the gateway");
        return;
    }
    buf_append(&l->in, piece, (size_t)n);
    while (l->websocket ? take_frame(l) : l->in.len && take_http(l))
        ;
    if (l->fd > 0 && l->in.len == 0)
        buf_fini(&l->in);
}

bool client_step(struct client *c, int ms)
{
    struct epoll_event events[EVENTS];
    uint64_t now = now_us();
    if (now >= c->end_us)
        return false;
    int n = epoll_wait(c->epoll_fd, events, EVENTS, ms);
    for (int i = 0; i < n; i++) {
        struct link *l = events[i].data.ptr;
        if (l->fd > 0 && events[i].events & EPOLLOUT && !l->connected) {
            int err = 0;
            socklen_t len = sizeof err;
            getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len);
            if (err) {
                failed(l, strerror(err));
                continue;
            }
            l->connected = true;
            c->connecting--;
        }
        if (l->fd > 0 && l->connected && l->sent < l->out.len)
            flush(l);
        else if (l->fd > 0 && events[i].events & EPOLLOUT)
            watch(l, EPOLLIN);
        if (l->fd > 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            readable(l);
    }
    return true;
}
