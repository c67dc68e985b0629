/* The supervisor of gateway processes, over processes that do nothing but what a test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/supervise.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N 3

/* What the processes tell the test, in memory that all of them share. */
struct seen {
    atomic_int starts[N], pid[N], ended_in_order[N];
    atomic_int running;       /* those that are ready */
    atomic_int least_running; /* once all were */
    atomic_bool fail[N];      /* ends with 3 instead of being ready */
};
static struct seen *seen;
static pid_t supervisor;

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static volatile sig_atomic_t told;
static void on_term(int sig)
{
    (void)sig;
    told = 1;
}

static int life(unsigned i, int ready_fd, void *ctx)
{
    bool never_ready = ctx != NULL;
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    assert_false(sigismember(&now, SIGTERM) || sigismember(&now, SIGCHLD) || sigismember(&now, SIGHUP));
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term}, NULL);
    seen->starts[i]++;
    seen->pid[i] = getpid();
    if (seen->fail[i])
        return 3;
    if (!never_ready) {
        seen->running++;
        assert_int_equal(write(ready_fd, "", 1), 1);
    }
    while (!told)
        nap();
    seen->ended_in_order[i]++;
    int left = --seen->running;
    if (left < seen->least_running)
        seen->least_running = left;
    return 0;
}

static void start_supervisor(void *ctx)
{
    supervisor = fork();
    assert_true(supervisor >= 0);
    if (supervisor == 0)
        _exit(supervise_run(&(struct supervision){.n = N, .run = life, .ctx = ctx, .delay_min_ms = 1, .delay_max_ms = 8}));
}

static int exit_status(void)
{
    int how;
    assert_int_equal(waitpid(supervisor, &how, 0), supervisor);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

static void wait_for_int(atomic_int *what, int least)
{
    for (int tries = 0; *what < least; tries++) {
        assert_true(tries < 20000);
        nap();
    }
}

static int fresh(void **state)
{
    (void)state;
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(seen != MAP_FAILED);
    seen->least_running = N;
    return 0;
}

static int done(void **state)
{
    (void)state;
    if (waitpid(supervisor, NULL, WNOHANG) == 0) { /* the test failed on the way */
        kill(supervisor, SIGKILL);
        waitpid(supervisor, NULL, 0);
    }
    munmap(seen, sizeof *seen);
    return 0;
}

static void test_all_run_and_end_when_told(void **state)
{
    (void)state;
    start_supervisor(NULL);
    wait_for_int(&seen->running, N);
    assert_int_equal(kill(supervisor, SIGTERM), 0);
    assert_int_equal(exit_status(), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(seen->starts[i], 1);
        assert_int_equal(seen->ended_in_order[i], 1);
        assert_int_equal(kill(seen->pid[i], 0), -1);
    }
}

static void test_one_that_dies_is_started_again(void **state)
{
    (void)state;
    start_supervisor(NULL);
    wait_for_int(&seen->running, N);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(kill(seen->pid[1], SIGKILL), 0);
        wait_for_int(&seen->running, N + round + 1); /* the dead one took nothing off */
    }
    assert_int_equal(seen->starts[0], 1);
    assert_int_equal(seen->starts[1], 4);
    kill(supervisor, SIGTERM);
    assert_int_equal(exit_status(), 0);
}

static void test_one_that_cannot_start_is_tried_again_and_again(void **state)
{
    (void)state;
    start_supervisor(NULL);
    wait_for_int(&seen->running, N);
    seen->fail[2] = true;
    kill(seen->pid[2], SIGKILL);
    wait_for_int(&seen->starts[2], 5);
    seen->fail[2] = false;
    wait_for_int(&seen->running, N + 1);
    kill(supervisor, SIGTERM);
    assert_int_equal(exit_status(), 0);
}

static void test_where_none_can_start_it_says_so_and_leaves_nothing(void **state)
{
    (void)state;
    seen->fail[0] = true;
    start_supervisor("never ready");
    assert_int_equal(exit_status(), 1);
    for (int i = 0; i < N; i++)
        if (seen->pid[i])
            assert_int_equal(kill(seen->pid[i], 0), -1);
    assert_int_equal(seen->starts[0], 1);
}

static void test_a_hangup_replaces_one_after_another(void **state)
{
    (void)state;
    start_supervisor(NULL);
    wait_for_int(&seen->running, N);
    kill(supervisor, SIGHUP);
    for (int i = 0; i < N; i++)
        wait_for_int(&seen->starts[i], 2);
    wait_for_int(&seen->running, N);
    assert_int_equal(seen->least_running, N - 1); /* never two away at once */
    kill(supervisor, SIGHUP);
    wait_for_int(&seen->starts[0], 3);
    kill(supervisor, SIGHUP); /* while that goes on: all once more, after it */
    for (int i = 0; i < N; i++)
        wait_for_int(&seen->starts[i], 4);
    kill(supervisor, SIGTERM);
    assert_int_equal(exit_status(), 0);
}

static void test_without_their_supervisor_they_end_in_order(void **state)
{
    (void)state;
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* the orphans become ours */
    start_supervisor(NULL);
    wait_for_int(&seen->running, N);
    kill(supervisor, SIGKILL);
    waitpid(supervisor, NULL, 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(waitpid(seen->pid[i], NULL, 0), seen->pid[i]);
        assert_int_equal(seen->ended_in_order[i], 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_run_and_end_when_told, fresh, done),
        cmocka_unit_test_setup_teardown(test_one_that_dies_is_started_again, fresh, done),
        cmocka_unit_test_setup_teardown(test_one_that_cannot_start_is_tried_again_and_again, fresh, done),
        cmocka_unit_test_setup_teardown(test_where_none_can_start_it_says_so_and_leaves_nothing, fresh, done),
        cmocka_unit_test_setup_teardown(test_a_hangup_replaces_one_after_another, fresh, done),
        cmocka_unit_test_setup_teardown(test_without_their_supervisor_they_end_in_order, fresh, done),
    };
    return cmocka_run_group_tests_name("supervise", tests, NULL, NULL);
}
