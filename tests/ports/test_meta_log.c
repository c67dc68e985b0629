/* The log of changes, cursors in it, and the batches that were applied. */
#include "tests/ports/meta_fixture.h"

/* ---- the log ---- */

static uint64_t change(struct fixture *f, char kind, const char *name, int seconds)
{
    struct step s = step_begin(f, seconds);
    struct change_row *c = rows_change_add(s.rows);
    *c = (struct change_row){.seq = s.seq, .kind = kind, .ino = 10, .parent = 1, .from_parent = 2, .version = 3, .user = f->user.id, .at = s.rows->now};
    strcpy(c->name, name);
    strcpy(c->from_name, "before");
    strcpy(c->device, "laptop");
    c->touch = mem_strdup("{\"seq\":1}");
    return step_end(&s);
}

static int add_change(void *ctx, const struct change_row *c)
{
    assert_string_equal(c->from_name, "before");
    assert_string_equal(c->touch, "{\"seq\":1}");
    assert_string_equal(c->device, "laptop");
    assert_int_equal(c->version, 3);
    buf_appendf(ctx, "%c%s ", c->kind, c->name);
    return 0;
}

static void changes_come_in_pages_and_are_trimmed(void **state)
{
    struct fixture *f = *state;
    uint64_t seq[5];
    const char kinds[] = "cmdmd";
    int64_t third = 0;
    for (int i = 0; i < 5; i++) {
        const char name[] = {(char)('1' + i), 0};
        seq[i] = change(f, kinds[i], name, 1);
        struct meta_tx *tx = snapshot(f);
        third = i == 2 ? tx->drive.last_time : third;
        done(tx);
    }
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(IN(tx, changes, 0, 2, add_change, &b), 0);
    assert_int_equal(IN(tx, changes, seq[1], 9, add_change, &b), 0);
    assert_string_equal(b.data, "c1 m2 d3 m4 d5 ");
    buf_fini(&b);
    assert_int_equal(IN(tx, deletions, ALIVE, 1, add_change, &b), 0);
    assert_int_equal(IN(tx, deletions, seq[4], 9, add_change, &b), 0);
    assert_string_equal(b.data, "d5 d3 ");
    done(tx);

    assert_int_equal(CALL(f, changes_trim, &f->drive.id, third, 0), 0);
    tx = snapshot(f);
    assert_int_equal(tx->drive.oldest_change, seq[1]);
    buf_fini(&b);
    assert_int_equal(IN(tx, changes, 0, 9, add_change, &b), 0);
    assert_string_equal(b.data, "d3 m4 d5 ");
    done(tx);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, 0, 10), 0);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, 0, 1), 0);
    tx = snapshot(f);
    assert_int_equal(tx->drive.oldest_change, seq[3]);
    done(tx);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, ALIVE, 0), 0);
    tx = snapshot(f);
    assert_int_equal(tx->drive.oldest_change, seq[4]);
    done(tx);
}

static void a_time_leads_to_a_seq(void **state)
{
    struct fixture *f = *state;
    struct meta_tx *tx = snapshot(f);
    int64_t made = tx->drive.last_time;
    done(tx);
    change(f, 'm', "a", 10);
    uint64_t ten = change(f, 'm', "b", 0), sixty = change(f, 'm', "c", 50);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, ALIVE, 0), 0); /* it does not take the log */
    const struct {
        int64_t at;
        uint64_t seq;
    } want[] = {{made - 2 * SECOND, 0}, {made, UINT64_C(1) << 40}, {made + 8 * SECOND, UINT64_C(1) << 40}, {made + 10 * SECOND, ten},
                {made + 30 * SECOND, ten}, {made + 60 * SECOND, sixty}, {made + 600 * SECOND, sixty}};
    tx = snapshot(f);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        uint64_t seq = 77;
        assert_int_equal(IN(tx, seq_at, want[i].at, &seq), 0);
        assert_int_equal(seq, want[i].seq);
    }
    done(tx);
}

static void cursors_stay(void **state)
{
    struct fixture *f = *state;
    uint64_t seq = 77;
    assert_int_equal(CALL(f, cursor_get, &f->drive.id, "one", &seq), 0);
    assert_int_equal(seq, 0);
    assert_int_equal(CALL(f, cursor_put, &f->drive.id, "one", 5), 0);
    assert_int_equal(CALL(f, cursor_put, &f->drive.id, "two", UINT64_C(1) << 62), 0);
    assert_int_equal(CALL(f, cursor_put, &f->drive.id, "one", 6), 0);
    fixture_reopen(f);
    assert_int_equal(CALL(f, cursor_get, &f->drive.id, "one", &seq), 0);
    assert_int_equal(seq, 6);
    assert_int_equal(CALL(f, cursor_get, &f->drive.id, "two", &seq), 0);
    assert_int_equal(seq, UINT64_C(1) << 62);
    struct uuid other;
    uuid_new(&other);
    assert_int_equal(CALL(f, cursor_get, &other, "one", &seq), 0);
    assert_int_equal(seq, 0);
}

static void a_batch_is_applied_once(void **state)
{
    struct fixture *f = *state;
    struct uuid journal;
    struct hash digest = hash_of("batch"), got;
    CLEANUP_BUF struct buf answer = {0};
    uint64_t last;
    uuid_new(&journal);
    struct step s = step_begin(f, 0);
    assert_int_equal(IN(s.tx, applied_last, &journal, &last), 0);
    assert_int_equal(last, 0);
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(IN(s.tx, applied_put, &journal, n, &digest, "{}", 2), 0);
    step_end(&s);
    s = step_begin(f, 0);
    int err = IN(s.tx, applied_put, &journal, 3, &digest, "{}", 2); /* a store may send it with the rest, and hear of it when it commits */
    step_store(&s);
    if (!err)
        err = s.tx->meta->ops->commit(s.tx);
    else
        done(s.tx);
    assert_int_equal(err, -EEXIST);
    s = step_begin(f, 0);
    assert_int_equal(IN(s.tx, applied_get, &journal, 2, &got, &answer), 0);
    assert_true(hash_equal(&got, &digest));
    assert_string_equal(answer.data, "{}");
    assert_int_equal(IN(s.tx, applied_get, &journal, 4, &got, &answer), -ENOENT);
    assert_int_equal(IN(s.tx, applied_confirm, &journal, 2), 0);
    assert_int_equal(IN(s.tx, applied_get, &journal, 2, &got, &answer), -ENOENT);
    assert_int_equal(IN(s.tx, applied_confirm, &journal, 3), 0);
    assert_int_equal(IN(s.tx, applied_last, &journal, &last), 0); /* however much was confirmed: the next is 4 */
    assert_int_equal(last, 3);
    step_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(changes_come_in_pages_and_are_trimmed),
        TEST(a_time_leads_to_a_seq),
        TEST(cursors_stay),
        TEST(a_batch_is_applied_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
