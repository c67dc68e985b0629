/* WebSockets, frame by frame (RFC 6455). */
#include "http_fixture.h"

#include <semaphore.h>
#include <stdatomic.h>

#define MESSAGE_MAX 100000
#define BACKLOG_MAX (256u << 10)
#define SILENCE_MS 4000
enum opcode { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

static struct fixture f;
static atomic_int open_now, flood_rc, after_close_rc;
static sem_t flooded;

static int on_open(struct ws *w, const char *authorization)
{
    if (!authorization || strcmp(authorization, "Bearer good") != 0)
        return -EACCES;
    ws_set_user(w, (void *)(uintptr_t)"welcome");
    atomic_fetch_add(&open_now, 1);
    return ws_send(w, "hello", 5);
}

static void on_message(struct ws *w, const char *p, size_t n, bool binary)
{
    assert_string_equal(ws_user(w), "welcome");
    assert_string_equal(ws_peer(w), "127.0.0.1");
    assert_ptr_equal(ws_server(w), f.server);
    if (n == 3 && memcmp(p, "bye", 3) == 0) {
        ws_send(w, "last words", 10);
        ws_close(w, 4000, "as asked");
        atomic_store(&after_close_rc, ws_send(w, "x", 1));
    } else if (n == 5 && memcmp(p, "flood", 5) == 0) {
        static char junk[50000];
        int rc = 0;
        for (int i = 0; i < 1000 && rc == 0; i++)
            rc = ws_send(w, junk, sizeof junk);
        atomic_store(&flood_rc, rc);
        sem_post(&flooded);
    } else {
        assert_int_equal(ws_send(w, binary ? "binary" : p, binary ? 6 : n), 0);
    }
}

static void on_close(struct ws *w)
{
    assert_non_null(ws_user(w));
    atomic_fetch_sub(&open_now, 1);
}

static enum call_state hello(struct call *c)
{
    c->status = 200;
    return CALL_DONE;
}

static const struct route routes[] = {{HTTP_GET, "/open", hello, ROUTE_OPEN | ROUTE_INLINE, 0}};
#define PROTOCOL(n, p) {.name = n, .path = p, .message_max = MESSAGE_MAX, .on_open = on_open, .on_message = on_message, .on_close = on_close}
static const struct ws_protocol protocols[] = {
    PROTOCOL("v2.echo", "/ws"),
    PROTOCOL("v1.echo", "/ws"),
    PROTOCOL("other", "/other"),
};

static int start(void **state)
{
    (void)state;
    sem_init(&flooded, 0, 0);
    fixture_start(&f, (struct http_config){.ws_backlog_max = BACKLOG_MAX, .ws_silence_ms = SILENCE_MS}, routes, 1, protocols, 3);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

#define UPGRADE(path) "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define GOOD "Authorization: Bearer good\r\n"

static int dial_ws(const char *text, const char *protocol)
{
    int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, text);
    hear_head(fd, &h);
    assert_int_equal(h.status, 101);
    assert_true(strncmp(heard_header(&h, "Sec-WebSocket-Accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28) == 0);
    const char *got = heard_header(&h, "Sec-WebSocket-Protocol");
    if (protocol)
        assert_true(got && strncmp(got, protocol, strlen(protocol)) == 0);
    else
        assert_null(got);
    return fd;
}

static void frame(int fd, enum opcode op, bool last, const void *p, size_t n)
{
    CLEANUP_BUF struct buf b = {0};
    unsigned char head[8] = {(unsigned char)((last ? 0x80 : 0) | op), 0x80};
    size_t len = 2;
    if (n < 126) {
        head[1] |= (unsigned char)n;
    } else if (n < 65536) {
        head[1] |= 126;
        head[2] = (unsigned char)(n >> 8);
        head[3] = (unsigned char)n;
        len = 4;
    }
    buf_append(&b, head, len);
    if (n >= 65536) {
        b.data[1] = (char)(0x80 | 127);
        for (int i = 7; i >= 0; i--) {
            char byte = (char)((uint64_t)n >> 8 * i);
            buf_append(&b, &byte, 1);
        }
    }
    static const unsigned char mask[4] = {1, 2, 3, 4};
    buf_append(&b, mask, 4);
    for (size_t i = 0; i < n; i++) {
        char c = (char)(((const unsigned char *)p)[i] ^ mask[i % 4]);
        buf_append(&b, &c, 1);
    }
    send(fd, b.data, b.len, MSG_NOSIGNAL);
}

/* The next frame's opcode, -1: the connection ended. */
static int hear_frame(int fd, struct buf *ret)
{
    CLEANUP_BUF struct buf head = {0};
    ret->len = 0;
    if (!hear_bytes(fd, &head, 2))
        return -1;
    size_t n = head.data[1] & 127, more = n == 126 ? 2 : n == 127 ? 8 : 0;
    if (!hear_bytes(fd, &head, 2 + more))
        return -1;
    if (more)
        n = 0;
    for (size_t i = 0; i < more; i++)
        n = n << 8 | (unsigned char)head.data[2 + i];
    buf_reserve(ret, 0);
    ret->data[0] = 0;
    return hear_bytes(fd, ret, n) ? head.data[0] & 15 : -1;
}

static void expect(int fd, enum opcode op, const char *text)
{
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(hear_frame(fd, &b), op);
    assert_string_equal(b.data, text);
}

/* Data may still be on its way; in the end there is a close frame with this code. */
static void expect_close(int fd, unsigned code)
{
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(hear_frame(fd, &b), OP_CLOSE);
    assert_true(b.len >= 2);
    assert_int_equal((unsigned char)b.data[0] << 8 | (unsigned char)b.data[1], code);
}

static void wait_open(int n)
{
    for (int i = 0; i < 4000 && atomic_load(&open_now) != n; i++)
        usleep(5000);
    assert_int_equal(atomic_load(&open_now), n);
}

static void messages_come_back(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial_ws(UPGRADE("/ws") GOOD "Sec-WebSocket-Protocol: nonsense, v1.echo, v2.echo\r\n\r\n", "v1.echo");
    expect(fd, OP_TEXT, "hello");
    frame(fd, OP_TEXT, true, "one", 3);
    frame(fd, OP_TEXT, true, "", 0);
    frame(fd, OP_BINARY, true, "\0\1", 2);
    expect(fd, OP_TEXT, "one");
    expect(fd, OP_TEXT, "");
    expect(fd, OP_TEXT, "binary");
    frame(fd, OP_TEXT, false, "in ", 3); /* fragments, with a ping between */
    frame(fd, OP_PING, true, "p", 1);
    frame(fd, 0, true, "parts", 5);
    expect(fd, OP_PONG, "p");
    expect(fd, OP_TEXT, "in parts");
    CLEANUP_FREE char *large = mem_alloc(90001);
    memset(large, 'L', 90000);
    frame(fd, OP_TEXT, true, large, 90000);
    expect(fd, OP_TEXT, large);
    frame(fd, OP_CLOSE, true, "\x03\xe8", 2);
    expect_close(fd, 1000);
    wait_open(0);
}

static void who_is_silent_is_asked_and_given_up(void **state)
{
    (void)state;
    CLEANUP_CLOSE int there = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    CLEANUP_CLOSE int gone = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    expect(there, OP_TEXT, "hello");
    expect(gone, OP_TEXT, "hello");
    expect(there, OP_PING, "?");
    frame(there, OP_PONG, true, "?", 1);
    expect(gone, OP_PING, "?");
    assert_true(hears_end(gone));
    wait_open(1);
    expect(there, OP_PING, "?");
    frame(there, OP_TEXT, true, "still here", 10);
    expect(there, OP_TEXT, "still here");
    frame(there, OP_CLOSE, true, "\x03\xe8", 2);
    expect_close(there, 1000);
    wait_open(0);
}

static void none_named_is_the_first(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    expect(fd, OP_TEXT, "hello");
    close(fd);
    fd = -1;
    wait_open(0);
}

static void upgrades_are_checked(void **state)
{
    (void)state;
    assert_int_equal(status_of(&f, UPGRADE("/ws") "\r\n"), 401);
    assert_int_equal(status_of(&f, UPGRADE("/ws") "Authorization: Bearer bad\r\n\r\n"), 401);
    assert_int_equal(status_of(&f, UPGRADE("/nowhere") GOOD "\r\n"), 404);
    assert_int_equal(status_of(&f, UPGRADE("/other") GOOD "Sec-WebSocket-Protocol: v1.echo\r\n\r\n"), 400);
    assert_int_equal(status_of(&f, UPGRADE("/ws") GOOD "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"), 400);
    assert_int_equal(status_of(&f, "GET /ws" REST), 426);
    assert_int_equal(status_of(&f, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                   "Sec-WebSocket-Key: short\r\n" GOOD "\r\n"), 400);
    assert_int_equal(status_of(&f, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\n"
                                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" GOOD "\r\n"), 426);
    assert_int_equal(atomic_load(&open_now), 0);
}

static void long_messages_end_it(void **state)
{
    (void)state;
    CLEANUP_FREE char *large = mem_alloc(MESSAGE_MAX + 1);
    memset(large, 'L', MESSAGE_MAX + 1);
    for (int parts = 0; parts < 2; parts++) {
        CLEANUP_CLOSE int fd = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
        expect(fd, OP_TEXT, "hello");
        if (parts) {
            frame(fd, OP_TEXT, false, large, MESSAGE_MAX / 2 + 1);
            frame(fd, 0, true, large, MESSAGE_MAX / 2 + 1);
        } else {
            frame(fd, OP_TEXT, true, large, MESSAGE_MAX + 1);
        }
        expect_close(fd, 1009);
        close(fd);
        fd = -1;
        wait_open(0);
    }
}

static void server_closes_behind_what_it_sent(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    expect(fd, OP_TEXT, "hello");
    frame(fd, OP_TEXT, true, "bye", 3);
    frame(fd, OP_TEXT, true, "too late", 8);
    expect(fd, OP_TEXT, "last words");
    expect_close(fd, 4000);
    assert_int_equal(atomic_load(&after_close_rc), -EPIPE);
    frame(fd, OP_CLOSE, true, "\x0f\xa0", 2);
    assert_true(hears_end(fd));
    wait_open(0);
}

static void who_does_not_read_is_dropped(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    CLEANUP_CLOSE int other = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    frame(fd, OP_TEXT, true, "flood", 5);
    sem_wait(&flooded);
    assert_int_equal(atomic_load(&flood_rc), -ENOBUFS);
    wait_open(1);
    expect(other, OP_TEXT, "hello");
    frame(other, OP_TEXT, true, "still here", 10);
    expect(other, OP_TEXT, "still here");
    close(other);
    other = -1;
    wait_open(0);
}

static void text_is_utf8(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    expect(fd, OP_TEXT, "hello");
    frame(fd, OP_TEXT, true, "\xff\xfe", 2);
    expect_close(fd, 1007);
    close(fd);
    fd = -1;
    wait_open(0);
}

static void many_come_and_go(void **state)
{
    (void)state;
    int fd[100];
    for (int i = 0; i < 100; i++)
        fd[i] = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    wait_open(100);
    for (int i = 0; i < 100; i++) {
        expect(fd[i], OP_TEXT, "hello");
        frame(fd[i], OP_TEXT, true, "x", 1);
    }
    for (int i = 0; i < 100; i++) {
        expect(fd[i], OP_TEXT, "x");
        close(fd[i]);
    }
    wait_open(0);
}

/* The last test: the server ends, and its sockets are told why. */
static void draining_says_goodbye(void **state)
{
    (void)state;
    CLEANUP_CLOSE int fd = dial_ws(UPGRADE("/ws") GOOD "\r\n", NULL);
    expect(fd, OP_TEXT, "hello");
    http_server_stop(f.server, 20000);
    expect_close(fd, 1001);
    frame(fd, OP_CLOSE, true, "\x03\xe9", 2);
    assert_true(hears_end(fd));
    wait_open(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_come_back),   cmocka_unit_test(none_named_is_the_first),
        cmocka_unit_test(upgrades_are_checked), cmocka_unit_test(long_messages_end_it),
        cmocka_unit_test(server_closes_behind_what_it_sent), cmocka_unit_test(who_does_not_read_is_dropped),
        cmocka_unit_test(text_is_utf8),         cmocka_unit_test(many_come_and_go),
        cmocka_unit_test(who_is_silent_is_asked_and_given_up),
        cmocka_unit_test(draining_says_goodbye),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
