/* A request's body: by Content-Length or chunked (RFC 9112, 7.1), in memory or, for routes with ROUTE_SPOOL, in an unlinked file. */
#include "common/log.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CHUNK_NOISE_MAX 4096 /* extensions and trailers, which nobody here reads */

static bool spools(const struct request *rq)
{
    return rq->route && (rq->route->flags & ROUTE_SPOOL);
}

/* Accounts for n bytes that came into rq->call.body. */
static enum body_result grown(struct request *rq, size_t n)
{
    struct http_server *s = rq->server;
    rq->call.body_len += n;
    rq->counted += n;
    uint64_t all = atomic_fetch_add(&s->body_memory, n) + n;
    if (rq->call.body_len > rq->body_max)
        return BODY_TOO_LARGE;
    if (s->cfg.body_memory_max && all > s->cfg.body_memory_max)
        return BODY_NO_MEMORY;
    return spools(rq) && rq->call.body.len >= SPOOL_PIECE ? BODY_FULL : BODY_MORE;
}

void body_release(struct request *rq)
{
    atomic_fetch_sub(&rq->server->body_memory, rq->counted);
    rq->counted = 0;
}

size_t body_room(struct request *rq, char **ret)
{
    if (rq->chunked)
        return 0;
    struct buf *b = &rq->call.body;
    uint64_t left = rq->content_length - rq->call.body_len;
    size_t room = left < (256u << 10) ? (size_t)left : 256u << 10;
    if (b->len == 0 && left <= SPOOL_PIECE)
        buf_reserve(b, (size_t)left);
    else if (b->cap - b->len < room + 1)
        buf_reserve(b, room);
    *ret = b->data + b->len;
    return room;
}

enum body_result body_received(struct request *rq, size_t n)
{
    rq->call.body.len += n;
    rq->call.body.data[rq->call.body.len] = 0;
    enum body_result r = grown(rq, n);
    if ((r == BODY_MORE || r == BODY_FULL) && rq->call.body_len == rq->content_length) {
        rq->body_done = true;
        return BODY_DONE;
    }
    return r;
}

static enum body_result take_plain(struct request *rq, const char *p, size_t n, size_t *ret_used)
{
    uint64_t left = rq->content_length - rq->call.body_len;
    if (n > left)
        n = (size_t)left;
    *ret_used = n;
    buf_reserve(&rq->call.body, n);
    memcpy(rq->call.body.data + rq->call.body.len, p, n);
    return body_received(rq, n);
}

static bool size_digit(struct request *rq, unsigned char c)
{
    if (!isxdigit(c) || ++rq->chunk_digits > 15)
        return false;
    rq->chunk_left = rq->chunk_left * 16 + (uint64_t)(isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    return true;
}

/* One byte of framing. false: malformed. */
static bool chunk_step(struct request *rq, unsigned char c)
{
    switch (rq->chunk_state) {
    case CHUNK_SIZE:
        if (rq->chunk_digits && c == ';')
            rq->chunk_state = CHUNK_EXTENSION;
        else if (rq->chunk_digits && c == '\r')
            rq->chunk_state = CHUNK_SIZE_LF;
        else
            return size_digit(rq, c);
        return true;
    case CHUNK_EXTENSION:
        if (c == '\r')
            rq->chunk_state = CHUNK_SIZE_LF;
        return c != '\n' && ++rq->chunk_noise <= CHUNK_NOISE_MAX;
    case CHUNK_SIZE_LF:
        rq->chunk_digits = 0; /* from here: bytes in the trailer's line */
        rq->chunk_state = rq->chunk_left ? CHUNK_DATA : CHUNK_TRAILER;
        return c == '\n';
    case CHUNK_DATA_CR:
        rq->chunk_state = CHUNK_DATA_LF;
        return c == '\r';
    case CHUNK_DATA_LF:
        rq->chunk_state = CHUNK_SIZE;
        return c == '\n';
    case CHUNK_TRAILER:
        if (c == '\r')
            rq->chunk_state = CHUNK_TRAILER_LF;
        else
            rq->chunk_digits++;
        return c != '\n' && ++rq->chunk_noise <= CHUNK_NOISE_MAX;
    case CHUNK_TRAILER_LF:
        rq->chunk_state = rq->chunk_digits ? CHUNK_TRAILER : CHUNK_DONE;
        rq->chunk_digits = 0;
        return c == '\n';
    default:
        return false;
    }
}

static enum body_result take_chunked(struct request *rq, const char *p, size_t n, size_t *ret_used)
{
    size_t used = 0;
    enum body_result r = BODY_MORE;
    while (used < n && r == BODY_MORE) {
        if (rq->chunk_state != CHUNK_DATA) {
            if (!chunk_step(rq, (unsigned char)p[used++]))
                r = BODY_BAD;
            else if (rq->chunk_state == CHUNK_DONE)
                r = BODY_DONE;
            continue;
        }
        size_t take = n - used < rq->chunk_left ? n - used : (size_t)rq->chunk_left;
        buf_append(&rq->call.body, p + used, take);
        used += take;
        rq->chunk_left -= take;
        if (rq->chunk_left == 0)
            rq->chunk_state = CHUNK_DATA_CR;
        r = grown(rq, take);
    }
    rq->body_done = r == BODY_DONE;
    *ret_used = used;
    return r;
}

enum body_result body_take(struct request *rq, const char *p, size_t n, size_t *ret_used)
{
    return rq->chunked ? take_chunked(rq, p, n, ret_used) : take_plain(rq, p, n, ret_used);
}

static int spool_open(const char *dir)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT))
        return fd < 0 ? -errno : fd;
    CLEANUP_FREE char *path = mem_printf("%s/body-XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path);
    return fd;
}

int body_spool(struct request *rq)
{
    struct call *c = &rq->call;
    if (c->body_fd < 0) {
        int fd = spool_open(rq->server->cfg.spool_dir);
        if (fd < 0)
            return fd;
        c->body_fd = fd;
    }
    for (size_t done = 0; done < c->body.len;) {
        ssize_t n = write(c->body_fd, c->body.data + done, c->body.len - done);
        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t)n : 0;
    }
    c->body.len = 0;
    body_release(rq);
    return 0;
}
