/* What a mount without a lease goes by, with a stream and a gateway that are made up here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "fusefs/sync/stream.h"
#include "fusefs/sync/sync.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

/* ---- the gateway ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool away, frozen;
static int asked, held; /* held: by the frozen one */

int remote_seq(struct remote *r, uint64_t *ret)
{
    (void)r;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    bool hangs = frozen;
    asked++;
    held += hangs;
    pthread_cond_broadcast(&changed);
    while (hangs && frozen)
        pthread_cond_wait(&changed, &lock);
    held -= hangs;
    *ret = 0;
    return hangs || away ? -EHOSTUNREACH : 0;
}

int remote_changes(struct remote *r, uint64_t since, json_t **ret_changes, uint64_t *ret_next, bool *ret_more)
{
    (void)r;
    *ret_changes = json_array();
    *ret_next = since;
    *ret_more = false;
    return 0;
}

int remote_inode(struct remote *r, uint64_t ino, uint64_t at, uint64_t *ret_seq, struct attr *ret)
{
    (void)r, (void)ino, (void)at, (void)ret_seq, (void)ret;
    return -ENOENT;
}

static int reconnected;
void remote_reconnected(struct remote *r)
{
    (void)r;
    reconnected++;
}

static void set(bool *what, bool to)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    *what = to;
    pthread_cond_broadcast(&changed);
}

static int times_asked(void)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    return asked;
}

/* ---- the stream ---- */

static struct stream {
    struct stream_handler handler;
} made_up;

struct stream *stream_start(struct remote *remote, const struct stream_handler *h)
{
    (void)remote;
    made_up.handler = *h;
    return &made_up;
}

bool stream_send(struct stream *s, const char *text)
{
    (void)s, (void)text;
    return true;
}

void stream_reconnect(struct stream *s)
{
    (void)s;
}

void stream_stop(struct stream *s)
{
    (void)s;
}

/* ---- the tests ---- */

static struct replica *replica;
static struct kernel *kernel;
static struct sync *sync_;

static int begin(void **state)
{
    (void)state;
    away = frozen = false;
    asked = held = reconnected = 0;
    replica = replica_new(1);
    kernel = kernel_new(replica);
    struct sync_config cfg = {.replica = replica, .kernel = kernel};
    sync_ = sync_start(&cfg);
    return 0;
}

static int end(void **state)
{
    (void)state;
    sync_stop(sync_);
    sync_free(sync_);
    kernel_free(kernel);
    replica_free(replica);
    return 0;
}

static void connect_stream(void)
{
    made_up.handler.connected(made_up.handler.ctx, &made_up);
}

/* By a gateway that reaches the drive. */
static void be_welcomed(void)
{
    static const char welcome[] = "{\"t\":\"welcome\",\"seq\":0}";
    connect_stream();
    made_up.handler.message(made_up.handler.ctx, welcome, sizeof welcome - 1);
}

static void cut_off(void)
{
    set(&away, true);
    assert_int_equal(sync_fresh(sync_), 0); /* after it has looked for a gateway for a while */
    int before = times_asked();
    assert_int_equal(sync_fresh(sync_), 0);
    assert_int_equal(times_asked(), before); /* and it does not do so each time */
}

static void *look_up(void *arg)
{
    (void)arg;
    return (void *)(intptr_t)sync_fresh(sync_);
}

/* It is asked again once its turn has come, and hangs. */
static pthread_t look_up_that_hangs(void)
{
    pthread_t t;
    usleep(1100 * 1000);
    set(&frozen, true);
    pthread_create(&t, NULL, look_up, NULL);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    while (!held)
        pthread_cond_wait(&changed, &lock);
    return t;
}

static void one_that_is_gone_is_not_asked_each_time(void **state)
{
    (void)state;
    cut_off();
    set(&away, false);
    be_welcomed();
    int before = times_asked();
    assert_int_equal(sync_fresh(sync_), 0);
    assert_int_equal(times_asked(), before + 1);
    assert_int_equal(reconnected, 1);
}

static void one_that_does_not_reach_the_drive_is_none(void **state)
{
    (void)state;
    cut_off();
    connect_stream();
    made_up.handler.disconnected(made_up.handler.ctx);
    int before = times_asked();
    assert_int_equal(sync_fresh(sync_), 0);
    assert_int_equal(times_asked(), before);
}

static void what_hung_at_a_frozen_gateway_says_nothing_of_the_next(void **state)
{
    (void)state;
    cut_off();
    pthread_t t = look_up_that_hangs();
    set(&away, false);
    be_welcomed();
    int before = times_asked();
    set(&frozen, false);
    void *err;
    pthread_join(t, &err);
    assert_null(err);
    assert_int_equal(times_asked(), before + 1); /* the new one, before the cache is believed */
    assert_int_equal(sync_fresh(sync_), 0);
    assert_int_equal(times_asked(), before + 2);
}

static void a_stream_that_comes_and_goes_holds_nobody_up(void **state)
{
    (void)state;
    cut_off();
    pthread_t t = look_up_that_hangs();
    be_welcomed();
    set(&frozen, false);
    pthread_join(t, NULL); /* away as before: looked for once more, and no longer */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_that_is_gone_is_not_asked_each_time),
        TEST(one_that_does_not_reach_the_drive_is_none),
        TEST(what_hung_at_a_frozen_gateway_says_nothing_of_the_next),
        TEST(a_stream_that_comes_and_goes_holds_nobody_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
