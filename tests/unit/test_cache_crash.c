/* The content cache after an unclean end, against a gateway in memory: one story a test. */
#include "cache_fixture.h"

static int publish(struct content *c)
{
    return content_publish(c, NULL, 0, NULL, NULL, true);
}

static void wait_until_clean(void)
{
    struct store_status st = {.dirty_files = 1};
    for (int i = 0; i < 1000 && st.dirty_files; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        store_status(store, &st);
    }
    assert_int_equal(st.dirty_files, 0);
}

static void test_a_rekeyed_content_after_a_crash(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "base", 4, K64);
    struct content *c = open_content(&a);
    assert_wrote(c, "mine", 4, 0);
    gw_write(7, "theirs", 6, K64);
    assert_int_equal(publish(c), 0);
    uint64_t sibling = content_ino(c);
    assert_int_not_equal(sibling, 7);
    assert_wrote(c, "MINE", 4, 0);
    content_unref(c);
    crash();
    wait_until_clean();
    assert_at_gateway(sibling, "MINE", 4);
    assert_at_gateway(7, "theirs", 6);
    assert_int_equal(gw_last_ino(), sibling);
}

static void test_a_crash_with_dirty_chunks(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(4 * K64, 17), *zeros = mem_alloc(K64);
    struct attr a = gw_write(7, p, 4 * K64, K64);
    struct content *c = open_content(&a);
    assert_wrote(c, "dirty", 5, K64 + 7);
    assert_wrote(c, zeros, K64, 2 * K64); /* zeros that were written are not bytes that are absent */
    memcpy(p + K64 + 7, "dirty", 5);
    memset(p + 2 * K64, 0, K64);
    close_content(c);
    crash();
    c = open_content(&a);
    assert_reads(c, p, 4 * K64);
    close_content(c);
    wait_until_clean();
    assert_at_gateway(7, p, 4 * K64);
    assert_int_equal(gw_counts.conflicts, 0);
}

static void test_a_crash_right_after_a_commit(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "base", 4, K64);
    struct content *c = open_content(&a);
    assert_wrote(c, "new content", 11, 0);
    gw_lose_answer = true;
    assert_int_equal(publish(c), -EIO);
    close_content(c);
    crash();
    wait_until_clean();
    assert_int_equal(gw_counts.conflicts, 0);
    assert_at_gateway(7, "new content", 11);
}

static void test_clean_chunks_are_verified_after_a_crash(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(2 * M4, 18);
    struct attr a = gw_write(7, p, 2 * M4, M4);
    struct content *c = open_content(&a);
    assert_reads(c, p, 2 * M4);
    close_content(c);
    reopen();
    crash();
    CLEANUP_FREE char *path = mem_printf("%s/content/07/7", dir);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damaged", 7, 100), 7); /* what the machine lost when it went down */
    close(fd);
    gw_reset_counts();
    c = open_content(&a);
    assert_reads(c, p, 2 * M4);
    assert_int_equal(gw_counts.gets, 1);
    close_content(c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_rekeyed_content_after_a_crash),
        T(a_crash_with_dirty_chunks),
        T(a_crash_right_after_a_commit),
        T(clean_chunks_are_verified_after_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
