/* A request's head and body: however the bytes are cut into receives, the body that comes out is the same. */
#include "gateway/server/server.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

#define POST "POST /a/%41?x=%00&y=1+2 HTTP/1.1\r\nHost: h\r\n"
const struct fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED("GET http://h/items/7?q HTTP/1.1\r\nHost: h\r\nAccept: a\r\nAccept: b\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n"),
    FUZZ_SEED(POST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET"),
    FUZZ_SEED(POST "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: t\r\n\r\nGET"),
    FUZZ_SEED("GET /ws HTTP/1.0\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-For: 1.2.3.4, ::1\r\n\r\n"),
};
const size_t fuzz_seeds_n = sizeof fuzz_seeds / sizeof *fuzz_seeds;

static struct http_server server = {.cfg = {.proxies = 2}, .refs = 1};

/* NULL: refused. */
static struct request *parse(const char *p, size_t head)
{
    const char *why = NULL;
    struct request *rq = request_new(&server, "peer");
    rq->body_max = 1u << 20;
    int status = request_parse(rq, p, head, &why);
    if (!status) {
        struct route_match m = {.n_params = 1, .params = {{rq->call.path, strlen(rq->call.path)}}};
        FUZZ_MUST(*rq->call.path == '/');
        status = request_decode(rq, &m, &why);
    }
    if (!status)
        return rq;
    FUZZ_MUST(why && status >= 400 && status < 600);
    request_free(rq);
    return NULL;
}

/* Feeds the body in receives of at most `step`; how many bytes were used. */
static size_t feed(struct request *rq, const char *p, size_t n, size_t step, enum body_result *ret)
{
    size_t at = 0;
    *ret = BODY_MORE;
    while (!rq->body_done && at < n && *ret == BODY_MORE) {
        size_t used;
        *ret = body_take(rq, p + at, step < n - at ? step : n - at, &used);
        FUZZ_MUST(used > 0 && used <= n - at);
        at += used;
    }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *p = (const char *)data;
    const char *end = size ? memmem(p, size, "\r\n\r\n", 4) : NULL;
    size_t head = end ? (size_t)(end - p) + 4 : 0;
    struct request *whole = end ? parse(p, head) : NULL;
    if (!whole)
        return 0;
    struct request *bytes = parse(p, head);
    enum body_result a, b;
    size_t used_a = feed(whole, p + head, size - head, size, &a), used_b = feed(bytes, p + head, size - head, 1, &b);
    FUZZ_MUST(a == b && whole->body_done == bytes->body_done && whole->call.body.len == bytes->call.body.len);
    FUZZ_MUST(a == BODY_BAD || used_a == used_b);
    FUZZ_MUST(whole->call.body.len == 0 || memcmp(whole->call.body.data, bytes->call.body.data, whole->call.body.len) == 0);
    request_free(whole);
    request_free(bytes);
    FUZZ_MUST(server.body_memory == 0);
    return 0;
}
