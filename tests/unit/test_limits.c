/* Token buckets, alone and together with others'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/server/limits.h"

#include <string.h>

static size_t take_all(struct limits *l, const char *key, int64_t now)
{
    size_t n = 0;
    while (limits_take(l, 'u', key, now) == 0)
        n++;
    return n;
}

/* What was said of the key; -1: nothing. */
static double said(struct limits *l, const char *key)
{
    CLEANUP_BUF struct buf b = {0};
    double n = -1;
    limits_spent(l, &b);
    const struct limits_spent *list = (const struct limits_spent *)(const void *)b.data;
    for (size_t i = 0; i < b.len / sizeof *list; i++)
        if (strcmp(list[i].key, key) == 0)
            n = list[i].n;
    return n;
}

static void a_burst_is_two_seconds_worth(void **state)
{
    (void)state;
    struct limits *l = limits_new(100);
    assert_int_equal(take_all(l, "ann", 1000), 200);
    assert_int_equal(take_all(l, "bob", 1000), 200);
    assert_int_equal(take_all(l, "ann", 1500), 50);
    assert_int_equal(limits_take(l, 'u', "ann", 1500), 1);
    assert_int_equal(take_all(l, "ann", 100000), 200);
    limits_free(l);
}

static void no_limit_is_none(void **state)
{
    (void)state;
    struct limits *l = limits_new(0);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(limits_take(l, 'u', "ann", 1000), 0);
    assert_true(said(l, "uann") < 0);
    limits_free(l);
}

static void what_is_spent_is_said_once(void **state)
{
    (void)state;
    struct limits *l = limits_new(1000);
    limits_take(l, 'u', "ann", 1000);
    limits_take(l, 'a', "ann", 1000);
    assert_true(said(l, "uann") == 1); /* new here */
    for (int i = 0; i < 49; i++)
        limits_take(l, 'u', "ann", 1000);
    assert_true(said(l, "uann") < 0); /* less than a twentieth of a second's worth */
    limits_take(l, 'u', "ann", 1000);
    limits_take(l, 'u', "ann", 1000);
    assert_true(said(l, "uann") == 51);
    assert_true(said(l, "uann") < 0);
    limits_free(l);
}

static void what_others_spent_is_gone_here(void **state)
{
    (void)state;
    struct limits *l = limits_new(100);
    limits_take(l, 'u', "ann", 1000);
    said(l, "uann");
    for (int i = 0; i < 3; i++)
        limits_take(l, 'u', "ann", 1000);
    limits_learn(l, "uann", 10, 1000); /* without those three */
    limits_learn(l, "unobody", 10, 1000);
    assert_int_equal(take_all(l, "ann", 1000), 7);
    limits_learn(l, "uann", -100, 1000);
    assert_int_equal(limits_take(l, 'u', "ann", 1000), 2);
    assert_int_equal(take_all(l, "ann", 3000), 90); /* 200 came, 110 were owed: ten were not said yet */
    limits_free(l);
}

static void nobody_gets_more_by_what_is_learnt(void **state)
{
    (void)state;
    struct limits *l = limits_new(100);
    assert_int_equal(take_all(l, "ann", 1000), 200);
    limits_learn(l, "uann", 200, 1000); /* a store that was emptied */
    assert_int_equal(take_all(l, "ann", 1000), 0);
    limits_free(l);
}

static void what_waits_to_be_said_survives_a_sweep(void **state)
{
    (void)state;
    struct limits *l = limits_new(100);
    char key[16];
    for (int i = 0; i < 10000; i++) {
        snprintf(key, sizeof key, "%d", i);
        assert_int_equal(limits_take(l, 'a', key, 1000 + 1000 * i), 0);
    }
    assert_true(said(l, "a9999") == 1);
    limits_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_is_two_seconds_worth),   cmocka_unit_test(no_limit_is_none),
        cmocka_unit_test(what_is_spent_is_said_once),     cmocka_unit_test(what_others_spent_is_gone_here),
        cmocka_unit_test(nobody_gets_more_by_what_is_learnt), cmocka_unit_test(what_waits_to_be_said_survives_a_sweep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
