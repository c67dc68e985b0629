/* A real server on a free port in a thread of its own, and a client that says exactly what it is told to on a plain socket. */
#ifndef CAIRN_TESTS_HTTP_FIXTURE_H
#define CAIRN_TESTS_HTTP_FIXTURE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mem.h"
#include "gateway/server/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

struct fixture {
    struct http_server *server;
    pthread_t thread;
};

static inline void *fixture_run(void *arg)
{
    struct fixture *f = arg;
    return (void *)(intptr_t)http_server_run(f->server);
}

static inline void fixture_start(struct fixture *f, struct http_config cfg, const struct route *routes, size_t n, const struct ws_protocol *ws, size_t n_ws)
{
    cfg.listen = "127.0.0.1:0";
    cfg.workers_threads = 3;
    f->server = http_server_new(&cfg, routes, n, ws, n_ws);
    assert_non_null(f->server);
    assert_int_equal(pthread_create(&f->thread, NULL, fixture_run, f), 0);
}

static inline void fixture_stop(struct fixture *f)
{
    void *rc;
    http_server_stop(f->server, 2000);
    pthread_join(f->thread, &rc);
    assert_int_equal((intptr_t)rc, 0);
    http_server_free(f->server);
}

static inline int dial_port(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20}; /* only so that a test that fails does not hang */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static inline int dial(const struct fixture *f)
{
    return dial_port(http_server_port(f->server));
}

static inline void say_bytes(int fd, const void *p, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t k = send(fd, (const char *)p + done, n - done, MSG_NOSIGNAL);
        assert_true(k > 0);
        done += (size_t)k;
    }
}

static inline void say(int fd, const char *text)
{
    say_bytes(fd, text, strlen(text));
}

/* Reads until there are n bytes in b. false: the other side closed before. */
static inline bool hear_bytes(int fd, struct buf *b, size_t n)
{
    while (b->len < n) {
        buf_reserve(b, n - b->len);
        ssize_t k = recv(fd, b->data + b->len, n - b->len, 0);
        if (k < 0 && errno == ECONNRESET)
            return false;
        assert_true(k >= 0);
        if (k == 0)
            return false;
        b->len += (size_t)k;
        b->data[b->len] = 0;
    }
    return true;
}

static inline bool hears_end(int fd)
{
    CLEANUP_BUF struct buf b = {0};
    return !hear_bytes(fd, &b, 1);
}

struct heard {
    int status;
    struct buf head, body;
};

static inline void heard_fini(struct heard *h)
{
    buf_fini(&h->head);
    buf_fini(&h->body);
}
#define CLEANUP_HEARD CLEANUP(heard_fini)

/* The value of a header of the answer, up to the line's end, or NULL. */
static inline const char *heard_header(const struct heard *h, const char *name)
{
    CLEANUP_FREE char *line = mem_printf("\r\n%s: ", name);
    const char *at = strcasestr(h->head.data, line);
    return at ? at + strlen(line) : NULL;
}

static inline void hear_head(int fd, struct heard *h)
{
    while (!h->head.data || !strstr(h->head.data, "\r\n\r\n"))
        assert_true(hear_bytes(fd, &h->head, h->head.len + 1));
    assert_int_equal(sscanf(h->head.data, "HTTP/1.1 %d", &h->status), 1);
}

/* One answer, with its body by Content-Length. */
static inline void hear(int fd, struct heard *h, bool head_only)
{
    heard_fini(h);
    hear_head(fd, h);
    const char *length = heard_header(h, "Content-Length");
    if (length && !head_only)
        assert_true(hear_bytes(fd, &h->body, strtoul(length, NULL, 10)));
    buf_reserve(&h->body, 0);
    h->body.data[h->body.len] = 0;
}

/* Says it on a connection of its own; the answer. */
static inline void ask(const struct fixture *f, const char *text, struct heard *h)
{
    CLEANUP_CLOSE int fd = dial(f);
    say(fd, text);
    hear(fd, h, strncmp(text, "HEAD", 4) == 0);
}

static inline int status_of(const struct fixture *f, const char *text)
{
    CLEANUP_HEARD struct heard h = {0};
    ask(f, text, &h);
    return h.status;
}
/* It is a problem document (RFC 9457) that says so. */
static inline void check_problem(const struct heard *h, int status, const char *code)
{
    assert_int_equal(h->status, status);
    CLEANUP_JSON json_t *o = json_loads(h->body.data, 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "code")), code);
    assert_int_equal(json_integer_value(json_object_get(o, "status")), status);
    assert_int_equal(json_string_length(json_object_get(o, "traceId")), 32);
    assert_non_null(json_object_get(o, "title"));
    assert_non_null(json_object_get(o, "type"));
    assert_true(strncmp(heard_header(h, "Content-Type"), "application/problem+json", 24) == 0);
}

#define REST " HTTP/1.1\r\nHost: x\r\n\r\n"
#endif
