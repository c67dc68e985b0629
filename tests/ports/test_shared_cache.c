/* The port to a shared cache. $CAIRN_TEST_CACHE names the one to test; without it, one in memory. Every test has keys of its own; a and b are two gateways, as it were
   (in memory the same one). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/mem.h"
#include "gateway/ports/cache.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LONG_MS 600000
#define CALL(c, fn, ...) ((c)->ops->fn((c), __VA_ARGS__))

struct fixture {
    struct cache *a, *b;
    char id[UUID_TEXT], key[64];
};

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    struct uuid id;
    const char *given = getenv("CAIRN_TEST_CACHE");
    uuid_new(&id);
    uuid_text(&id, f->id);
    snprintf(f->key, sizeof f->key, "test:%s", f->id);
    assert_int_equal(cache_open(given ? given : "memory:", &f->a), 0);
    f->b = f->a;
    if (given)
        assert_int_equal(cache_open(given, &f->b), 0);
    assert_int_equal(f->a->ops->ping(f->a), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->b != f->a)
        f->b->ops->free(f->b);
    f->a->ops->free(f->a);
    free(f);
    return 0;
}

static void pause_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* ---- values: who waits for one is in a haste, so that on a busy machine -EHOSTUNREACH is an answer, too ---- */

static int get(struct cache *c, const char *key, struct buf *ret)
{
    int err = -EHOSTUNREACH;
    for (int i = 0; i < 500 && err == -EHOSTUNREACH; i++) {
        pause_ms(i ? 20 : 0);
        err = CALL(c, get, key, ret);
    }
    return err;
}

static int put(struct cache *c, const char *key, const void *p, size_t n, unsigned ms)
{
    int err = -EHOSTUNREACH;
    for (int i = 0; i < 500 && err == -EHOSTUNREACH; i++) {
        pause_ms(i ? 20 : 0);
        err = CALL(c, put, key, p, n, ms);
    }
    return err;
}

static void assert_value(struct cache *c, const char *key, const void *p, size_t n)
{
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(get(c, key, &b), 0);
    assert_int_equal(b.len, n);
    if (n)
        assert_memory_equal(b.data, p, n);
}

static void assert_none(struct cache *c, const char *key)
{
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(get(c, key, &b), -ENOENT);
    assert_int_equal(b.len, 0);
}

static void test_a_value_is_kept(void **state)
{
    struct fixture *f = *state;
    assert_none(f->a, f->key);
    assert_int_equal(put(f->a, f->key, "one\0two\r\n", 9, LONG_MS), 0);
    assert_value(f->b, f->key, "one\0two\r\n", 9);
    assert_int_equal(put(f->b, f->key, "", 0, LONG_MS), 0);
    assert_value(f->a, f->key, "", 0);
}

static void test_get_appends(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    buf_append_str(&b, "before ");
    assert_int_equal(put(f->a, f->key, "after", 5, LONG_MS), 0);
    assert_int_equal(get(f->b, f->key, &b), 0);
    assert_string_equal(b.data, "before after");
}

static void test_a_value_is_removed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(CALL(f->a, remove, f->key), 0);
    assert_int_equal(put(f->a, f->key, "x", 1, LONG_MS), 0);
    assert_int_equal(CALL(f->b, remove, f->key), 0);
    assert_none(f->a, f->key);
}

static void test_a_value_expires(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(put(f->a, f->key, "x", 1, 30), 0);
    for (int i = 0; i < 1000 && get(f->b, f->key, &b) == 0; i++)
        pause_ms(10);
    assert_none(f->b, f->key);
}

static void test_the_largest_value(void **state)
{
    struct fixture *f = *state;
    CLEANUP_FREE char *large = mem_alloc(CACHE_VALUE_MAX + 1);
    memset(large, 'x', CACHE_VALUE_MAX + 1);
    assert_int_equal(put(f->a, f->key, large, CACHE_VALUE_MAX, LONG_MS), 0);
    assert_value(f->b, f->key, large, CACHE_VALUE_MAX);
    assert_int_equal(put(f->a, f->key, large, CACHE_VALUE_MAX + 1, LONG_MS), -E2BIG);
}

static void test_many_keys(void **state)
{
    struct fixture *f = *state;
    char key[CACHE_KEY_MAX + 1];
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "%s:%d", f->key, i);
        assert_int_equal(put(f->a, key, key, strlen(key), LONG_MS), 0);
    }
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "%s:%d", f->key, i);
        assert_value(f->b, key, key, strlen(key));
    }
    memset(key, 'k', CACHE_KEY_MAX);
    key[CACHE_KEY_MAX] = '\0';
    memcpy(key, f->key, strlen(f->key));
    assert_int_equal(put(f->a, key, "x", 1, LONG_MS), 0);
    assert_value(f->b, key, "x", 1);
}

/* ---- rates ---- */

/* One that refills so slowly that nothing comes back during a test. */
#define SLOW 0.0001

static double charge(struct cache *c, const char *key, double per_second, double burst, double n)
{
    struct cache_charge one = {.key = key, .per_second = per_second, .burst = burst, .n = n};
    assert_int_equal(CALL(c, charge, &one, 1), 0);
    assert_true(one.answered);
    return one.room;
}

static void assert_near(double is, double should)
{
    if (fabs(is - should) > 0.02)
        fail_msg("%f, not %f", is, should);
}

static void test_gateways_share_a_rate(void **state)
{
    struct fixture *f = *state;
    assert_near(charge(f->a, f->key, SLOW, 10, 4), 6);
    assert_near(charge(f->b, f->key, SLOW, 10, 1), 5);
    assert_near(charge(f->a, f->key, SLOW, 10, 0), 5);
    assert_near(charge(f->b, f->key, SLOW, 10, 5), 0);
}

static void test_more_than_there_is_is_owed(void **state)
{
    struct fixture *f = *state;
    assert_near(charge(f->a, f->key, SLOW, 10, 14), -4);
    assert_near(charge(f->b, f->key, SLOW, 10, 1), -5);
    assert_near(charge(f->a, f->key, SLOW, 10, 100), -10);
    assert_near(charge(f->a, f->key, SLOW, 10, -3), -7);
}

static void test_what_is_given_back_is_there(void **state)
{
    struct fixture *f = *state;
    assert_near(charge(f->a, f->key, SLOW, 10, 4), 6);
    assert_near(charge(f->b, f->key, SLOW, 10, -1.5), 7.5);
    assert_near(charge(f->a, f->key, SLOW, 10, -100), 10);
    assert_near(charge(f->b, f->key, SLOW, 10, 1), 9);
}

static void test_a_rate_refills(void **state)
{
    struct fixture *f = *state;
    double room = charge(f->a, f->key, 100, 10, 20);
    assert_true(room <= 0);
    for (int i = 0; i < 1000 && room < 10; i++) {
        double before = room;
        pause_ms(5);
        room = charge(f->b, f->key, 100, 10, 0);
        assert_true(room >= before);
    }
    assert_near(room, 10);
}

static void test_many_are_charged_together(void **state)
{
    enum { N = 1203 };
    struct fixture *f = *state;
    CLEANUP_FREE struct cache_charge *list = mem_calloc(N, sizeof *list);
    char(*keys)[64] = mem_calloc(N, sizeof *keys);
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "%s:%d", f->id, i);
        list[i] = (struct cache_charge){.key = keys[i], .per_second = SLOW, .burst = 2 * N, .n = i};
    }
    assert_int_equal(CALL(f->a, charge, list, N), 0);
    assert_int_equal(CALL(f->b, charge, list, N), 0);
    for (int i = 0; i < N; i++) {
        assert_true(list[i].answered);
        assert_near(list[i].room, 2 * N - 2 * i);
    }
    free(keys);
}

struct charger {
    struct cache *c;
    const char *key;
};

static void *charge_often(void *arg)
{
    const struct charger *g = arg;
    for (int i = 0; i < 500; i++)
        charge(g->c, g->key, SLOW, 100000, 1);
    return NULL;
}

static void test_nothing_is_lost_between_threads(void **state)
{
    struct fixture *f = *state;
    struct charger chargers[2] = {{f->a, f->key}, {f->b, f->key}};
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, charge_often, &chargers[i % 2]), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_near(charge(f->a, f->key, SLOW, 100000, 0), 100000 - 4000);
}

/* ---- gateways ---- */

struct seen_gateway {
    struct uuid id;
    int n_alive, n_silent;
};

static void see_gateway(void *ctx, const struct uuid *gateway, bool alive)
{
    struct seen_gateway *s = ctx;
    if (uuid_equal(&s->id, gateway))
        (*(alive ? &s->n_alive : &s->n_silent))++;
}

static struct seen_gateway look_for(struct cache *c, const struct uuid *gateway)
{
    struct seen_gateway s = {.id = *gateway};
    assert_int_equal(CALL(c, gateways, see_gateway, &s), 0);
    return s;
}

static void alive(struct cache *c, const struct uuid *gateway, unsigned ms, bool should_be_known)
{
    bool known = !should_be_known;
    assert_int_equal(CALL(c, gateway_alive, gateway, ms, &known), 0);
    assert_int_equal(known, should_be_known);
}

static void wait_silent(struct cache *c, const struct uuid *gateway)
{
    for (int i = 0; i < 1000 && look_for(c, gateway).n_silent == 0; i++)
        pause_ms(10);
}

static void test_a_gateway_is_alive(void **state)
{
    struct fixture *f = *state;
    struct uuid g, h;
    uuid_new(&g);
    uuid_new(&h);
    alive(f->a, &g, LONG_MS, false);
    alive(f->b, &g, LONG_MS, true);
    alive(f->b, &h, LONG_MS, false);
    assert_int_equal(look_for(f->b, &g).n_alive, 1);
    assert_int_equal(look_for(f->a, &h).n_alive, 1);
    assert_int_equal(look_for(f->a, &h).n_silent, 0);
    assert_int_equal(CALL(f->a, gateway_alive, &g, 0, NULL), 0);
    assert_int_equal(CALL(f->a, gateway_alive, &h, 0, NULL), 0);
}

static void test_a_silent_gateway_is_told_of(void **state)
{
    struct fixture *f = *state;
    struct uuid g;
    uuid_new(&g);
    alive(f->a, &g, 30, false);
    wait_silent(f->b, &g);
    assert_int_equal(look_for(f->b, &g).n_alive, 0);
    assert_int_equal(look_for(f->b, &g).n_silent, 1);
    alive(f->a, &g, LONG_MS, false);
    assert_int_equal(look_for(f->b, &g).n_alive, 1);
    assert_int_equal(look_for(f->b, &g).n_silent, 0);
    assert_int_equal(CALL(f->a, gateway_alive, &g, 0, NULL), 0);
}

static void test_one_that_ends_well_is_not(void **state)
{
    struct fixture *f = *state;
    struct uuid g;
    uuid_new(&g);
    alive(f->a, &g, LONG_MS, false);
    alive(f->a, &g, 0, true);
    assert_int_equal(look_for(f->b, &g).n_alive, 0);
    assert_int_equal(look_for(f->b, &g).n_silent, 0);
    alive(f->a, &g, 0, false);
}

/* ---- presence ---- */

struct seen {
    struct presence list[4096];
    size_t n;
    int stop;
};

static int see(void *ctx, const struct presence *p)
{
    struct seen *s = ctx;
    assert_true(s->n < sizeof s->list / sizeof *s->list);
    s->list[s->n++] = *p;
    return s->stop;
}

/* At the end of a run over both: the caller frees. */
static struct seen *of_users(struct cache *c, const struct uuid *users, size_t n)
{
    struct seen *s = mem_alloc(sizeof *s);
    assert_int_equal(CALL(c, present_list, users, n, see, s), 0);
    return s;
}

static struct seen *of_gateway(struct cache *c, const struct uuid *gateway)
{
    struct seen *s = mem_alloc(sizeof *s);
    assert_int_equal(CALL(c, present_at, gateway, see, s), 0);
    return s;
}

static void assert_listed(struct seen *s, const struct presence *p)
{
    size_t found = 0;
    for (size_t i = 0; i < s->n; i++)
        found += uuid_equal(&s->list[i].user, &p->user) && uuid_equal(&s->list[i].gateway, &p->gateway) && strcmp(s->list[i].device, p->device) == 0 &&
                 strcmp(s->list[i].name, p->name) == 0 && s->list[i].since == p->since;
    assert_int_equal(found, 1);
}

static void assert_only(struct seen *s, const struct presence *p, size_t n)
{
    assert_int_equal(s->n, n);
    for (size_t i = 0; i < n; i++)
        assert_listed(s, &p[i]);
    free(s);
}

static struct presence device(const struct uuid *user, const char *name, const char *text, const struct uuid *gateway, int64_t since)
{
    struct presence p = {.user = *user, .gateway = *gateway, .since = since};
    snprintf(p.name, sizeof p.name, "%s", name);
    snprintf(p.device, sizeof p.device, "%s", text);
    return p;
}

struct people {
    struct uuid ann, bob, nobody, g, h;
};

static struct people people(struct fixture *f)
{
    struct people p;
    uuid_new(&p.ann);
    uuid_new(&p.bob);
    uuid_new(&p.nobody);
    uuid_new(&p.g);
    uuid_new(&p.h);
    alive(f->a, &p.g, LONG_MS, false);
    alive(f->b, &p.h, LONG_MS, false);
    return p;
}

static void all_end(struct fixture *f, const struct people *p)
{
    assert_int_equal(CALL(f->a, gateway_alive, &p->g, 0, NULL), 0);
    assert_int_equal(CALL(f->a, gateway_alive, &p->h, 0, NULL), 0);
}

static void test_devices_of_users(void **state)
{
    struct fixture *f = *state;
    struct people w = people(f);
    const struct presence there[] = {device(&w.ann, "ann", "laptop", &w.g, 1790000000000000001), device(&w.ann, "ann", "desk  top \xc3\xa4", &w.h, 2),
                                     device(&w.bob, "bob", "", &w.g, -5), device(&w.bob, "bob", "laptop", &w.h, 0)};
    assert_int_equal(CALL(f->a, present_put, there, 4, LONG_MS), 0);
    assert_only(of_users(f->b, &w.ann, 1), there, 2);
    assert_only(of_users(f->b, (struct uuid[]){w.nobody, w.bob, w.ann}, 3), there, 4);
    assert_only(of_users(f->a, &w.nobody, 1), NULL, 0);
    assert_only(of_users(f->a, &w.nobody, 0), NULL, 0);
    all_end(f, &w);
}

static void test_a_device_put_again_is_one(void **state)
{
    struct fixture *f = *state;
    struct people w = people(f);
    struct presence p = device(&w.ann, "ann", "laptop", &w.g, 1), elsewhere = device(&w.ann, "ann", "laptop", &w.h, 3);
    assert_int_equal(CALL(f->a, present_put, &p, 1, LONG_MS), 0);
    p.since = 2;
    assert_int_equal(CALL(f->a, present_put, &p, 1, LONG_MS), 0);
    assert_only(of_users(f->b, &w.ann, 1), &p, 1);
    assert_int_equal(CALL(f->b, present_put, &elsewhere, 1, LONG_MS), 0);
    assert_only(of_users(f->b, &w.ann, 1), (struct presence[]){p, elsewhere}, 2);
    assert_int_equal(CALL(f->b, present_remove, &p, 1), 0);
    assert_only(of_users(f->a, &w.ann, 1), &elsewhere, 1);
    assert_int_equal(CALL(f->b, present_remove, &p, 1), 0);
    all_end(f, &w);
}

static void test_devices_go_with_their_gateway(void **state)
{
    struct fixture *f = *state;
    struct people w = people(f);
    struct presence there[] = {device(&w.ann, "ann", "laptop", &w.g, 1), device(&w.bob, "bob", "laptop", &w.g, 2), device(&w.ann, "ann", "laptop", &w.h, 3)};
    assert_int_equal(CALL(f->a, present_put, there, 3, LONG_MS), 0);
    alive(f->a, &w.g, 30, true);
    wait_silent(f->b, &w.g);
    assert_only(of_users(f->b, (struct uuid[]){w.ann, w.bob}, 2), &there[2], 1);
    assert_only(of_gateway(f->b, &w.g), there, 2); /* who was there is known still */
    assert_int_equal(CALL(f->b, present_remove, &there[0], 1), 0);
    assert_only(of_gateway(f->a, &w.g), &there[1], 1);
    alive(f->a, &w.g, LONG_MS, false);
    assert_only(of_users(f->b, (struct uuid[]){w.ann, w.bob}, 2), &there[1], 2);
    all_end(f, &w);
}

static void test_devices_not_put_again_go(void **state)
{
    struct fixture *f = *state;
    struct people w = people(f);
    struct presence p = device(&w.ann, "ann", "laptop", &w.g, 1);
    assert_int_equal(CALL(f->a, present_put, &p, 1, 30), 0);
    size_t n = 1;
    for (int i = 0; i < 1000 && n; i++) {
        pause_ms(10);
        struct seen *s = of_users(f->b, &w.ann, 1), *at = of_gateway(f->b, &w.g);
        n = s->n + at->n;
        free(s);
        free(at);
    }
    assert_int_equal(n, 0);
    all_end(f, &w);
}

static void test_very_many_devices(void **state)
{
    enum { N = 3000 };
    struct fixture *f = *state;
    struct people w = people(f);
    CLEANUP_FREE struct presence *list = mem_calloc(N, sizeof *list);
    char text[CACHE_DEVICE_MAX + 1];
    for (int i = 0; i < N; i++) {
        memset(text, 'd', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        text[snprintf(text, sizeof text, "%d", i)] = ' ';
        list[i] = device(i % 2 ? &w.ann : &w.bob, "a name of sixty-four bytes, which is the longest that one may have", text, &w.g, i);
    }
    assert_int_equal(CALL(f->a, present_put, list, N, LONG_MS), 0);
    struct seen *s = of_users(f->b, (struct uuid[]){w.ann, w.bob}, 2), *at = of_gateway(f->b, &w.g);
    assert_int_equal(s->n, N);
    assert_true(at->n >= N);
    for (int i = 0; i < N; i += 100)
        assert_listed(s, &list[i]);
    free(s);
    free(at);
    all_end(f, &w);
}

static void test_listing_stops_when_told(void **state)
{
    struct fixture *f = *state;
    struct people w = people(f);
    struct presence there[] = {device(&w.ann, "ann", "one", &w.g, 1), device(&w.ann, "ann", "two", &w.g, 2)};
    assert_int_equal(CALL(f->a, present_put, there, 2, LONG_MS), 0);
    struct seen *s = mem_alloc(sizeof *s);
    s->stop = 7;
    assert_int_equal(CALL(f->b, present_list, &w.ann, 1, see, s), 7);
    assert_int_equal(CALL(f->b, present_at, &w.g, see, s), 7);
    assert_int_equal(s->n, 2);
    free(s);
    all_end(f, &w);
}

/* ---- room ---- */

static void test_memory_drops_the_longest_unused(void **state)
{
    (void)state;
    struct cache *c = cache_memory_new(10000);
    char large[2000] = {0};
    assert_int_equal(put(c, "a", large, sizeof large, LONG_MS), 0);
    assert_int_equal(put(c, "b", large, sizeof large, LONG_MS), 0);
    assert_value(c, "a", large, sizeof large);
    for (int i = 0; i < 3; i++) {
        const char key[] = {(char)('c' + i), '\0'};
        assert_int_equal(put(c, key, large, sizeof large, LONG_MS), 0);
    }
    assert_none(c, "b");
    assert_value(c, "a", large, sizeof large);
    c->ops->free(c);
}

int main(void)
{
#define PORT(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        PORT(test_a_value_is_kept),
        PORT(test_get_appends),
        PORT(test_a_value_is_removed),
        PORT(test_a_value_expires),
        PORT(test_the_largest_value),
        PORT(test_many_keys),
        PORT(test_gateways_share_a_rate),
        PORT(test_more_than_there_is_is_owed),
        PORT(test_what_is_given_back_is_there),
        PORT(test_a_rate_refills),
        PORT(test_many_are_charged_together),
        PORT(test_nothing_is_lost_between_threads),
        PORT(test_a_gateway_is_alive),
        PORT(test_a_silent_gateway_is_told_of),
        PORT(test_one_that_ends_well_is_not),
        PORT(test_devices_of_users),
        PORT(test_a_device_put_again_is_one),
        PORT(test_devices_go_with_their_gateway),
        PORT(test_devices_not_put_again_go),
        PORT(test_very_many_devices),
        PORT(test_listing_stops_when_told),
        cmocka_unit_test(test_memory_drops_the_longest_unused),
    };
    signal(SIGPIPE, SIG_IGN); /* as the programs do */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
