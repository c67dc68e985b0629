/* The replica: what is newer wins, and what is older than an invalidation is never believed, in whichever order the two arrive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mem.h"
#include "fusefs/cache/replica.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static struct attr file_attr(uint64_t ino, uint32_t mode)
{
    return (struct attr){.ino = ino, .mode = S_IFREG | mode, .nlink = 1};
}

static int look(struct replica *r, const char *name, struct attr *ret)
{
    struct node *n;
    int known = replica_lookup(r, replica_root(r), name, &n, ret);
    if (known == 1)
        replica_forget(r, replica_id(r, n), 1);
    return known;
}

static int setup(void **state)
{
    *state = replica_new(1);
    return 0;
}
static int teardown(void **state)
{
    replica_free(*state);
    return 0;
}

static void names_are_unknown_then_known(void **state)
{
    struct replica *r = *state;
    struct attr a = file_attr(7, 0644), got;
    assert_int_equal(look(r, "a", &got), -EAGAIN);
    assert_true(replica_fill_name(r, replica_root(r), "a", 10, &a, NULL));
    assert_true(replica_fill_name(r, replica_root(r), "b", 10, NULL, NULL));
    assert_int_equal(look(r, "a", &got), 1);
    assert_int_equal(got.ino, 7);
    assert_int_equal(look(r, "b", &got), 0);
    assert_int_equal(look(r, "c", &got), -EAGAIN);
}

static struct touch name_touch(uint64_t seq, const char *name)
{
    struct touch t = {.seq = seq, .n_names = 1};
    t.names[0].parent = 1;
    strcpy(t.names[0].name, name);
    return t;
}

static void an_answer_older_than_an_invalidation_is_refused(void **state)
{
    struct replica *r = *state;
    struct attr a = file_attr(7, 0644), got;
    struct touch t = name_touch(11, "a");
    replica_apply_touch(r, &t); /* while the answer of seq 10 is on its way */
    assert_false(replica_fill_name(r, replica_root(r), "a", 10, NULL, NULL));
    assert_int_equal(look(r, "a", &got), -EAGAIN);
    assert_true(replica_fill_name(r, replica_root(r), "a", 11, &a, NULL));
    t = (struct touch){.seq = 12, .n_inodes = 1, .inodes = {7}};
    replica_apply_touch(r, &t);
    assert_int_equal(look(r, "a", &got), -EAGAIN); /* its attributes are not known */
    assert_false(replica_fill_attr(r, replica_find(r, 7), 11, &a));
    assert_true(replica_fill_attr(r, replica_find(r, 7), 12, &a));
    assert_int_equal(look(r, "a", &got), 1);
}

static void a_negative_answer_is_invalidated_too(void **state)
{
    struct replica *r = *state;
    struct attr got;
    assert_true(replica_fill_name(r, replica_root(r), "a", 10, NULL, NULL));
    struct touch t = name_touch(11, "a");
    replica_apply_touch(r, &t);
    assert_int_equal(look(r, "a", &got), -EAGAIN);
}

static void a_complete_directory_answers_for_every_name(void **state)
{
    struct replica *r = *state;
    struct attr a = file_attr(7, 0644), got;
    struct listing l;
    assert_true(replica_fill_name(r, replica_root(r), "old", 5, &a, NULL)); /* gone by seq 10 */
    a.ino = 8;
    assert_true(replica_fill_name(r, replica_root(r), "a", 10, &a, NULL));
    assert_true(replica_fill_complete(r, replica_root(r), 10));
    assert_int_equal(look(r, "never", &got), 0);
    assert_int_equal(look(r, "old", &got), 0);
    assert_true(replica_listing(r, replica_root(r), &l));
    assert_int_equal(l.n, 1);
    assert_string_equal(l.entries[0].name, "a");
    listing_fini(&l);
    /* another made one: that name is unknown, so is the listing; the others are as known as before */
    struct touch t = name_touch(11, "new");
    replica_apply_touch(r, &t);
    assert_int_equal(look(r, "new", &got), -EAGAIN);
    assert_int_equal(look(r, "never", &got), 0);
    assert_false(replica_listing(r, replica_root(r), &l));
    assert_false(replica_fill_complete(r, replica_root(r), 10)); /* pages of before */
}

static void own_operations_are_known_at_once(void **state)
{
    struct replica *r = *state;
    struct attr got;
    struct op op = {.kind = OP_CREATE, .ino = 9, .parent = 1, .name = (char *)(uintptr_t) "dir"};
    struct op_result res = {.seq = 20, .ino = 9, .n_attrs = 1, .n_names = 1};
    res.attrs[0] = (struct attr){.ino = 9, .mode = S_IFDIR | 0755, .nlink = 2};
    res.names[0].parent = 1;
    res.names[0].ino = 9;
    strcpy(res.names[0].name, "dir");
    replica_apply_result(r, &op, &res);
    assert_int_equal(look(r, "dir", &got), 1);
    struct listing l;
    assert_true(replica_listing(r, replica_find(r, 9), &l)); /* what this mount made is empty, and it knows */
    listing_fini(&l);
    struct touch t = name_touch(20, "dir"); /* heard of again while catching up */
    replica_apply_touch(r, &t);
    assert_int_equal(look(r, "dir", &got), 1);
    t = name_touch(21, "dir");
    replica_apply_touch(r, &t);
    assert_int_equal(look(r, "dir", &got), -EAGAIN);
}

static void nothing_survives_emptying(void **state)
{
    struct replica *r = *state;
    struct attr a = file_attr(7, 0644), got;
    assert_true(replica_fill_name(r, replica_root(r), "a", 10, &a, NULL));
    replica_empty(r, 30);
    assert_int_equal(look(r, "a", &got), -EAGAIN);
    assert_false(replica_fill_name(r, replica_root(r), "a", 29, &a, NULL));
    assert_true(replica_fill_name(r, replica_root(r), "a", 30, &a, NULL));
}

static void a_conflict_renumbers_the_node_that_is_held(void **state)
{
    struct replica *r = *state;
    struct attr a = file_attr(7, 0644), sibling = file_attr(70, 0600), got;
    struct node *n;
    assert_true(replica_fill_name(r, replica_root(r), "a", 10, &a, &n));
    replica_lock(r);
    replica_need(r, 70);
    replica_unlock(r);
    assert_true(replica_fill_attr(r, replica_find(r, 70), 11, &sibling));
    replica_renumber(r, 7, 70);
    assert_int_equal(n->ino, 70);
    assert_true(replica_attr(r, n, &got));
    assert_int_equal(got.mode & 07777, 0600);
    assert_int_equal(look(r, "a", &got), -EAGAIN); /* the name is looked up anew */
    replica_forget(r, replica_id(r, n), 1);
}

static void spare_nodes_are_bounded(void **state)
{
    struct replica *r = *state;
    for (uint64_t i = 2; i < REPLICA_SPARE + 1000; i++) {
        struct attr a = file_attr(i, 0644);
        char name[32];
        snprintf(name, sizeof name, "f%llu", (unsigned long long)i);
        assert_true(replica_fill_name(r, replica_root(r), name, 10, &a, NULL));
    }
    assert_true(replica_count(r) <= REPLICA_SPARE + 1);
}

static void touches_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"{}", "{\"seq\":1,\"names\":[{}]}", "{\"seq\":1,\"content\":{\"ino\":1}}",
        "{\"seq\":1,\"content\":{\"ino\":1,\"version\":2,\"from\":0,\"to\":1,\"size\":1}}", "{\"seq\":1,\"inodes\":[1,2,3,4,5,6,7,8,9]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *o = json_loads(bad[i], 0, NULL);
        struct touch t;
        assert_int_equal(touch_from_json(o, &t), -EINVAL);
        json_decref(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_are_unknown_then_known, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_older_than_an_invalidation_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_negative_answer_is_invalidated_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_complete_directory_answers_for_every_name, setup, teardown),
        cmocka_unit_test_setup_teardown(own_operations_are_known_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_survives_emptying, setup, teardown),
        cmocka_unit_test_setup_teardown(a_conflict_renumbers_the_node_that_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(spare_nodes_are_bounded, setup, teardown),
        cmocka_unit_test(touches_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
