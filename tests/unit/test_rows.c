#include "gateway/core/rows.h"
#include "common/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000000)

static struct rows *open_rows(void)
{
    struct drive_row drive = {.root = 1, .seq = 100, .next_ino = 1000, .last_time = 50 * SECOND};
    return rows_new(&drive, 60 * SECOND);
}

static struct inode_row file_row(uint64_t ino, int64_t born_at)
{
    return (struct inode_row){.attr = {.ino = ino, .mode = S_IFREG | 0644, .nlink = 1, .size = 7}, .born = 20, .born_at = born_at};
}

static void wants_are_asked_once_and_then_known(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    struct inode_row *i;
    struct dentry_row *d;
    assert_int_equal(rows_inode(r, 5, &i), -EAGAIN);
    assert_int_equal(rows_inode(r, 5, &i), -EAGAIN);
    assert_int_equal(rows_dentry(r, 1, "a", &d), -EAGAIN);
    assert_int_equal(rows_dentry(r, 1, "b", &d), -EAGAIN);
    assert_int_equal(r->n_wants, 3);
    assert_int_equal(r->wants[1].kind, WANT_DENTRY);
    assert_string_equal(r->wants[1].name, "a");
    rows_put_dentry(r, &(struct dentry_row){.parent = 1, .ino = 5, .born = 9, .name = "a"});
    rows_wants_done(r);
    assert_int_equal(r->n_wants, 0);
    assert_int_equal(rows_inode(r, 5, &i), -ENOENT);
    assert_int_equal(rows_dentry(r, 1, "a", &d), 0);
    assert_int_equal(d->ino, 5);
    assert_int_equal(rows_dentry(r, 1, "b", &d), 0);
    assert_int_equal(d->ino, 0);
    assert_string_equal(d->name, "b");
    rows_free(r);
}

static void time_never_runs_backwards(void **state)
{
    (void)state;
    struct drive_row drive = {.last_time = 70 * SECOND};
    struct rows *r = rows_new(&drive, 60 * SECOND);
    assert_int_equal(r->now, 70 * SECOND);
    rows_free(r);
}

static void history_keeps_a_state_only_across_seconds(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    struct inode_row *old, *recent;
    struct inode_row a = file_row(5, 30 * SECOND), b = file_row(6, 60 * SECOND + 5);
    rows_put_inode(r, &a);
    rows_put_inode(r, &b);
    rows_inode(r, 5, &old);
    rows_inode(r, 6, &recent);
    rows_inode_touch(r, old, 101);
    old->attr.size = 8;
    rows_inode_touch(r, old, 102); /* again, within the same transaction: one past only */
    old->attr.size = 9;
    rows_inode_touch(r, recent, 103);
    assert_true(old->has_past);
    assert_int_equal(old->past.size, 7);
    assert_int_equal(old->past_born, 20);
    assert_int_equal(old->past_died, 101);
    assert_int_equal(old->born, 101);
    assert_false(recent->has_past);
    assert_int_equal(recent->born, 20);
    assert_ptr_equal(r->dirty_inodes, recent);
    assert_ptr_equal(recent->next_dirty, old);
    assert_null(old->next_dirty);
    rows_free(r);
}

static void names_of_an_inode_follow_changes(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    struct dentry_row *a, *b;
    const struct dentry_row *e;
    assert_int_equal(rows_entry_of(r, 5, &e), -EAGAIN);
    rows_put_entry_of(r, 5, &(struct dentry_row){.parent = 1, .ino = 5, .name = "a"});
    rows_wants_done(r);
    assert_int_equal(rows_entry_of(r, 5, &e), 0);
    assert_string_equal(e->name, "a");
    assert_int_equal(rows_dentry(r, 1, "a", &a), 0); /* it came along */
    rows_dentry_set(r, a, 0, 101);
    assert_int_equal(rows_entry_of(r, 5, &e), -ENOENT);
    assert_int_equal(rows_dentry(r, 1, "b", &b), -EAGAIN);
    rows_wants_done(r);
    assert_int_equal(rows_dentry(r, 1, "b", &b), 0);
    rows_dentry_set(r, b, 5, 102);
    assert_int_equal(rows_entry_of(r, 5, &e), 0);
    assert_string_equal(e->name, "b");
    assert_int_equal(r->n_dentry_events, 2);
    assert_true(r->dentry_events[0].dies);
    assert_int_equal(r->dentry_events[0].ino, 5);
    assert_false(r->dentry_events[1].dies);
    rows_free(r);
}

static void what_belongs_to_a_fresh_inode_is_known(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    struct inode_row *i;
    assert_int_equal(rows_inode(r, 7, &i), -EAGAIN);
    rows_wants_done(r);
    struct attr a = {.ino = 7, .mode = S_IFREG | 0600, .nlink = 1};
    rows_inode_add(r, &a, 101);
    struct xattr_row *x;
    const struct segment_row *g;
    const struct dentry_row *e;
    struct lock_row *locks;
    size_t n;
    assert_int_equal(rows_xattr(r, 7, "user.a", &x), 0);
    assert_null(x->value);
    assert_int_equal(rows_segment(r, 7, 0, ALIVE, &g), 0);
    assert_int_equal(g->version, 0);
    assert_int_equal(rows_entry_of(r, 7, &e), -ENOENT);
    assert_int_equal(rows_locks(r, 7, &locks, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(r->n_wants, 0);
    rows_free(r);
}

static void segments_answer_what_was_made_of_them(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    const struct segment_row *g;
    assert_int_equal(rows_segment(r, 5, 0, ALIVE, &g), -EAGAIN);
    assert_int_equal(rows_segment(r, 5, 1, ALIVE, &g), -EAGAIN);
    assert_int_equal(rows_segment(r, 5, 0, 40, &g), -EAGAIN);
    struct segment_row stored = {.ino = 5, .number = 0, .at = ALIVE, .version = 40};
    stored.chunks[0].len = 11;
    rows_put_segment(r, &stored);
    stored.at = 40;
    rows_put_segment(r, &stored);
    stored.number = 1;
    stored.at = ALIVE;
    rows_put_segment(r, &stored);
    rows_wants_done(r);

    struct chunk_ref chunks[SEGMENT_CHUNKS] = {0};
    chunks[0].len = 22;
    rows_segment_add(r, 5, 0, 101, chunks);
    rows_cut_add(r, 5, 102, 1);
    assert_int_equal(rows_segment(r, 5, 0, ALIVE, &g), 0);
    assert_int_equal(g->chunks[0].len, 22);
    assert_int_equal(rows_segment(r, 5, 1, ALIVE, &g), 0);
    assert_int_equal(g->chunks[0].len, 0);
    assert_int_equal(rows_segment(r, 5, 2, ALIVE, &g), 0); /* cut without having been loaded */
    assert_int_equal(rows_segment(r, 5, 0, 40, &g), 0);    /* the past stays */
    assert_int_equal(g->chunks[0].len, 11);
    chunks[0].len = 33;
    rows_segment_add(r, 5, 0, 103, chunks);
    assert_int_equal(rows_segment(r, 5, 0, 102, &g), 0); /* a version made within this transaction */
    assert_int_equal(g->chunks[0].len, 22);
    assert_int_equal(rows_segment(r, 5, 1, 101, &g), -EAGAIN); /* before the cut: the store's */
    rows_free(r);
}

static void chunks_that_come_along_are_known(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    struct chunk_row c = {.size = 3, .stored_size = 3, .bytes = (char *)"abc"};
    hash_bytes("abc", 3, &c.hash);
    assert_int_equal(rows_chunk(r, &c.hash), -EAGAIN);
    rows_wants_done(r);
    assert_int_equal(rows_chunk(r, &c.hash), -ENOENT);
    rows_chunk_add(r, &c);
    rows_chunk_add(r, &c);
    assert_int_equal(rows_chunk(r, &c.hash), 0);
    assert_int_equal(r->n_new_chunks, 1);
    rows_free(r);
}

static void xattrs_end_their_past(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    struct xattr_row *x, was = {.ino = 5, .name = "user.a", .value = (char *)"old", .len = 3, .born = 30, .born_at = SECOND};
    assert_int_equal(rows_xattr(r, 5, "user.a", &x), -EAGAIN);
    rows_put_xattr(r, &was);
    rows_wants_done(r);
    assert_int_equal(rows_xattr(r, 5, "user.a", &x), 0);
    rows_xattr_set(r, x, "new", 3, 101);
    rows_xattr_set(r, x, NULL, 0, 102);
    assert_null(x->value);
    assert_int_equal(x->past_born, 30);
    assert_int_equal(x->past_died, 101);
    assert_true(x->keep_past);
    assert_ptr_equal(r->dirty_xattrs, x);
    assert_null(x->next_dirty);
    rows_free(r);
}

static void released_sessions_lose_locks_loaded_later(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    struct lock_row two[2] = {{.ino = 5, .session.b = {1}, .end = 9}, {.ino = 5, .session.b = {2}, .end = 9}}, *locks;
    size_t n;
    rows_locks_release(r, &two[0].session);
    assert_int_equal(rows_locks(r, 5, &locks, &n), -EAGAIN);
    rows_put_locks(r, 5, two, 2);
    rows_wants_done(r);
    assert_int_equal(rows_locks(r, 5, &locks, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(locks[0].session.b[0], 2);
    rows_locks_set(r, 5, two, 2);
    rows_locks_release(r, &two[1].session);
    assert_int_equal(rows_locks(r, 5, &locks, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(r->n_released, 2);
    assert_int_equal(r->n_dirty_locks, 1);
    rows_free(r);
}

static void versions_made_and_unlisted_at_once(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    const struct version_row *v;
    rows_version_add(r, &(struct version_row){.ino = 5, .version = 101, .listed = true});
    rows_version_unlist(r, 5, 101);
    rows_version_unlist(r, 5, 90);
    assert_int_equal(rows_version(r, 5, 101, &v), 0);
    assert_false(v->listed);
    assert_false(r->new_versions[0].listed);
    assert_int_equal(r->n_unlisted, 1);
    assert_int_equal(r->unlisted[0].version, 90);
    rows_free(r);
}

static void versions_made_and_quarantined_at_once(void **state)
{
    (void)state;
    struct rows *r = open_rows();
    const struct version_row *v;
    rows_version_add(r, &(struct version_row){.ino = 5, .version = 101, .listed = true});
    rows_version_quarantine(r, 5, 101);
    assert_int_equal(rows_version(r, 5, 101, &v), 0);
    assert_true(v->quarantined);
    assert_true(r->new_versions[0].quarantined);
    assert_int_equal(r->n_quarantined, 0);
    rows_version_quarantine(r, 5, 90);
    assert_int_equal(r->n_quarantined, 1);
    assert_int_equal(r->quarantined[0].version, 90);
    rows_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wants_are_asked_once_and_then_known),
        cmocka_unit_test(time_never_runs_backwards),
        cmocka_unit_test(history_keeps_a_state_only_across_seconds),
        cmocka_unit_test(names_of_an_inode_follow_changes),
        cmocka_unit_test(what_belongs_to_a_fresh_inode_is_known),
        cmocka_unit_test(segments_answer_what_was_made_of_them),
        cmocka_unit_test(chunks_that_come_along_are_known),
        cmocka_unit_test(xattrs_end_their_past),
        cmocka_unit_test(released_sessions_lose_locks_loaded_later),
        cmocka_unit_test(versions_made_and_unlisted_at_once),
        cmocka_unit_test(versions_made_and_quarantined_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
