/* The domain over the real store answers what it answers over plain arrays: every row that an operation depends on comes back as it went in. */
#include "../unit/fake_meta.h"
#include "../unit/random_ops.h"
#include "common/clock.h"
#include "tests/ports/fresh_meta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#define GROUP 10

struct one {
    struct random_op random;
    struct drive_work work;
    struct op op;
    struct op_result result;
};

static void ignore(struct drive_work *w)
{
    (void)w;
}
static void at_once(void *pool, void (*fn)(void *), void *arg)
{
    (void)pool;
    fn(arg);
}

static void make(struct one *one, const struct uuid *drive)
{
    one->work = (struct drive_work){.drive = *drive, .ops = &one->op, .n_ops = 1, .results = &one->result, .done = ignore};
    random_op_into(&one->random, &one->work);
}

/* Times are each store's own. */
static void without_times(struct op_result *r)
{
    for (uint32_t i = 0; i < r->n_attrs; i++)
        r->attrs[i].atime = r->attrs[i].mtime = r->attrs[i].ctime = r->attrs[i].btime = 0;
}

static void assert_same_result(struct op_result *a, struct op_result *b)
{
    without_times(a);
    without_times(b);
    CLEANUP_JSON json_t *x = op_result_to_json(a), *y = op_result_to_json(b);
    json_object_del(x, "conflict"); /* the name tells the time */
    json_object_del(y, "conflict");
    assert_int_equal(a->conflict_parent, b->conflict_parent);
    if (a->conflict_parent) {
        json_object_del(x, "names");
        json_object_del(y, "names");
    }
    CLEANUP_BUF struct buf left = {0}, right = {0};
    char *dump = json_dumps(x, JSON_COMPACT | JSON_SORT_KEYS);
    buf_append_str(&left, dump);
    free(dump);
    dump = json_dumps(y, JSON_COMPACT | JSON_SORT_KEYS);
    buf_append_str(&right, dump);
    free(dump);
    assert_string_equal(left.data, right.data);
    op_result_fini(a);
    op_result_fini(b);
}

/* The new drive's first free seq and inode number, as the fake store begins with them. */
static void align(struct meta *m, const struct uuid *drive, struct fake_drive *fake)
{
    struct meta_tx *tx;
    assert_int_equal(m->ops->snapshot(m, drive, &tx), 0);
    fake->store.drive.seq = tx->drive.seq;
    fake->store.drive.next_ino = tx->drive.next_ino;
    assert_int_equal(tx->drive.root, 1);
    m->ops->rollback(tx);
}

static void random_operations(void **state)
{
    (void)state;
    const char *given = getenv("CAIRN_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    printf("seed %u\n", seed);
    struct fresh_meta fresh;
    struct meta *store;
    fresh_meta_init(&fresh);
    assert_int_equal(meta_open(fresh.url, &store), 0);
    struct user_row user = {.name = "u", .password_hash = (char *)"x"};
    struct drive_row drive = {.name = "d", .root = 1};
    uuid_new(&user.id);
    drive.owner = user.id;
    assert_int_equal(store->ops->user_add(store, &user), 0);
    uuid_new(&drive.id);
    assert_int_equal(store->ops->drive_add(store, &drive), 0);
    uint64_t first;
    assert_int_equal(store->ops->inodes_reserve(store, &drive.id, 2000, &first), 0);

    struct fake_meta fake;
    fake_meta_init(&fake);
    align(store, &drive.id, &fake.drives[0]);
    struct drive_queues *real_queue = drive_queues_new(store, at_once, NULL, NULL);
    struct drive_queues *fake_queue = drive_queues_new(&fake.meta, at_once, NULL, NULL);
    static const struct uuid fake_id = {{0}};
    static struct one real[GROUP], model[GROUP];
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < GROUP; i++) {
            random_op(&seed, first + (uint64_t)round, &real[i].random);
            model[i].random = real[i].random;
            make(&real[i], &drive.id);
            make(&model[i], &fake_id);
            drive_queues_submit(real_queue, &real[i].work);
            drive_queues_submit(fake_queue, &model[i].work);
            assert_int_equal(real[i].work.error, 0);
            assert_same_result(&real[i].result, &model[i].result);
        }
    }
    align(store, &drive.id, &fake.drives[1]);
    assert_int_equal(fake.drives[1].store.drive.seq, fake.drives[0].store.drive.seq);
    assert_int_equal(fake.drives[1].store.drive.next_ino, fake.drives[0].store.drive.next_ino);
    drive_queues_free(real_queue);
    drive_queues_free(fake_queue);
    fake_meta_fini(&fake);
    store->ops->free(store);
    fresh_meta_fini(&fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_operations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
