#include "gateway/core/order.h"
#include "common/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What was done, in words: "tell a; known b; free c; fetch 5; cap 3000; " */
static char said[8192];

static void note(const char *fmt, ...)
{
    size_t len = strlen(said);
    va_list args;
    va_start(args, fmt);
    vsnprintf(said + len, sizeof said - len, fmt, args);
    va_end(args);
}
static void on_release(void *ctx, const struct uuid *drive, void *parcel, enum order_how how)
{
    (void)ctx;
    (void)drive;
    note("%s %s; ", how == ORDER_TELL ? "tell" : how == ORDER_KNOWN ? "known" : "free", (const char *)parcel);
}
static void on_fetch(void *ctx, const struct uuid *drive, uint64_t since)
{
    (void)ctx;
    (void)drive;
    note("fetch %llu; ", (unsigned long long)since);
}
static void on_cap(void *ctx, const struct uuid *drive, int64_t until)
{
    (void)ctx;
    (void)drive;
    note("cap %lld; ", (long long)until);
}

#define assert_said(text)                                                                                              \
    do {                                                                                                               \
        assert_string_equal(said, text);                                                                               \
        said[0] = '\0';                                                                                                \
    } while (0)

static const struct uuid drive = {.b = {9}}, other = {.b = {8}};
static const struct order_io io = {on_release, on_fetch, on_cap, NULL};

/* A drive that was joined at 10, whose leases may reach until 3000. */
static struct order *setup(void)
{
    said[0] = '\0';
    struct order *o = order_new(&io, false);
    order_expect(o, &drive);
    assert_int_equal(order_place(o, &drive, 10, 0), 10);
    order_granted(o, &drive, 10, 3000, 0);
    assert_said("cap 3000; ");
    return o;
}

static void what_comes_in_order_is_told_at_once(void **state)
{
    (void)state;
    struct order *o = setup();
    order_add(o, &drive, 11, 12, "a", 1);
    order_add(o, &drive, 13, 13, "b", 2);
    assert_said("tell a; tell b; ");
    assert_int_equal(order_tick(o, 3), -1);
    order_free(o);
}

static void what_comes_early_waits_for_what_is_before_it(void **state)
{
    (void)state;
    struct order *o = setup();
    order_add(o, &drive, 14, 15, "c", 1);
    order_add(o, &drive, 12, 13, "b", 2);
    assert_said("");
    order_add(o, &drive, 11, 11, "a", 3);
    assert_said("tell a; tell b; tell c; ");
    assert_int_equal(order_tick(o, 3), -1);
    order_free(o);
}

static void a_gap_is_read_after_a_while(void **state)
{
    (void)state;
    struct order *o = setup();
    order_add(o, &drive, 13, 13, "c", 100);
    assert_int_equal(order_tick(o, 105), ORDER_GAP_MS - 5);
    assert_said("");
    order_tick(o, 100 + ORDER_GAP_MS);
    assert_said("fetch 10; ");
    order_tick(o, 200); /* once */
    assert_said("");
    order_fetched(o, &drive, 0, false, 210); /* the database is away */
    assert_int_equal(order_tick(o, 220), ORDER_RETRY_MS - 10);
    order_tick(o, 210 + ORDER_RETRY_MS);
    assert_said("fetch 10; ");
    order_add(o, &drive, 11, 11, "row 11", 320);
    order_add(o, &drive, 12, 12, "row 12", 320);
    assert_said("tell row 11; tell row 12; tell c; ");
    order_fetched(o, &drive, 13, true, 320);
    assert_int_equal(order_tick(o, 400), -1);
    order_free(o);
}

static void numbers_without_a_row_are_passed(void **state)
{
    (void)state;
    struct order *o = setup();
    uint64_t next_generation = UINT64_C(1) << 40;
    order_add(o, &drive, next_generation + 1, next_generation + 1, "new", 100);
    order_tick(o, 200);
    assert_said("fetch 10; ");
    order_fetched(o, &drive, next_generation, true, 210);
    assert_said("tell new; ");
    order_free(o);
}

static void what_was_read_behind_a_hole_is_told(void **state)
{
    (void)state;
    struct order *o = setup();
    uint64_t next_generation = UINT64_C(1) << 40;
    order_add(o, &drive, next_generation + 3, next_generation + 3, "three", 100);
    order_tick(o, 200);
    assert_said("fetch 10; ");
    order_add(o, &drive, next_generation + 1, next_generation + 1, "one", 210);
    order_add(o, &drive, next_generation + 2, next_generation + 2, "two", 210);
    order_fetched(o, &drive, next_generation + 3, true, 210);
    assert_said("tell one; tell two; tell three; ");
    order_free(o);
}

static void what_is_known_is_only_acknowledged(void **state)
{
    (void)state;
    struct order *o = setup();
    order_add(o, &drive, 11, 12, "a", 1);
    order_add(o, &drive, 11, 12, "a again", 2);
    order_add(o, &drive, 0, 11, "repeat", 3);
    assert_said("tell a; known a again; known repeat; ");
    order_add(o, &drive, 12, 14, "overlaps", 4); /* pages of rows end in the middle of a transaction */
    assert_said("tell overlaps; ");
    order_free(o);
}

static void a_repeat_waits_for_what_it_repeats(void **state)
{
    (void)state;
    struct order *o = setup();
    order_add(o, &drive, 0, 12, "repeat", 1);
    assert_said("");
    order_add(o, &drive, 11, 13, "first", 2);
    assert_said("tell first; known repeat; ");
    order_add(o, &drive, 0, 15, "repeat", 100); /* the gateway that had the first was killed before it told anybody */
    order_tick(o, 100 + ORDER_GAP_MS);
    assert_said("fetch 13; ");
    order_fetched(o, &drive, 15, true, 130);
    assert_said("known repeat; ");
    order_free(o);
}

static void a_renewal_counts_when_all_before_it_was_told(void **state)
{
    (void)state;
    struct order *o = setup();
    order_granted(o, &drive, 12, 4000, 1000);
    assert_said("");
    order_add(o, &drive, 11, 11, "a", 1001);
    assert_said("tell a; ");
    order_granted(o, &drive, 13, 5000, 2000); /* another, while the first is not reached */
    order_add(o, &drive, 12, 12, "b", 2001);
    assert_said("tell b; cap 4000; ");
    order_tick(o, 2001 + ORDER_GAP_MS);
    assert_said("fetch 12; "); /* 13 is known of by the renewal alone */
    order_add(o, &drive, 13, 13, "c", 2040);
    assert_said("tell c; cap 5000; ");
    order_fetched(o, &drive, 13, true, 2041);
    assert_int_equal(order_cap(o, &drive), 5000);
    order_free(o);
}

static void without_a_promise_nobody_is_waited_for(void **state)
{
    (void)state;
    struct order *o = setup();
    order_add(o, &drive, 12, 12, "b", 2990);
    assert_said("");
    assert_int_equal(order_tick(o, 2995), 5);
    order_tick(o, 3000); /* the row is out, and 11 has not come */
    assert_said("free b; ");
    order_add(o, &drive, 14, 14, "d", 3001);
    assert_said("free d; ");
    /* but before anything is promised again, all of it is told */
    order_granted(o, &drive, 12, 6005, 3005);
    assert_said("");
    order_tick(o, 3010);
    assert_said("fetch 10; ");
    order_fetched(o, &drive, 13, true, 3020);
    assert_said("");
    order_tick(o, 3020 + ORDER_GAP_MS);
    assert_said("fetch 13; ");
    order_fetched(o, &drive, 14, true, 3050);
    assert_said("cap 6005; ");
    order_free(o);
}

static void what_comes_before_the_place_is_known_is_not_lost(void **state)
{
    (void)state;
    said[0] = '\0';
    struct order *o = order_new(&io, false);
    order_add(o, &drive, 4, 4, "nobody", 0);
    assert_said("free nobody; ");
    order_expect(o, &drive);
    order_add(o, &drive, 11, 11, "early", 1); /* committed behind the join, and here before it */
    assert_said("free early; ");
    assert_int_equal(order_place(o, &drive, 10, 2), 10);
    order_granted(o, &drive, 10, 3000, 2);
    assert_said(""); /* not before 11 was told */
    order_tick(o, 2 + ORDER_GAP_MS);
    assert_said("fetch 10; ");
    order_add(o, &drive, 11, 11, "row", 30);
    assert_said("tell row; cap 3000; ");
    order_free(o);
}

static void a_second_stream_begins_where_the_first_is(void **state)
{
    (void)state;
    struct order *o = setup();
    order_expect(o, &drive);
    order_add(o, &drive, 11, 12, "a", 1);
    assert_int_equal(order_place(o, &drive, 11, 2), 12); /* a peer's message was faster than our own transaction's end */
    assert_int_equal(order_place(o, &drive, 14, 3), 14);
    order_tick(o, 3 + ORDER_GAP_MS);
    assert_said("tell a; fetch 12; ");
    order_forget(o, &drive);
    order_add(o, &drive, 16, 16, "c", 30);
    order_forget(o, &drive);
    assert_said("free c; ");
    assert_int_equal(order_tick(o, 100), -1);
    order_fetched(o, &drive, 16, true, 100); /* too late: nobody is there any more */
    assert_int_equal(order_cap(o, &drive), 0);
    order_free(o);
}

static void rows_are_written_again_every_second(void **state)
{
    (void)state;
    struct order *o = setup();
    struct uuid due[4];
    assert_int_equal(order_due(o, 999, due, 4), 0);
    order_expect(o, &other);
    assert_int_equal(order_due(o, 1000, due, 4), 1); /* the other one has no place yet */
    assert_true(uuid_equal(&due[0], &drive));
    assert_int_equal(order_due(o, 1500, due, 4), 0);
    order_granted(o, &drive, 10, 1600 + INTEREST_MS, 1650); /* an operation has done it */
    assert_int_equal(order_due(o, 2500, due, 4), 0);
    assert_int_equal(order_due(o, 2600, due, 4), 1);
    order_free(o);
}

static void alone_there_is_no_end_to_trust(void **state)
{
    (void)state;
    said[0] = '\0';
    struct order *o = order_new(&io, true);
    struct uuid due[1];
    order_expect(o, &drive);
    order_place(o, &drive, 10, 0);
    order_add(o, &drive, 11, 11, "a", 1);
    assert_said("tell a; ");
    assert_true(order_cap(o, &drive) == INT64_MAX);
    assert_int_equal(order_due(o, 100000, due, 1), 0);
    order_free(o);
}

/* Whatever order commits arrive in, and whichever are lost: streams are told every number, in order, and no cap reaches beyond what was told. */
struct model {
    uint64_t told, committed, cap_seq[64];
    int64_t cap_until[64], cap;
    size_t grants;
    unsigned fetching;
};
static struct model model;
static void model_release(void *ctx, const struct uuid *id, void *parcel, enum order_how how)
{
    (void)ctx;
    (void)id;
    uint64_t *range = parcel;
    if (how == ORDER_TELL) {
        assert_true(range[0] <= model.told + 1);
        assert_true(range[1] > model.told);
        model.told = range[1];
    } else if (how == ORDER_KNOWN) {
        assert_true(range[1] <= model.told);
    }
    free(range);
}
static void model_fetch(void *ctx, const struct uuid *id, uint64_t since)
{
    (void)ctx;
    (void)id;
    assert_int_equal(since, model.told);
    assert_int_equal(model.fetching, 0);
    model.fetching = 1;
}
static void model_cap(void *ctx, const struct uuid *id, int64_t until)
{
    (void)ctx;
    (void)id;
    assert_true(until > model.cap);
    model.cap = until;
    for (size_t i = 0; i < model.grants; i++)
        if (model.cap_until[i] == until)
            assert_true(model.cap_seq[i] <= model.told);
}
static uint64_t *range_of(uint64_t first, uint64_t last)
{
    uint64_t *r = mem_alloc(2 * sizeof *r);
    r[0] = first;
    r[1] = last;
    return r;
}

static void random_arrivals(void **state)
{
    (void)state;
    static const struct order_io model_io = {model_release, model_fetch, model_cap, NULL};
    const char *given = getenv("SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : 20260117;
    print_message("SEED=%u\n", seed);
    srand(seed);
    for (unsigned round = 0; round < 200; round++) {
        model = (struct model){0};
        struct order *o = order_new(&model_io, false);
        order_expect(o, &drive);
        order_place(o, &drive, 0, 0);
        uint64_t late[16][2] = {{0}};
        int64_t now = 0;
        for (unsigned step = 0; step < 300; step++) {
            now += rand() % 30;
            unsigned what = (unsigned)rand() % 8, slot = (unsigned)rand() % 16;
            if (what < 4) { /* a commit: told now, later, or never */
                uint64_t first = model.committed + 1, last = model.committed += 1 + (unsigned)rand() % 3;
                if (what == 3)
                    memcpy(late[slot], (uint64_t[]){first, last}, sizeof late[slot]);
                else if (rand() % 10)
                    order_add(o, &drive, first, last, range_of(first, last), now);
            } else if (what == 4 && late[slot][1]) {
                order_add(o, &drive, late[slot][0], late[slot][1], range_of(late[slot][0], late[slot][1]), now);
            } else if (what == 5 && model.grants < 64) {
                model.cap_seq[model.grants] = model.committed;
                model.cap_until[model.grants++] = now + INTEREST_MS;
                order_granted(o, &drive, model.committed, now + INTEREST_MS, now);
            } else if (what == 6 && model.fetching) {
                model.fetching = 0;
                uint64_t upto = model.committed;
                for (uint64_t seq = model.told + 1; seq <= upto; seq++)
                    order_add(o, &drive, seq, seq, range_of(seq, seq), now);
                order_fetched(o, &drive, upto, true, now);
            } else if (what == 7 && model.committed) {
                order_add(o, &drive, 0, model.committed, range_of(0, model.committed), now);
            }
            order_tick(o, now);
        }
        order_forget(o, &drive);
        order_free(o);
    }
}

/* A batch that came twice was answered though this gateway had not heard of it: leases wait until it has. */
static void a_freed_repeat_holds_leases_back(void **state)
{
    (void)state;
    struct order *o = setup();
    order_tick(o, 3000); /* nobody trusts it any more */
    order_add(o, &drive, 0, 15, "repeat", 3001);
    assert_said("free repeat; ");
    order_granted(o, &drive, 10, 6000, 3002); /* asked for before 15 was committed */
    assert_said("");
    order_add(o, &drive, 11, 15, "a", 3003);
    assert_said("tell a; cap 6000; ");
    order_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_freed_repeat_holds_leases_back),
        cmocka_unit_test(what_comes_in_order_is_told_at_once),
        cmocka_unit_test(what_comes_early_waits_for_what_is_before_it),
        cmocka_unit_test(a_gap_is_read_after_a_while),
        cmocka_unit_test(numbers_without_a_row_are_passed),
        cmocka_unit_test(what_was_read_behind_a_hole_is_told),
        cmocka_unit_test(what_is_known_is_only_acknowledged),
        cmocka_unit_test(a_repeat_waits_for_what_it_repeats),
        cmocka_unit_test(a_renewal_counts_when_all_before_it_was_told),
        cmocka_unit_test(without_a_promise_nobody_is_waited_for),
        cmocka_unit_test(what_comes_before_the_place_is_known_is_not_lost),
        cmocka_unit_test(a_second_stream_begins_where_the_first_is),
        cmocka_unit_test(rows_are_written_again_every_second),
        cmocka_unit_test(alone_there_is_no_end_to_trust),
        cmocka_unit_test(random_arrivals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
