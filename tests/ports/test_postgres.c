/* What only PostgreSQL does: round trips, connections that break, a commit whose end is not seen, another timeline. On a real server ($CAIRN_TEST_META). */
#include "tests/ports/meta_fixture.h"

#include "common/clock.h"
#include "gateway/adapters/meta_postgres.h"
#include "gateway/core/drive_queue.h"

#include <arpa/inet.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A superuser's statements beside the store's own connections. */
static void sql(const struct fixture *f, const char *text)
{
    fresh_meta_sql(f->url, text);
}

static void end_connections(const struct fixture *f)
{
    sql(f, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
}

/* ---- round trips ---- */

#define OPS 500

static void at_once(void *pool, void (*fn)(void *), void *arg)
{
    (void)pool;
    fn(arg);
}

static uint64_t trips_of(struct fixture *f, struct op *ops, size_t n)
{
    CLEANUP_FREE struct op_result *results = mem_calloc(n, sizeof *results);
    struct drive_queues *q = drive_queues_new(f->m, at_once, NULL, NULL);
    struct drive_work w = {.drive = f->drive.id, .ops = ops, .n_ops = n, .results = results};
    uint64_t before = pg_round_trips();
    assert_int_equal(drive_queues_run(q, &w), 0);
    uint64_t trips = pg_round_trips() - before;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(results[i].error, 0);
        op_result_fini(&results[i]);
    }
    drive_queues_free(q);
    return trips;
}

static void a_batch_costs_a_handful_of_round_trips(void **state)
{
    struct fixture *f = *state;
    static struct op ops[OPS];
    static char names[OPS][16];
    uint64_t first;
    assert_int_equal(CALL(f, inodes_reserve, &f->drive.id, 2 * OPS, &first), 0);
    for (size_t i = 0; i < OPS; i++) {
        snprintf(names[i], sizeof names[i], "n%zu", i);
        ops[i] = (struct op){.kind = OP_CREATE, .parent = 1, .name = names[i], .ino = first + i, .mode = S_IFREG | 0644};
    }
    uint64_t many = trips_of(f, ops, OPS);
    assert_in_range(many, 1, 8);
    strcpy(names[0], "alone");
    ops[0].ino = first + OPS;
    uint64_t one = trips_of(f, ops, 1);
    assert_in_range(one, 1, 5);
    print_message("%d operations: %d round trips; one: %d\n", OPS, (int)many, (int)one);
}

/* ---- connections that break ---- */

static void a_connection_that_was_kept_may_be_broken(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->m->ops->ping(f->m), 0);
    end_connections(f);
    assert_int_equal(f->m->ops->ping(f->m), 0);
    end_connections(f);
    struct step s = step_begin(f, 0);
    step_end(&s);
    end_connections(f);
    done(snapshot(f));
    end_connections(f);
    struct user_row u = f->user;
    uuid_new(&u.id);
    strcpy(u.name, "another");
    assert_int_equal(CALL(f, user_add, &u), 0);
}

static void one_that_breaks_in_a_transaction_is_a_reason_to_do_it_again(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    end_connections(f);
    struct rows *rows = s.rows;
    int err = IN(s.tx, store, rows);
    assert_true(err == 0 || err == -EAGAIN); /* it may only be sent */
    assert_int_equal(s.tx->meta->ops->commit(s.tx), -EAGAIN);
    rows_free(rows);
    struct meta_tx *tx = snapshot(f);
    assert_int_equal(tx->drive.seq, s.seq - 1);
    done(tx);
}

static void what_contradicts_the_store_is_not_committed(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    step_end(&s);
    s = step_begin(f, 0);
    name_set(&s, 1, "a", 0);
    sql(f, "DELETE FROM dentry");
    struct rows *rows = s.rows;
    assert_int_equal(IN(s.tx, store, rows), 0); /* it is only sent */
    assert_int_equal(s.tx->meta->ops->commit(s.tx), -EIO);
    rows_free(rows);
    struct meta_tx *tx = snapshot(f);
    assert_int_equal(tx->drive.seq, s.seq - 1);
    done(tx);
}

/* The commit takes its time, by a trigger that runs at its end; meanwhile something happens to the connection. */
static void slow_commits(const struct fixture *f)
{
    sql(f, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;"
           "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON committed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()");
}

static void wait_until_it_commits(const struct fixture *f)
{
    sql(f, "DO $$ BEGIN WHILE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep') LOOP "
           "PERFORM pg_stat_clear_snapshot(); END LOOP; END $$");
}

static void *end_them(void *f)
{
    wait_until_it_commits(f);
    end_connections(f);
    return NULL;
}

static bool leads_to_server(int fd, int port)
{
    struct sockaddr_in a;
    socklen_t n = sizeof a;
    return getpeername(fd, (struct sockaddr *)&a, &n) == 0 && a.sin_family == AF_INET && ntohs(a.sin_port) == port;
}

/* As a cable that is cut: the server does not notice, and goes on. */
static void *cut_them(void *arg)
{
    const struct fixture *f = arg;
    int port = atoi(strrchr(f->url, ':') + 1);
    wait_until_it_commits(f);
    for (int fd = 3; fd < 256; fd++)
        if (leads_to_server(fd, port))
            shutdown(fd, SHUT_RDWR);
    return NULL;
}

static int commit_while(struct fixture *f, void *(*what)(void *))
{
    pthread_t t;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    step_store(&s);
    assert_int_equal(pthread_create(&t, NULL, what, f), 0);
    int err = s.tx->meta->ops->commit(s.tx);
    pthread_join(t, NULL);
    return err;
}

static void a_commit_that_was_ended_has_not_happened(void **state)
{
    struct fixture *f = *state;
    slow_commits(f);
    assert_int_equal(commit_while(f, end_them), -EAGAIN);
    struct meta_tx *tx = snapshot(f);
    struct entry_row e;
    assert_int_equal(IN(tx, entry, 1, "a", 0, &e), -ENOENT);
    done(tx);
}

static void a_commit_whose_end_was_not_seen_is_looked_up(void **state)
{
    struct fixture *f = *state;
    slow_commits(f);
    assert_int_equal(commit_while(f, cut_them), 0);
    struct meta_tx *tx = snapshot(f);
    struct entry_row e;
    assert_int_equal(IN(tx, entry, 1, "a", 0, &e), 0);
    done(tx);
    struct step s = step_begin(f, 0); /* and nothing is left locked */
    step_end(&s);
}

/* The first is slow, and its answer is lost; the others are refused. */
static void a_statement_whose_answer_was_lost_may_have_been_done(void **state)
{
    struct fixture *f = *state;
    struct chunk_row small = inline_chunk("abc"), packed = {.hash = small.hash, .stored_size = 3, .pack = "pack/1"}, now = {0};
    pthread_t t;
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, &small, 1), 0);
    sql(f, "CREATE SEQUENCE calls;"
           "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('calls') > 1 THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF; "
           "PERFORM pg_sleep(0.5); RETURN NULL; END $$;"
           "CREATE TRIGGER refuse BEFORE UPDATE ON chunk FOR EACH STATEMENT EXECUTE FUNCTION refuse()");
    assert_int_equal(pthread_create(&t, NULL, cut_them, f), 0);
    assert_int_equal(CALL(f, chunks_moved, &f->drive.id, &packed, 1), -EHOSTUNREACH);
    pthread_join(t, NULL);
    while (!now.pack[0])
        assert_int_equal(CALL(f, chunks_find, &f->drive.id, &small.hash, 1, &now), 0);
    assert_string_equal(now.pack, "pack/1");
}

static void *cancel_them(void *f)
{
    wait_until_it_commits(f);
    sql(f, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'");
    return NULL;
}

/* As by statement_timeout, which is long. */
static void a_statement_that_takes_too_long_is_not_run_again(void **state)
{
    struct fixture *f = *state;
    struct chunk_row small = inline_chunk("abc"), packed = {.hash = small.hash, .stored_size = 3, .pack = "pack/1"};
    pthread_t t;
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, &small, 1), 0);
    sql(f, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$;"
           "CREATE TRIGGER slow BEFORE UPDATE ON chunk FOR EACH STATEMENT EXECUTE FUNCTION slow()");
    assert_int_equal(pthread_create(&t, NULL, cancel_them, f), 0);
    assert_int_equal(CALL(f, chunks_moved, &f->drive.id, &packed, 1), -ETIMEDOUT);
    pthread_join(t, NULL);
}

#define KEPT 8 /* connections */

static void one_that_is_found_broken_takes_the_others_along(void **state)
{
    struct fixture *f = *state;
    struct meta_tx *txs[KEPT];
    struct pending_row p = {.drive = f->drive.id, .user = f->user.id, .chunk = {.hash = hash_of("x"), .size = 1, .stored_size = 1, .pack = "pack/x"}, .expires = 10};
    int settled;
    assert_int_equal(CALL(f, pendings_add, &p, 1), 0);
    for (size_t i = 0; i < KEPT; i++)
        txs[i] = snapshot(f);
    for (size_t i = 0; i < KEPT; i++)
        done(txs[i]);
    end_connections(f);
    assert_int_equal(CALL(f, pendings_settle, &p, 1, 5, &settled), 0); /* it has few tries */
    assert_int_equal(settled, 0);
}

/* Lets one in, and says nothing any more. */
static void *be_silent(void *arg)
{
    static const char hello[] = "R\0\0\0\x08\0\0\0\0"
                                "S\0\0\0\x18server_version\x00" "17.0\0"
                                "S\0\0\0\x26" "default_transaction_read_only\0off\0"
                                "S\0\0\0\x17in_hot_standby\0off\0"
                                "Z\0\0\0\x05I";
    char startup[1024];
    int fd = accept(*(int *)arg, NULL, NULL);
    assert_true(read(fd, startup, sizeof startup) > 0);
    assert_int_equal(write(fd, hello, sizeof hello - 1), sizeof hello - 1);
    while (read(fd, startup, sizeof startup) > 0)
        ;
    close(fd);
    return NULL;
}

static void a_server_that_says_nothing_is_given_up(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    pthread_t t;
    int fd = socket(AF_INET, SOCK_STREAM, 0), err;
    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    assert_int_equal(pthread_create(&t, NULL, be_silent, &fd), 0);
    CLEANUP_FREE char *url = mem_printf("postgres://u@127.0.0.1:%d/d?sslmode=disable&gssencmode=disable", ntohs(a.sin_port));
    struct pg_pool *pool = pg_pool_new(url);
    int64_t before = clock_boot_ms();
    assert_null(pg_conn_get(pool, &err));
    assert_int_equal(err, -EHOSTUNREACH);
    assert_true(clock_boot_ms() - before >= 1000); /* it was let in */
    pg_pool_free(pool);
    pthread_join(t, NULL);
    close(fd);
}

/* ---- another timeline ---- */

static void another_timeline_starts_a_generation(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    uint64_t old = step_end(&s);
    sql(f, "UPDATE drive SET lineage = '1:00000001'");
    struct meta_tx *tx = snapshot(f);
    assert_int_equal(tx->drive.seq, old); /* nothing is new before the first write */
    done(tx);
    s = step_begin(f, 0);
    assert_int_equal(s.seq, (UINT64_C(2) << 40) + 1);
    step_end(&s);
    tx = snapshot(f);
    assert_int_equal(tx->drive.seq, s.seq);
    assert_int_equal(tx->drive.prior_end, old);
    assert_true(drive_row_follows(&tx->drive, old));
    assert_false(drive_row_follows(&tx->drive, old + 1));
    done(tx);
    s = step_begin(f, 0);
    assert_int_equal(s.seq, (UINT64_C(2) << 40) + 2);
    assert_int_equal(s.tx->n_interests, 1); /* one that may be lost is still waited for */
    assert_true(uuid_is_zero(&s.tx->interests[0].gateway));
    step_end(&s);
    sql(f, "UPDATE drive SET generation_at = generation_at - 10000000000");
    s = step_begin(f, 0);
    assert_int_equal(s.tx->n_interests, 0);
    step_end(&s);
}

static void a_renewed_interest_starts_a_generation(void **state)
{
    struct fixture *f = *state;
    struct uuid gateway;
    uint64_t seq;
    uuid_new(&gateway);
    struct step s = step_begin(f, 0);
    uint64_t old = step_end(&s);
    assert_int_equal(CALL(f, interests_renew, &gateway, "http://a:1", 3000, &f->drive.id, 1, &seq), 0);
    assert_int_equal(seq, old);
    sql(f, "UPDATE drive SET lineage = '1:00000001'");
    assert_int_equal(CALL(f, interests_renew, &gateway, "http://a:1", 3000, &f->drive.id, 1, &seq), 0);
    assert_int_equal(seq, UINT64_C(2) << 40);
    struct meta_tx *tx = snapshot(f);
    assert_int_equal(tx->drive.prior_end, old);
    done(tx);
}

/* The statement goes out on a connection of the former timeline, and runs on the new one. */
static void a_renewal_that_was_sent_again_knows_where_it_runs(void **state)
{
    struct fixture *f = *state;
    struct uuid gateway;
    uint64_t seq;
    uuid_new(&gateway);
    assert_int_equal(CALL(f, interests_renew, &gateway, "http://a:1", 3000, &f->drive.id, 1, &seq), 0);
    sql(f, "UPDATE drive SET lineage = '1:00000001'");
    for (struct pg_conn *c = postgres_of(f->m)->catalogue->idle; c; c = c->next)
        strcpy(c->lineage, "1:00000001");
    end_connections(f);
    assert_int_equal(CALL(f, interests_renew, &gateway, "http://a:1", 3000, &f->drive.id, 1, &seq), 0);
    assert_int_equal(seq, UINT64_C(2) << 40);
}

static void a_drive_whose_row_is_held_keeps_no_other_waiting(void **state)
{
    struct fixture *f = *state;
    struct drive_row second = {.owner = f->user.id, .name = "second"};
    struct uuid gateway;
    uint64_t seqs[2];
    uuid_new(&gateway);
    uuid_new(&second.id);
    assert_int_equal(CALL(f, drive_add, &second), 0);
    PGconn *holder = PQconnectdb(f->url);
    PQclear(PQexec(holder, "BEGIN; SELECT 1 FROM drive WHERE name = 'home' FOR UPDATE"));
    int64_t before = clock_boot_ms();
    assert_int_equal(CALL(f, interests_renew, &gateway, "http://a:1", 3000, (struct uuid[]){f->drive.id, second.id}, 2, seqs), 0);
    assert_true(clock_boot_ms() - before < 4500); /* else the others' promises would end */
    assert_true(seqs[0] == UINT64_MAX);
    assert_true(seqs[1] != UINT64_MAX);
    PQclear(PQexec(holder, "COMMIT"));
    PQfinish(holder);
    assert_int_equal(CALL(f, interests_renew, &gateway, "http://a:1", 3000, &f->drive.id, 1, seqs), 0);
    assert_true(seqs[0] != UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_batch_costs_a_handful_of_round_trips),
        TEST(a_connection_that_was_kept_may_be_broken),
        TEST(one_that_breaks_in_a_transaction_is_a_reason_to_do_it_again),
        TEST(what_contradicts_the_store_is_not_committed),
        TEST(a_commit_that_was_ended_has_not_happened),
        TEST(a_commit_whose_end_was_not_seen_is_looked_up),
        TEST(a_statement_whose_answer_was_lost_may_have_been_done),
        TEST(a_statement_that_takes_too_long_is_not_run_again),
        TEST(one_that_is_found_broken_takes_the_others_along),
        TEST(a_server_that_says_nothing_is_given_up),
        TEST(another_timeline_starts_a_generation),
        TEST(a_renewed_interest_starts_a_generation),
        TEST(a_renewal_that_was_sent_again_knows_where_it_runs),
        TEST(a_drive_whose_row_is_held_keeps_no_other_waiting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
