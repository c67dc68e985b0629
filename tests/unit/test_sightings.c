#include "gateway/core/sightings.h"
#include "gateway/core/order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct uuid drive = {.b = {9}}, other = {.b = {8}};
static struct interest_row row = {.gateway = {.b = {1}}, .until = 500};

static void a_row_holds_from_when_it_was_first_seen_so(void **state)
{
    (void)state;
    struct sightings *s = sightings_new();
    bool forget;
    assert_int_equal(sightings_until(s, &drive, &row, 100, 110, &forget), 100 + INTEREST_MS);
    assert_int_equal(sightings_until(s, &drive, &row, 900, 910, &forget), 100 + INTEREST_MS);
    assert_int_equal(sightings_until(s, &drive, &row, 90, 920, &forget), 90 + INTEREST_MS); /* groups may come in another order than they read */
    assert_int_equal(sightings_until(s, &other, &row, 900, 910, &forget), 900 + INTEREST_MS);
    assert_false(forget);
    row.until = 400; /* the database's clock was set back: it is another writing all the same */
    assert_int_equal(sightings_until(s, &drive, &row, 1000, 1000, &forget), 1000 + INTEREST_MS);
    sightings_free(s);
}

static void one_that_is_out_is_to_be_removed_once(void **state)
{
    (void)state;
    struct sightings *s = sightings_new();
    bool forget;
    sightings_until(s, &drive, &row, 0, 0, &forget);
    sightings_until(s, &drive, &row, INTEREST_MS - 1, INTEREST_MS - 1, &forget);
    assert_false(forget);
    assert_int_equal(sightings_until(s, &drive, &row, INTEREST_MS, INTEREST_MS, &forget), INTEREST_MS);
    assert_true(forget);
    sightings_until(s, &drive, &row, INTEREST_MS + 1, INTEREST_MS + 1, &forget);
    assert_false(forget);
    row.until++;
    sightings_until(s, &drive, &row, 9000, 9000, &forget);
    assert_false(forget);
    sightings_free(s);
}

static void what_is_long_gone_takes_no_room(void **state)
{
    (void)state;
    struct sightings *s = sightings_new();
    bool forget;
    for (int64_t i = 0; i < 1000; i++) {
        struct interest_row r = {.until = i};
        r.gateway.b[0] = (uint8_t)i;
        r.gateway.b[1] = (uint8_t)(i >> 8);
        sightings_until(s, &drive, &r, i * 1000, i * 1000, &forget);
    }
    assert_true(sightings_count(s) < 130);
    sightings_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_holds_from_when_it_was_first_seen_so),
        cmocka_unit_test(one_that_is_out_is_to_be_removed_once),
        cmocka_unit_test(what_is_long_gone_takes_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
