#include "gateway/core/coherence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What was said, in words: "inval a 7; lease a 3; answer x; " */
static char said[4096];
static unsigned last_ms;

static void note(const char *fmt, const char *who, uint64_t n)
{
    size_t len = strlen(said);
    snprintf(said + len, sizeof said - len, fmt, who, (unsigned long long)n);
}
static void send_inval(void *ctx, void *user, uint64_t seq, const char *changes)
{
    (void)ctx;
    assert_string_equal(changes, "[]");
    note("inval %s %llu; ", user, seq);
}
static void send_lease(void *ctx, void *user, uint64_t beat, unsigned ms)
{
    (void)ctx;
    note(ms == LEASE_MS ? "lease %s %llu; " : "short lease %s %llu; ", user, beat);
    last_ms = ms;
}
static void answered(void *ctx, void *waiter)
{
    (void)ctx;
    note("answer %s; ", waiter, 0);
}

#define assert_said(text)                                                                                              \
    do {                                                                                                               \
        assert_string_equal(said, text);                                                                               \
        said[0] = '\0';                                                                                                \
    } while (0)

static const struct uuid drive = {.b = {9}}, A = {.b = {1}}, B = {.b = {2}}, C = {.b = {3}}, http = {.b = {0}};

static struct coherence *setup(void)
{
    static const struct coherence_io io = {.send_inval = send_inval, .send_lease = send_lease, .answered = answered};
    said[0] = '\0';
    return coherence_new(&io);
}

static void nobody_else_nothing_waits(void **state)
{
    (void)state;
    struct coherence *c = setup();
    coherence_publish(c, &drive, &A, 5, "[]", "x", 0);
    assert_said("answer x; ");
    struct coherence_stream *a = coherence_join(c, &drive, &A, 5, "a");
    coherence_beat(c, a, 1, 5, 0);
    assert_said("lease a 1; ");
    coherence_publish(c, &drive, &A, 6, "[]", "x", 10); /* its own */
    assert_said("answer x; ");
    coherence_beat(c, a, 2, 5, 500); /* own operations need no acknowledgement */
    assert_said("lease a 2; ");
    coherence_free(c);
}

static void a_lease_is_waited_for_until_the_acknowledgement(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *a = coherence_join(c, &drive, &A, 5, "a"), *b = coherence_join(c, &drive, &B, 5, "b");
    coherence_beat(c, a, 1, 5, 0);
    coherence_beat(c, b, 1, 5, 0);
    assert_said("lease a 1; lease b 1; ");
    coherence_publish(c, &drive, &A, 6, "[]", "x", 10);
    coherence_publish(c, &drive, &A, 8, "[]", "y", 11);
    assert_said("inval b 6; inval b 8; ");
    assert_int_equal(coherence_tick(c, 100), LEASE_MS + LEASE_MARGIN_MS - 100);
    coherence_ack(c, b, 6, 120);
    assert_said("answer x; ");
    coherence_ack(c, b, 9, 130); /* cumulative */
    assert_said("answer y; ");
    assert_int_equal(coherence_tick(c, 140), -1);
    coherence_free(c);
}

static void several_must_all_acknowledge(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *a = coherence_join(c, &drive, &A, 0, "a"), *b = coherence_join(c, &drive, &B, 0, "b");
    coherence_beat(c, a, 1, 0, 0);
    coherence_beat(c, b, 1, 0, 0);
    said[0] = '\0';
    coherence_publish(c, &drive, &http, 1, "[]", "x", 1);
    assert_said("inval a 1; inval b 1; ");
    coherence_beat(c, a, 2, 1, 2); /* a beat acknowledges too */
    assert_said("lease a 2; ");
    coherence_ack(c, b, 1, 3);
    assert_said("answer x; ");
    coherence_free(c);
}

static void without_a_lease_it_is_told_and_not_waited_for(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *b = coherence_join(c, &drive, &B, 5, "b");
    coherence_publish(c, &drive, &A, 5, "[]", "w", 0); /* it joined behind this */
    assert_said("answer w; ");
    coherence_publish(c, &drive, &A, 6, "[]", "x", 0);
    assert_said("inval b 6; answer x; ");
    coherence_beat(c, b, 1, 5, 1); /* owes 6: no lease */
    assert_said("");
    coherence_publish(c, &drive, &A, 7, "[]", "y", 2);
    assert_said("inval b 7; answer y; ");
    coherence_ack(c, b, 6, 3);
    assert_said("");
    coherence_ack(c, b, 7, 4);
    assert_said("lease b 1; ");
    coherence_free(c);
}

static void a_late_answer_counts_from_the_beat(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *b = coherence_join(c, &drive, &B, 0, "b");
    coherence_publish(c, &drive, &A, 1, "[]", "x", 0);
    coherence_beat(c, b, 1, 0, 1000);
    said[0] = '\0';
    coherence_ack(c, b, 1, 1500);
    assert_said("lease b 1; ");
    coherence_publish(c, &drive, &A, 2, "[]", "y", 1600);
    assert_said("inval b 2; ");
    assert_int_equal(coherence_tick(c, 1600), 1000 + LEASE_MS + LEASE_MARGIN_MS - 1600);
    coherence_tick(c, 1000 + LEASE_MS + LEASE_MARGIN_MS - 1);
    assert_said("");
    coherence_tick(c, 1000 + LEASE_MS + LEASE_MARGIN_MS);
    assert_said("answer y; ");
    /* An acknowledgement after the beat's lease would be out gives none. */
    coherence_beat(c, b, 2, 1, 4000);
    coherence_ack(c, b, 2, 4000 + LEASE_MS);
    assert_said("");
    coherence_free(c);
}

static void behind_there_is_no_renewal(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *b = coherence_join(c, &drive, &B, 0, "b");
    coherence_beat(c, b, 1, 0, 0);
    coherence_publish(c, &drive, &A, 1, "[]", "x", 100);
    said[0] = '\0';
    for (uint64_t beat = 2; beat < 6; beat++)
        coherence_beat(c, b, beat, 0, (int64_t)beat * 400); /* alive, but it does not acknowledge */
    assert_said("");
    assert_int_equal(coherence_tick(c, LEASE_MS + LEASE_MARGIN_MS), -1);
    assert_said("answer x; ");
    coherence_free(c);
}

static void one_that_says_bye_is_not_waited_for(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *b = coherence_join(c, &drive, &B, 0, "b"), *d = coherence_join(c, &drive, &C, 0, "c");
    coherence_beat(c, b, 1, 0, 0);
    coherence_beat(c, d, 1, 0, 0);
    coherence_publish(c, &drive, &A, 1, "[]", "x", 10);
    said[0] = '\0';
    coherence_leave(c, b, true, 20);
    assert_said("");
    coherence_leave(c, d, false, 30); /* cut off: its kernel may still answer */
    assert_said("");
    assert_int_equal(coherence_streams(c), 0);
    coherence_publish(c, &drive, &A, 2, "[]", "y", 40);
    assert_said("");
    coherence_tick(c, LEASE_MS + LEASE_MARGIN_MS);
    assert_said("answer x; answer y; ");
    coherence_publish(c, &drive, &A, 3, "[]", "z", LEASE_MS + LEASE_MARGIN_MS);
    assert_said("answer z; ");
    coherence_free(c);
}

static void on_its_new_stream_a_mount_speaks_for_its_old_one(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *b = coherence_join(c, &drive, &B, 0, "old");
    coherence_beat(c, b, 1, 0, 0);
    coherence_leave(c, b, false, 10);
    b = coherence_join(c, &drive, &B, 0, "new");
    said[0] = '\0';
    coherence_publish(c, &drive, &A, 1, "[]", "x", 20);
    assert_said("inval new 1; ");
    coherence_ack(c, b, 1, 30);
    assert_said("answer x; ");
    coherence_free(c);
}

static void late_thrice_in_a_minute_no_lease_for_a_minute(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *b = coherence_join(c, &drive, &B, 0, "b");
    int64_t now = 0;
    uint64_t seq = 0;
    for (int i = 0; i < 3; i++) {
        said[0] = '\0';
        coherence_beat(c, b, seq + 1, seq, now);
        assert_string_equal(said, i == 0 ? "lease b 1; " : i == 1 ? "lease b 2; " : "lease b 3; ");
        coherence_publish(c, &drive, &A, ++seq, "[]", "x", now);
        now += LEASE_MS + LEASE_MARGIN_MS;
        coherence_tick(c, now);
        coherence_ack(c, b, seq, now);
    }
    said[0] = '\0';
    coherence_beat(c, b, 10, seq, now + 1000);
    assert_said("");
    coherence_leave(c, b, false, now + 1100); /* coming again does not help */
    b = coherence_join(c, &drive, &B, seq, "b");
    coherence_beat(c, b, 11, seq, now + 1200);
    assert_said("");
    coherence_publish(c, &drive, &A, ++seq, "[]", "y", now + 1300);
    assert_said("inval b 4; answer y; ");
    coherence_beat(c, b, 12, seq, now + 60000);
    assert_said("lease b 12; ");
    coherence_free(c);
}

static void a_repeat_waits_for_what_the_first_waited_for(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *b = coherence_join(c, &drive, &B, 0, "b");
    coherence_beat(c, b, 1, 0, 0);
    coherence_publish(c, &drive, &A, 4, "[]", "x", 1);
    said[0] = '\0';
    coherence_publish(c, &drive, &A, 6, NULL, "again", 2);
    assert_said("");
    coherence_ack(c, b, 4, 3);
    assert_said("answer x; answer again; ");
    coherence_publish(c, &drive, &A, 6, NULL, "again", 4);
    assert_said("answer again; ");
    coherence_free(c);
}

static void no_lease_ends_after_the_cap(void **state)
{
    (void)state;
    static const struct coherence_io io = {send_inval, send_lease, answered, NULL, .capped = true};
    said[0] = '\0';
    struct coherence *c = coherence_new(&io);
    struct coherence_stream *b = coherence_join(c, &drive, &B, 5, "b");
    coherence_beat(c, b, 1, 5, 0);
    assert_said(""); /* nothing is promised yet */
    coherence_publish(c, &drive, &A, 6, "[]", "x", 5);
    assert_said("inval b 6; answer x; ");
    coherence_ack(c, b, 6, 6);
    coherence_cap(c, &drive, 3000, 10);
    assert_said("lease b 1; ");
    coherence_beat(c, b, 2, 6, 2000);
    assert_said("short lease b 2; ");
    assert_int_equal(last_ms, 3000 - LEASE_MARGIN_MS - 2000);
    coherence_publish(c, &drive, &A, 7, "[]", "y", 2100);
    assert_said("inval b 7; ");
    assert_int_equal(coherence_tick(c, 2999), 1);
    coherence_tick(c, 3000); /* with the cap it ends */
    assert_said("answer y; ");
    coherence_ack(c, b, 7, 3100);
    coherence_beat(c, b, 3, 7, 3200);
    assert_said(""); /* the beat waits */
    coherence_cap(c, &drive, 6000, 3300);
    assert_said("lease b 3; ");
    coherence_free(c);
}

/* One that has left is remembered for having been late: what its time allowed is not for those who come after it. */
static void a_cap_is_of_its_time(void **state)
{
    (void)state;
    static const struct coherence_io io = {.send_inval = send_inval, .send_lease = send_lease, .answered = answered, .capped = true};
    said[0] = '\0';
    struct coherence *c = coherence_new(&io);
    struct coherence_stream *a = coherence_join(c, &drive, &A, 5, "a");
    coherence_cap(c, &drive, 60000, 0);
    coherence_beat(c, a, 1, 5, 0);
    coherence_publish(c, &drive, &B, 6, "[]", "x", 10);
    coherence_tick(c, LEASE_MS + LEASE_MARGIN_MS);
    assert_said("lease a 1; inval a 6; answer x; ");
    coherence_leave(c, a, false, 5000);
    a = coherence_join(c, &drive, &A, 6, "a");
    coherence_beat(c, a, 2, 6, 5001);
    assert_said("");
    coherence_cap(c, &drive, 60000, 5002);
    assert_said("lease a 2; ");
    coherence_free(c);
}

/* Its mount hears nothing any more, and trusts what it has until the lease is out. */
static void what_is_known_is_owed_by_one_that_left(void **state)
{
    (void)state;
    struct coherence *c = setup();
    struct coherence_stream *a = coherence_join(c, &drive, &A, 5, "a");
    coherence_beat(c, a, 1, 5, 0);
    coherence_leave(c, a, false, 100);
    coherence_publish(c, &drive, &B, 7, NULL, "x", 110);
    assert_said("lease a 1; ");
    coherence_tick(c, LEASE_MS + LEASE_MARGIN_MS);
    assert_said("answer x; ");
    coherence_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cap_is_of_its_time),
        cmocka_unit_test(what_is_known_is_owed_by_one_that_left),
        cmocka_unit_test(nobody_else_nothing_waits),
        cmocka_unit_test(a_lease_is_waited_for_until_the_acknowledgement),
        cmocka_unit_test(several_must_all_acknowledge),
        cmocka_unit_test(without_a_lease_it_is_told_and_not_waited_for),
        cmocka_unit_test(a_late_answer_counts_from_the_beat),
        cmocka_unit_test(behind_there_is_no_renewal),
        cmocka_unit_test(one_that_says_bye_is_not_waited_for),
        cmocka_unit_test(on_its_new_stream_a_mount_speaks_for_its_old_one),
        cmocka_unit_test(late_thrice_in_a_minute_no_lease_for_a_minute),
        cmocka_unit_test(a_repeat_waits_for_what_the_first_waited_for),
        cmocka_unit_test(no_lease_ends_after_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
