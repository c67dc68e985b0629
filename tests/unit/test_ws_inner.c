/* WebSockets between gateways: the internal listener, connecting, and what is left of both while a server drains. */
#include "http_fixture.h"

#include <semaphore.h>
#include <stdatomic.h>

static struct fixture f;
static sem_t heard, closed;
static char texts[16][64]; /* what was heard, in order */
static unsigned n_heard, n_read;
static struct ws *dialled; /* loop */
static atomic_bool may_end;
static atomic_int asked, inner_open;

static int on_open(struct ws *w, const char *authorization)
{
    (void)authorization;
    atomic_fetch_add(&inner_open, 1);
    return ws_send(w, "who is it", 9);
}

/* Both ends come here: the one that was dialled answers, the one that dialled notes. */
static void on_message(struct ws *w, const char *p, size_t n, bool binary)
{
    assert_false(binary);
    if (!ws_user(w)) {
        ws_send(w, p, n);
        return;
    }
    assert_true(ws_connected(w));
    assert_true(n < sizeof *texts && n_heard < 16);
    memcpy(texts[n_heard++], p, n);
    sem_post(&heard);
}

static void on_close(struct ws *w)
{
    if (!ws_user(w)) {
        atomic_fetch_sub(&inner_open, 1);
        return;
    }
    if (w == dialled)
        dialled = NULL;
    sem_post(&closed);
}

static int on_client_open(struct ws *w, const char *authorization)
{
    (void)authorization;
    return ws_send(w, "hello", 5);
}

static void ignore(struct ws *w, const char *p, size_t n, bool binary)
{
    (void)w;
    (void)p;
    (void)n;
    (void)binary;
}

static void ignore_close(struct ws *w)
{
    (void)w;
}

static enum call_state hello(struct call *c)
{
    c->status = 200;
    return CALL_DONE;
}

static bool ends(void *app)
{
    (void)app;
    atomic_fetch_add(&asked, 1);
    return atomic_load(&may_end);
}

static const struct route routes[] = {{HTTP_GET, "/open", hello, ROUTE_OPEN | ROUTE_INLINE, 0}};
static const struct ws_protocol protocols[] = {
    {.name = "client", .path = "/ws", .message_max = 1000, .on_open = on_client_open, .on_message = ignore, .on_close = ignore_close},
    {.name = "peer", .path = "/peer", .message_max = 1000, .on_open = on_open, .on_message = on_message, .on_close = on_close, .internal = true},
};

static int start(void **state)
{
    (void)state;
    sem_init(&heard, 0, 0);
    sem_init(&closed, 0, 0);
    fixture_start(&f, (struct http_config){.internal = "127.0.0.1:0", .close_over_ms = 300, .may_end = ends}, routes, 1, protocols, 2);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&f);
    return 0;
}

static void connect_on_loop(void *arg)
{
    dialled = ws_connect(f.server, &protocols[1], "127.0.0.1", *(int *)arg, (void *)(uintptr_t)"me");
    if (dialled)
        assert_int_equal(ws_send(dialled, "early", 5), 0);
    else
        sem_post(&closed);
}

static void close_on_loop(void *arg)
{
    (void)arg;
    ws_close(dialled, 1000, "enough");
}

static void await(const char *text)
{
    sem_wait(&heard);
    assert_string_equal(texts[n_read++], text);
}

static void what_is_said_before_it_stands_arrives(void **state)
{
    (void)state;
    int port = http_server_internal_port(f.server);
    http_server_post(f.server, connect_on_loop, &port);
    await("who is it");
    await("early");
    http_server_post(f.server, close_on_loop, NULL);
    sem_wait(&closed);
}

static void one_that_cannot_be_reached_is_told_of(void **state)
{
    (void)state;
    struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof nobody;
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* bound, and listening to nobody */
    assert_int_equal(bind(fd, (struct sockaddr *)&nobody, sizeof nobody), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&nobody, &len), 0);
    int port = ntohs(nobody.sin_port);
    http_server_post(f.server, connect_on_loop, &port);
    sem_wait(&closed);
}

#define UPGRADE(path, protocol)                                                                                                            \
    "GET " path " HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"             \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " protocol "\r\n\r\n"

static int status_at(int port, const char *text)
{
    CLEANUP_CLOSE int fd = dial_port(port);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, text);
    hear_head(fd, &h);
    return h.status;
}

static void each_listener_has_its_own(void **state)
{
    (void)state;
    int public = http_server_port(f.server), internal = http_server_internal_port(f.server);
    assert_int_not_equal(public, internal);
    assert_int_equal(status_at(public, UPGRADE("/peer", "peer")), 404);
    assert_int_equal(status_at(internal, UPGRADE("/peer", "peer")), 101);
    assert_int_equal(status_at(public, UPGRADE("/ws", "client")), 101);
    assert_int_equal(status_at(internal, UPGRADE("/ws", "client")), 404);
    assert_int_equal(status_at(public, "GET /open HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    assert_int_equal(status_at(internal, "GET /open HTTP/1.1\r\nHost: x\r\n\r\n"), 404);
}

static int dial_client(void)
{
    int fd = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    say(fd, UPGRADE("/ws", "client"));
    hear_head(fd, &h);
    assert_int_equal(h.status, 101);
    return fd;
}

static int64_t ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The last test. Clients go one by one; a link stands, and a new one is taken, until nobody needs them. */
static void a_draining_server_lets_links_stand(void **state)
{
    (void)state;
    int fd[10], port = http_server_internal_port(f.server);
    http_server_post(f.server, connect_on_loop, &port);
    await("who is it");
    await("early");
    for (int i = 0; i < 10; i++)
        fd[i] = dial_client();
    int64_t begin = ms(), first = 0;
    http_server_stop(f.server, 20000);
    for (int i = 0; i < 10; i++) {
        CLEANUP_BUF struct buf b = {0};
        assert_true(hear_bytes(fd[i], &b, 8)); /* a frame with hello, and what follows it */
        assert_int_equal((unsigned char)b.data[7], 0x88); /* close */
        if (!first)
            first = ms();
        close(fd[i]);
    }
    int64_t last = ms();
    assert_true(last - begin >= 250); /* not before its time; how much later is the machine's */
    assert_true(first < last);
    while (atomic_load(&asked) < 3)
        usleep(1000);
    assert_int_equal(sem_trywait(&closed), -1);
    assert_int_equal(status_at(port, UPGRADE("/peer", "peer")), 101);
    atomic_store(&may_end, true);
    sem_wait(&closed);
    while (atomic_load(&inner_open))
        usleep(1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_before_it_stands_arrives),
        cmocka_unit_test(one_that_cannot_be_reached_is_told_of),
        cmocka_unit_test(each_listener_has_its_own),
        cmocka_unit_test(a_draining_server_lets_links_stand),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
