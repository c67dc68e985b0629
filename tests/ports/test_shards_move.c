/* Drives that move between shards while they are in use. */
#include "tests/ports/shards_fixture.h"

#include "gateway/core/drive_queue.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static void at_once(void *pool, void (*fn)(void *), void *arg)
{
    (void)pool;
    fn(arg);
}

struct writer {
    struct fixture *f;
    struct meta *m; /* its own, as another gateway has */
    atomic_bool stop;
    unsigned made, removed;
};

static int run_op(struct drive_queues *q, const struct uuid *drive, struct op *op)
{
    struct op_result r = {0};
    struct drive_work w = {.drive = *drive, .ops = op, .n_ops = 1, .results = &r};
    int err = drive_queues_run(q, &w);
    err = err ? err : r.error;
    op_result_fini(&r);
    return err;
}

/* Not on the test's thread: cmocka's assertions are of no use there. */
static void must(int err, const char *what)
{
    if (!err)
        return;
    fprintf(stderr, "while the drive moves: %s: %s\n", what, strerror(-err));
    abort();
}

/* Makes names, and removes every third. */
static void *write_on(void *arg)
{
    struct writer *w = arg;
    struct drive_queues *q = drive_queues_new(w->m, at_once, NULL, NULL);
    for (unsigned i = 0; !atomic_load(&w->stop); i++) {
        char name[16];
        uint64_t ino;
        snprintf(name, sizeof name, "w%u", i);
        must(w->m->ops->inodes_reserve(w->m, &w->f->drive.id, 1, &ino), "a number");
        struct op make_it = {.kind = OP_CREATE, .parent = 1, .name = name, .ino = ino, .mode = S_IFREG | 0644};
        must(run_op(q, &w->f->drive.id, &make_it), "making a name");
        w->made++;
        struct op remove_it = {.kind = OP_UNLINK, .parent = 1, .name = name};
        if (i % 3 == 0) {
            must(run_op(q, &w->f->drive.id, &remove_it), "removing one");
            w->removed++;
        }
    }
    drive_queues_free(q);
    return NULL;
}

static int count_names(void *ctx, uint64_t parent, const char *name, uint64_t ino)
{
    (void)parent;
    (void)name;
    (void)ino;
    ++*(unsigned *)ctx;
    return 0;
}

struct log {
    uint64_t last;
    unsigned n;
};

static int dense(void *ctx, const struct change_row *c)
{
    struct log *l = ctx;
    assert_int_equal(c->seq, l->last + 1);
    l->last = c->seq;
    l->n++;
    return 0;
}

static void fill(struct fixture *f)
{
    struct step s = step_begin(f, 0);
    struct chunk_row c = {.hash = hash_of("x"), .size = 1, .stored_size = 1, .bytes = "x"};
    make(&s, 1, "before", 1000000, S_IFREG | 0644);
    rows_chunk_add(s.rows, &c);
    step_end(&s);
}

static void a_drive_moves_while_it_is_written_to(void **state)
{
    struct two t;
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    pthread_t thread;
    two_init(&t, f);
    fill(f);
    struct writer w = {.f = f};
    assert_int_equal(meta_open(f->url, &w.m), 0);
    assert_int_equal(pthread_create(&thread, NULL, write_on, &w), 0);
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "nowhere"), -ENODEV);
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "two"), 0);
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "two"), 0);
    assert_string_equal(shards_of(f, &b), "main:0 two:1 ");
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "main"), 0);
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "two"), 0);
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    w.m->ops->free(w.m);

    struct meta_tx *tx = snapshot(f);
    unsigned names = 0;
    struct log l = {.last = UINT64_C(1) << 40};
    struct entry_row e;
    assert_int_equal(IN(tx, dentries_each, count_names, &names), 0);
    assert_int_equal(names, w.made - w.removed + 1);
    l.last++; /* fill() leaves no change */
    assert_int_equal(IN(tx, changes, l.last, 1000000, dense, &l), 0);
    assert_int_equal(l.n, w.made + w.removed);
    assert_int_equal(l.last, tx->drive.seq);
    assert_int_equal(tx->drive.prior_end, 0); /* no generation has ended: nothing was lost */
    assert_int_equal(IN(tx, entry, 1, "before", 0, &e), 0);
    done(tx);
    struct hash h = hash_of("x");
    CLEANUP(chunk_row_fini) struct chunk_row c = {0};
    assert_int_equal(CALL(f, chunk_get, &f->drive.id, &h, &c), 0);
    assert_memory_equal(c.bytes, "x", 1);
    print_message("%u names made and %u removed while it moved three times\n", w.made, w.removed);
    two_fini(&t);
}

/* Where a commit is lost, or the process that moves it, the drive may be whole in two places. */
static void a_move_that_ended_between_its_commits_leaves_nothing_in_use(void **state)
{
    struct two t;
    struct fixture *f = *state;
    struct pending_row p = {.drive = f->drive.id, .user = f->user.id, .chunk = {.hash = hash_of("x"), .size = 1, .stored_size = 1, .pack = "pack/x"}, .expires = 1}, over[2];
    struct upload_row u = {.user = f->user.id, .drive = f->drive.id, .parent = 1, .name = "a", .chunk_size = 1, .state = 'a', .expires = 1000}, found;
    unsigned n;
    two_init(&t, f);
    fill(f);
    uuid_new(&u.id);
    assert_int_equal(CALL(f, pendings_add, &p, 1), 0);
    assert_int_equal(CALL(f, upload_add, &u), 0);
    fresh_meta_sql(f->url, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the commit'; END $$;"
                    "CREATE CONSTRAINT TRIGGER refuse AFTER DELETE ON drive DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()");
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "two"), -EIO);
    assert_int_equal(CALL(f, pendings_over, 2, 2, over, &n), 0);
    assert_int_equal(n, 1);
    u.state = 'c';
    assert_int_equal(CALL(f, upload_update, NULL, &u), 0);
    assert_int_equal(CALL(f, upload_get, &u.id, &found), 0);
    assert_int_equal(found.state, 'c');
    upload_row_fini(&found);
    fresh_meta_sql(f->url, "DROP TRIGGER refuse ON drive");
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "two"), 0);
    assert_int_equal(CALL(f, upload_get, &u.id, &found), 0);
    assert_int_equal(found.state, 'c');
    upload_row_fini(&found);
    two_fini(&t);
}

/* It has left, and not arrived. */
static void a_move_that_ended_between_two_shards_is_finished_first(void **state)
{
    struct two t;
    struct fixture *f = *state;
    struct entry_row e;
    int n = 0;
    two_init(&t, f);
    fill(f);
    assert_int_equal(CALL(f, drives_each, count, &n), 0); /* the second's tables are there */
    fresh_meta_sql(t.second.url, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it arrives'; END $$;"
                          "CREATE TRIGGER refuse BEFORE INSERT ON drive FOR EACH ROW EXECUTE FUNCTION refuse()");
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "two"), -EIO);
    n = 0;
    assert_int_equal(CALL(f, drives_each, count, &n), 0); /* an admin finds it */
    assert_int_equal(n, 1);
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "main"), -EIO);
    fresh_meta_sql(t.second.url, "DROP TRIGGER refuse ON drive");
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "main"), 0); /* where it seemed to be */
    struct meta_tx *tx = snapshot(f);
    assert_int_equal(IN(tx, entry, 1, "before", 0, &e), 0);
    done(tx);
    two_fini(&t);
}

/* ---- what is written beside the drive's lock ---- */

static int add_pending(struct fixture *f)
{
    struct pending_row p = {.drive = f->drive.id, .user = f->user.id, .chunk = {.hash = hash_of("x"), .size = 1, .stored_size = 1, .pack = "pack/x"}, .expires = 1};
    return CALL(f, pendings_add, &p, 1);
}

static int add_upload(struct fixture *f)
{
    struct upload_row u = {.user = f->user.id, .drive = f->drive.id, .parent = 1, .name = "a", .chunk_size = 1, .state = 'a', .expires = 1000};
    uuid_new(&u.id);
    return CALL(f, upload_add, &u);
}

static int add_mount(struct fixture *f)
{
    struct mount_row r = {.drive = f->drive.id, .user = f->user.id, .gateway = f->user.id};
    uuid_new(&r.session);
    return CALL(f, mount_put, &r);
}

static int add_cursor(struct fixture *f)
{
    return CALL(f, cursor_put, &f->drive.id, "c", 1);
}

static int add_chunk(struct fixture *f)
{
    struct chunk_row c = {.hash = hash_of("y"), .size = 1, .stored_size = 1, .bytes = "y"};
    return CALL(f, chunks_add, &f->drive.id, &c, 1);
}

struct beside {
    struct fixture *f;
    int (*add)(struct fixture *f);
    pthread_t thread;
    int err;
};

static void *add_beside(void *arg)
{
    struct beside *b = arg;
    b->err = b->add(b->f);
    return NULL;
}

static int64_t count_there(const char *url)
{
    PGconn *c = PQconnectdb(url);
    PGresult *res = PQexec(c, "SELECT (SELECT count(*) FROM pending_pack) + (SELECT count(*) FROM upload_session) + (SELECT count(*) FROM mount) + (SELECT count(*) FROM cursor) "
                              "+ (SELECT count(*) FROM chunk)");
    int64_t n = strtoll(PQgetvalue(res, 0, 0), NULL, 10);
    PQclear(res);
    PQfinish(c);
    return n;
}

/* The move is done by hand here, so that it takes its time under the lock. */
static void what_is_written_beside_the_lock_goes_along(void **state)
{
    struct two t;
    struct fixture *f = *state;
    struct beside beside[] = {{f, add_pending, 0, 0}, {f, add_upload, 0, 0}, {f, add_mount, 0, 0}, {f, add_cursor, 0, 0}, {f, add_chunk, 0, 0}};
    two_init(&t, f);
    add_elsewhere(f, "b"); /* the second is known */
    PGconn *mover = PQconnectdb(f->url);
    PQclear(PQexec(mover, "BEGIN; SELECT 1 FROM drive WHERE name = 'home' FOR UPDATE; UPDATE placement SET shard = 'two' WHERE name = 'home'"));
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(pthread_create(&beside[i].thread, NULL, add_beside, &beside[i]), 0);
    usleep(300000);
    char id[UUID_TEXT];
    uuid_text(&f->drive.id, id);
    CLEANUP_FREE char *arrives = mem_printf("INSERT INTO drive SELECT '%s', '%s', 'home', 1, 7, 0, 0, 1, 2, 0, 0, '', 0, 0", id, id);
    fresh_meta_sql(t.second.url, arrives);
    PQclear(PQexec(mover, "DELETE FROM drive WHERE name = 'home'; COMMIT"));
    for (size_t i = 0; i < 5; i++) {
        pthread_join(beside[i].thread, NULL);
        assert_int_equal(beside[i].err, 0);
    }
    PQfinish(mover);
    assert_int_equal(count_there(f->url), 0);
    assert_int_equal(count_there(t.second.url), 5);
    two_fini(&t);
}

struct mover {
    struct fixture *f;
    int err;
};

static void *move_to_two(void *arg)
{
    struct mover *m = arg;
    m->err = CALL(m->f, drive_move, &m->f->drive.id, "two");
    return NULL;
}

static void a_drive_has_one_move_at_a_time(void **state)
{
    struct two t;
    struct fixture *f = *state;
    struct meta *other; /* as a second admin's */
    CLEANUP_BUF struct buf b = {0};
    pthread_t thread;
    two_init(&t, f);
    fill(f);
    assert_int_equal(meta_open(f->url, &other), 0);
    struct mover m = {.f = f};
    assert_int_equal(pthread_create(&thread, NULL, move_to_two, &m), 0);
    while (strcmp(shards_of(f, &b), "main:0 two:1 ") != 0)
        usleep(10000);
    int back = other->ops->drive_move(other, &f->drive.id, "main"); /* while the first still has to clear up */
    pthread_join(thread, NULL);
    assert_int_equal(back, -EBUSY);
    assert_int_equal(m.err, 0);
    assert_int_equal(other->ops->drive_move(other, &f->drive.id, "two"), 0);
    other->ops->free(other);
    fixture_reopen(f);
    struct meta_tx *tx = snapshot(f);
    struct entry_row e;
    assert_int_equal(IN(tx, entry, 1, "before", 0, &e), 0);
    done(tx);
    two_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_drive_moves_while_it_is_written_to),
        TEST(a_drive_has_one_move_at_a_time),
        TEST(a_move_that_ended_between_its_commits_leaves_nothing_in_use),
        TEST(a_move_that_ended_between_two_shards_is_finished_first),
        TEST(what_is_written_beside_the_lock_goes_along),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
