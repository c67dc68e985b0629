/* A PostgreSQL that is frozen is waited for once, and not by each call; one that only takes its time is waited for. On a real server of its own ($CAIRN_TEST_META), whose processes are stopped. */
#include "tests/ports/meta_fixture.h"

#include "common/clock.h"
#include "gateway/adapters/meta_postgres.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define CALLS 200
#define CALLERS 8

static pid_t frozen[256];
static size_t n_frozen;

/* The postmaster first: it starts no more then. */
static void freeze(const struct fixture *f)
{
    PGconn *c = PQconnectdb(f->url);
    PGresult *r = PQexec(c, "SELECT 0, split_part(pg_read_file('postmaster.pid'), E'\\n', 1)::int UNION ALL SELECT 1, pid FROM pg_stat_activity ORDER BY 1");
    assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
    assert_in_range(PQntuples(r), 2, sizeof frozen / sizeof *frozen);
    for (int i = 0; i < PQntuples(r); i++) {
        frozen[n_frozen++] = atoi(PQgetvalue(r, i, 1));
        assert_int_equal(kill(frozen[n_frozen - 1], SIGSTOP), 0);
    }
    PQclear(r);
    PQfinish(c);
}

static void thaw(void)
{
    while (n_frozen)
        kill(frozen[--n_frozen], SIGCONT);
}

static int thaw_and_teardown(void **state)
{
    thaw();
    return fixture_teardown(state);
}

static int ping(const struct fixture *f)
{
    return f->m->ops->ping(f->m);
}

static void until_it_is_back(const struct fixture *f)
{
    int64_t until = clock_boot_ms() + 60000;
    while (ping(f) && clock_boot_ms() < until)
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    assert_int_equal(ping(f), 0);
}

static void each_is_refused(const struct fixture *f)
{
    struct meta_tx *tx;
    uint64_t asked = pg_round_trips();
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(ping(f), -EHOSTUNREACH);
        assert_int_equal(CALL(f, snapshot, &f->drive.id, &tx), -EHOSTUNREACH);
        assert_int_equal(CALL(f, begin, &f->drive.id, &tx), -EHOSTUNREACH);
    }
    assert_int_equal(pg_round_trips() - asked, 0);
}

static void it_is_waited_for_once_and_comes_back_by_itself(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ping(f), 0);
        freeze(f);
        int64_t before = clock_boot_ms();
        assert_int_equal(ping(f), -EHOSTUNREACH);
        assert_true(clock_boot_ms() - before < 15000); /* what one connection is waited for where the server is there: 20 s */
        each_is_refused(f);
        thaw();
        until_it_is_back(f);
        struct step s = step_begin(f, 0);
        step_end(&s);
    }
}

static void *ping_often(void *f)
{
    intptr_t failed = 0;
    for (int i = 0; i < CALLS; i++)
        failed += ping(f) == -EHOSTUNREACH;
    return (void *)failed;
}

static void of_many_at_once_each_waits_once(void **state)
{
    struct fixture *f = *state;
    pthread_t t[CALLERS];
    freeze(f);
    uint64_t asked = pg_round_trips();
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, ping_often, f), 0);
    for (int i = 0; i < CALLERS; i++) {
        void *failed;
        pthread_join(t[i], &failed);
        assert_int_equal((intptr_t)failed, CALLS);
    }
    assert_in_range(pg_round_trips() - asked, 0, CALLERS);
    assert_true(pg_is_silent(&postgres_of(f->m)->catalogue->silence));
    thaw();
    until_it_is_back(f);
}

/* No connection is there to wait on, and none can be made. */
static void one_that_lets_nobody_in_is_waited_for_once(void **state)
{
    struct fixture *f = *state;
    struct pg_pool *pool = postgres_of(f->m)->catalogue;
    while (pool->idle) {
        int err;
        struct pg_conn *c = pg_conn_get(pool, &err);
        assert_non_null(c);
        pg_conn_drop(c);
        pg_conn_put(c);
    }
    freeze(f);
    assert_int_equal(ping(f), -EHOSTUNREACH);
    assert_true(pg_is_silent(&pool->silence));
    each_is_refused(f);
    thaw();
    until_it_is_back(f);
}

static void a_commit_whose_answer_did_not_come_may_have_been_done(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    step_store(&s);
    freeze(f);
    assert_int_equal(s.tx->meta->ops->commit(s.tx), -EHOSTUNREACH);
    thaw();
    until_it_is_back(f);
    struct step next = step_begin(f, 0); /* nothing is left locked */
    assert_true(next.seq == s.seq || next.seq == s.seq + 1);
    step_end(&next);
}

/* Longer than it takes to find out that a server is silent. */
static void a_statement_that_takes_its_time_is_waited_for(void **state)
{
    struct fixture *f = *state;
    struct chunk_row small = inline_chunk("abc"), packed = {.hash = small.hash, .stored_size = 3, .pack = "pack/1"};
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, &small, 1), 0);
    fresh_meta_sql(f->url, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(7); RETURN NULL; END $$;"
                           "CREATE TRIGGER slow BEFORE UPDATE ON chunk FOR EACH STATEMENT EXECUTE FUNCTION slow()");
    uint64_t asked = pg_round_trips();
    assert_int_equal(CALL(f, chunks_moved, &f->drive.id, &packed, 1), 0);
    assert_int_equal(pg_round_trips() - asked, 1); /* it was not sent again */
    assert_int_equal(ping(f), 0);
}

#define FROZEN_TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, thaw_and_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FROZEN_TEST(it_is_waited_for_once_and_comes_back_by_itself),
        FROZEN_TEST(of_many_at_once_each_waits_once),
        FROZEN_TEST(one_that_lets_nobody_in_is_waited_for_once),
        FROZEN_TEST(a_commit_whose_answer_did_not_come_may_have_been_done),
        FROZEN_TEST(a_statement_that_takes_its_time_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
