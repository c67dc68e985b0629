/* A gateway that a test makes up: HTTP/1.1 with kept-alive connections, one thread each, a handler per request, and faults at will. */
#ifndef CAIRN_TESTS_FAKE_HTTP_H
#define CAIRN_TESTS_FAKE_HTTP_H
#include "common/buf.h"
#include "common/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

struct fake_request {
    char method[16], path[1024];
    size_t head; /* X-Cairn-Head */
    char authorization[256], idempotency_key[64];
    char text[4096]; /* the whole head, for fake_header */
    struct buf body;
};
struct fake_answer {
    int status;           /* 0: the connection is cut instead */
    const char *headers;  /* "Name: value\r\n"…, or NULL */
    struct buf body;
    size_t promised;      /* so many bytes more than there are, and then the connection is cut */
};
struct fake_http {
    int fd, port;
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t closed;
    int connections[64];
    int n_connections;
    bool stop;
    void (*handle)(void *ctx, const struct fake_request *req, struct fake_answer *ans); /* called by any thread */
    void *ctx;
};
struct fake_connection {
    struct fake_http *http;
    int fd;
};

static inline const char *fake_header(const char *head, const char *name, char *ret, size_t room)
{
    ret[0] = 0;
    for (const char *p = head; (p = strstr(p, "\r\n")); ) {
        p += 2;
        size_t n = strlen(name);
        if (strncasecmp(p, name, n) == 0 && p[n] == ':') {
            p += n + 1 + strspn(p + n + 1, " ");
            size_t len = strcspn(p, "\r");
            snprintf(ret, room, "%.*s", (int)len, p);
            break;
        }
    }
    return ret;
}

static inline bool fake_read_request(int fd, struct buf *in, struct fake_request *req)
{
    char *end;
    char tmp[65536];
    ssize_t n;
    while (!in->data || !(end = strstr(in->data, "\r\n\r\n"))) {
        if ((n = recv(fd, tmp, sizeof tmp, 0)) <= 0)
            return false;
        buf_append(in, tmp, (size_t)n);
    }
    size_t head_len = (size_t)(end - in->data) + 4;
    end[2] = 0;
    char number[32];
    if (sscanf(in->data, "%15s %1023s", req->method, req->path) != 2)
        return false;
    size_t body_len = strtoul(fake_header(in->data, "Content-Length", number, sizeof number), NULL, 10);
    req->head = strtoul(fake_header(in->data, "X-Cairn-Head", number, sizeof number), NULL, 10);
    fake_header(in->data, "Authorization", req->authorization, sizeof req->authorization);
    snprintf(req->text, sizeof req->text, "%s", in->data);
    fake_header(in->data, "Idempotency-Key", req->idempotency_key, sizeof req->idempotency_key);
    buf_consume(in, head_len);
    while (in->len < body_len) {
        if ((n = recv(fd, tmp, sizeof tmp, 0)) <= 0)
            return false;
        buf_append(in, tmp, (size_t)n);
    }
    buf_append(&req->body, in->data ? in->data : "", body_len);
    if (body_len)
        buf_consume(in, body_len);
    return true;
}

static inline bool fake_send(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
        if (k <= 0)
            return false;
        p += k;
        n -= (size_t)k;
    }
    return true;
}

static inline void *fake_serve(void *arg)
{
    struct fake_connection *c = arg;
    struct buf in = {0};
    for (bool go_on = true; go_on;) {
        struct fake_request req = {0};
        struct fake_answer ans = {.status = 200};
        go_on = fake_read_request(c->fd, &in, &req);
        if (go_on) {
            c->http->handle(c->http->ctx, &req, &ans);
            struct buf out = {0};
            buf_appendf(&out, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n", ans.status, ans.body.len + ans.promised, ans.headers ? ans.headers : "");
            buf_append(&out, ans.body.data ? ans.body.data : "", ans.body.len);
            go_on = ans.status && fake_send(c->fd, out.data, out.len) && !ans.promised;
            buf_fini(&out);
        }
        buf_fini(&req.body);
        buf_fini(&ans.body);
    }
    buf_fini(&in);
    pthread_mutex_lock(&c->http->lock);
    for (int i = 0; i < c->http->n_connections; i++)
        if (c->http->connections[i] == c->fd) {
            c->http->connections[i] = c->http->connections[--c->http->n_connections];
            break;
        }
    close(c->fd);
    pthread_cond_signal(&c->http->closed);
    pthread_mutex_unlock(&c->http->lock);
    free(c);
    return NULL;
}

static inline void *fake_accept(void *arg)
{
    struct fake_http *f = arg;
    int fd;
    while ((fd = accept(f->fd, NULL, NULL)) >= 0) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct fake_connection *c = mem_alloc(sizeof *c);
        *c = (struct fake_connection){f, fd};
        pthread_mutex_lock(&f->lock);
        bool full = f->stop || f->n_connections == 64;
        if (!full)
            f->connections[f->n_connections++] = fd;
        pthread_mutex_unlock(&f->lock);
        pthread_t t;
        if (full || pthread_create(&t, NULL, fake_serve, c)) {
            close(fd);
            free(c);
        } else {
            pthread_detach(t);
        }
    }
    return NULL;
}

/* port 0: a free one; else that one again. */
static inline void fake_start(struct fake_http *f, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int one = 1;
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(f->fd, (struct sockaddr *)&a, sizeof a) || listen(f->fd, 64) || getsockname(f->fd, (struct sockaddr *)&a, &len)) {
        perror("fake gateway");
        abort();
    }
    f->port = ntohs(a.sin_port);
    f->stop = false;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->closed, NULL);
    pthread_create(&f->acceptor, NULL, fake_accept, f);
}

static inline void fake_stop(struct fake_http *f)
{
    pthread_mutex_lock(&f->lock);
    f->stop = true;
    pthread_mutex_unlock(&f->lock);
    shutdown(f->fd, SHUT_RDWR);
    pthread_join(f->acceptor, NULL);
    pthread_mutex_lock(&f->lock);
    for (int i = 0; i < f->n_connections; i++)
        shutdown(f->connections[i], SHUT_RDWR);
    while (f->n_connections)
        pthread_cond_wait(&f->closed, &f->lock);
    pthread_mutex_unlock(&f->lock);
    close(f->fd);
}
#endif
