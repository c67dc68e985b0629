/* Where a request ends, and what is no request: HTTP/1.1's framing, from careless, slow and hostile clients. */
#include "http_fixture.h"

#include <stdatomic.h>

static struct fixture f;
static atomic_int handled;

static enum call_state echo(struct call *c)
{
    atomic_fetch_add(&handled, 1);
    c->status = 200;
    c->content_type = "text/plain";
    buf_append(&c->out, c->body.data, c->body.len);
    return CALL_DONE;
}

static const struct route routes[] = {
    {HTTP_GET, "/inline", echo, ROUTE_OPEN | ROUTE_INLINE, 0},
    {HTTP_DELETE, "/inline", echo, ROUTE_OPEN | ROUTE_INLINE, 0},
    {HTTP_GET, "/worker", echo, ROUTE_OPEN, 0},
    {HTTP_POST, "/echo", echo, ROUTE_OPEN, 4096},
};

static int start(void **state)
{
    (void)state;
    fixture_start(&f, (struct http_config){0}, routes, sizeof routes / sizeof *routes, NULL, 0);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

static void bodies_have_a_limit(void **state)
{
    (void)state;
    CLEANUP_HEARD struct heard h = {0};
    ask(&f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4097\r\n\r\n", &h);
    check_problem(&h, 413, "too-large");
    CLEANUP_FREE char *chunk = mem_printf("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n%04097d\r\n0\r\n\r\n", 1);
    assert_int_equal(status_of(&f, chunk), 413);
    assert_int_equal(status_of(&f, "GET /inline HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n"), 413);
    assert_int_equal(status_of(&f, "DELETE /inline HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"), 200);
}

static void heads_have_a_limit(void **state)
{
    (void)state;
    CLEANUP_HEARD struct heard h = {0};
    CLEANUP_FREE char *one = mem_printf("GET /inline HTTP/1.1\r\nHost: x\r\nX-Long: %020000d\r\n\r\n", 1);
    ask(&f, one, &h);
    check_problem(&h, 431, "head-too-large");
    CLEANUP_BUF struct buf many = {0};
    buf_append_str(&many, "GET /inline HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 120; i++)
        buf_appendf(&many, "X-%d: y\r\n", i);
    buf_append_str(&many, "\r\n");
    assert_int_equal(status_of(&f, many.data), 431);
    CLEANUP_FREE char *uri = mem_printf("GET /%09000d" REST, 1);
    assert_int_equal(status_of(&f, uri), 414);
}

/* Whatever a proxy in front and this server could take for different requests is refused, and the connection ends. */
static void ambiguous_requests_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n 1\r\n\r\na",
        "POST /echo HTTP/1.1\r\nHost: x\nContent-Length: 1\r\n\r\na",
        "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n0\n\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1111111111111111\r\n",
        "GET /inline HTTP/1.1\r\n\r\n",
        "GET /inline HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /inline HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
        "GET /inline HTTP/1.1\r\nHost: x\r\nX-Chunk-SHA256: a\r\nx-chunk-sha256: a\r\n\r\n",
        "GET /inline HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        "GET  /inline HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET inline HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP_CLOSE int fd = dial(&f);
        CLEANUP_HEARD struct heard h = {0};
        int before = atomic_load(&handled);
        say(fd, bad[i]);
        hear(fd, &h, false);
        if (h.status != 400)
            fail_msg("%d for %s", h.status, bad[i]);
        assert_true(hears_end(fd));
        assert_int_equal(atomic_load(&handled), before);
    }
    assert_int_equal(status_of(&f, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), 501);
    assert_int_equal(status_of(&f, "GET /inline HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
    assert_int_equal(status_of(&f, "GET /inline HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\n\r\n"), 200);
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say_bytes(fd, "GET /inline HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n", 42);
    hear(fd, &h, false);
    assert_int_equal(h.status, 400);
}

static void short_body_runs_nothing(void **state)
{
    (void)state;
    int before = atomic_load(&handled);
    static const char *const cut[] = {
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n",
    };
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        CLEANUP_CLOSE int fd = dial(&f);
        say(fd, cut[i]);
        shutdown(fd, SHUT_WR);
        assert_true(hears_end(fd));
    }
    assert_int_equal(atomic_load(&handled), before);
}

static void continue_is_said_to_those_who_wait(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    hear_head(fd, &h);
    assert_int_equal(h.status, 100);
    say(fd, "ab");
    hear(fd, &h, false);
    assert_string_equal(h.body.data, "ab");
    assert_int_equal(status_of(&f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\nExpect: 100-continue\r\n\r\n"), 413);
    assert_int_equal(status_of(&f, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: a-miracle\r\n\r\n"), 417);
}

static void old_clients_are_answered(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, "GET /inline HTTP/1.0\r\n\r\n");
    hear(fd, &h, false);
    assert_int_equal(h.status, 200);
    assert_true(hears_end(fd));
}

static void slow_clients_block_nobody(void **state)
{
    (void)state;
    int slow[300];
    for (int i = 0; i < 300; i++) {
        slow[i] = dial(&f);
        say(slow[i], i % 2 ? "GET /inline HTTP/1.1\r\nX-Slow: " : "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab");
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(status_of(&f, i % 2 ? "GET /inline" REST : "GET /worker" REST), 200);
    for (int i = 0; i < 300; i++)
        close(slow[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_have_a_limit),
        cmocka_unit_test(heads_have_a_limit),
        cmocka_unit_test(ambiguous_requests_are_refused),
        cmocka_unit_test(short_body_runs_nothing),
        cmocka_unit_test(continue_is_said_to_those_who_wait),
        cmocka_unit_test(old_clients_are_answered),
        cmocka_unit_test(slow_clients_block_nobody),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
