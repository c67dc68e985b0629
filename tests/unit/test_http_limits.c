/* What the server does when there is too much, and how it ends. */
#include "common/pool.h"
#include "http_fixture.h"

#include <poll.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <stdatomic.h>

static struct call *pending;
static sem_t pending_there;

static enum call_state hello(struct call *c)
{
    c->status = 200;
    buf_append_str(&c->out, "{}");
    return CALL_DONE;
}

static enum call_state wait_for_it(struct call *c)
{
    pending = c;
    sem_post(&pending_there);
    return CALL_PENDING;
}

static atomic_int occupied;
static sem_t let_go;

static enum call_state occupy(struct call *c)
{
    occupied++;
    sem_wait(&let_go);
    return hello(c);
}

static bool authenticate(struct call *c)
{
    c->priv = (void *)(uintptr_t)call_header(c, "authorization");
    if (!c->priv)
        call_problem(c, 401, "token-invalid", "who are you?");
    return c->priv != NULL;
}

static const char *user_key(struct call *c)
{
    return c->priv;
}

static const struct route routes[] = {
    {HTTP_GET, "/open", hello, ROUTE_OPEN | ROUTE_INLINE, 0},
    {HTTP_GET, "/user", hello, 0, 0},
    {HTTP_GET, "/pending", wait_for_it, ROUTE_OPEN, 0},
    {HTTP_GET, "/occupy", occupy, ROUTE_OPEN, 0},
    {HTTP_GET, "/work", hello, ROUTE_OPEN, 0},
    {HTTP_GET, "/vital", hello, ROUTE_OPEN | ROUTE_VITAL, 0},
    {HTTP_POST, "/body", hello, ROUTE_OPEN, 1u << 20},
};

static void start(struct fixture *f, struct http_config cfg)
{
    cfg.authenticate = authenticate;
    cfg.user_key = user_key;
    fixture_start(f, cfg, routes, sizeof routes / sizeof *routes, NULL, 0);
}

static void addresses_have_a_rate(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){.rate_limit = 0.01});
    CLEANUP_HEARD struct heard h = {0};
    assert_int_equal(status_of(&f, "GET /open" REST), 200);
    ask(&f, "GET /open" REST, &h);
    assert_int_equal(h.status, 429);
    long wait = strtol(heard_header(&h, "Retry-After"), NULL, 10);
    assert_in_range(wait, 90, 100);
    assert_non_null(strstr(h.body.data, "\"rate-limited\""));
    fixture_stop(&f);
}

/* Behind a proxy, which tells the address: what the client claims before that does not count. */
static void users_have_a_rate(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){.rate_limit = 0.01, .proxies = 1});
    for (int i = 0; i < 6; i++) {
        CLEANUP_FREE char *text =
            mem_printf("GET /user HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9, 10.0.0.%d\r\nAuthorization: user-%d\r\n\r\n", i, i % 3);
        assert_int_equal(status_of(&f, text), i < 3 ? 200 : 429);
    }
    assert_int_equal(status_of(&f, "GET /open HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"), 429);
    fixture_stop(&f);
}

static void the_first_of_several_proxies_tells_the_address(void **state)
{
    static const struct {
        const char *chain;
        int status;
    } asked[] = {{"10.0.0.1, 10.9.9.9", 200}, {"hearsay, 10.0.0.1 , 10.9.9.9", 429}, {"10.0.0.1,10.0.0.2,10.9.9.9", 200}, {"10.0.0.3", 200}, {"10.0.0.3,10.9.9.8", 429}};
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){.rate_limit = 0.01, .proxies = 2});
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        CLEANUP_FREE char *text = mem_printf("GET /open HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %s\r\n\r\n", asked[i].chain);
        assert_int_equal(status_of(&f, text), asked[i].status);
    }
    fixture_stop(&f);
}

static void connections_have_a_limit(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){.connections_max = 2});
    CLEANUP_HEARD struct heard h = {0};
    int a = dial(&f), b = dial(&f);
    say(a, "GET /open" REST);
    hear(a, &h, false);
    say(b, "GET /open" REST);
    hear(b, &h, false);
    CLEANUP_CLOSE int c = dial(&f);
    hear(c, &h, false);
    assert_int_equal(h.status, 503);
    assert_true(hears_end(c));
    close(b);
    int status = 503; /* until the loop has seen the close */
    for (int i = 0; i < 1000 && status == 503; i++)
        status = status_of(&f, "GET /open" REST);
    assert_int_equal(status, 200);
    close(a);
    fixture_stop(&f);
}

static void bodies_share_their_memory(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){.body_memory_max = 10000});
    CLEANUP_CLOSE int a = dial(&f);
    CLEANUP_HEARD struct heard h = {0};
    CLEANUP_FREE char *most = mem_printf("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9001\r\n\r\n%09000d", 1);
    CLEANUP_FREE char *more = mem_printf("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n%02000d", 1);
    say(a, most);
    int status = 200; /* until a's has arrived */
    for (int i = 0; i < 1000 && status == 200; i++)
        status = status_of(&f, more);
    assert_int_equal(status, 503);
    say(a, "x");
    hear(a, &h, false);
    assert_int_equal(h.status, 200);
    for (int i = 0; i < 1000 && status == 503; i++)
        status = status_of(&f, more);
    assert_int_equal(status, 200);
    fixture_stop(&f);
}

/* All workers are busy and two requests wait, which is all that may: the next ones are told to come back; what tells how the gateway is waits with them; and
   when the workers are free again everything that was taken is answered, and new requests too. */
static void too_many_waiting_are_turned_away(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){.queue_max = 2});
    CLEANUP_HEARD struct heard h = {0};
    int busy[5], vital;
    for (int i = 0; i < 3; i++) {
        busy[i] = dial(&f);
        say(busy[i], "GET /occupy" REST);
        while (atomic_load(&occupied) < i + 1) /* else they wait, and are too many */
            usleep(1000);
    }
    for (int i = 3; i < 5; i++) {
        busy[i] = dial(&f);
        say(busy[i], "GET /occupy" REST);
        while (pool_waiting(http_server_pool(f.server)) < (size_t)i - 2)
            usleep(1000);
    }
    vital = dial(&f);
    say(vital, "GET /vital" REST);
    while (pool_waiting(http_server_pool(f.server)) < 3)
        usleep(1000);
    for (int i = 0; i < 100; i++) {
        heard_fini(&h);
        ask(&f, "GET /work" REST, &h);
        assert_int_equal(h.status, 503);
        assert_int_equal(strtol(heard_header(&h, "Retry-After"), NULL, 10), 1);
    }
    assert_non_null(strstr(h.body.data, "\"overloaded\""));
    assert_int_equal(pool_waiting(http_server_pool(f.server)), 3);
    assert_int_equal(status_of(&f, "GET /open" REST), 200); /* needs no worker */
    for (int i = 0; i < 5; i++)
        sem_post(&let_go);
    for (int i = 0; i < 5; i++) {
        hear(busy[i], &h, false);
        assert_int_equal(h.status, 200);
        close(busy[i]);
    }
    hear(vital, &h, false);
    assert_int_equal(h.status, 200);
    close(vital);
    assert_int_equal(status_of(&f, "GET /work" REST), 200);
    fixture_stop(&f);
}

/* With no descriptor left, who has a connection is served, who wants one is told that there is none, and the processor is not kept busy. */
static void descriptors_may_run_out(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){0});
    struct rlimit old, tight;
    CLEANUP_HEARD struct heard h = {0};
    CLEANUP_CLOSE int a = dial(&f);
    say(a, "GET /open" REST);
    hear(a, &h, false);
    CLEANUP_CLOSE int waiting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &old);
    tight = old;
    tight.rlim_cur = (rlim_t)waiting + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(f.server)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(waiting, (struct sockaddr *)&to, sizeof to), 0);
    say(waiting, "GET /open" REST);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    hear(waiting, &h, false);
    assert_int_equal(h.status, 503);
    assert_non_null(heard_header(&h, "Retry-After"));
    assert_int_equal(poll(NULL, 0, 300), 0);
    getrusage(RUSAGE_SELF, &after);
    assert_in_range(after.ru_nvcsw - before.ru_nvcsw, 0, 100);
    say(a, "GET /open" REST);
    hear(a, &h, false);
    assert_int_equal(h.status, 200);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(status_of(&f, "GET /open" REST), 200);
    fixture_stop(&f);
}

/* Idle connections end, the running request is answered, nobody new gets in; then run returns. */
static void draining_lets_running_calls_end(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){0});
    CLEANUP_HEARD struct heard h = {0};
    CLEANUP_CLOSE int idle = dial(&f), busy = dial(&f);
    say(idle, "GET /open" REST);
    hear(idle, &h, false);
    say(busy, "GET /pending" REST);
    sem_wait(&pending_there);
    assert_false(http_server_draining(f.server));
    http_server_stop(f.server, 20000);
    assert_true(http_server_draining(f.server));
    assert_true(hears_end(idle));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_server_port(f.server)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
    close(fd);
    hello(pending);
    call_finish(pending);
    hear(busy, &h, false);
    assert_int_equal(h.status, 200);
    assert_true(strncmp(heard_header(&h, "Connection"), "close", 5) == 0);
    assert_true(hears_end(busy));
    close(busy);
    busy = -1;
    fixture_stop(&f);
}

/* A worker that waits for something is let go when nobody can be answered any more: the first by `ended`, the next by a job of the loop. */
static sem_t posted;

static void let_one_go(void *arg)
{
    (void)arg;
    sem_post(&let_go);
}

static void post_on_loop(void *arg)
{
    sem_wait(&let_go);
    http_server_post(arg, let_one_go, NULL);
    sem_wait(&let_go);
    sem_post(&posted);
}

static void workers_that_wait_do_not_keep_it(void **state)
{
    (void)state;
    struct fixture f;
    sem_init(&let_go, 0, 0);
    sem_init(&posted, 0, 0);
    start(&f, (struct http_config){.ended = let_one_go});
    pool_run(http_server_pool(f.server), post_on_loop, f.server);
    fixture_stop(&f);
    assert_int_equal(sem_trywait(&posted), 0);
}

static void calls_may_outlive_the_server(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){0});
    CLEANUP_CLOSE int fd = dial(&f);
    say(fd, "GET /pending" REST);
    sem_wait(&pending_there);
    void *rc;
    http_server_stop(f.server, 50);
    pthread_join(f.thread, &rc);
    assert_true(hears_end(fd));
    http_server_free(f.server);
    hello(pending);
    call_finish(pending); /* the sanitizers say whether anything was lost */
}

static atomic_int order;
static int ran[4];

static void note(void *arg)
{
    ran[(intptr_t)arg] = atomic_fetch_add(&order, 1) + 1;
}

static void schedule(void *arg)
{
    struct fixture *f = arg;
    http_server_timer(f->server, 30, note, (void *)2);
    http_server_timer(f->server, 10, note, (void *)1);
    uint64_t never = http_server_timer(f->server, 20, note, (void *)3);
    http_server_timer_cancel(f->server, never);
    note((void *)0);
}

static void timers_run_in_order(void **state)
{
    (void)state;
    struct fixture f;
    start(&f, (struct http_config){0});
    http_server_post(f.server, schedule, &f);
    for (int i = 0; i < 2000 && atomic_load(&order) < 3; i++)
        usleep(5000);
    fixture_stop(&f);
    assert_int_equal(ran[0], 1);
    assert_int_equal(ran[1], 2);
    assert_int_equal(ran[2], 3);
    assert_int_equal(ran[3], 0);
}

static void bad_addresses_are_told(void **state)
{
    (void)state;
    static const char *const bad[] = {"nonsense", "127.0.0.1", "127.0.0.1:http-alt-x", "300.0.0.1:0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct http_config cfg = {.listen = bad[i], .workers_threads = 1};
        assert_null(http_server_new(&cfg, routes, 1, NULL, 0));
    }
    struct fixture f;
    start(&f, (struct http_config){0});
    CLEANUP_FREE char *taken = mem_printf("127.0.0.1:%d", http_server_port(f.server));
    struct http_config cfg = {.listen = taken, .workers_threads = 1};
    assert_null(http_server_new(&cfg, routes, 1, NULL, 0));
    assert_int_equal(errno, EADDRINUSE);
    fixture_stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_have_a_rate),       cmocka_unit_test(users_have_a_rate),
        cmocka_unit_test(the_first_of_several_proxies_tells_the_address),
        cmocka_unit_test(connections_have_a_limit),    cmocka_unit_test(bodies_share_their_memory),
        cmocka_unit_test(descriptors_may_run_out),     cmocka_unit_test(draining_lets_running_calls_end),
        cmocka_unit_test(workers_that_wait_do_not_keep_it),
        cmocka_unit_test(calls_may_outlive_the_server), cmocka_unit_test(timers_run_in_order),
        cmocka_unit_test(bad_addresses_are_told),      cmocka_unit_test(too_many_waiting_are_turned_away),
    };
    sem_init(&pending_there, 0, 0);
    sem_init(&let_go, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
