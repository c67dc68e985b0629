/* What handlers put into an answer, and its head on the wire. */
#include "common/clock.h"
#include "common/hash.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <string.h>
#include <strings.h>
#include <zlib.h>

#define GZIP_MIN 1024

void call_add_header(struct call *c, const char *name, const char *value)
{
    if (!text_is_token(name, strlen(name)) || strpbrk(value, "\r\n")) {
        log_write(LOG_LEVEL_ERROR, c->trace_id, "a header that cannot be sent was left out");
        return;
    }
    buf_appendf(&c->headers, "%s: %s\r\n", name, value);
}

void call_json(struct call *c, int status, json_t *v)
{
    c->status = status;
    c->content_type = NULL;
    c->out.len = 0;
    jsonx_dump(v, &c->out);
    json_decref(v);
}

void response_refuse(struct request *rq, int status, const char *why)
{
    const char *code = status == 431 || status == 414 ? "head-too-large" : status == 501 || status == 505 ? "not-supported" : "bad-request";
    rq->keep_alive = false;
    call_problem(&rq->call, status, code, "%s", why);
}

/* "gzip;q=0" says no; "*" says yes (RFC 9110, 12.5.3). */
static bool accepts_gzip(const struct call *c)
{
    const char *p = call_header(c, "accept-encoding");
    bool any = false;
    for (; p && *p; p += strcspn(p, ",")) {
        p += strspn(p, ", \t");
        size_t n = strcspn(p, ";, \t");
        const char *q = p + n + strspn(p + n, " \t;");
        bool yes = strncasecmp(q, "q=", 2) != 0 || strtod(q + 2, NULL) > 0;
        if (n == 4 && strncasecmp(p, "gzip", 4) == 0)
            return yes;
        if (n == 1 && *p == '*')
            any = yes;
    }
    return any;
}

static bool gzip(const struct buf *plain, struct buf *ret)
{
    z_stream z = {0};
    if (plain->len > UINT32_MAX || deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    size_t bound = deflateBound(&z, plain->len);
    buf_reserve(ret, bound);
    z.next_in = (Bytef *)plain->data;
    z.avail_in = (uInt)plain->len;
    z.next_out = (Bytef *)ret->data;
    z.avail_out = (uInt)bound;
    int rc = deflate(&z, Z_FINISH);
    ret->len = z.total_out;
    deflateEnd(&z);
    return rc == Z_STREAM_END;
}

static void compress_json(struct request *rq, const char *type)
{
    struct call *c = &rq->call;
    bool json = strcmp(type, "application/json") == 0 || strcmp(type, "application/problem+json") == 0;
    if (!json || c->stream || c->out.len < GZIP_MIN)
        return;
    call_add_header(c, "Vary", "Accept-Encoding");
    if (!accepts_gzip(c))
        return;
    struct buf packed = {0};
    if (!gzip(&c->out, &packed)) {
        buf_fini(&packed);
        return;
    }
    buf_fini(&c->out);
    c->out = packed;
    call_add_header(c, "Content-Encoding", "gzip");
}

/* IMF-fixdate (RFC 9110, 5.6.7), made once a second and thread. */
static const char *date_text(void)
{
    static _Thread_local char text[40];
    static _Thread_local time_t made;
    time_t now = time(NULL);
    if (now != made) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm); /* the locale is never set: C */
        made = now;
    }
    return text;
}

void response_prepare(struct request *rq)
{
    struct call *c = &rq->call;
    if (c->status < 200 || c->status > 599) {
        log_write(LOG_LEVEL_ERROR, c->trace_id, "a handler left the status %d", c->status);
        call_problem(c, 500, "internal", "no answer was made");
    }
    const char *type = c->content_type ? c->content_type : "application/json";
    compress_json(rq, type);
    bool empty = c->status == 204 || c->status == 304;
    rq->bodyless = empty || rq->method == HTTP_HEAD;
    buf_reserve(&rq->answer, 512 + c->headers.len);
    buf_appendf(&rq->answer, "HTTP/1.1 %d %s\r\nDate: %s\r\n", c->status, http_status_title(c->status), date_text());
    uint64_t length = c->stream ? c->stream_len : c->out.len;
    if (!empty) {
        if (length || rq->method == HTTP_HEAD)
            buf_appendf(&rq->answer, "Content-Type: %s\r\n", type);
        buf_appendf(&rq->answer, "Content-Length: %llu\r\n", (unsigned long long)length);
    }
    /* The parent id would be that of a span of ours; none is recorded, so part of the trace id serves. */
    buf_appendf(&rq->answer, "X-Content-Type-Options: nosniff\r\ntraceparent: 00-%s-%.16s-01\r\n", c->trace_id, c->trace_id + 16);
    buf_append(&rq->answer, c->headers.data, c->headers.len);
}

static struct metric *requests_metric(struct request *rq)
{
    int status = rq->call.status ? rq->call.status : 499; /* 499: the client left before there was an answer */
    struct metric **slot = rq->entry ? &rq->entry->requests[status] : NULL;
    if (slot && *slot)
        return *slot;
    CLEANUP_FREE char *labels = mem_printf("method=\"%s\",route=\"%s\",status=\"%d\"", http_method_name(rq->method),
                                           rq->route ? rq->route->pattern : "", status);
    struct metric *m = metric_get(METRIC_COUNTER, "cairn_http_requests_total", labels, "Requests answered.");
    if (slot)
        *slot = m;
    return m;
}

void response_count(struct request *rq)
{
    struct call *c = &rq->call;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)(clock_ns(now) - rq->started_ns) / 1e9;
    metric_add(requests_metric(rq), 1);
    if (rq->entry)
        metric_observe(rq->entry->seconds, seconds);
    log_write(LOG_LEVEL_DEBUG, c->trace_id, "%s %s %s %d in %llu out %llu, %.1f ms", c->peer, http_method_name(rq->method), c->path, c->status,
              (unsigned long long)c->body_len, (unsigned long long)(c->stream ? rq->streamed : c->out.len), seconds * 1e3);
}
