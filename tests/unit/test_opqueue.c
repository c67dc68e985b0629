/* The operation queue against a gateway that is made up here: applied once, in order, whatever is lost on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/jsonx.h"
#include "fake_http.h"
#include "fusefs/upload/opqueue.h"

#include <stdatomic.h>
#include <time.h>

#define APPLIED_MAX 4096

/* What the made-up gateway keeps: the journal's last number with its digest and answer, and the names it was given, in order. */
struct gateway {
    struct fake_http http;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t last;
    struct hash last_digest;
    char *last_answer;
    char applied[APPLIED_MAX][16];
    int n_applied;
    int batches, requests, repeats, lazy; /* lazy: of the batches */
    unsigned random;
    /* faults */
    int answer_503;   /* so many requests, not applied */
    int drop_after;   /* so many requests are applied, then the connection is cut */
    bool hold;        /* requests wait here */
    int held;
    int chance;       /* percent of requests with a fault */
};

static json_t *apply(struct gateway *g, const json_t *ops)
{
    json_t *results = json_array();
    bool failed = false;
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const char *name = "";
        jsonx_str(json_array_get(ops, i), "name", &name);
        json_t *r = json_pack("{sI}", "seq", (json_int_t)g->n_applied + 1);
        if (failed) {
            json_object_set_new(r, "error", json_string("ECANCELED"));
        } else if (strncmp(name, "fail", 4) == 0) {
            json_object_set_new(r, "error", json_string("ENOENT"));
            failed = true;
        } else if (g->n_applied < APPLIED_MAX) {
            snprintf(g->applied[g->n_applied++], 16, "%.15s", name);
        }
        json_array_append_new(results, r);
    }
    return results;
}

static bool has_poison(const json_t *ops)
{
    for (size_t i = 0; i < json_array_size(ops); i++) {
        const char *name = "";
        jsonx_str(json_array_get(ops, i), "name", &name);
        if (strcmp(name, "poison") == 0)
            return true;
    }
    return false;
}

static void problem(struct fake_answer *a, int status, const char *code, uint64_t last)
{
    a->status = status;
    buf_appendf(&a->body, "{\"code\":\"%s\",\"detail\":\"made up\",\"last\":%llu}", code, (unsigned long long)last);
}

static bool fault(struct gateway *g)
{
    g->random = g->random * 1103515245u + 12345u;
    return (int)((g->random >> 16) % 100) < g->chance;
}

static void answer_batch(struct gateway *g, const struct fake_request *req, struct fake_answer *a)
{
    CLEANUP_JSON json_t *head = jsonx_parse(req->body.data, req->head, NULL);
    uint64_t number, confirmed;
    json_t *ops;
    assert_int_equal(jsonx_u64(head, "batch", &number), 0);
    assert_int_equal(jsonx_u64(head, "confirmed", &confirmed), 0);
    assert_int_equal(jsonx_arr(head, "ops", &ops), 0);
    struct hash digest;
    hash_bytes(req->body.data, req->body.len, &digest);
    g->requests++;
    while (g->hold) {
        g->held++;
        pthread_cond_broadcast(&g->changed);
        pthread_cond_wait(&g->changed, &g->lock);
    }
    if (g->answer_503 > 0 || fault(g)) {
        if (g->answer_503 > 0)
            g->answer_503--;
        problem(a, 503, "away", 0);
        return;
    }
    if (number == g->last && g->last_answer && hash_equal(&digest, &g->last_digest)) {
        g->repeats++;
    } else if (number != g->last + 1) {
        problem(a, 409, number == g->last ? "batch-differs" : "batch-out-of-order", g->last);
        return;
    } else if (has_poison(ops)) {
        problem(a, 400, "bad-batch", 0);
        return;
    } else {
        assert_int_equal(confirmed, g->last);
        CLEANUP_JSON json_t *o = json_pack("{sIso}", "seq", (json_int_t)1, "results", apply(g, ops));
        free(g->last_answer);
        struct buf text = {0};
        jsonx_dump(o, &text);
        g->last_answer = buf_detach(&text);
        g->last = number;
        g->last_digest = digest;
        g->batches++;
        bool lazy = false;
        jsonx_bool(head, "lazy", &lazy);
        g->lazy += lazy;
    }
    if (g->drop_after > 0 || fault(g)) {
        if (g->drop_after > 0)
            g->drop_after--;
        a->status = 0;
        return;
    }
    buf_append_str(&a->body, g->last_answer);
}

static void handle(void *ctx, const struct fake_request *req, struct fake_answer *a)
{
    struct gateway *g = ctx;
    if (strstr(req->path, "/mount")) {
        buf_append_str(&a->body, "{\"session\":\"01890000-0000-7000-8000-000000000001\",\"drive\":\"01890000-0000-7000-8000-000000000002\","
                                 "\"name\":\"d\",\"role\":\"owner\",\"root\":1,\"seq\":1,\"used\":0,\"quota\":null,\"inoFirst\":100,\"inoCount\":100,"
                                 "\"leaseMs\":1800,\"heartbeatMs\":500,\"inlineMax\":65536,\"batchMax\":16}");
        return;
    }
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&g->lock);
    answer_batch(g, req, a);
}

struct fixture {
    struct gateway g;
    struct remote *remote;
    struct opqueue *queue;
    pthread_mutex_t lock;
    char seen[APPLIED_MAX][16]; /* by on_result, those that succeeded */
    int n_seen;
};

static void seen(void *ctx, const struct op *op, const struct op_result *res)
{
    struct fixture *f = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->lock);
    if (!res->error && f->n_seen < APPLIED_MAX)
        snprintf(f->seen[f->n_seen++], 16, "%.15s", op->name);
}

static struct fixture *begin(unsigned timeout_ms)
{
    struct fixture *f = mem_alloc(sizeof *f);
    pthread_mutex_init(&f->lock, NULL);
    pthread_mutex_init(&f->g.lock, NULL);
    pthread_cond_init(&f->g.changed, NULL);
    f->g.http.handle = handle;
    f->g.http.ctx = &f->g;
    fake_start(&f->g.http, 0);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", f->g.http.port);
    f->remote = remote_new(url, "token", NULL, NULL, NULL);
    struct uuid journal;
    uuid_new(&journal);
    struct remote_mount_info info;
    assert_int_equal(remote_mount(f->remote, "d", "test", &journal, false, &info), 0);
    f->queue = opqueue_new(f->remote, timeout_ms, 0);
    opqueue_on_result(f->queue, seen, f);
    return f;
}

static void end(struct fixture *f)
{
    opqueue_free(f->queue);
    remote_free(f->remote);
    fake_stop(&f->g.http);
    free(f->g.last_answer);
    free(f);
}

static int run_names(struct opqueue *q, const char *const *names, size_t n, struct op_result *results)
{
    struct op *ops = mem_calloc(n, sizeof *ops);
    for (size_t i = 0; i < n; i++) {
        ops[i].kind = OP_RMDIR;
        ops[i].parent = 1;
        ops[i].name = mem_strdup(names[i]);
    }
    memset(results, 0, n * sizeof *results);
    int err = opqueue_run(q, ops, n, NULL, 0, results);
    for (size_t i = 0; i < n; i++)
        op_fini(&ops[i]);
    free(ops);
    return err;
}

static int run1(struct opqueue *q, const char *name, struct op_result *result)
{
    return run_names(q, &name, 1, result);
}

/* A run in a thread of its own. */
struct runner {
    pthread_t thread;
    struct opqueue *q;
    const char *names[3];
    size_t n;
    int err;
    struct op_result results[3];
};
static void *runner_main(void *arg)
{
    struct runner *r = arg;
    r->err = run_names(r->q, r->names, r->n, r->results);
    return NULL;
}
static void runner_start(struct runner *r, struct opqueue *q)
{
    r->q = q;
    while (r->n < 3 && r->names[r->n])
        r->n++;
    pthread_create(&r->thread, NULL, runner_main, r);
}

static void wait_pending(struct fixture *f, size_t n)
{
    while (opqueue_pending(f->queue) != n)
        usleep(1000);
}
static void hold(struct gateway *g)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&g->lock);
    g->hold = true;
}
static void wait_held(struct gateway *g)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&g->lock);
    while (!g->held)
        pthread_cond_wait(&g->changed, &g->lock);
}
static void let_go(struct gateway *g)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&g->lock);
    g->hold = false;
    pthread_cond_broadcast(&g->changed);
}

static void one_after_the_other_makes_numbered_batches(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct op_result res;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run1(f->queue, "a", &res), 0);
        assert_int_equal(res.error, 0);
        assert_int_equal(f->n_seen, i + 1); /* before we were woken */
    }
    assert_int_equal(f->g.last, 3);
    assert_int_equal(opqueue_pending(f->queue), 0);
    end(f);
}

static void names_wait_for_the_gateways_disk_when_asked_to(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct op_result res;
    assert_int_equal(opqueue_sync(f->queue), 0);
    assert_int_equal(f->g.batches, 0); /* nothing was sent yet */
    assert_int_equal(run1(f->queue, "a", &res), 0);
    assert_int_equal(f->g.lazy, 1);
    assert_int_equal(opqueue_sync(f->queue), 0);
    assert_int_equal(f->g.batches, 2);
    assert_int_equal(f->g.lazy, 1);
    assert_int_equal(opqueue_sync(f->queue), 0);
    assert_int_equal(f->g.batches, 2); /* all of it is there */
    end(f);
}

static void what_brings_content_or_locks_waits_for_the_disk(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct op ops[2] = {{.kind = OP_SETATTR, .ino = 7, .set = SET_MODE}, {.kind = OP_COMMIT, .ino = 7}};
    struct op lock = {.kind = OP_LOCK, .ino = 7};
    struct op_result res[2] = {0};
    opqueue_on_result(f->queue, NULL, NULL);
    assert_int_equal(opqueue_run(f->queue, ops, 2, NULL, 0, res), 0);
    assert_int_equal(opqueue_run(f->queue, &lock, 1, NULL, 0, res), 0);
    assert_int_equal(f->g.batches, 2);
    assert_int_equal(f->g.lazy, 0);
    assert_int_equal(opqueue_run(f->queue, ops, 1, NULL, 0, res), 0);
    assert_int_equal(f->g.lazy, 1);
    assert_int_equal(opqueue_run(f->queue, &lock, 1, NULL, 0, res), 0);
    assert_int_equal(opqueue_sync(f->queue), 0);
    assert_int_equal(f->g.batches, 4); /* the lock brought the attributes along */
    end(f);
}

static void a_gateway_that_is_away_is_waited_for(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct op_result res;
    f->g.answer_503 = 2;
    assert_int_equal(run1(f->queue, "a", &res), 0);
    assert_int_equal(res.error, 0);
    assert_int_equal(f->g.requests, 3);
    assert_int_equal(f->g.n_applied, 1);
    end(f);
}

static void a_lost_answer_is_asked_for_again_and_applied_once(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct op_result res;
    assert_int_equal(run1(f->queue, "a", &res), 0);
    f->g.drop_after = 2;
    assert_int_equal(run1(f->queue, "b", &res), 0);
    assert_int_equal(res.error, 0);
    assert_int_equal(f->g.n_applied, 2);
    assert_true(f->g.repeats >= 1);
    end(f);
}

static void those_who_wait_share_a_batch_and_a_failure_stops_only_its_group(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct runner first = {.names = {"first"}}, a = {.names = {"a1", "fail", "a3"}}, b = {.names = {"b1", "b2"}}, c = {.names = {"c1"}};
    hold(&f->g);
    runner_start(&first, f->queue);
    wait_held(&f->g);
    runner_start(&a, f->queue);
    wait_pending(f, 4);
    runner_start(&b, f->queue);
    wait_pending(f, 6);
    runner_start(&c, f->queue);
    wait_pending(f, 7);
    let_go(&f->g);
    struct runner *all[] = {&first, &a, &b, &c};
    for (int i = 0; i < 4; i++) {
        pthread_join(all[i]->thread, NULL);
        assert_int_equal(all[i]->err, 0);
    }
    assert_int_equal(a.results[0].error, 0);
    assert_int_equal(a.results[1].error, -ENOENT);
    assert_int_equal(a.results[2].error, -ECANCELED);
    assert_int_equal(b.results[0].error, 0);
    assert_int_equal(b.results[1].error, 0);
    assert_int_equal(c.results[0].error, 0);
    static const char *const order[] = {"first", "a1", "b1", "b2", "c1"};
    assert_int_equal(f->g.n_applied, 5);
    assert_int_equal(f->n_seen, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(f->g.applied[i], order[i]);
        assert_string_equal(f->seen[i], order[i]);
    }
    assert_int_equal(f->g.batches, 3);
    end(f);
}

static void a_refused_batch_fails_only_the_group_at_fault(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct runner first = {.names = {"first"}}, a = {.names = {"a"}}, b = {.names = {"poison"}}, c = {.names = {"c"}};
    struct runner *all[] = {&first, &a, &b, &c};
    hold(&f->g);
    for (int i = 0; i < 4; i++) {
        runner_start(all[i], f->queue);
        if (i == 0)
            wait_held(&f->g);
        wait_pending(f, (size_t)i + 1);
    }
    let_go(&f->g);
    for (int i = 0; i < 4; i++)
        pthread_join(all[i]->thread, NULL);
    assert_int_equal(a.results[0].error, 0);
    assert_int_equal(b.results[0].error, -EINVAL);
    assert_int_equal(c.results[0].error, 0);
    assert_int_equal(f->g.n_applied, 3);
    end(f);
}

static void who_gives_up_is_cancelled_or_told_of_by_on_result(void **state)
{
    (void)state;
    struct fixture *f = begin(200);
    struct runner in_flight = {.names = {"flying"}}, waiting = {.names = {"waiting"}};
    int port = f->g.http.port;
    fake_stop(&f->g.http);
    runner_start(&in_flight, f->queue);
    wait_pending(f, 1);
    runner_start(&waiting, f->queue);
    pthread_join(in_flight.thread, NULL);
    pthread_join(waiting.thread, NULL);
    assert_int_equal(in_flight.err, -EIO);
    assert_int_equal(waiting.err, -EIO);
    assert_int_equal(waiting.results[0].error, -EIO);
    assert_int_equal(opqueue_pending(f->queue), 1); /* the one that was in flight */
    fake_start(&f->g.http, port);
    wait_pending(f, 0);
    assert_int_equal(f->g.n_applied, 1);
    assert_string_equal(f->g.applied[0], "flying");
    assert_int_equal(f->n_seen, 1);
    assert_string_equal(f->seen[0], "flying");
    struct op_result res;
    assert_int_equal(run1(f->queue, "later", &res), 0);
    end(f);
}

static void numbers_go_on_behind_those_of_a_former_process(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    f->g.last = 7;
    struct op_result res;
    assert_int_equal(run1(f->queue, "a", &res), 0);
    assert_int_equal(res.error, 0);
    assert_int_equal(f->g.last, 8);
    f->g.last = 20;
    assert_int_equal(run1(f->queue, "b", &res), 0);
    assert_int_equal(f->g.last, 21);
    assert_int_equal(f->g.n_applied, 2);
    end(f);
}

static void contents_ride_along(void **state)
{
    (void)state;
    struct fixture *f = begin(5000);
    struct remote_inline content = {.size = 5, .codec = CODEC_RAW};
    buf_append_str(&content.stored, "hello");
    hash_bytes("hello", 5, &content.hash);
    struct op op = {.kind = OP_RMDIR, .parent = 1, .name = mem_strdup("x")};
    struct op_result res = {0};
    assert_int_equal(opqueue_run(f->queue, &op, 1, &content, 1, &res), 0);
    assert_int_equal(res.error, 0);
    buf_fini(&content.stored);
    op_fini(&op);
    end(f);
}

struct writer {
    pthread_t thread;
    struct fixture *f;
    int id, wrong;
};
static void *writer_main(void *arg)
{
    struct writer *w = arg;
    for (int i = 0; i < 60; i++) {
        char name[16];
        snprintf(name, sizeof name, i % 10 == 9 ? "fail-%d-%d" : "w-%d-%d", w->id, i);
        struct op_result res;
        int err = run1(w->f->queue, name, &res);
        w->wrong += err != 0 || res.error != (i % 10 == 9 ? -ENOENT : 0);
    }
    return NULL;
}

/* Each operation exactly once, each writer's in its order, while answers and requests get lost. */
static void many_writers_on_a_bad_line(void **state)
{
    (void)state;
    struct fixture *f = begin(60000);
    const char *seed = getenv("SEED");
    f->g.random = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL);
    printf("SEED=%u\n", f->g.random);
    f->g.chance = 3;
    struct writer w[8];
    for (int i = 0; i < 8; i++) {
        w[i] = (struct writer){.f = f, .id = i};
        pthread_create(&w[i].thread, NULL, writer_main, &w[i]);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].wrong, 0);
    }
    assert_int_equal(f->g.n_applied, 8 * 54);
    assert_int_equal(f->n_seen, 8 * 54);
    int next[8] = {0};
    for (int i = 0; i < f->g.n_applied; i++) {
        int id, n;
        assert_string_equal(f->g.applied[i], f->seen[i]);
        assert_int_equal(sscanf(f->g.applied[i], "w-%d-%d", &id, &n), 2);
        assert_true(n >= next[id]);
        next[id] = n + 1;
    }
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_after_the_other_makes_numbered_batches),
        cmocka_unit_test(names_wait_for_the_gateways_disk_when_asked_to),
        cmocka_unit_test(what_brings_content_or_locks_waits_for_the_disk),
        cmocka_unit_test(a_gateway_that_is_away_is_waited_for),
        cmocka_unit_test(a_lost_answer_is_asked_for_again_and_applied_once),
        cmocka_unit_test(those_who_wait_share_a_batch_and_a_failure_stops_only_its_group),
        cmocka_unit_test(a_refused_batch_fails_only_the_group_at_fault),
        cmocka_unit_test(who_gives_up_is_cancelled_or_told_of_by_on_result),
        cmocka_unit_test(numbers_go_on_behind_those_of_a_former_process),
        cmocka_unit_test(contents_ride_along),
        cmocka_unit_test(many_writers_on_a_bad_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
