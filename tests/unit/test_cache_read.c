/* The content cache reading, against a gateway in memory: one story a test. */
#include "cache_fixture.h"

static void test_small_file_is_one_request(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(5000, 1);
    struct attr a = gw_write(7, p, 5000, M4);
    struct content *c = open_content(&a);
    assert_reads(c, p, 5000);
    assert_reads(c, p, 5000);
    assert_int_equal(gw_counts.reads, 1);
    assert_int_equal(gw_counts.gets, 0);
    close_content(c);
}

static void test_large_file_is_fetched_chunk_by_chunk(void **state)
{
    (void)state;
    size_t size = 5 * M4 + 77;
    CLEANUP_FREE uint8_t *p = pattern(size, 2);
    struct attr a = gw_write(7, p, size, M4);
    struct content *c = open_content(&a);
    uint8_t got[10];
    assert_int_equal(content_read(c, got, 10, 3 * M4 + 5), 10);
    assert_memory_equal(got, p + 3 * M4 + 5, 10);
    assert_int_equal(gw_counts.gets, 1);
    assert_reads(c, p, size);
    assert_int_equal(gw_counts.gets, 5); /* the last one came with the map */
    close_content(c);
}

static void test_holes_need_no_bytes(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = mem_alloc(8 * K64);
    p[5 * K64 + 3] = 9;
    struct attr a = gw_write(7, p, 8 * K64, K64);
    struct content *c = open_content(&a);
    assert_reads(c, p, 8 * K64);
    assert_int_equal(content_seek(c, 0, SEEK_DATA), 5 * K64);
    assert_int_equal(content_seek(c, 5 * K64, SEEK_HOLE), 6 * K64);
    assert_int_equal(content_seek(c, 6 * K64, SEEK_DATA), -ENXIO);
    assert_int_equal(content_seek(c, 8 * K64, SEEK_HOLE), -ENXIO);
    struct store_status st;
    store_status(store, &st);
    assert_int_equal(st.cached_bytes, K64);
    close_content(c);
}

static void test_a_remount_finds_what_was_cached(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(3 * K64, 3);
    struct attr a = gw_write(7, p, 3 * K64, K64);
    struct content *c = open_content(&a);
    assert_reads(c, p, 3 * K64);
    close_content(c);
    reopen();
    gw_away = true;
    c = open_content(&a);
    assert_reads(c, p, 3 * K64);
    gw_away = false;
    close_content(c);
    struct store_status st;
    store_status(store, &st);
    assert_int_equal(st.cached_bytes, 3 * K64);
}

static void test_a_gateway_that_is_away(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(100, 3);
    struct attr a = gw_write(7, p, 100, K64);
    struct content *c = open_content(&a);
    gw_away = true;
    char b[10];
    assert_int_equal(content_read(c, b, 10, 0), -EIO);
    gw_away = false;
    assert_int_equal(content_read(c, b, 10, 0), -EIO); /* for the same call of a program, says the kernel */
    usleep(150 * 1000);
    assert_reads(c, p, 100);
    close_content(c);
}

struct reader {
    pthread_t thread;
    struct content *content;
    uint64_t off;
    ssize_t got;
};

static void *read_there(void *arg)
{
    struct reader *r = arg;
    char b[10];
    r->got = content_read(r->content, b, 10, r->off);
    return NULL;
}

#define READERS 32
static void all_give_up_together(struct content *c, uint64_t off)
{
    struct reader r[READERS];
    int64_t begin = clock_boot_ms();
    for (int i = 0; i < READERS; i++) {
        r[i] = (struct reader){.content = c, .off = off};
        pthread_create(&r[i].thread, NULL, read_there, &r[i]);
    }
    for (int i = 0; i < READERS; i++) {
        pthread_join(r[i].thread, NULL);
        assert_int_equal(r[i].got, -EIO);
    }
    assert_in_range(clock_boot_ms() - begin, 250, READERS * 300 / 2);
}

/* Those who want the same chunk wait for one of them: not for one after the other. */
static void test_readers_of_one_chunk_give_up_together(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(2 * M4, 3);
    struct attr a = gw_write(7, p, 2 * M4, M4);
    struct content *c = open_content(&a);
    gw_away = true;
    all_give_up_together(c, 0); /* while the map is asked for */
    gw_away = false;
    usleep(150 * 1000);
    char b;
    assert_int_equal(content_read(c, &b, 1, 0), 1);
    gw_away = true;
    all_give_up_together(c, M4); /* while the chunk is */
    gw_away = false;
    usleep(150 * 1000);
    assert_reads(c, p, 2 * M4);
    close_content(c);
}

static void test_damage_on_the_way(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(M4, 4);
    struct attr a = gw_write(7, p, M4, M4);
    struct content *c = open_content(&a);
    gw_damage = true;
    assert_reads(c, p, M4);
    close_content(c);
}

static void test_remote_change_keeps_equal_chunks(void **state)
{
    (void)state;
    size_t size = 4 * M4;
    CLEANUP_FREE uint8_t *p = pattern(size, 5);
    struct attr a = gw_write(7, p, size, M4);
    struct content *c = open_content(&a);
    assert_reads(c, p, size);
    gw_reset_counts();
    p[M4 + 5] ^= 0x55;
    a = gw_write(7, p, size, M4);
    assert_true(content_remote_changed(c, &a, M4 + 5, M4 + 6));
    assert_false(content_remote_changed(c, &a, M4 + 5, M4 + 6));
    assert_reads(c, p, size);
    assert_int_equal(gw_counts.gets, 1);
    close_content(c);
    /* and of one that was not told: everything is compared, nothing else is fetched */
    p[0] ^= 0x55;
    a = gw_write(7, p, size - 5, M4);
    c = open_content(&a);
    assert_reads(c, p, size - 5);
    assert_int_equal(gw_counts.gets, 3);
    close_content(c);
}

static void test_the_first_content_of_a_file_that_was_empty(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(2 * CHUNK_SIZE_MIN, 5);
    struct attr none = {.ino = 8, .mode = S_IFREG | 0644, .nlink = 1};
    struct content *c = open_content(&none); /* whose chunk size nobody knows */
    struct attr a = gw_write(8, p, 2 * CHUNK_SIZE_MIN, CHUNK_SIZE_MIN);
    assert_true(content_remote_changed(c, &a, 0, 2 * CHUNK_SIZE_MIN));
    assert_reads(c, p, 2 * CHUNK_SIZE_MIN);
    close_content(c);
}

static void test_a_version_that_was_thinned_out(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(2 * M4, 6), *q = pattern(M4, 7);
    struct attr a = gw_write(7, p, 2 * M4, M4);
    struct content *c = open_content(&a);
    char b[8];
    assert_int_equal(content_read(c, b, 8, 0), 8);
    gw_delete(7);
    gw_write(7, q, M4, M4);
    gw_forget_chunks();
    assert_int_equal(content_read(c, b, 8, M4 + 100), 0); /* the newest is shorter */
    assert_reads(c, q, M4);
    close_content(c);
}

static void test_old_versions(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(3 * K64, 8), *q = pattern(K64, 9);
    struct attr old = gw_write(7, p, 3 * K64, K64), new = gw_write(7, q, K64, K64);
    struct content *c = open_content(&new), *v = content_get_version(store, 7, old.version, old.size, old.chunk_size);
    assert_reads(c, q, K64);
    assert_reads(v, p, 3 * K64);
    uint64_t off = 0;
    assert_int_equal(content_write(v, "x", 1, &off, false), -EROFS);
    assert_int_equal(content_truncate(v, 0), -EROFS);
    close_content(c);
    content_unref(v);
}

static void test_small_files_ahead(void **state)
{
    (void)state;
    struct attr a[50];
    char text[32];
    uint64_t bytes = 0;
    struct store_status st = {0};
    for (unsigned i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "this is file %u", i);
        a[i] = gw_write(100 + i, text, strlen(text), M4);
        bytes += a[i].size;
    }
    store_prefetch(store, a, 50);
    while (st.cached_bytes < bytes) /* it is a hint to another thread: without it this would go on for ever */
        store_status(store, &st);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(text, sizeof text, "this is file %u", i);
        struct content *c = open_content(&a[i]);
        assert_reads(c, text, strlen(text));
        close_content(c);
    }
    assert_int_equal(gw_counts.reads, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(small_file_is_one_request),
        T(large_file_is_fetched_chunk_by_chunk),
        T(holes_need_no_bytes),
        T(a_remount_finds_what_was_cached),
        T(a_gateway_that_is_away),
        T(readers_of_one_chunk_give_up_together),
        T(damage_on_the_way),
        T(remote_change_keeps_equal_chunks),
        T(the_first_content_of_a_file_that_was_empty),
        T(a_version_that_was_thinned_out),
        T(old_versions),
        T(small_files_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
