/* HTTP as a client may speak it, well and badly, to a real server. */
#include "http_fixture.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define STREAM_PIECE (1u << 20)
#define STREAM_PIECES 12

static struct fixture f;
static atomic_int freed;
static struct call *pending;
static sem_t pending_there;

static void answer_text(struct call *c, const char *p, size_t n)
{
    c->status = 200;
    c->content_type = "text/plain";
    buf_append(&c->out, p, n);
}

static enum call_state params(struct call *c)
{
    call_json(c, 200, json_pack("{s:s,s:s}", "a", c->params[0], "b", c->params[1]));
    return CALL_DONE;
}

static enum call_state special(struct call *c)
{
    call_json(c, 200, json_pack("{s:s,s:s}", "special", c->params[0], "path", c->path));
    return CALL_DONE;
}

static enum call_state echo(struct call *c)
{
    answer_text(c, c->body.data ? c->body.data : "", c->body.len);
    return CALL_DONE;
}

static enum call_state query(struct call *c)
{
    size_t n = 0;
    const char *v = call_query(c, "a", &n);
    answer_text(c, v ? v : "none", v ? n : 4);
    return CALL_DONE;
}

/* What came, where it is, and whether its bytes are those that the test sends. */
static enum call_state spool(struct call *c)
{
    uint64_t bad = 0;
    struct stat st = {0};
    if (c->body_fd >= 0) {
        assert_int_equal(fstat(c->body_fd, &st), 0);
        char piece[4096];
        ssize_t n;
        for (uint64_t at = 0; (n = pread(c->body_fd, piece, sizeof piece, (off_t)at)) > 0; at += (uint64_t)n)
            for (ssize_t i = 0; i < n; i++)
                bad += piece[i] != (char)((at + (uint64_t)i) % 251);
    }
    call_json(c, 200, json_pack("{s:I,s:b,s:I,s:I}", "len", (json_int_t)c->body_len, "file", c->body_fd >= 0, "size", (json_int_t)st.st_size, "bad", (json_int_t)bad));
    return CALL_DONE;
}

static enum call_state wait_for_it(struct call *c)
{
    pending = c;
    sem_post(&pending_there);
    return CALL_PENDING;
}

struct stream {
    int left;
    bool cut;
};

static int stream_piece(void *ctx, struct buf *ret)
{
    struct stream *s = ctx;
    buf_reserve(ret, STREAM_PIECE);
    memset(ret->data + ret->len, 'a' + s->left, STREAM_PIECE);
    ret->len += STREAM_PIECE;
    if (s->cut && s->left < STREAM_PIECES - 1)
        return -EIO;
    return --s->left > 0;
}

static void stream_free(void *ctx)
{
    atomic_fetch_add(&freed, 1);
    free(ctx);
}

static enum call_state stream(struct call *c)
{
    struct stream *s = mem_alloc(sizeof *s);
    s->left = STREAM_PIECES;
    s->cut = call_query(c, "cut", NULL) != NULL;
    c->status = 200;
    c->content_type = "application/octet-stream";
    c->stream = stream_piece;
    c->stream_free = stream_free;
    c->stream_ctx = s;
    c->stream_len = (uint64_t)STREAM_PIECE * STREAM_PIECES;
    return CALL_DONE;
}

static enum call_state long_json(struct call *c)
{
    json_t *list = json_array();
    for (int i = 0; i < 500; i++)
        json_array_append_new(list, json_integer(i));
    call_json(c, 200, list);
    return CALL_DONE;
}

static enum call_state no_such_thing(struct call *c)
{
    return call_errno(c, -ENOENT, "looking for it");
}

static enum call_state hostile_header(struct call *c)
{
    call_add_header(c, "X-Name", "a\r\nX-Injected: b");
    answer_text(c, "ok", 2);
    return CALL_DONE;
}

static bool authenticate(struct call *c)
{
    const char *who = call_header(c, "authorization");
    if (who && strcmp(who, "Bearer good") == 0)
        return true;
    call_problem(c, 401, "token-invalid", "who are you?");
    return false;
}

static const char *user_key(struct call *c)
{
    (void)c;
    return "somebody";
}

static const struct route routes[] = {
    {HTTP_GET, "/items/{}/chunk/{}", params, ROUTE_OPEN, 0},
    {HTTP_GET, "/items/special/{}", special, ROUTE_OPEN, 0},
    {HTTP_GET, "/inline", echo, ROUTE_OPEN | ROUTE_INLINE, 0},
    {HTTP_DELETE, "/inline", echo, ROUTE_OPEN | ROUTE_INLINE, 0},
    {HTTP_POST, "/echo", echo, ROUTE_OPEN, 4096},
    {HTTP_POST, "/private", echo, 0, 1u << 20},
    {HTTP_GET, "/query", query, ROUTE_OPEN, 0},
    {HTTP_PUT, "/spool", spool, ROUTE_OPEN | ROUTE_SPOOL, 64u << 20},
    {HTTP_GET, "/pending", wait_for_it, ROUTE_OPEN, 0},
    {HTTP_GET, "/stream", stream, ROUTE_OPEN, 0},
    {HTTP_GET, "/json", long_json, ROUTE_OPEN, 0},
    {HTTP_GET, "/errno", no_such_thing, ROUTE_OPEN, 0},
    {HTTP_GET, "/hostile", hostile_header, ROUTE_OPEN, 0},
};
#define N_ROUTES (sizeof routes / sizeof *routes)

static int start(void **state)
{
    (void)state;
    sem_init(&pending_there, 0, 0);
    fixture_start(&f, (struct http_config){.authenticate = authenticate, .user_key = user_key}, routes, N_ROUTES, NULL, 0);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

static void paths_find_their_route(void **state)
{
    (void)state;
    CLEANUP_HEARD struct heard h = {0};
    ask(&f, "GET /items/a%2Fb+c/chunk/%c3%a4" REST, &h);
    assert_string_equal(h.body.data, "{\"a\":\"a/b+c\",\"b\":\"\xc3\xa4\"}");
    ask(&f, "GET /items/special/x%20y?q" REST, &h);
    assert_string_equal(h.body.data, "{\"special\":\"x y\",\"path\":\"/items/special/x%20y\"}");
    ask(&f, "GET /items/special/chunk/7" REST, &h); /* the literal does not go on: back to {} */
    assert_string_equal(h.body.data, "{\"a\":\"special\",\"b\":\"7\"}");
    ask(&f, "GET http://elsewhere/inline" REST, &h);
    assert_int_equal(h.status, 200);
    ask(&f, "GET /nowhere" REST, &h);
    check_problem(&h, 404, "no-such-endpoint");
    assert_int_equal(status_of(&f, "GET /items//chunk/7" REST), 404);
    assert_int_equal(status_of(&f, "GET /inline/" REST), 404);
    assert_int_equal(status_of(&f, "GET /items/%00/chunk/7" REST), 400);
    assert_int_equal(status_of(&f, "GET /items/%4/chunk/7" REST), 400);
}

static void other_methods_are_named(void **state)
{
    (void)state;
    CLEANUP_HEARD struct heard h = {0};
    ask(&f, "PUT /inline" REST, &h);
    check_problem(&h, 405, "method-not-allowed");
    assert_true(strncmp(heard_header(&h, "Allow"), "GET, HEAD, DELETE\r\n", 19) == 0);
    assert_int_equal(status_of(&f, "BREW /inline" REST), 405);
    ask(&f, "OPTIONS /inline" REST, &h);
    assert_int_equal(h.status, 204);
    assert_null(heard_header(&h, "Content-Length"));
    ask(&f, "GET /errno" REST, &h);
    check_problem(&h, 404, "not-found");
    assert_non_null(strstr(h.body.data, "\"errno\":\"ENOENT\""));
}

static void queries_are_bytes(void **state)
{
    (void)state;
    CLEANUP_HEARD struct heard h = {0};
    ask(&f, "GET /query?b=1&a=x+%2B%26%00%ff&c" REST, &h);
    assert_int_equal(h.body.len, 6);
    assert_memory_equal(h.body.data, "x++&\0\xff", 6);
    ask(&f, "GET /query?%61=y" REST, &h);
    assert_string_equal(h.body.data, "y");
    ask(&f, "GET /query?aa=y" REST, &h);
    assert_string_equal(h.body.data, "none");
    assert_int_equal(status_of(&f, "GET /query?a=%zz" REST), 400);
    assert_int_equal(status_of(&f, "GET /query?a=1&a=2" REST), 400);
}

static void one_connection_many_requests(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    for (int i = 0; i < 3; i++) {
        say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
        hear(fd, &h, false);
        assert_string_equal(h.body.data, "ab");
    }
    say(fd, "\r\nGET /inline HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    hear(fd, &h, false);
    assert_non_null(heard_header(&h, "Connection"));
    assert_true(hears_end(fd));
}

static void pipelined_requests_keep_their_order(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    CLEANUP_BUF struct buf all = {0};
    for (int i = 0; i < 100; i++) {
        buf_appendf(&all, "GET /query?a=%d HTTP/1.1\r\nHost: x\r\n\r\n", i); /* by a worker */
        buf_appendf(&all, "GET /inline HTTP/1.1\r\nHost: x\r\n\r\n");         /* by the loop */
        buf_appendf(&all, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n3;y=z\r\n%03d\r\n0\r\nT: t\r\n\r\n", i);
    }
    say_bytes(fd, all.data, all.len);
    for (int i = 0; i < 100; i++) {
        char want[16];
        snprintf(want, sizeof want, "%d", i);
        hear(fd, &h, false);
        assert_string_equal(h.body.data, want);
        hear(fd, &h, false);
        assert_int_equal(h.body.len, 0);
        snprintf(want, sizeof want, "x%03d", i);
        hear(fd, &h, false);
        assert_string_equal(h.body.data, want);
    }
}

static void head_is_get_without_body(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, "HEAD /query?a=abc" REST "HEAD /stream" REST "HEAD /nowhere" REST "GET /query?a=z" REST);
    hear(fd, &h, true);
    assert_int_equal(strtol(heard_header(&h, "Content-Length"), NULL, 10), 3);
    hear(fd, &h, true);
    assert_int_equal(strtol(heard_header(&h, "Content-Length"), NULL, 10), (long)STREAM_PIECE * STREAM_PIECES);
    hear(fd, &h, true);
    assert_int_equal(h.status, 404);
    hear(fd, &h, false);
    assert_string_equal(h.body.data, "z");
}

static void who_asks_is_known_before_a_large_body(void **state)
{
    (void)state;
    assert_int_equal(status_of(&f, "POST /private HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"), 401);
    assert_int_equal(status_of(&f, "POST /private HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"), 401);
    CLEANUP_HEARD struct heard h = {0};
    CLEANUP_FREE char *text = mem_printf("POST /private HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer good\r\nContent-Length: 100000\r\n\r\n%0100000d", 7);
    ask(&f, text, &h);
    assert_int_equal(h.status, 200);
    assert_int_equal(h.body.len, 100000);
}

static size_t read_pattern(char *p, size_t size, size_t n, void *ctx)
{
    uint64_t *at = ctx, end = 5000000;
    size_t k = size * n < end - *at ? size * n : (size_t)(end - *at);
    for (size_t i = 0; i < k; i++)
        p[i] = (char)((*at + i) % 251);
    *at += k;
    return k;
}

static size_t keep(char *p, size_t size, size_t n, void *ctx)
{
    buf_append(ctx, p, size * n);
    return size * n;
}

static void curl_puts(const char *path, bool chunked, struct buf *ret)
{
    CURL *curl = curl_easy_init();
    CLEANUP_FREE char *url = mem_printf("http://127.0.0.1:%d%s", http_server_port(f.server), path);
    uint64_t at = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, read_pattern);
    curl_easy_setopt(curl, CURLOPT_READDATA, &at);
    if (!chunked)
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)5000000);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, ret);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 20L);
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_cleanup(curl);
}

static void large_bodies_go_to_a_file(void **state)
{
    (void)state;
    for (int chunked = 0; chunked < 2; chunked++) {
        CLEANUP_BUF struct buf out = {0};
        curl_puts("/spool", chunked, &out);
        assert_string_equal(out.data, "{\"len\":5000000,\"file\":true,\"size\":5000000,\"bad\":0}");
    }
    CLEANUP_HEARD struct heard h = {0};
    ask(&f, "PUT /spool HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", &h);
    assert_string_equal(h.body.data, "{\"len\":3,\"file\":false,\"size\":0,\"bad\":0}");
}

static void wait_freed(int n)
{
    for (int i = 0; i < 2000 && atomic_load(&freed) < n; i++)
        usleep(10000);
    assert_int_equal(atomic_load(&freed), n);
}

static void answers_can_come_in_pieces(void **state)
{
    (void)state;
    int before = atomic_load(&freed);
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, "GET /stream" REST "GET /query?a=next" REST);
    hear(fd, &h, false);
    assert_int_equal(h.body.len, (size_t)STREAM_PIECE * STREAM_PIECES);
    for (size_t i = 0; i < h.body.len; i += STREAM_PIECE / 2)
        assert_int_equal(h.body.data[i], 'a' + STREAM_PIECES - (int)(i / STREAM_PIECE));
    hear(fd, &h, false);
    assert_string_equal(h.body.data, "next");
    wait_freed(before + 1);

    CLEANUP_CLOSE int cut = dial(&f); /* the source fails: the client must be able to tell */
    say(cut, "GET /stream?cut=1" REST);
    hear_head(cut, &h);
    h.body.len = 0;
    assert_false(hear_bytes(cut, &h.body, (size_t)STREAM_PIECE * STREAM_PIECES));
    wait_freed(before + 2);

    int gone = dial(&f); /* the client goes in the middle */
    say(gone, "GET /stream" REST);
    h.body.len = 0;
    assert_true(hear_bytes(gone, &h.body, 1000));
    close(gone);
    wait_freed(before + 3);
}

static void pending_calls_end_from_any_thread(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, "GET /pending" REST "GET /query?a=after" REST);
    sem_wait(&pending_there);
    call_json(pending, 200, json_pack("{s:i}", "late", 1));
    call_finish(pending);
    hear(fd, &h, false);
    assert_string_equal(h.body.data, "{\"late\":1}");
    hear(fd, &h, false);
    assert_string_equal(h.body.data, "after");
}

static void client_may_go_before_the_answer(void **state)
{
    (void)state;
    int fd = dial(&f);
    struct linger reset = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    say(fd, "GET /pending" REST);
    sem_wait(&pending_there);
    close(fd);
    assert_int_equal(status_of(&f, "GET /inline" REST), 200); /* the loop has seen the reset by the next but one */
    assert_int_equal(status_of(&f, "GET /inline" REST), 200);
    call_json(pending, 200, json_object());
    call_finish(pending);
    assert_int_equal(status_of(&f, "GET /inline" REST), 200);
}

static void long_json_is_compressed_for_those_who_can(void **state)
{
    (void)state;
    CLEANUP_HEARD struct heard h = {0};
    ask(&f, "GET /json" REST, &h);
    assert_null(heard_header(&h, "Content-Encoding"));
    size_t plain = h.body.len;
    assert_true(plain > 1024);
    ask(&f, "GET /json HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br, gzip;q=0\r\n\r\n", &h);
    assert_null(heard_header(&h, "Content-Encoding"));
    ask(&f, "GET /json HTTP/1.1\r\nHost: x\r\nAccept-Encoding: br, gzip\r\n\r\n", &h);
    assert_non_null(heard_header(&h, "Content-Encoding"));
    assert_true(h.body.len < plain);
    CLEANUP_BUF struct buf out = {0};
    CURL *curl = curl_easy_init();
    CLEANUP_FREE char *url = mem_printf("http://127.0.0.1:%d/json", http_server_port(f.server));
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "gzip");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &out);
    assert_int_equal(curl_easy_perform(curl), CURLE_OK);
    curl_easy_cleanup(curl);
    assert_int_equal(out.len, plain);
    assert_true(strncmp(out.data, "[0,1,2,", 7) == 0);
}

static void traces_go_on(void **state)
{
    (void)state;
    CLEANUP_HEARD struct heard h = {0};
    ask(&f, "GET /nowhere HTTP/1.1\r\nHost: x\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n", &h);
    assert_non_null(strstr(h.body.data, "\"traceId\":\"0af7651916cd43dd8448eb211c80319c\""));
    assert_true(strncmp(heard_header(&h, "traceparent"), "00-0af7651916cd43dd8448eb211c80319c-", 36) == 0);
    ask(&f, "GET /nowhere HTTP/1.1\r\nHost: x\r\ntraceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01\r\n\r\n", &h);
    assert_null(strstr(h.body.data, "00000000000000000000000000000000"));
    ask(&f, "GET /hostile" REST, &h);
    assert_int_equal(h.status, 200);
    assert_null(heard_header(&h, "X-Injected"));
}

static void metrics_tell(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(status_of(&f, "GET /inline" REST), 200);
    metrics_render(&b);
    assert_non_null(strstr(b.data, "# TYPE cairn_http_requests_total counter\n"));
    assert_non_null(strstr(b.data, "cairn_http_requests_total{method=\"GET\",route=\"/inline\",status=\"200\"} "));
    assert_non_null(strstr(b.data, "cairn_http_request_seconds_bucket{method=\"GET\",route=\"/inline\",le=\"+Inf\"} "));
    assert_non_null(strstr(b.data, "cairn_http_connections "));
    assert_non_null(strstr(b.data, "cairn_http_queue_length "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_find_their_route),
        cmocka_unit_test(other_methods_are_named),
        cmocka_unit_test(queries_are_bytes),
        cmocka_unit_test(one_connection_many_requests),
        cmocka_unit_test(pipelined_requests_keep_their_order),
        cmocka_unit_test(head_is_get_without_body),
        cmocka_unit_test(who_asks_is_known_before_a_large_body),
        cmocka_unit_test(large_bodies_go_to_a_file),
        cmocka_unit_test(answers_can_come_in_pieces),
        cmocka_unit_test(pending_calls_end_from_any_thread),
        cmocka_unit_test(client_may_go_before_the_answer),
        cmocka_unit_test(long_json_is_compressed_for_those_who_can),
        cmocka_unit_test(traces_go_on),
        cmocka_unit_test(metrics_tell),
    };
    curl_global_init(CURL_GLOBAL_DEFAULT);
    return cmocka_run_group_tests(tests, start, stop);
}
