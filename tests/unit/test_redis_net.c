/* The way to Redis: URLs, hash slots, and what a Redis does that cannot be made to do it on time: it stands still, moves a slot, closes connections. A small one is played here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/mem.h"
#include "gateway/adapters/redis_net.h"
#include "gateway/ports/cache.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

/* ---- URLs ---- */

static void urls_are_parsed(void **state)
{
    (void)state;
    struct redis_url u;
    assert_null(redis_url_parse("redis://host", &u));
    assert_null(u.user);
    assert_null(u.password);
    assert_int_equal(u.n, 1);
    assert_string_equal(u.at[0].host, "host");
    assert_int_equal(u.at[0].port, 6379);
    assert_int_equal(u.db, 0);
    redis_url_fini(&u);
    assert_null(redis_url_parse("redis://us%3Aer:p%40ss%2fword:@10.0.0.1:7000,[::1]:7001,[fe80::2],c_d.e-f/15", &u));
    assert_string_equal(u.user, "us:er");
    assert_string_equal(u.password, "p@ss/word:");
    assert_int_equal(u.n, 4);
    assert_string_equal(u.at[1].host, "::1");
    assert_int_equal(u.at[1].port, 7001);
    assert_string_equal(u.at[2].host, "fe80::2");
    assert_int_equal(u.at[2].port, 6379);
    assert_string_equal(u.at[3].host, "c_d.e-f");
    assert_int_equal(u.db, 15);
    redis_url_fini(&u);
    assert_null(redis_url_parse("redis://:secret@host/", &u));
    assert_null(u.user);
    assert_string_equal(u.password, "secret");
    redis_url_fini(&u);
}

static void bad_urls_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"redis://", "redis:host", "http://host", "redis://host:0", "redis://host:65536", "redis://host:x", "redis://a,,b", "redis://a,", "redis://ho st",
                                      "redis://[::1", "redis://[::1]x", "redis://user@host", "redis://:@host", "redis://:p%4@host", "redis://:p%00@host", "redis://host/x",
                                      "redis://host/10000", "rediss://host", "redis://[host]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct redis_url u;
        if (!redis_url_parse(bad[i], &u))
            fail_msg("taken: %s", bad[i]);
        assert_non_null(cache_url_wrong(bad[i]));
    }
    assert_null(cache_url_wrong("memory:"));
    assert_non_null(cache_url_wrong("memory:x"));
}

static void slots_are_redis_own(void **state)
{
    (void)state;
    assert_int_equal(redis_slot("123456789"), 0x31C3);
    assert_int_equal(redis_slot("foo"), 12182); /* CLUSTER KEYSLOT foo */
    assert_int_equal(redis_slot("{foo}.a"), 12182);
    assert_int_equal(redis_slot("b{foo}{bar}"), 12182);
    assert_int_equal(redis_slot("foo{}{bar}"), 8363);
    assert_int_equal(redis_slot("foo{{bar}}zap"), redis_slot("{bar"));
}

/* ---- a Redis that is played ---- */

#define CONNECTIONS_MAX 64
#define KEY "cairn:key" /* "key" to a caller of the port */

struct fake {
    int listener, port;
    pthread_t thread;
    atomic_bool ending, closes; /* closes: after each answer to a GET */
    atomic_bool stranger; /* it wants a password of everybody */
    atomic_bool frozen, stands; /* it is to say nothing; it does */
    atomic_int gets, asked, removes;    /* how many GETs came, ASKINGs, DELs */
    struct fake *slots_at;              /* whom it says all slots to be at; NULL: it is no cluster */
    _Atomic(struct fake *) moved_to, ask_at;
    struct connection {
        int fd;
        bool asking;
        redisReader *reader;
    } connections[CONNECTIONS_MAX];
};

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Answers one command; false: the connection is to be closed. */
static bool answer(struct fake *f, struct connection *c, const char *word)
{
    CLEANUP_BUF struct buf b = {0};
    struct fake *elsewhere = f->moved_to ? f->moved_to : f->ask_at;
    bool get = strcasecmp(word, "GET") == 0, asking = c->asking;
    c->asking = false;
    if (get)
        f->gets++;
    if (f->stranger)
        buf_append_str(&b, "-NOAUTH Authentication required.\r\n");
    else if (strcasecmp(word, "ROLE") == 0)
        buf_append_str(&b, "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    else if (strcasecmp(word, "CLUSTER") == 0 && f->slots_at)
        buf_appendf(&b, "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", (f->moved_to ? f->moved_to : f->slots_at)->port);
    else if (strcasecmp(word, "ASKING") == 0) {
        c->asking = true;
        f->asked++;
        buf_append_str(&b, "+OK\r\n");
    } else if (get && elsewhere && !asking)
        buf_appendf(&b, "-%s %u 127.0.0.1:%d\r\n", f->moved_to ? "MOVED" : "ASK", redis_slot(KEY), elsewhere->port);
    else if (get)
        buf_append_str(&b, "$5\r\nvalue\r\n");
    else if (strcasecmp(word, "DEL") == 0) {
        f->removes++;
        buf_append_str(&b, ":0\r\n");
    } else
        buf_append_str(&b, "-ERR unknown command\r\n");
    say(c->fd, b.data);
    return !(get && f->closes);
}

static bool serve(struct fake *f, struct connection *c)
{
    char bytes[4096];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    void *command = NULL;
    if (n <= 0)
        return false;
    redisReaderFeed(c->reader, bytes, (size_t)n);
    while (redisReaderGetReply(c->reader, &command) == REDIS_OK && command) {
        bool more = answer(f, c, ((redisReply *)command)->element[0]->str);
        freeReplyObject(command);
        if (!more)
            return false;
    }
    return true;
}

static void hang_up(struct connection *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    redisReaderFree(c->reader);
    c->fd = -1;
}

static void *play(void *arg)
{
    struct fake *f = arg;
    while (!f->ending) {
        struct pollfd p[CONNECTIONS_MAX + 1] = {{.fd = f->listener, .events = POLLIN}};
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            p[i + 1] = (struct pollfd){.fd = f->connections[i].fd, .events = POLLIN};
        f->stands = f->frozen;
        if (f->stands) {
            poll(NULL, 0, 5);
            continue;
        }
        if (poll(p, CONNECTIONS_MAX + 1, 10) <= 0)
            continue;
        for (int i = 0; i < CONNECTIONS_MAX; i++)
            if (p[i + 1].revents && !serve(f, &f->connections[i]))
                hang_up(&f->connections[i]);
        for (int i = 0; i < CONNECTIONS_MAX && p[0].revents; i++)
            if (f->connections[i].fd < 0) {
                f->connections[i] = (struct connection){.fd = accept(f->listener, NULL, NULL), .reader = redisReaderCreate()};
                setsockopt(f->connections[i].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* as Redis does */
                break;
            }
    }
    return NULL;
}

static void begin(struct fake *f)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    memset(f, 0, sizeof *f);
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        f->connections[i].fd = -1;
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(f->listener, 64), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&at, &n), 0);
    f->port = ntohs(at.sin_port);
}

static void run(struct fake *f)
{
    assert_int_equal(pthread_create(&f->thread, NULL, play, f), 0);
}

static void end(struct fake *f)
{
    f->ending = true;
    pthread_join(f->thread, NULL);
    close(f->listener);
    for (int i = 0; i < CONNECTIONS_MAX; i++)
        hang_up(&f->connections[i]);
}

static struct cache *cache_on(const struct fake *f)
{
    char url[64];
    struct cache *c;
    snprintf(url, sizeof url, "redis://127.0.0.1:%d", f->port);
    assert_int_equal(cache_open(url, &c), 0);
    return c;
}

static int get(struct cache *c)
{
    CLEANUP_BUF struct buf b = {0};
    int err = c->ops->get(c, "key", &b);
    if (!err)
        assert_string_equal(b.data, "value");
    return err;
}

static int get_again(struct cache *c)
{
    const struct timespec t = {.tv_nsec = 10000000};
    int err = get(c);
    for (int i = 0; i < 3000 && err; i++) {
        nanosleep(&t, NULL);
        err = get(c);
    }
    return err;
}

static void freeze(struct fake *f)
{
    f->frozen = true;
    while (!f->stands)
        poll(NULL, 0, 1);
}

static void one_that_stands_still_is_asked_once(void **state)
{
    (void)state;
    struct fake f;
    begin(&f);
    run(&f);
    struct cache *c = cache_on(&f);
    assert_int_equal(c->ops->remove(c, "key"), 0);
    assert_int_equal(f.removes, 1);
    freeze(&f);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(c->ops->remove(c, "key"), -EHOSTUNREACH);
    assert_int_equal(c->ops->ping(c), -EHOSTUNREACH);
    f.frozen = false;
    assert_int_equal(get_again(c), 0);
    assert_int_equal(c->ops->ping(c), 0);
    assert_int_equal(f.removes, 2); /* of all those calls, one was sent to it while it stood still */
    c->ops->free(c);
    end(&f);
}

/* Values are not waited for that long: the first that waits in vain spares the others, before anybody knows whether the node is away. */
static void who_is_in_a_haste_is_spared(void **state)
{
    (void)state;
    struct fake f;
    begin(&f);
    run(&f);
    struct cache *c = cache_on(&f);
    assert_int_equal(get_again(c), 0);
    int before = f.gets;
    freeze(&f);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(get(c), -EHOSTUNREACH);
    f.frozen = false;
    assert_int_equal(get_again(c), 0);
    assert_in_range(f.gets - before, 2, 20);
    c->ops->free(c);
    end(&f);
}

static void one_that_was_away_from_the_start_is_found(void **state)
{
    (void)state;
    struct fake f;
    begin(&f);
    f.frozen = true;
    run(&f);
    struct cache *c = cache_on(&f);
    assert_int_equal(get(c), -EHOSTUNREACH);
    f.frozen = false;
    assert_int_equal(get_again(c), 0);
    c->ops->free(c);
    end(&f);
}

static void one_that_wants_a_password_is_not_there(void **state)
{
    (void)state;
    struct fake f;
    begin(&f);
    f.stranger = true;
    run(&f);
    struct cache *c = cache_on(&f);
    assert_int_equal(get(c), -EHOSTUNREACH);
    assert_int_equal(f.gets, 0);
    f.stranger = false;
    assert_int_equal(get_again(c), 0);
    c->ops->free(c);
    end(&f);
}

static void a_connection_that_was_closed_is_made_again(void **state)
{
    (void)state;
    struct fake f;
    begin(&f);
    f.closes = true;
    run(&f);
    struct cache *c = cache_on(&f);
    for (int i = 0; i < 20; i++)
        assert_int_equal(get_again(c), 0);
    assert_true(f.gets >= 20);
    c->ops->free(c);
    end(&f);
}

static void a_slot_that_moved_is_followed_and_remembered(void **state)
{
    (void)state;
    struct fake f, g;
    begin(&f);
    begin(&g);
    f.slots_at = g.slots_at = &f;
    run(&f);
    run(&g);
    struct cache *c = cache_on(&f);
    assert_int_equal(get_again(c), 0);
    int before = f.gets;
    g.slots_at = &g;
    f.moved_to = &g;
    for (int i = 0; i < 100; i++)
        assert_int_equal(get_again(c), 0);
    assert_in_range(f.gets - before, 1, 20); /* the first, and the few that a busy machine made again */
    assert_true(g.gets >= 100);
    c->ops->free(c);
    end(&f);
    end(&g);
}

static void a_slot_on_its_way_is_asked_for_each_time(void **state)
{
    (void)state;
    struct fake f, g;
    begin(&f);
    begin(&g);
    f.slots_at = g.slots_at = &f;
    f.ask_at = &g;
    g.moved_to = &f; /* without ASKING it sends back */
    run(&f);
    run(&g);
    struct cache *c = cache_on(&f);
    for (int i = 0; i < 5; i++)
        assert_int_equal(get_again(c), 0);
    assert_true(f.gets >= 5);
    assert_true(g.asked >= 5);
    c->ops->free(c);
    end(&f);
    end(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_parsed),
        cmocka_unit_test(bad_urls_are_refused),
        cmocka_unit_test(slots_are_redis_own),
        cmocka_unit_test(one_that_stands_still_is_asked_once),
        cmocka_unit_test(who_is_in_a_haste_is_spared),
        cmocka_unit_test(one_that_was_away_from_the_start_is_found),
        cmocka_unit_test(one_that_wants_a_password_is_not_there),
        cmocka_unit_test(a_connection_that_was_closed_is_made_again),
        cmocka_unit_test(a_slot_that_moved_is_followed_and_remembered),
        cmocka_unit_test(a_slot_on_its_way_is_asked_for_each_time),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
