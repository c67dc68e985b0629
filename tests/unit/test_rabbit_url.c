/* What is read from an amqp: URL. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/adapters/rabbit.h"

#include <string.h>

static void one_host(void **state)
{
    (void)state;
    struct rabbit_url u;
    assert_null(rabbit_url_parse("amqp://host", &u));
    assert_string_equal(u.user, "guest");
    assert_string_equal(u.password, "guest");
    assert_string_equal(u.vhost, "/");
    assert_false(u.tls);
    assert_int_equal(u.n, 1);
    assert_string_equal(u.at[0].host, "host");
    assert_int_equal(u.at[0].port, 5672);
    assert_false(u.quorum);
    assert_int_equal(u.attempts, 6);
    assert_int_equal(u.backoff_ms, 1000);
    rabbit_url_fini(&u);
    assert_null(rabbit_url_parse("amqps://host/", &u));
    assert_true(u.tls);
    assert_int_equal(u.at[0].port, 5671);
    assert_string_equal(u.vhost, "/");
    rabbit_url_fini(&u);
    assert_null(rabbit_url_parse("amqp://cairn:secret@rabbitmq:5672/%2f?queue-type=quorum&attempts=3&backoff=20", &u));
    assert_string_equal(u.user, "cairn");
    assert_string_equal(u.password, "secret");
    assert_string_equal(u.vhost, "/");
    assert_true(u.quorum);
    assert_int_equal(u.attempts, 3);
    assert_int_equal(u.backoff_ms, 20);
    rabbit_url_fini(&u);
}

static void several_hosts(void **state)
{
    (void)state;
    struct rabbit_url u;
    assert_null(rabbit_url_parse("amqp://us%3Aer:p%40,s%2fword:%C3%A9@10.0.0.1:7000,[::1]:7001,[fe80::2],c_d.e-f/a%2Fb,c?queue-type=classic", &u));
    assert_string_equal(u.user, "us:er");
    assert_string_equal(u.password, "p@,s/word:\xc3\xa9");
    assert_string_equal(u.vhost, "a/b,c");
    assert_int_equal(u.n, 4);
    assert_string_equal(u.at[0].host, "10.0.0.1");
    assert_int_equal(u.at[0].port, 7000);
    assert_string_equal(u.at[1].host, "::1");
    assert_int_equal(u.at[1].port, 7001);
    assert_string_equal(u.at[2].host, "fe80::2");
    assert_int_equal(u.at[2].port, 5672);
    assert_string_equal(u.at[3].host, "c_d.e-f");
    rabbit_url_fini(&u);
    assert_null(rabbit_url_parse("amqps://a,b:1", &u));
    assert_int_equal(u.n, 2);
    assert_int_equal(u.at[0].port, 5671);
    assert_int_equal(u.at[1].port, 1);
    rabbit_url_fini(&u);
}

static void what_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *url, *says;
    } bad[] = {
        {"amqp:host", "must be memory: or amqp://"},
        {"http://host", "must be memory: or amqp://"},
        {"amqp://", "HOST[:PORT][,HOST[:PORT]...]"},
        {"amqp:///vhost", "HOST[:PORT]"},
        {"amqp://u:p@/vhost", "HOST[:PORT]"},
        {"amqp://host:0", "HOST[:PORT]"},
        {"amqp://host:65536", "HOST[:PORT]"},
        {"amqp://host:", "HOST[:PORT]"},
        {"amqp://host:x", "HOST[:PORT]"},
        {"amqp://a,,b", "HOST[:PORT]"},
        {"amqp://a,", "HOST[:PORT]"},
        {"amqp://,a", "HOST[:PORT]"},
        {"amqp://a, b", "HOST[:PORT]"},
        {"amqp://a;b", "HOST[:PORT]"},
        {"amqp://[::1", "HOST[:PORT]"},
        {"amqp://[::1]x", "HOST[:PORT]"},
        {"amqp://[host]", "HOST[:PORT]"},
        {"amqp://::1", "HOST[:PORT]"},
        {"amqp://u:p@a,u:p@b", "USER:PASSWORD once"},
        {"amqp://u:p@ss@host", "percent-encoded"},
        {"amqp://1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "HOST[:PORT]"},
        {"amqp://user@host", "USER:PASSWORD once"},
        {"amqp://:p@host", "USER:PASSWORD once"},
        {"amqp://u:@host", "USER:PASSWORD once"},
        {"amqp://u:p%4@host", "USER:PASSWORD once"},
        {"amqp://u:p%00@host", "USER:PASSWORD once"},
        {"amqp://host/a/b", "virtual host behind /"},
        {"amqp://u:p@host/a@b", "virtual host behind /"},
        {"amqp://host/%2", "virtual host behind /"},
        {"amqp://host/%00", "virtual host behind /"},
        {"amqp://host?queue-type=mirrored", "queue-type=classic|quorum"},
        {"amqp://host?attempts=0", "attempts=N"},
        {"amqp://host?attempts=13", "attempts=N"},
        {"amqp://host?backoff", "backoff=MS"},
        {"amqp://host?heartbeat=5", "queue-type"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *wrong = events_url_wrong(bad[i].url);
        if (!wrong)
            fail_msg("taken: %s", bad[i].url);
        if (!strstr(wrong, bad[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].url, wrong, bad[i].says);
    }
    assert_null(events_url_wrong("memory:"));
    assert_null(events_url_wrong("amqp://a,b"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_host),
        cmocka_unit_test(several_hosts),
        cmocka_unit_test(what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
