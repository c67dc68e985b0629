#include "gateway/core/awaited.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What was done, in words: "x; " settled, "x late; ", "resend m; ", "drop m; " */
static char said[4096];

static void note(const char *what, const char *which, const char *how)
{
    size_t len = strlen(said);
    snprintf(said + len, sizeof said - len, "%s%s%s; ", what, which, how);
}
static void on_settled(void *ctx, const struct uuid *gateway, void *waiter, bool in_time)
{
    (void)ctx;
    assert_true(gateway->b[0] == 1 || gateway->b[0] == 2);
    note("", waiter, in_time ? "" : " late");
}
static void on_drop(void *ctx, void *message)
{
    (void)ctx;
    note("drop ", message, "");
}
static void resend(void *ctx, void *message)
{
    note(ctx, message, "");
}

#define assert_said(text)                                                                                              \
    do {                                                                                                               \
        assert_string_equal(said, text);                                                                               \
        said[0] = '\0';                                                                                                \
    } while (0)

static const struct uuid A = {.b = {1}}, B = {.b = {2}};

static struct awaited *setup(void)
{
    static const struct awaited_io io = {on_settled, on_drop, NULL};
    said[0] = '\0';
    return awaited_new(&io);
}

static void each_gateway_is_waited_for(void **state)
{
    (void)state;
    struct awaited *w = setup();
    assert_true(awaited_add(w, &A, 7, 3000, "x", "m", 0));
    assert_true(awaited_add(w, &B, 7, 2500, "x", "m", 0));
    assert_int_equal(awaited_count(w), 2);
    assert_int_equal(awaited_tick(w, 100), 2400);
    awaited_ack(w, &A, 7);
    assert_said("drop m; x; ");
    awaited_ack(w, &A, 7); /* twice is fine */
    awaited_ack(w, &B, 6);
    awaited_ack(w, &B, 8);
    assert_said("");
    awaited_ack(w, &B, 7);
    assert_said("drop m; x; ");
    assert_int_equal(awaited_tick(w, 100), -1);
    awaited_free(w);
}

/* One that comes after it may be acknowledged before: it did not concern the same streams. */
static void an_acknowledgement_is_of_one_message(void **state)
{
    (void)state;
    struct awaited *w = setup();
    awaited_add(w, &A, 7, 3000, "x", "m", 0);
    awaited_add(w, &A, 8, 3000, "y", "n", 0);
    awaited_add(w, &A, 9, 3000, "x again", "k", 0);
    awaited_ack(w, &A, 9);
    assert_said("drop k; x again; ");
    awaited_ack(w, &A, 8);
    assert_said("drop n; y; ");
    awaited_ack(w, &A, 7);
    assert_said("drop m; x; ");
    awaited_free(w);
}

static void a_row_that_is_out_is_not_waited_for(void **state)
{
    (void)state;
    struct awaited *w = setup();
    awaited_add(w, &A, 7, 3000, "x", "m", 0);
    awaited_add(w, &A, 8, 2000, "y", "n", 0); /* rows are read again: later is not always longer */
    awaited_tick(w, 1999);
    assert_said("");
    assert_int_equal(awaited_tick(w, 2000), 1000);
    assert_said("drop n; y late; ");
    awaited_tick(w, 3000);
    assert_said("drop m; x late; ");
    awaited_free(w);
}

static void over_a_new_connection_all_is_said_again(void **state)
{
    (void)state;
    struct awaited *w = setup();
    awaited_add(w, &A, 7, 3000, "x", "m", 0);
    awaited_add(w, &B, 7, 3000, "x", "o", 0);
    awaited_add(w, &A, 2, 3000, "y", "n", 0);
    awaited_each(w, &A, resend, (void *)(uintptr_t)"resend ");
    assert_said("resend m; resend n; ");
    awaited_free(w);
    assert_int_equal(strlen(said), strlen("drop m; drop o; drop n; "));
}

static void one_that_has_ended_is_not_waited_for(void **state)
{
    (void)state;
    struct awaited *w = setup();
    awaited_add(w, &A, 7, 3000, "x", "m", 0);
    awaited_ended(w, &A, 100);
    assert_said("drop m; x; ");
    assert_false(awaited_add(w, &A, 8, 3100, "y", "n", 101)); /* its row was still there */
    awaited_tick(w, 5000);
    assert_false(awaited_add(w, &A, 9, 6000, "z", "n", 5001));
    assert_int_equal(awaited_count(w), 0);
    assert_said("");
    awaited_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gateway_is_waited_for),
        cmocka_unit_test(an_acknowledgement_is_of_one_message),
        cmocka_unit_test(a_row_that_is_out_is_not_waited_for),
        cmocka_unit_test(over_a_new_connection_all_is_said_again),
        cmocka_unit_test(one_that_has_ended_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
