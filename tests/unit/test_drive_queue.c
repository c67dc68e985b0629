#include "common/pool.h"
#include "fake_meta.h"
#include "random_ops.h"
#include "gateway/core/drive_queue.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* Threads on request: jobs wait until the test runs them. */
struct jobs {
    void (*fn[64])(void *);
    void *arg[64];
    size_t n;
};
static void later(void *pool, void (*fn)(void *), void *arg)
{
    struct jobs *j = pool;
    j->fn[j->n] = fn;
    j->arg[j->n++] = arg;
}
static void run_jobs(struct jobs *j)
{
    for (size_t i = 0; i < j->n; i++)
        j->fn[i](j->arg[i]);
    j->n = 0;
}

struct fixture {
    struct fake_meta meta;
    struct jobs jobs;
    struct drive_queues *queues;
};
static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    fake_meta_init(&f->meta);
    f->queues = drive_queues_new(&f->meta.meta, later, &f->jobs, NULL);
    *state = f;
    return 0;
}
static int teardown(void **state)
{
    struct fixture *f = *state;
    run_jobs(&f->jobs);
    drive_queues_free(f->queues);
    fake_meta_fini(&f->meta);
    free(f);
    return 0;
}

/* Works that create files; done counts. */
struct test_work {
    struct drive_work work;
    struct op ops[4];
    struct op_result results[4];
    char names[4][16];
    atomic_int done;
    int prepare_says, conclude_says;
    unsigned concluded;
};
static void on_done(struct drive_work *w)
{
    atomic_fetch_add(&((struct test_work *)w)->done, 1);
}
static int on_prepare(struct drive_work *w, struct meta_tx *tx)
{
    assert_true(tx->writing);
    return ((struct test_work *)w)->prepare_says;
}
static int on_conclude(struct drive_work *w, struct meta_tx *tx)
{
    (void)tx;
    ((struct test_work *)w)->concluded++;
    return ((struct test_work *)w)->conclude_says;
}
static void make_work(struct test_work *t, uint8_t drive, uint64_t ino, size_t n)
{
    memset(t, 0, sizeof *t);
    t->work = (struct drive_work){.drive.b = {drive}, .ops = t->ops, .n_ops = n, .results = t->results, .done = on_done, .prepare = on_prepare, .conclude = on_conclude};
    for (size_t i = 0; i < n; i++) {
        snprintf(t->names[i], sizeof t->names[i], "f%u", (unsigned)(ino + i));
        t->ops[i] = (struct op){.kind = OP_CREATE, .parent = 1, .name = t->names[i], .ino = ino + i, .mode = S_IFREG | 0644};
    }
}

static void what_waits_is_one_transaction(void **state)
{
    struct fixture *f = *state;
    struct test_work w[5];
    for (unsigned i = 0; i < 5; i++) {
        make_work(&w[i], 0, 100 + i * 10, 2);
        drive_queues_submit(f->queues, &w[i].work);
    }
    assert_int_equal(f->jobs.n, 1);
    run_jobs(&f->jobs);
    assert_int_equal(f->meta.begun, 1);
    assert_int_equal(f->meta.committed, 1);
    assert_int_equal(f->meta.drives[0].store.loads, 1); /* all ten operations' rows in one go */
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(w[i].done, 1);
        assert_int_equal(w[i].work.error, 0);
        assert_int_equal(w[i].work.first_seq, 11 + 2 * i);
        assert_int_equal(w[i].work.last_seq, 12 + 2 * i);
        assert_int_equal(w[i].work.at, f->meta.now);
        assert_int_equal(w[i].concluded, 1);
        assert_int_equal(w[i].results[1].ino, 101 + i * 10);
    }
    drive_queues_drain(f->queues);
}

static void the_disk_is_waited_for_if_one_of_them_asks(void **state)
{
    struct fixture *f = *state;
    struct test_work w[5];
    for (unsigned i = 0; i < 5; i++) {
        make_work(&w[i], 0, 100 + i * 10, 1);
        w[i].work.lazy = i != 1;
    }
    w[3].prepare_says = -ESTALE; /* nothing of it is committed */
    w[3].work.lazy = false;
    for (unsigned i = 0; i < 2; i++)
        drive_queues_submit(f->queues, &w[i].work);
    run_jobs(&f->jobs);
    assert_int_equal(f->meta.committed, 1);
    assert_int_equal(f->meta.lazy, 0);
    for (unsigned i = 2; i < 5; i++)
        drive_queues_submit(f->queues, &w[i].work);
    run_jobs(&f->jobs);
    assert_int_equal(f->meta.committed, 2);
    assert_int_equal(f->meta.lazy, 1);
}

static void drives_do_not_wait_for_each_other(void **state)
{
    struct fixture *f = *state;
    struct test_work w[2];
    make_work(&w[0], 0, 100, 1);
    make_work(&w[1], 1, 100, 1);
    drive_queues_submit(f->queues, &w[0].work);
    drive_queues_submit(f->queues, &w[1].work);
    assert_int_equal(f->jobs.n, 2);
    run_jobs(&f->jobs);
    assert_int_equal(w[0].work.first_seq, 11);
    assert_int_equal(w[1].work.first_seq, 11);
}

static void a_failed_operation_stops_its_work_only(void **state)
{
    struct fixture *f = *state;
    struct test_work w[3];
    for (unsigned i = 0; i < 3; i++) {
        make_work(&w[i], 0, 100 + i * 10, 3);
        drive_queues_submit(f->queues, &w[i].work);
    }
    w[0].ops[1].parent = 77;
    w[1].ops[1].parent = 77;
    w[1].work.go_on = true;
    run_jobs(&f->jobs);
    assert_int_equal(w[0].results[0].error, 0);
    assert_int_equal(w[0].results[1].error, -ENOENT);
    assert_int_equal(w[0].results[2].error, -ECANCELED);
    assert_int_equal(w[0].work.last_seq, 11);
    assert_int_equal(w[1].results[1].error, -ENOENT);
    assert_int_equal(w[1].results[2].error, 0);
    assert_int_equal(w[2].work.last_seq, 16);
    assert_int_equal(w[0].work.error, 0);
    assert_int_equal(w[0].concluded, 1);
}

static void prepare_decides(void **state)
{
    struct fixture *f = *state;
    struct test_work w[3];
    for (unsigned i = 0; i < 3; i++) {
        make_work(&w[i], 0, 100 + i * 10, 1);
        drive_queues_submit(f->queues, &w[i].work);
    }
    w[0].prepare_says = 1;
    w[1].prepare_says = -EPERM;
    run_jobs(&f->jobs);
    assert_int_equal(w[0].work.error, 1);
    assert_int_equal(w[0].work.first_seq, 0);
    assert_int_equal(w[1].work.error, -EPERM);
    assert_int_equal(w[0].concluded + w[1].concluded, 0);
    assert_int_equal(w[2].work.first_seq, 11);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(w[i].done, 1);
    assert_int_equal(f->meta.drives[0].store.n_dentries, 1);
}

static void one_that_cannot_conclude_fails_alone(void **state)
{
    struct fixture *f = *state;
    struct test_work w[3];
    for (unsigned i = 0; i < 3; i++) {
        make_work(&w[i], 0, 100 + i * 10, 2);
        drive_queues_submit(f->queues, &w[i].work);
    }
    w[1].conclude_says = -ENOENT;
    run_jobs(&f->jobs);
    assert_int_equal(w[0].work.last_seq, 12);
    assert_int_equal(w[1].work.error, -ENOENT);
    assert_int_equal(w[1].work.last_seq, 0);
    assert_int_equal(w[1].results[0].seq, 0);
    assert_int_equal(w[2].work.first_seq, 13);
    assert_int_equal(f->meta.committed, 2);
    assert_int_equal(f->meta.drives[0].store.n_dentries, 4);
}

static void the_store_may_fail(void **state)
{
    struct fixture *f = *state;
    struct test_work w[2];
    static const struct {
        int begin, commit;
        unsigned times;
        int error;
        unsigned begun;
    } cases[] = {
        {0, -EAGAIN, 2, 0, 3},               /* serialisation: again, together */
        {0, -EAGAIN, 1000, -EAGAIN, 24},     /* but not for ever: together, then each alone */
        {0, -EHOSTUNREACH, 1000, -EHOSTUNREACH, 1},
        {-EHOSTUNREACH, 0, 1000, -EHOSTUNREACH, 1},
        {0, -EIO, 1, 0, 3}, /* each alone */
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        f->meta.fail_begin = cases[c].begin;
        f->meta.fail_commit = cases[c].commit;
        f->meta.fail_times = cases[c].times;
        f->meta.begun = 0;
        for (unsigned i = 0; i < 2; i++) {
            make_work(&w[i], 0, 100 + 100 * c + i * 10, 1);
            drive_queues_submit(f->queues, &w[i].work);
        }
        run_jobs(&f->jobs);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(w[i].done, 1);
            assert_int_equal(w[i].work.error, cases[c].error);
            assert_int_equal(w[i].work.first_seq > 0, cases[c].error == 0);
        }
        assert_int_equal(f->meta.begun, cases[c].begun);
    }
    f->meta.fail_times = 0;
    make_work(&w[0], 9, 100, 1); /* no such drive */
    drive_queues_submit(f->queues, &w[0].work);
    run_jobs(&f->jobs);
    assert_int_equal(w[0].work.error, -ENOENT);
}

static void a_caller_that_waits_runs_the_queue(void **state)
{
    struct fixture *f = *state;
    struct test_work before, own;
    make_work(&before, 0, 100, 1);
    make_work(&own, 0, 200, 1);
    drive_queues_submit(f->queues, &before.work); /* a thread was asked for, and never comes */
    assert_int_equal(drive_queues_run(f->queues, &own.work), 0);
    drive_queues_close(f->queues);
    assert_int_equal(drive_queues_run(f->queues, &own.work), -EHOSTUNREACH);
    assert_int_equal(before.done, 1);
    assert_int_equal(own.work.first_seq, 12);
}

/* A listener that answers from another thread, once it has everything. */
struct late_listener {
    struct drive_listener listener;
    struct drive_work *works[8];
    size_t n;
};
static void keep(struct drive_listener *l, const struct uuid *drive, struct drive_work *works, const struct drive_others *others)
{
    assert_int_equal(others->n, 0);
    struct late_listener *late = (struct late_listener *)l;
    assert_int_equal(drive->b[0], 2);
    for (struct drive_work *w = works; w; w = w->next)
        late->works[late->n++] = w;
}
static void *finish_all(void *arg)
{
    struct late_listener *late = arg;
    for (size_t i = 0; i < late->n; i++)
        drive_work_finish(late->works[i]);
    return NULL;
}
static void the_listener_answers(void **state)
{
    struct fixture *f = *state;
    struct late_listener late = {.listener.committed = keep};
    struct drive_queues *queues = drive_queues_new(&f->meta.meta, later, &f->jobs, &late.listener);
    struct test_work w[3];
    for (unsigned i = 0; i < 3; i++) {
        make_work(&w[i], 2, 100 + i * 10, 1);
        drive_queues_submit(queues, &w[i].work);
    }
    w[1].prepare_says = -EPERM; /* nothing was committed of it: nobody is to hear */
    run_jobs(&f->jobs);
    assert_int_equal(late.n, 2);
    assert_ptr_equal(late.works[0], &w[0].work);
    assert_ptr_equal(late.works[1], &w[2].work);
    assert_int_equal(w[0].done, 0);
    assert_int_equal(w[1].done, 1);
    pthread_t thread;
    pthread_create(&thread, NULL, finish_all, &late);
    pthread_join(thread, NULL);
    assert_int_equal(w[0].done, 1);
    drive_queues_free(queues);
}

static void on_pool(void *pool, void (*fn)(void *), void *arg)
{
    pool_run(pool, fn, arg);
}

struct blocking {
    struct drive_queues *queues;
    struct test_work w;
};
static void run_blocking(void *arg)
{
    struct blocking *b = arg;
    drive_queues_run(b->queues, &b->w.work);
}

/* Every thread of the pool waits in drive_queues_run: somebody has to do it all the same. */
static void a_pool_full_of_waiting_callers_goes_on(void **state)
{
    struct fixture *f = *state;
    struct pool *pool = pool_new(2, "test");
    struct drive_queues *queues = drive_queues_new(&f->meta.meta, on_pool, pool, NULL);
    enum { N = 200 };
    struct blocking *b = mem_calloc(N, sizeof *b);
    for (unsigned i = 0; i < N; i++) {
        b[i].queues = queues;
        make_work(&b[i].w, (uint8_t)(i % 3), 100 + i, 1);
        pool_run(pool, run_blocking, &b[i]);
    }
    pool_drain(pool);
    drive_queues_drain(queues);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(b[i].w.work.error, 0);
    assert_int_equal(f->meta.drives[0].store.n_dentries + f->meta.drives[1].store.n_dentries + f->meta.drives[2].store.n_dentries, N);
    drive_queues_free(queues);
    pool_free(pool);
    free(b);
}

struct submitter {
    struct drive_queues *queues;
    struct test_work *w;
    size_t n;
    unsigned number;
};
static void *submit_many(void *arg)
{
    struct submitter *s = arg;
    for (size_t i = 0; i < s->n; i++) {
        make_work(&s->w[i], (uint8_t)(i % 3), 100 + s->number * s->n + i, 1);
        drive_queues_submit(s->queues, &s->w[i].work);
    }
    return NULL;
}

static void many_threads_one_order(void **state)
{
    struct fixture *f = *state;
    struct pool *pool = pool_new(3, "test");
    struct drive_queues *queues = drive_queues_new(&f->meta.meta, on_pool, pool, NULL);
    enum { THREADS = 4, EACH = 150 };
    struct submitter s[THREADS];
    pthread_t threads[THREADS];
    for (unsigned t = 0; t < THREADS; t++) {
        s[t] = (struct submitter){queues, mem_calloc(EACH, sizeof(struct test_work)), EACH, t};
        pthread_create(&threads[t], NULL, submit_many, &s[t]);
    }
    for (unsigned t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    drive_queues_drain(queues);
    bool seen[3][THREADS * EACH] = {{false}};
    for (unsigned t = 0; t < THREADS; t++) {
        uint64_t last[3] = {0};
        for (size_t i = 0; i < EACH; i++) {
            const struct drive_work *w = &s[t].w[i].work;
            assert_int_equal(s[t].w[i].done, 1);
            assert_int_equal(w->error, 0);
            assert_true(w->first_seq > last[i % 3]); /* one submitter's works keep their order */
            last[i % 3] = w->first_seq;
            assert_false(seen[i % 3][w->first_seq - 11]);
            seen[i % 3][w->first_seq - 11] = true;
        }
        free(s[t].w);
    }
    drive_queues_free(queues);
    pool_free(pool);
}

/* ---- a group gives what one after another gives ---- */

static int by_ino(const void *a, const void *b)
{
    uint64_t x = ((const struct inode_row *)a)->attr.ino, y = ((const struct inode_row *)b)->attr.ino;
    return (x > y) - (x < y);
}

static void assert_same(struct fake_store *a, struct fake_store *b)
{
    assert_int_equal(a->n_inodes, b->n_inodes);
    qsort(a->inodes, a->n_inodes, sizeof *a->inodes, by_ino);
    qsort(b->inodes, b->n_inodes, sizeof *b->inodes, by_ino);
    for (size_t i = 0; i < a->n_inodes; i++) {
        assert_memory_equal(&a->inodes[i].attr, &b->inodes[i].attr, sizeof a->inodes[i].attr);
        assert_int_equal(a->inodes[i].parent, b->inodes[i].parent);
        assert_int_equal(a->inodes[i].children, b->inodes[i].children);
    }
    assert_int_equal(a->n_dentries, b->n_dentries);
    for (size_t i = 0; i < a->n_dentries; i++)
        assert_int_equal(a->dentries[i].ino, b->dentries[i].ino); /* same events, same places */
    assert_int_equal(a->n_changes, b->n_changes);
    for (size_t i = 0; i < a->n_changes; i++) {
        assert_string_equal(a->changes[i].touch, b->changes[i].touch);
        assert_int_equal(a->changes[i].row.kind, b->changes[i].row.kind);
        assert_string_equal(a->changes[i].row.name, b->changes[i].row.name);
    }
    assert_int_equal(a->drive.seq, b->drive.seq);
    assert_int_equal(a->drive.used, b->drive.used);
    assert_int_equal(a->drive.files, b->drive.files);
}

static void random_groups_equal_single_steps(void **state)
{
    struct fixture *f = *state;
    const char *given = getenv("CAIRN_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    printf("seed %u\n", seed);
    enum { N = 20 };
    struct test_work *one = mem_calloc(N, sizeof *one), *group = mem_calloc(N, sizeof *group);
    struct random_op *random = mem_calloc(N, sizeof *random);
    for (int round = 0; round < 100; round++) {
        f->meta.now += 400000000;
        for (size_t i = 0; i < N; i++) {
            make_work(&one[i], 0, 0, 1);
            make_work(&group[i], 1, 0, 1);
            random_op(&seed, 100 + (uint64_t)round * 4, &random[i]);
            random_op_into(&random[i], &one[i].work);
            random_op_into(&random[i], &group[i].work);
            drive_queues_submit(f->queues, &one[i].work);
            run_jobs(&f->jobs);
        }
        for (size_t i = 0; i < N; i++)
            drive_queues_submit(f->queues, &group[i].work);
        run_jobs(&f->jobs);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(one[i].results[0].error, group[i].results[0].error);
            assert_int_equal(one[i].results[0].seq, group[i].results[0].seq);
            assert_int_equal(one[i].results[0].n_attrs, group[i].results[0].n_attrs);
            assert_int_equal(one[i].results[0].lock_type, group[i].results[0].lock_type);
            op_result_fini(&one[i].results[0]);
            op_result_fini(&group[i].results[0]);
        }
        assert_same(&f->meta.drives[0].store, &f->meta.drives[1].store);
    }
    assert_true(f->meta.drives[0].store.n_changes > 150); /* else it is the errors only that were compared */
    free(one);
    free(group);
    free(random);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_waits_is_one_transaction),
        CASE(the_disk_is_waited_for_if_one_of_them_asks),
        CASE(drives_do_not_wait_for_each_other),
        CASE(a_failed_operation_stops_its_work_only),
        CASE(prepare_decides),
        CASE(one_that_cannot_conclude_fails_alone),
        CASE(the_store_may_fail),
        CASE(a_caller_that_waits_runs_the_queue),
        CASE(the_listener_answers),
        CASE(a_pool_full_of_waiting_callers_goes_on),
        CASE(many_threads_one_order),
        CASE(random_groups_equal_single_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
