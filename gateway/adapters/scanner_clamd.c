/* ClamAV's daemon, by its own protocol (clamd(8)): one connection per scan.

   zINSTREAM, then pieces with their length in front as four bytes in network order, an empty one at the end; the answer ends with NUL. What is larger than clamd's
   StreamMaxLength it answers in the middle, and closes: so whether it says anything is looked at before each piece. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/ports/scanner.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PORT_DEFAULT "3310"
#define CONNECT_MS 5000
#define SEND_MS 30000    /* without clamd taking anything */
#define ANSWER_MS 180000 /* clamd ends a scan by itself after MaxScanTime, two minutes by default */
#define PING_MS 3000
#define SLICE_MS 500     /* how late `stop` is noticed */
#define PIECE_MAX (256u << 10)
#define ANSWER_MAX 1024

struct clamd {
    struct scanner base;
    char *path, *host, *port; /* path, or host and port */
};

/* ---- waiting ---- */

static bool stopped(const atomic_bool *stop)
{
    return stop && *stop;
}

/* Which of `events` came. 0 and *ret, -ETIMEDOUT, -ECANCELED. */
static int wait_for(int fd, short events, int64_t until, const atomic_bool *stop, short *ret)
{
    for (;;) {
        int64_t left = until - clock_boot_ms();
        struct pollfd p = {.fd = fd, .events = events};
        if (stopped(stop))
            return -ECANCELED;
        if (left <= 0)
            return -ETIMEDOUT;
        int n = poll(&p, 1, left < SLICE_MS ? (int)left : SLICE_MS);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0) {
            *ret = p.revents;
            return 0;
        }
    }
}

/* ---- connecting ---- */

/* A socket that is connected, or a negative errno. */
static int connect_to(const struct sockaddr *addr, socklen_t len, int family, int64_t until)
{
    short came;
    int error = 0;
    socklen_t size = sizeof error;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int err = connect(fd, addr, len) == 0 ? 0 : -errno;
    if (err == -EINPROGRESS) {
        err = wait_for(fd, POLLOUT, until, NULL, &came);
        if (!err && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0)
            err = -error;
    }
    if (!err)
        return fd;
    close(fd);
    return err;
}

static int connect_path(const char *path, int64_t until)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    strcpy(addr.sun_path, path); /* its length was checked when it was opened */
    return connect_to((struct sockaddr *)&addr, sizeof addr, AF_UNIX, until);
}

static int connect_host(const char *host, const char *port, int64_t until)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list;
    if (getaddrinfo(host, port, &hints, &list))
        return -EHOSTUNREACH;
    int fd = -EHOSTUNREACH, left = 0;
    for (const struct addrinfo *a = list; a; a = a->ai_next)
        left++;
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next, left--) { /* one that says nothing leaves the others their share of the time */
        int64_t now = clock_boot_ms();
        fd = connect_to(a->ai_addr, a->ai_addrlen, a->ai_family, now + (until - now) / left);
    }
    freeaddrinfo(list);
    return fd;
}

static int connect_clamd(const struct clamd *c, int wait_ms)
{
    int64_t until = clock_boot_ms() + wait_ms;
    int fd = c->path ? connect_path(c->path, until) : connect_host(c->host, c->port, until);
    if (fd < 0)
        log_debug("clamd: %s", strerror(-fd));
    return fd < 0 ? -EHOSTUNREACH : fd;
}

/* ---- talking ---- */

/* 1: there is an answer already (or the connection ended): nothing more is wanted. */
static int send_all(int fd, const void *bytes, size_t n, const atomic_bool *stop)
{
    const char *p = bytes;
    int64_t until = clock_boot_ms() + SEND_MS;
    while (n) {
        short came;
        int err = wait_for(fd, POLLIN | POLLOUT, until, stop, &came);
        if (err)
            return err;
        if (came & (POLLIN | POLLHUP | POLLERR))
            return 1;
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return 1; /* why is in its answer, if it gave one */
        if (sent > 0) {
            p += sent;
            n -= (size_t)sent;
            until = clock_boot_ms() + SEND_MS;
        }
    }
    return 0;
}

/* The answer, up to its NUL. -EHOSTUNREACH: the connection ended without one. */
static int receive(int fd, int wait_ms, const atomic_bool *stop, char ret[ANSWER_MAX])
{
    size_t n = 0;
    int64_t until = clock_boot_ms() + wait_ms;
    while (n < ANSWER_MAX) {
        short came;
        int err = wait_for(fd, POLLIN, until, stop, &came);
        if (err)
            return err;
        ssize_t got = recv(fd, ret + n, ANSWER_MAX - n, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got <= 0)
            return -EHOSTUNREACH;
        if (memchr(ret + n, 0, (size_t)got))
            return 0;
        n += (size_t)got;
    }
    return -EIO; /* that is no answer of clamd's */
}

static int send_piece(int fd, const char *p, size_t n, const atomic_bool *stop)
{
    const uint8_t head[4] = {(uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    int err = send_all(fd, head, sizeof head, stop);
    return err ? err : send_all(fd, p, n, stop);
}

static int send_content(int fd, const struct scan_source *source, const atomic_bool *stop)
{
    const void *bytes = NULL;
    int64_t n;
    int err = send_all(fd, "zINSTREAM", sizeof "zINSTREAM", stop);
    while (!err && (n = source->next(source->ctx, &bytes)) > 0)
        for (int64_t at = 0; at < n && !err; at += PIECE_MAX)
            err = send_piece(fd, (const char *)bytes + at, n - at < PIECE_MAX ? (size_t)(n - at) : PIECE_MAX, stop);
    if (!err && n < 0)
        return (int)n;
    return err ? err : send_piece(fd, "", 0, stop);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* "stream: OK", "stream: NAME FOUND", "INSTREAM size limit exceeded. ERROR", "… ERROR". */
static int understand(const char *answer, enum scan_verdict *ret, char signature[SCAN_SIGNATURE_MAX])
{
    static const char before[] = "stream: ", found[] = " FOUND";
    signature[0] = 0;
    if (strcmp(answer, "stream: OK") == 0) {
        *ret = SCAN_CLEAN;
        return 0;
    }
    if (strncmp(answer, before, sizeof before - 1) == 0 && ends_with(answer, found)) {
        const char *name = answer + sizeof before - 1;
        snprintf(signature, SCAN_SIGNATURE_MAX, "%.*s", (int)(strlen(name) - (sizeof found - 1)), name);
        *ret = SCAN_INFECTED;
        return 0;
    }
    if (strstr(answer, "size limit exceeded")) {
        *ret = SCAN_TOO_LARGE;
        return 0;
    }
    log_warn("clamd said: %s", answer);
    return -EIO;
}

static int clamd_scan(struct scanner *base, const struct scan_source *source, const atomic_bool *stop, enum scan_verdict *ret, char signature[SCAN_SIGNATURE_MAX])
{
    char answer[ANSWER_MAX];
    int fd = connect_clamd((struct clamd *)base, CONNECT_MS);
    if (fd < 0)
        return fd;
    int err = send_content(fd, source, stop);
    if (err >= 0)
        err = receive(fd, ANSWER_MS, stop, answer);
    close(fd);
    return err ? err : understand(answer, ret, signature);
}

static int clamd_ping(struct scanner *base)
{
    char answer[ANSWER_MAX];
    int fd = connect_clamd((struct clamd *)base, PING_MS);
    if (fd < 0)
        return fd;
    int err = send_all(fd, "zPING", sizeof "zPING", NULL);
    if (err >= 0)
        err = receive(fd, PING_MS, NULL, answer);
    close(fd);
    return err ? err : strcmp(answer, "PONG") == 0 ? 0 : -EIO;
}

static void clamd_free(struct scanner *base)
{
    struct clamd *c = (struct clamd *)base;
    free(c->path);
    free(c->host);
    free(c->port);
    free(c);
}

static const struct scanner_ops ops = {clamd_scan, clamd_ping, clamd_free};

/* ---- the URL ---- */

static const char *path_of(const char *url)
{
    static const char scheme[] = "clamd:unix:";
    return strncmp(url, scheme, sizeof scheme - 1) == 0 ? url + sizeof scheme - 1 : NULL;
}

/* HOST, HOST:PORT, [V6], [V6]:PORT. */
static bool split_host(const char *text, char **ret_host, char **ret_port)
{
    bool v6 = text[0] == '[';
    const char *end = v6 ? strchr(text, ']') : text + strcspn(text, ":");
    const char *host = v6 ? text + 1 : text, *rest = end ? end + v6 : NULL;
    if (!end || end == host || (*rest && *rest != ':') || strcspn(text, "/?#@") != strlen(text))
        return false;
    const char *port = *rest ? rest + 1 : PORT_DEFAULT;
    if (!*port || strspn(port, "0123456789") != strlen(port) || strlen(port) > 5)
        return false;
    *ret_host = mem_printf("%.*s", (int)(end - host), host);
    *ret_port = mem_strdup(port);
    return true;
}

static struct clamd *parse(const char *url)
{
    static const char scheme[] = "clamd://";
    const char *path = path_of(url);
    struct clamd *c = mem_alloc(sizeof *c);
    c->base.ops = &ops;
    if (path && path[0] == '/' && strlen(path) < sizeof((struct sockaddr_un){0}).sun_path)
        c->path = mem_strdup(path);
    else if (path || strncmp(url, scheme, sizeof scheme - 1) != 0 || !split_host(url + sizeof scheme - 1, &c->host, &c->port)) {
        clamd_free(&c->base);
        return NULL;
    }
    return c;
}

const char *scanner_url_wrong(const char *url)
{
    if (strcmp(url, "none") == 0)
        return NULL;
    struct clamd *c = parse(url);
    if (!c)
        return "must be none, clamd:unix:/PATH or clamd://HOST[:PORT]";
    clamd_free(&c->base);
    return NULL;
}

int scanner_clamd_open(const char *url, struct scanner **ret)
{
    struct clamd *c = parse(url);
    if (!c) {
        log_error("virus scanner: %s: must be clamd:unix:/PATH or clamd://HOST[:PORT]", url);
        return -EINVAL;
    }
    *ret = &c->base;
    return 0;
}
