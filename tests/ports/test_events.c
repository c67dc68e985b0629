/* The port to messages between processes. $CAIRN_TEST_EVENTS names the broker to test (with a short back-off: ?backoff=20); without it, one in memory. Every test has keys of
   its own; the durable queues are everybody's, so a test looks only at its own messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "gateway/ports/events.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HEARD_MAX 4096

struct fixture {
    struct events *a, *b; /* two processes, as it were */
    char id[UUID_TEXT];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* what b's listener has heard, and a's confirms */
    char *heard[HEARD_MAX], *subscribed[64];
    bool own[HEARD_MAX];
    size_t n_heard, n_subscribed, n_confirmed, n_refused;
};
#define CALL(e, fn, ...) ((e)->ops->fn((e), __VA_ARGS__))

static void on_message(void *ctx, const struct events_message *m)
{
    struct fixture *f = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
    assert_true(f->n_heard < HEARD_MAX);
    f->own[f->n_heard] = m->own;
    f->heard[f->n_heard++] = mem_printf("%s %.*s", m->key, (int)m->len, m->body);
    pthread_cond_broadcast(&f->changed);
}

static void on_subscribed(void *ctx, const char *key)
{
    struct fixture *f = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
    f->subscribed[f->n_subscribed++] = mem_strdup(key);
    pthread_cond_broadcast(&f->changed);
}

static void on_done(void *ctx, int err)
{
    struct fixture *f = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
    if (err)
        f->n_refused++;
    else
        f->n_confirmed++;
    pthread_cond_broadcast(&f->changed);
}

static void wait_for(struct fixture *f, const size_t *figure, size_t n)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 60;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
    while (*figure < n)
        assert_int_equal(pthread_cond_timedwait(&f->changed, &f->lock, &until), 0);
}

static const char *url(void)
{
    const char *given = getenv("CAIRN_TEST_EVENTS");
    return given ? given : "memory:suite";
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    struct uuid id;
    uuid_new(&id);
    uuid_text(&id, f->id);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    assert_int_equal(events_open(url(), &f->a), 0);
    assert_int_equal(events_open(url(), &f->b), 0);
    CALL(f->b, listen, &(struct events_listener){on_message, on_subscribed, f});
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->a)
        f->a->ops->free(f->a);
    f->b->ops->free(f->b);
    for (size_t i = 0; i < f->n_heard; i++)
        free(f->heard[i]);
    for (size_t i = 0; i < f->n_subscribed; i++)
        free(f->subscribed[i]);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
    return 0;
}

static void publish(struct fixture *f, struct events *e, const char *key, const char *body)
{
    assert_int_equal(CALL(e, publish, &(struct events_message){.key = key, .body = body, .len = strlen(body), .id = body, .persistent = true}, on_done, f), 0);
}

static void subscribe(struct fixture *f, const char *key)
{
    size_t n = f->n_subscribed;
    CALL(f->b, subscribe, key);
    wait_for(f, &f->n_subscribed, n + 1);
    assert_string_equal(f->subscribed[n], key);
}

static void assert_heard(struct fixture *f, size_t i, const char *key, const char *body)
{
    CLEANUP_FREE char *expected = mem_printf("%s %s", key, body);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
    assert_true(i < f->n_heard);
    assert_string_equal(f->heard[i], expected);
}

/* ---- topics ---- */

static void test_publishing_is_confirmed(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 100; i++)
        publish(f, f->a, "file.uploaded", "{}");
    wait_for(f, &f->n_confirmed, 100);
    assert_int_equal(f->n_refused, 0);
    while (f->a->ops->status(f->a)) /* its other connection may take longer */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void test_what_cannot_be_a_message_is_refused(void **state)
{
    struct fixture *f = *state;
    char key[EVENTS_KEY_MAX + 2];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    assert_int_equal(CALL(f->a, publish, &(struct events_message){.key = key, .body = "", .persistent = true}, on_done, f), -EMSGSIZE);
    assert_int_equal(f->n_confirmed + f->n_refused, 0);
}

static void test_drives_are_heard_while_they_are_subscribed_to(void **state)
{
    struct fixture *f = *state;
    CLEANUP_FREE char *one = mem_printf("sync.%s-1", f->id), *two = mem_printf("sync.%s-2", f->id), *end = mem_printf("sync.%s-end", f->id);
    subscribe(f, end);
    subscribe(f, one);
    publish(f, f->a, one, "a");
    publish(f, f->a, two, "not heard");
    publish(f, f->a, end, "");
    wait_for(f, &f->n_heard, 2);
    subscribe(f, two);
    publish(f, f->a, two, "b");
    publish(f, f->a, one, "c");
    wait_for(f, &f->n_heard, 4);
    CALL(f->b, unsubscribe, one);
    subscribe(f, end); /* they take effect in order */
    publish(f, f->a, one, "not heard");
    publish(f, f->a, two, "d");
    wait_for(f, &f->n_heard, 5);
    assert_heard(f, 0, one, "a");
    assert_heard(f, 1, end, "");
    assert_heard(f, 2, two, "b");
    assert_heard(f, 3, one, "c");
    assert_heard(f, 4, two, "d");
}

static void test_a_drives_messages_keep_their_order(void **state)
{
    struct fixture *f = *state;
    CLEANUP_FREE char *key = mem_printf("sync.%s", f->id);
    char body[32];
    subscribe(f, key);
    for (int i = 0; i < 3000; i++) {
        snprintf(body, sizeof body, "%d", i);
        publish(f, f->a, key, body);
    }
    wait_for(f, &f->n_heard, 3000);
    wait_for(f, &f->n_confirmed, 3000);
    for (int i = 0; i < 3000; i++) {
        snprintf(body, sizeof body, "%d", i);
        assert_heard(f, (size_t)i, key, body);
    }
}

static void test_own_messages_are_known(void **state)
{
    struct fixture *f = *state;
    CLEANUP_FREE char *key = mem_printf("sync.%s", f->id);
    subscribe(f, key);
    publish(f, f->b, key, "own");
    wait_for(f, &f->n_heard, 1);
    publish(f, f->a, key, "other");
    wait_for(f, &f->n_heard, 2);
    assert_true(f->own[0]);
    assert_false(f->own[1]);
}

static void test_what_is_passing_is_heard_too(void **state)
{
    struct fixture *f = *state;
    CLEANUP_FREE char *key = mem_printf("progress.%s", f->id);
    subscribe(f, key);
    publish(f, f->a, "file.uploaded", "{}"); /* a is connected once this is confirmed */
    wait_for(f, &f->n_confirmed, 1);
    assert_int_equal(CALL(f->a, publish, &(struct events_message){.key = key, .body = "50", .len = 2}, NULL, NULL), 0);
    wait_for(f, &f->n_heard, 1);
    assert_heard(f, 0, key, "50");
}

/* ---- queues ---- */

struct work { /* what a handler did with this test's messages; others' are done with at once */
    struct fixture *f;
    const char *mine;   /* how the bodies begin */
    int answers[8];     /* to each attempt; the last one goes on */
    size_t n;           /* under the fixture's lock, as the rest */
    char *bodies[64], *keys[64];
    unsigned attempts[64];
};

static int handle(void *ctx, const struct events_message *m, unsigned attempt)
{
    struct work *w = ctx;
    if (m->len < strlen(w->mine) || memcmp(m->body, w->mine, strlen(w->mine)) != 0)
        return 0;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&w->f->lock);
    size_t i = w->n;
    assert_true(i < 64);
    w->bodies[i] = mem_strdup(m->body);
    w->keys[i] = mem_strdup(m->key);
    w->attempts[i] = attempt;
    w->n++;
    pthread_cond_broadcast(&w->f->changed);
    return w->answers[i < 8 ? i : 7];
}

static void work_fini(struct work *w)
{
    for (size_t i = 0; i < w->n; i++) {
        free(w->bodies[i]);
        free(w->keys[i]);
    }
}

static void test_a_queue_waits_for_its_consumer(void **state)
{
    struct fixture *f = *state;
    struct work w = {.f = f, .mine = f->id};
    CLEANUP_FREE char *body = mem_printf("%s scan", f->id);
    publish(f, f->a, "virus-scan.requested", body);
    wait_for(f, &f->n_confirmed, 1);
    CALL(f->b, consume, EVENTS_QUEUE_SCAN, handle, &w);
    wait_for(f, &w.n, 1);
    assert_string_equal(w.bodies[0], body);
    assert_string_equal(w.keys[0], "virus-scan.requested");
    assert_int_equal(w.attempts[0], 1);
    f->b->ops->drain(f->b);
    work_fini(&w);
}

static void test_notifications_of_all_users_are_in_one_queue(void **state)
{
    struct fixture *f = *state;
    struct work w = {.f = f, .mine = f->id};
    CALL(f->b, consume, EVENTS_QUEUE_NOTIFICATION, handle, &w);
    publish(f, f->a, "notification.ada", f->id);
    publish(f, f->a, "notification.j.r.hartley@example.org", f->id);
    wait_for(f, &w.n, 2);
    assert_string_equal(w.keys[0], "notification.ada");
    assert_string_equal(w.keys[1], "notification.j.r.hartley@example.org");
    f->b->ops->drain(f->b);
    work_fini(&w);
}

static void test_what_fails_is_tried_again(void **state)
{
    struct fixture *f = *state;
    struct work w = {.f = f, .mine = f->id, .answers = {-EAGAIN, -EAGAIN, 0}};
    CALL(f->b, consume, EVENTS_QUEUE_NOTIFICATION, handle, &w);
    publish(f, f->a, "notification.ada", f->id);
    wait_for(f, &w.n, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(w.attempts[i], i + 1);
        assert_string_equal(w.bodies[i], f->id);
        assert_string_equal(w.keys[i], "notification.ada"); /* by whatever ways it came back */
    }
    f->b->ops->drain(f->b);
    work_fini(&w);
}

static void dies(struct fixture *f, int answer, unsigned attempts)
{
    struct work w = {.f = f, .mine = f->id}, dead = {.f = f, .mine = f->id};
    for (size_t i = 0; i < 8; i++)
        w.answers[i] = answer;
    CALL(f->b, consume, EVENTS_QUEUE_NOTIFICATION, handle, &w);
    CALL(f->b, consume, EVENTS_QUEUE_DEAD, handle, &dead);
    publish(f, f->a, "notification.ada", f->id);
    wait_for(f, &dead.n, 1);
    assert_int_equal(w.n, attempts);
    assert_string_equal(dead.bodies[0], f->id);
    assert_string_equal(dead.keys[0], "notification.ada");
    f->b->ops->drain(f->b);
    work_fini(&w);
    work_fini(&dead);
}

static void test_what_always_fails_is_given_up(void **state)
{
    dies(*state, -EAGAIN, 6);
}

static void test_what_is_refused_is_given_up_at_once(void **state)
{
    dies(*state, -EINVAL, 1);
}

static void test_one_that_ends_hands_its_message_over(void **state)
{
    struct fixture *f = *state;
    struct work first = {.f = f, .mine = f->id, .answers = {[0] = -ECANCELED, [1] = -ECANCELED}}, second = {.f = f, .mine = f->id};
    for (size_t i = 0; i < 8; i++)
        first.answers[i] = -ECANCELED;
    CLEANUP_FREE char *body = mem_printf("%s", f->id);
    publish(f, f->b, "virus-scan.requested", body);
    wait_for(f, &f->n_confirmed, 1);
    CALL(f->a, consume, EVENTS_QUEUE_SCAN, handle, &first);
    wait_for(f, &first.n, 1);
    f->a->ops->free(f->a);
    f->a = NULL;
    CALL(f->b, consume, EVENTS_QUEUE_SCAN, handle, &second);
    wait_for(f, &second.n, 1);
    assert_string_equal(second.bodies[0], body);
    assert_int_equal(second.attempts[0], 1); /* it was nobody's failure */
    f->b->ops->drain(f->b);
    work_fini(&first);
    work_fini(&second);
}

static void test_consumers_share_a_queue(void **state)
{
    struct fixture *f = *state;
    struct work one = {.f = f, .mine = f->id}, two = {.f = f, .mine = f->id};
    CALL(f->a, consume, EVENTS_QUEUE_NOTIFICATION, handle, &one);
    CALL(f->b, consume, EVENTS_QUEUE_NOTIFICATION, handle, &two);
    for (int i = 0; i < 60; i++)
        publish(f, f->a, "notification.ada", f->id);
    for (bool all = false; !all;) {
        pthread_mutex_lock(&f->lock);
        all = one.n + two.n == 60;
        if (!all)
            pthread_cond_wait(&f->changed, &f->lock);
        pthread_mutex_unlock(&f->lock);
    }
    f->a->ops->drain(f->a);
    f->b->ops->drain(f->b);
    assert_int_equal(one.n + two.n, 60); /* each once: nobody died */
    work_fini(&one);
    work_fini(&two);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_publishing_is_confirmed),
        TEST(test_what_cannot_be_a_message_is_refused),
        TEST(test_drives_are_heard_while_they_are_subscribed_to),
        TEST(test_a_drives_messages_keep_their_order),
        TEST(test_own_messages_are_known),
        TEST(test_what_is_passing_is_heard_too),
        TEST(test_a_queue_waits_for_its_consumer),
        TEST(test_notifications_of_all_users_are_in_one_queue),
        TEST(test_what_fails_is_tried_again),
        TEST(test_what_always_fails_is_given_up),
        TEST(test_what_is_refused_is_given_up_at_once),
        TEST(test_one_that_ends_hands_its_message_over),
        TEST(test_consumers_share_a_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
