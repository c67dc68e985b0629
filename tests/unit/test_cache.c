/* The content cache writing, against a gateway in memory: one story a test. */
#include "cache_fixture.h"

static int publish(struct content *c)
{
    return content_publish(c, NULL, 0, NULL, NULL, true);
}

static void test_a_small_commit_is_one_batch(void **state)
{
    (void)state;
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    assert_wrote(c, "hello", 5, 0);
    assert_reads(c, "hello", 5);
    struct op_result res;
    assert_int_equal(content_publish(c, NULL, 0, NULL, &res, true), 0);
    assert_int_equal(res.version, content_version(c));
    op_result_fini(&res);
    assert_at_gateway(7, "hello", 5);
    assert_int_equal(gw_counts.batches, 1);
    assert_int_equal(gw_counts.puts + gw_counts.asks + gw_counts.reads, 0);
    bool dirty;
    content_stat(c, NULL, NULL, &dirty);
    assert_false(dirty);
    assert_string_equal(content_state(c, NULL), "clean");
    assert_int_equal(publish(c), 0);
    assert_int_equal(gw_counts.batches, 1);
    close_content(c);
}

static void test_one_byte_of_a_large_file(void **state)
{
    (void)state;
    size_t size = 6 * M4;
    CLEANUP_FREE uint8_t *p = pattern(size, 10);
    struct attr a = gw_write(7, p, size, M4);
    struct content *c = open_content(&a);
    p[2 * M4 + 9] = 0;
    assert_wrote(c, &p[2 * M4 + 9], 1, 2 * M4 + 9);
    assert_int_equal(publish(c), 0);
    assert_int_equal(gw_counts.gets, 1);
    assert_int_equal(gw_counts.puts, 1);
    assert_at_gateway(7, p, size);
    close_content(c);
}

static void test_a_large_file_is_sent_while_it_is_written(void **state)
{
    (void)state;
    size_t size = 5 * M4 + 1000;
    CLEANUP_FREE uint8_t *p = pattern(size, 11);
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    for (size_t off = 0; off < size; off += 128u << 10)
        assert_wrote(c, p + off, size - off < (128u << 10) ? size - off : 128u << 10, off);
    struct store_status st;
    for (int i = 0; i < 2000; i++) {
        store_status(store, &st);
        if (st.uploaded_bytes == 5 * M4)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    assert_int_equal(st.uploaded_bytes, 5 * M4);
    assert_int_equal(gw_counts.batches, 0);
    assert_int_equal(publish(c), 0);
    assert_int_equal(gw_counts.puts, 5);
    assert_at_gateway(7, p, size);
    close_content(c);
}

static void test_known_chunks_are_not_sent(void **state)
{
    (void)state;
    size_t size = 3 * M4;
    CLEANUP_FREE uint8_t *p = pattern(size, 12);
    gw_write(6, p, size, M4);
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    assert_wrote(c, p, size, 0);
    assert_int_equal(publish(c), 0);
    assert_int_equal(gw_counts.puts, 0);
    assert_at_gateway(7, p, size);
    close_content(c);
}

static void test_chunks_that_went_missing_are_sent_again(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(2 * M4, 13);
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    assert_wrote(c, p, 2 * M4, 0);
    gw_refuse = -EDQUOT;
    assert_int_equal(publish(c), -EDQUOT); /* by now the chunks are there */
    assert_int_equal(gw_counts.puts, 2);
    gw_forget_chunks();
    assert_int_equal(publish(c), 0);
    assert_int_equal(gw_counts.puts, 4);
    assert_at_gateway(7, p, 2 * M4);
    close_content(c);
}

static void test_a_cut_tail_never_comes_back(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(4 * K64, 14), *want = mem_alloc(4 * K64);
    struct attr a = gw_write(7, p, 4 * K64, K64);
    struct content *c = open_content(&a);
    assert_int_equal(content_truncate(c, K64 + 100), 0);
    assert_int_equal(content_truncate(c, 4 * K64), 0);
    memcpy(want, p, K64 + 100);
    assert_reads(c, want, 4 * K64);
    assert_int_equal(publish(c), 0);
    assert_at_gateway(7, want, 4 * K64);
    assert_reads(c, want, 4 * K64);
    close_content(c);
}

static void test_extra_operations(void **state)
{
    (void)state;
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    struct op extra[2] = {{.kind = OP_SETATTR, .ino = 7, .set = SET_MODE}, {.kind = OP_RMDIR, .parent = 1, .name = (char *)"full"}};
    struct op_result res_extra[2], res;
    assert_wrote(c, "abc", 3, 0);
    assert_int_equal(content_publish(c, extra, 1, res_extra, &res, false), 0);
    assert_int_equal(gw_counts.batches, 1);
    op_result_fini(&res);
    assert_wrote(c, "xyz", 3, 0);
    assert_int_equal(content_publish(c, extra, 2, res_extra, &res, false), 0); /* the second one fails: the content is committed all the same */
    assert_int_equal(res_extra[0].error, 0);
    assert_int_equal(res_extra[1].error, -ENOTEMPTY);
    assert_int_equal(res.error, 0);
    op_result_fini(&res);
    assert_at_gateway(7, "xyz", 3);
    close_content(c);
}

static void test_a_stale_base_is_a_conflict(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "base", 4, K64);
    struct content *c = open_content(&a);
    assert_wrote(c, "mine!", 5, 0);
    struct attr theirs = gw_write(7, "theirs", 6, K64);
    assert_false(content_remote_changed(c, &theirs, 0, 6));
    assert_reads(c, "mine!", 5);
    assert_int_equal(publish(c), 0);
    uint64_t sibling = gw_last_ino();
    assert_int_equal(content_ino(c), sibling);
    assert_string_equal(content_state(c, NULL), "conflict");
    assert_at_gateway(7, "theirs", 6);
    assert_at_gateway(sibling, "mine!", 5);
    struct content *d = open_content(&theirs);
    assert_ptr_not_equal(c, d);
    assert_reads(d, "theirs", 6);
    assert_wrote(c, "MINE", 4, 0);
    assert_int_equal(publish(c), 0);
    assert_at_gateway(sibling, "MINE!", 5);
    close_content(c);
    close_content(d);
    reopen();
    a = gw_attr(sibling);
    c = open_content(&a);
    assert_reads(c, "MINE!", 5);
    close_content(c);
}

static void test_late_appends_go_behind(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(K64 - 3, 15);
    struct attr a = gw_write(7, p, K64 - 3, K64);
    struct content *c = open_content(&a);
    assert_appended(c, "one");
    assert_appended(c, "two");
    gw_append(7, "theirs", 6);
    assert_int_equal(publish(c), 0);
    assert_int_equal(gw_counts.late_appends, 1);
    assert_int_equal(gw_counts.conflicts, 0);
    CLEANUP_FREE uint8_t *want = mem_alloc(K64 + 20);
    memcpy(want, p, K64 - 3);
    memcpy(want + K64 - 3, "theirsonetwo", 12);
    assert_at_gateway(7, want, K64 + 9);
    assert_reads(c, want, K64 + 9);
    gw_append(7, "again", 5);
    assert_appended(c, "three");
    assert_int_equal(publish(c), 0);
    memcpy(want + K64 + 9, "againthree", 10);
    assert_reads(c, want, K64 + 19);
    assert_at_gateway(7, want, K64 + 19);
    close_content(c);
}

static void test_an_answer_that_was_lost(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "base", 4, K64);
    struct content *c = open_content(&a);
    assert_wrote(c, "first", 5, 0);
    gw_lose_answer = true;
    assert_int_equal(publish(c), -EIO);
    assert_wrote(c, "SECOND", 6, 2);
    assert_int_equal(publish(c), 0);
    assert_int_equal(gw_counts.conflicts, 0);
    assert_at_gateway(7, "fiSECOND", 8);
    close_content(c);
}

static void test_late_pages_are_committed_by_themselves(void **state)
{
    (void)state;
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    assert_wrote(c, "late", 4, 0);
    close_content(c);
    for (int i = 0; i < 500 && gw_attr(7).version == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_at_gateway(7, "late", 4);
}

static void test_writeback(void **state)
{
    (void)state;
    store_close(store);
    open_store(UINT64_C(1) << 30, true);
    gw_away = true;
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    assert_wrote(c, "soon", 4, 0);
    assert_int_equal(publish(c), 0);
    close_content(c);
    gw_away = false;
    for (int i = 0; i < 500 && gw_attr(7).version == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_at_gateway(7, "soon", 4);
}

static void test_fallocate(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(4 * K64, 16);
    struct attr a = gw_write(7, p, 4 * K64, K64);
    struct content *c = open_content(&a);
    assert_int_equal(content_fallocate(c, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, K64 / 2, 2 * K64), 0);
    memset(p + K64 / 2, 0, 2 * K64);
    assert_int_equal(content_fallocate(c, FALLOC_FL_COLLAPSE_RANGE, 0, K64), -EOPNOTSUPP);
    assert_int_equal(content_fallocate(c, FALLOC_FL_PUNCH_HOLE, 0, K64), -EOPNOTSUPP);
    assert_reads(c, p, 4 * K64);
    assert_int_equal(content_seek(c, K64, SEEK_DATA), 2 * K64 + K64 / 2);
    assert_int_equal(publish(c), 0);
    assert_at_gateway(7, p, 4 * K64);
    assert_int_equal(content_seek(c, K64, SEEK_DATA), 2 * K64);
    assert_int_equal(content_fallocate(c, 0, 0, 5 * K64), 0);
    assert_int_equal(content_fallocate(c, FALLOC_FL_ZERO_RANGE, 5 * K64 - 10, 20), 0);
    uint64_t size;
    content_stat(c, &size, NULL, NULL);
    assert_int_equal(size, 5 * K64 + 10);
    close_content(c);
}

static void test_a_deleted_inode_takes_its_writes_along(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "base", 4, K64);
    struct content *c = open_content(&a);
    assert_wrote(c, "lost", 4, 0);
    gw_delete(7);
    assert_int_equal(publish(c), -ENOENT);
    close_content(c);
    struct store_status st = {.dirty_files = 1};
    for (int i = 0; i < 500 && st.dirty_files; i++) {
        store_status(store, &st);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    assert_int_equal(st.dirty_files, 0);
}

static void test_what_was_unlinked_is_dropped(void **state)
{
    (void)state;
    struct attr a = gw_create(7);
    struct content *c = open_content(&a);
    assert_wrote(c, "temporary", 9, 0);
    content_unlinked(c);
    assert_reads(c, "temporary", 9);
    close_content(c);
    struct store_status st = {.dirty_files = 1};
    for (int i = 0; i < 500 && st.dirty_files; i++) {
        store_status(store, &st);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    assert_int_equal(st.dirty_files, 0);
    assert_int_equal(gw_counts.batches, 0);
    store_status(store, &st);
    assert_int_equal(st.cached_bytes, 0);
}

static void test_writeback_keeps_the_order_while_away(void **state)
{
    (void)state;
    store_close(store);
    open_store(UINT64_C(1) << 30, true);
    gw_away = true;
    struct attr a[5];
    struct op extra = {.kind = OP_SETATTR, .set = SET_MODE};
    for (unsigned i = 0; i < 5; i++) {
        a[i] = gw_create(10 + i);
        struct content *c = open_content(&a[i]);
        assert_wrote(c, "x", 1, 0);
        extra.ino = 10 + i;
        assert_int_equal(content_publish(c, &extra, 1, NULL, NULL, true), 0);
        close_content(c);
    }
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    gw_away = false;
    for (int i = 0; i < 1000 && gw_attr(14).version == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    for (unsigned i = 0; i < 4; i++)
        assert_true(gw_attr(10 + i).version && gw_attr(10 + i).version < gw_attr(11 + i).version);
}

/* On a disk of 4 MiB: what can be fetched again gives way, what cannot is refused. */
static void test_a_full_disk(void **state)
{
    (void)state;
    char before[sizeof dir];
    strcpy(before, dir);
    char disk[80];
    snprintf(disk, sizeof disk, "%s/disk", before);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (mount("none", disk, "tmpfs", 0, "size=4m")) { /* only root may */
        skip();
        return;
    }
    store_close(store);
    strcpy(dir, disk);
    open_store(UINT64_C(1) << 30, false);
    CLEANUP_FREE uint8_t *p = pattern(8 << 20, 20);
    struct attr a = gw_write(7, p, 8 << 20, K64), b = gw_create(8);
    struct content *c = open_content(&a), *d = open_content(&b);
    assert_reads(c, p, 8 << 20);
    assert_wrote(d, p, 2 << 20, 0); /* in the place of what was read */
    gw_away = true; /* else what the gateway has of it gives way too, and it fits */
    uint64_t off = 2 << 20;
    ssize_t n = content_write(d, p, 6 << 20, &off, false);
    assert_true(n == -ENOSPC || n == -EIO || (n > 0 && n < 6 << 20));
    gw_away = false;
    assert_int_equal(content_truncate(d, 1000), 0);
    assert_int_equal(publish(d), 0);
    assert_at_gateway(8, p, 1000);
    assert_reads(c, p, 8 << 20);
    close_content(c);
    close_content(d);
    store_close(store);
    assert_int_equal(umount(disk), 0);
    strcpy(dir, before);
    open_store(UINT64_C(1) << 30, false);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_small_commit_is_one_batch),
        T(one_byte_of_a_large_file),
        T(a_large_file_is_sent_while_it_is_written),
        T(known_chunks_are_not_sent),
        T(chunks_that_went_missing_are_sent_again),
        T(a_cut_tail_never_comes_back),
        T(extra_operations),
        T(a_stale_base_is_a_conflict),
        T(late_appends_go_behind),
        T(an_answer_that_was_lost),
        T(late_pages_are_committed_by_themselves),
        T(writeback),
        T(fallocate),
        T(a_deleted_inode_takes_its_writes_along),
        T(what_was_unlinked_is_dropped),
        T(writeback_keeps_the_order_while_away),
        T(a_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
