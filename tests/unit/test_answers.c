/* Answers that are kept, by two gateways with one cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/api/answers.h"

#include <errno.h>
#include <string.h>

struct fixture {
    struct app a, b;
    struct uuid drive;
};
static struct fixture f;

static int setup(void **state)
{
    (void)state;
    f.a = (struct app){.answers = cache_memory_new(1 << 20), .cache = cache_memory_new(1 << 20)};
    f.a.cache->shared = true;
    f.b = (struct app){.answers = cache_memory_new(1 << 20), .cache = f.a.cache};
    uuid_new(&f.drive);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    f.a.answers->ops->free(f.a.answers);
    f.b.answers->ops->free(f.b.answers);
    f.a.cache->ops->free(f.a.cache);
    return 0;
}

static struct answer_name name_of(char kind, const struct uuid *drive, uint64_t seq, const char *question)
{
    struct answer_name n;
    answer_name(&n, kind, drive, seq, question, strlen(question));
    return n;
}

static void keep(struct app *app, struct answer_name n, const char *text)
{
    CLEANUP_BUF struct buf b = {0};
    buf_append_str(&b, text);
    answer_keep(app, &n, &b);
}

static void assert_answer(struct app *app, struct answer_name n, const char *text)
{
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(answer_find(app, &n, &b), text != NULL);
    if (text)
        assert_string_equal(b.data, text);
    else
        assert_int_equal(b.len, 0);
}

static void an_answer_is_for_its_question_and_seq(void **state)
{
    (void)state;
    struct uuid other;
    uuid_new(&other);
    keep(&f.a, name_of('f', &f.drive, 7, "/a"), "seven");
    assert_answer(&f.a, name_of('f', &f.drive, 7, "/a"), "seven");
    assert_answer(&f.a, name_of('f', &f.drive, 8, "/a"), NULL);
    assert_answer(&f.a, name_of('f', &f.drive, 7, "/b"), NULL);
    assert_answer(&f.a, name_of('d', &f.drive, 7, "/a"), NULL);
    assert_answer(&f.a, name_of('f', &other, 7, "/a"), NULL);
    keep(&f.a, name_of('f', &f.drive, UINT64_MAX, "/a"), "last");
    assert_answer(&f.a, name_of('f', &f.drive, UINT64_MAX, "/a"), "last");
}

static void another_gateway_finds_it(void **state)
{
    (void)state;
    struct answer_name n = name_of('f', &f.drive, 7, "/a");
    keep(&f.a, n, "seven");
    assert_answer(&f.b, n, "seven");
    assert_int_equal(f.a.cache->ops->remove(f.a.cache, n.key), 0);
    assert_answer(&f.b, n, "seven"); /* its own by now */
    f.a.cache->shared = false;
    assert_answer(&f.b, name_of('f', &f.drive, 8, "/a"), NULL);
}

static void what_is_damaged_is_none(void **state)
{
    (void)state;
    struct answer_name n = name_of('f', &f.drive, 7, "/a"), m = name_of('f', &f.drive, 7, "/b");
    CLEANUP_BUF struct buf b = {0};
    keep(&f.a, n, "seven");
    keep(&f.a, m, "eight");
    assert_int_equal(f.a.cache->ops->get(f.a.cache, m.key, &b), 0);
    assert_int_equal(f.a.cache->ops->put(f.a.cache, n.key, b.data, b.len, 60000), 0); /* whole, but another's */
    assert_answer(&f.b, n, NULL);
    b.data[b.len - 1] ^= 1;
    assert_int_equal(f.a.cache->ops->put(f.a.cache, m.key, b.data, b.len, 60000), 0);
    assert_answer(&f.b, m, NULL);
    assert_int_equal(f.a.cache->ops->put(f.a.cache, m.key, "short", 5, 60000), 0);
    assert_answer(&f.b, m, NULL);
}

static void large_ones_are_not_kept(void **state)
{
    (void)state;
    struct answer_name n = name_of('f', &f.drive, 7, "/a");
    CLEANUP_BUF struct buf b = {0};
    buf_reserve(&b, 100000);
    memset(b.data, 'x', 100000);
    b.len = 100000;
    answer_keep(&f.a, &n, &b);
    assert_answer(&f.a, n, NULL);
}

static void where_none_are_kept_there_is_none(void **state)
{
    (void)state;
    struct app none = {0};
    struct answer_name n = name_of('f', &f.drive, 7, "/a");
    keep(&none, n, "seven");
    assert_answer(&none, n, NULL);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_for_its_question_and_seq), TEST(another_gateway_finds_it), TEST(what_is_damaged_is_none), TEST(large_ones_are_not_kept), TEST(where_none_are_kept_there_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
