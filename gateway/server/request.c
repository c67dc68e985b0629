/* A request's head (RFC 9112, sections 2 to 6), read strictly: whatever two readers could understand differently is refused, since there may be a proxy in front. */
#include "common/clock.h"
#include "common/hash.h"
#include "common/mem.h"
#include "common/url.h"
#include "gateway/server/server.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

/* Headers that may come once only: what decides about framing, identity, or what a handler does. Those whose name begins with x-cairn- or x-chunk- too. */
static const char *const single[] = {
    "authorization", "content-encoding", "content-length", "content-type", "date", "expect", "host", "idempotency-key",
    "if-modified-since", "if-range", "if-unmodified-since", "origin", "range", "sec-websocket-key", "sec-websocket-version",
    "traceparent", "transfer-encoding", "user-agent",
};

static bool is_single(const char *name)
{
    if (strncmp(name, "x-cairn-", 8) == 0 || strncmp(name, "x-chunk-", 8) == 0)
        return true;
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (strcmp(single[i], name) == 0)
            return true;
    return false;
}

static bool is_token_char(unsigned char c)
{
    return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

bool text_is_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!is_token_char((unsigned char)p[i]))
            return false;
    return n > 0;
}

bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p && *p;) {
        p += strspn(p, " \t,");
        size_t len = strcspn(p, ",");
        const char *next = p + len;
        while (len && (p[len - 1] == ' ' || p[len - 1] == '\t'))
            len--;
        if (len == n && strncasecmp(p, word, n) == 0)
            return true;
        p = next;
    }
    return false;
}

/* Trace ids need to be unlike, not secret. */
static void fresh_bytes(void *ret, size_t n)
{
    static _Thread_local uint8_t pool[1024];
    static _Thread_local size_t left;
    if (left < n) {
        if (getrandom(pool, sizeof pool, 0) != (ssize_t)sizeof pool)
            memset(pool, 0x5a, sizeof pool);
        left = sizeof pool;
    }
    left -= n;
    memcpy(ret, pool + left, n);
}

struct request *request_new(struct http_server *s, const char *peer)
{
    struct request *rq = mem_alloc(sizeof *rq);
    atomic_fetch_add(&s->refs, 1);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    rq->started_ns = clock_ns(now);
    rq->server = s;
    rq->body_done = true;
    rq->method = -1;
    rq->call.body_fd = -1;
    rq->call.server = s;
    rq->call.app = s->cfg.app;
    rq->call.started_ms = s->now_ms;
    rq->call.path = "";
    snprintf(rq->call.peer, sizeof rq->call.peer, "%s", peer);
    uint8_t id[16];
    fresh_bytes(id, sizeof id);
    hex_encode(id, sizeof id, rq->call.trace_id);
    return rq;
}

void request_free(struct request *rq)
{
    struct call *c = &rq->call;
    if (c->stream_free)
        c->stream_free(c->stream_ctx);
    if (c->principal_free)
        c->principal_free(c->principal);
    body_release(rq);
    if (c->body_fd >= 0)
        close(c->body_fd);
    buf_fini(&c->body);
    buf_fini(&c->out);
    buf_fini(&c->headers);
    buf_fini(&rq->answer);
    buf_fini(&rq->piece);
    for (unsigned i = 0; i < rq->n_fields; i++)
        free(rq->fields[i].joined);
    free(rq->head);
    free(rq->params);
    struct http_server *s = rq->server;
    free(rq);
    server_unref(s);
}

static struct field *field_find(const struct request *rq, const char *name)
{
    for (unsigned i = 0; i < rq->n_fields; i++)
        if (strcmp(rq->fields[i].name, name) == 0)
            return (struct field *)&rq->fields[i];
    return NULL;
}

const char *call_header(const struct call *c, const char *name)
{
    const struct field *f = field_find(request_of(c), name);
    return f ? f->value : NULL;
}

static int refuse(int status, const char *why, const char **ret_why)
{
    *ret_why = why;
    return status;
}

/* The method, the path (raw) and the query, out of a request line that is now a text. */
static int parse_request_line(struct request *rq, char *line, const char **ret_why)
{
    char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
    if (!version || !text_is_token(line, (size_t)(target - line)))
        return refuse(400, "malformed request line", ret_why);
    *target++ = 0;
    *version++ = 0;
    if (strcmp(version, "HTTP/1.0") == 0)
        rq->http10 = true;
    else if (strncmp(version, "HTTP/", 5) != 0)
        return refuse(400, "malformed request line", ret_why);
    else if (strcmp(version, "HTTP/1.1") != 0)
        return refuse(505, "this server speaks HTTP/1.1", ret_why);
    for (int m = 0; m < HTTP_METHODS; m++)
        if (strcmp(line, http_method_name(m)) == 0)
            rq->method = m;
    rq->call.method = rq->method < 0 ? HTTP_GET : (enum http_method)rq->method;
    if (strlen(target) > TARGET_MAX)
        return refuse(414, "the request's target is too long", ret_why);
    for (const char *p = target; *p; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
            return refuse(400, "malformed request target", ret_why);
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) { /* absolute-form */
        char *rest = strchr(target, ':') + 3;
        size_t authority = strcspn(rest, "/?");
        target = rest + authority;
    }
    if (*target != '/')
        return refuse(400, "malformed request target", ret_why);
    rq->call.path = target;
    char *query = strchr(target, '?');
    if (query) {
        *query = 0;
        rq->query = query + 1;
    }
    return 0;
}

static int parse_field(struct request *rq, char *line, const char **ret_why)
{
    char *colon = strchr(line, ':');
    /* A space before the colon and a folded line (RFC 9112, 5.1 and 5.2) fail here: neither is a token. */
    if (!colon || !text_is_token(line, (size_t)(colon - line)))
        return refuse(400, "malformed header", ret_why);
    *colon = 0;
    for (char *p = line; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    char *value = colon + 1 + strspn(colon + 1, " \t");
    size_t n = strlen(value);
    while (n && (value[n - 1] == ' ' || value[n - 1] == '\t'))
        value[--n] = 0;
    for (const char *p = value; *p; p++)
        if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
            return refuse(400, "malformed header", ret_why);
    struct field *f = field_find(rq, line);
    if (f) {
        if (is_single(line))
            return refuse(400, "a header that may come once came twice", ret_why);
        char *joined = mem_printf("%s, %s", f->value, value);
        free(f->joined);
        f->value = f->joined = joined;
        return 0;
    }
    if (rq->n_fields == HEADERS_MAX)
        return refuse(431, "too many headers", ret_why);
    rq->fields[rq->n_fields++] = (struct field){line, value, NULL};
    return 0;
}

/* RFC 9112, section 6. */
static int parse_framing(struct request *rq, const char **ret_why)
{
    const char *length = call_header(&rq->call, "content-length");
    const char *coding = call_header(&rq->call, "transfer-encoding");
    if (length && coding)
        return refuse(400, "both Content-Length and Transfer-Encoding", ret_why);
    if (coding) {
        if (rq->http10)
            return refuse(400, "Transfer-Encoding in HTTP/1.0", ret_why);
        if (strcasecmp(coding, "chunked") != 0)
            return refuse(501, "the only transfer coding here is chunked", ret_why);
        rq->chunked = true;
        rq->body_done = false;
    }
    if (length) {
        size_t n = strlen(length);
        if (n == 0 || n > 18 || strspn(length, "0123456789") != n)
            return refuse(400, "malformed Content-Length", ret_why);
        rq->content_length = strtoull(length, NULL, 10);
        rq->body_done = rq->content_length == 0;
    }
    return 0;
}

static int parse_rest(struct request *rq, const char **ret_why)
{
    const char *host = call_header(&rq->call, "host");
    if (!host && !rq->http10)
        return refuse(400, "no Host", ret_why);
    if (host && strpbrk(host, " \t,/@\\?#"))
        return refuse(400, "malformed Host", ret_why);
    const char *connection = call_header(&rq->call, "connection");
    rq->keep_alive = rq->http10 ? list_has(connection, "keep-alive") : !list_has(connection, "close");
    rq->upgrade = list_has(connection, "upgrade") && list_has(call_header(&rq->call, "upgrade"), "websocket");
    const char *expect = call_header(&rq->call, "expect");
    if (expect && !rq->http10) {
        if (strcasecmp(expect, "100-continue") != 0)
            return refuse(417, "the only expectation known here is 100-continue", ret_why);
        rq->expects_continue = true;
    }
    return 0;
}

/* version "-" trace-id "-" parent-id "-" flags (W3C Trace Context, 3.2); anything else is as if absent. */
static void parse_trace(struct request *rq)
{
    const char *t = call_header(&rq->call, "traceparent");
    if (!t || strlen(t) < 55 || t[2] != '-' || t[35] != '-' || t[52] != '-' || strncmp(t, "ff", 2) == 0)
        return;
    if (strspn(t + 3, "0123456789abcdef") != 32 || strspn(t + 3, "0") >= 32)
        return;
    memcpy(rq->call.trace_id, t + 3, 32);
}

/* Each proxy adds whom it was asked by: what stands before the first one's entry is hearsay. */
static void parse_peer(struct request *rq)
{
    unsigned proxies = rq->server->cfg.proxies;
    const char *chain = proxies ? call_header(&rq->call, "x-forwarded-for") : NULL;
    if (!chain)
        return;
    size_t n = strlen(chain);
    const char *comma = memrchr(chain, ',', n);
    for (unsigned i = 1; i < proxies && comma; i++) {
        n = (size_t)(comma - chain);
        comma = memrchr(chain, ',', n);
    }
    const char *entry = comma ? comma + 1 : chain;
    entry += strspn(entry, " \t");
    size_t len = strspn(entry, "0123456789abcdefABCDEF.:");
    if (len && entry + len + strspn(entry + len, " \t") == chain + n)
        snprintf(rq->call.peer, sizeof rq->call.peer, "%.*s", (int)len, entry);
}

int request_parse(struct request *rq, const char *p, size_t n, const char **ret_why)
{
    if (memchr(p, 0, n))
        return refuse(400, "NUL in the head", ret_why);
    rq->head = mem_dup(p, n);
    char *at = rq->head, *end = rq->head + n - 2; /* the empty line */
    for (bool first = true; at < end; first = false) {
        char *eol = memchr(at, '\r', (size_t)(end - at));
        if (!eol || eol[1] != '\n' || memchr(at, '\n', (size_t)(eol - at)))
            return refuse(400, "a line does not end in CR LF", ret_why);
        *eol = 0;
        int status = first ? parse_request_line(rq, at, ret_why) : parse_field(rq, at, ret_why);
        if (status)
            return status;
        at = eol + 2;
    }
    int status = parse_framing(rq, ret_why);
    if (!status)
        status = parse_rest(rq, ret_why);
    parse_trace(rq);
    parse_peer(rq);
    return status;
}

static int decode_params(struct request *rq, const struct route_match *m, const char **ret_why)
{
    if (m->n_params == 0)
        return 0;
    size_t total = 0;
    for (unsigned i = 0; i < m->n_params; i++)
        total += m->params[i].n + 1;
    char *to = rq->params = mem_alloc(total);
    for (unsigned i = 0; i < m->n_params; i++) {
        ssize_t n = url_decode(m->params[i].p, m->params[i].n, to);
        if (n < 0 || memchr(to, 0, (size_t)n))
            return refuse(400, "malformed percent-encoding in the path", ret_why);
        rq->call.params[i] = to;
        to += n + 1;
    }
    return 0;
}

static int decode_query(struct request *rq, const char **ret_why)
{
    for (char *at = rq->query, *next; at; at = next) {
        next = strchr(at, '&');
        if (next)
            *next++ = 0;
        if (!*at)
            continue;
        if (rq->n_args == ARGS_MAX)
            return refuse(400, "too many arguments in the query", ret_why);
        char *value = strchr(at, '=');
        size_t name_len = value ? (size_t)(value - at) : strlen(at);
        value = value ? value + 1 : at + name_len;
        ssize_t n = url_decode(value, strlen(value), value);
        ssize_t nn = url_decode(at, name_len, at);
        if (n < 0 || nn < 0)
            return refuse(400, "malformed percent-encoding in the query", ret_why);
        struct arg a = {at, value, (size_t)nn, (size_t)n};
        for (unsigned i = 0; i < rq->n_args; i++)
            if (rq->args[i].name_len == a.name_len && memcmp(rq->args[i].name, a.name, a.name_len) == 0)
                return refuse(400, "an argument of the query came twice", ret_why);
        rq->args[rq->n_args++] = a;
    }
    return 0;
}

int request_decode(struct request *rq, const struct route_match *m, const char **ret_why)
{
    int status = decode_params(rq, m, ret_why);
    return status ? status : decode_query(rq, ret_why);
}

const char *call_query(const struct call *c, const char *name, size_t *ret_len)
{
    const struct request *rq = request_of(c);
    size_t n = strlen(name);
    for (unsigned i = 0; i < rq->n_args; i++)
        if (rq->args[i].name_len == n && memcmp(rq->args[i].name, name, n) == 0) {
            if (ret_len)
                *ret_len = rq->args[i].len;
            return rq->args[i].value;
        }
    return NULL;
}
