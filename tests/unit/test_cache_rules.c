/* In which order the cache does things, where only the order keeps what was written: seen from inside its calls. */
#include "cache_fixture.h"

int __real_journal_append(struct journal *j, const struct journal_record *r, size_t n);
int __wrap_journal_append(struct journal *j, const struct journal_record *r, size_t n);

static int journal_fails;         /* with this, from now on */
static unsigned journalled_chunks; /* records that say a chunk of inode 7 is dirty */
static bool must_be_untouched;     /* the backing file of inode 7, when its chunk is journalled */

static uint8_t first_byte(void)
{
    char path[128];
    uint8_t b = 0;
    snprintf(path, sizeof path, "%s/content/07/7", dir);
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && pread(fd, &b, 1, 0) == 1 ? b : 0;
}

int __wrap_journal_append(struct journal *j, const struct journal_record *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (r[i].kind == JOURNAL_CHUNK && r[i].ino == 7) {
            journalled_chunks++;
            if (must_be_untouched)
                assert_int_equal(first_byte(), 'o');
        }
    return journal_fails ? journal_fails : __real_journal_append(j, r, n);
}

static void dirty_is_journalled_before_the_first_byte(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "old", 3, K64);
    struct content *c = open_content(&a);
    assert_reads(c, "old", 3);
    must_be_untouched = true;
    assert_wrote(c, "new", 3, 0);
    must_be_untouched = false;
    assert_int_equal(journalled_chunks, 1);
    assert_int_equal(first_byte(), 'n');
    assert_int_equal(content_publish(c, NULL, 0, NULL, NULL, true), 0);
    close_content(c);
}

static void what_cannot_be_journalled_is_not_written(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "old", 3, K64);
    struct content *c = open_content(&a);
    uint64_t off = 0;
    assert_reads(c, "old", 3);
    journal_fails = -EIO;
    assert_int_equal(content_write(c, "new", 3, &off, false), -EIO);
    assert_int_equal(content_truncate(c, 1), -EIO);
    journal_fails = 0;
    assert_int_equal(first_byte(), 'o');
    assert_reads(c, "old", 3);
    close_content(c);
}

/* ---- readers and eviction ---- */

#define CHUNKS 3
#define ROUNDS 100

struct reader {
    pthread_t thread;
    struct content *content;
    const uint8_t *want;
    bool wrong;
    atomic_bool done;
};

static void *read_on(void *arg)
{
    struct reader *r = arg;
    CLEANUP_FREE uint8_t *got = mem_alloc(M4);
    for (unsigned i = 0; i < ROUNDS && !r->wrong; i++) {
        uint64_t off = (uint64_t)(i * 7919u % CHUNKS) * M4;
        r->wrong = content_read(r->content, got, M4, off) != M4 || memcmp(got, r->want + off, M4) != 0;
    }
    r->done = true;
    return NULL;
}

static void readers_never_see_what_is_being_evicted(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern((size_t)CHUNKS * M4, 1);
    struct attr a = gw_write(7, p, (size_t)CHUNKS * M4, M4);
    struct content *c = open_content(&a);
    struct reader readers[3];
    for (size_t i = 0; i < 3; i++) {
        readers[i] = (struct reader){.content = c, .want = p};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_on, &readers[i]), 0);
    }
    while (!readers[0].done || !readers[1].done || !readers[2].done)
        store_make_room(store, M4);
    for (size_t i = 0; i < 3; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_false(readers[i].wrong);
    }
    close_content(c);
}

static void only_what_the_gateway_has_is_evicted(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = pattern(K64, 2);
    struct attr a = gw_write(7, "", 0, K64);
    struct content *c = open_content(&a);
    gw_away = true;
    assert_wrote(c, p, K64, 0);
    store_make_room(store, 0);
    assert_reads(c, p, K64);
    gw_away = false;
    assert_int_equal(content_publish(c, NULL, 0, NULL, NULL, true), 0);
    assert_at_gateway(7, p, K64);
    close_content(c);
}

/* A database that failed over without its last commits: the newest version has a lower number than the one that was read. The fake gateway gives versions 1, 2, … out; here version 2 is lost. */
static void a_version_that_was_lost_is_not_read_again(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *kept = pattern(K64, 4);
    CLEANUP_FREE uint8_t *lost = pattern(K64, 5);
    struct attr first = gw_write(7, kept, K64, K64), second = gw_write(7, lost, K64, K64);
    assert_true(second.version > first.version);
    struct content *open = open_content(&second);
    assert_reads(open, lost, K64);
    content_revalidate(open, &first, second.version - 1); /* told before the second was: says nothing of it */
    assert_int_equal(content_version(open), second.version);
    assert_reads(open, lost, K64);
    store_start_afresh(store);
    content_revalidate(open, &first, second.version + 100);
    assert_int_equal(content_version(open), first.version);
    assert_reads(open, kept, K64);
    close_content(open);
}

static void a_version_that_was_lost_is_not_found_again_in_memory_or_on_the_disk(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *kept = pattern(K64, 6);
    CLEANUP_FREE uint8_t *lost = pattern(K64, 7);
    for (int reopened = 0; reopened < 2; reopened++) {
        uint64_t ino = 7 + (uint64_t)reopened;
        struct attr first = gw_write(ino, kept, K64, K64), second = gw_write(ino, lost, K64, K64);
        struct content *c = open_content(&second);
        assert_reads(c, lost, K64);
        close_content(c);
        if (reopened) {
            store_close(store);
            open_store(UINT64_C(1) << 30, false);
        } else {
            store_start_afresh(store);
        }
        c = open_content(&first);
        assert_int_equal(content_version(c), first.version);
        assert_reads(c, kept, K64);
        close_content(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dirty_is_journalled_before_the_first_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_journalled_is_not_written, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_never_see_what_is_being_evicted, setup, teardown),
        cmocka_unit_test_setup_teardown(only_what_the_gateway_has_is_evicted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_version_that_was_lost_is_not_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_version_that_was_lost_is_not_found_again_in_memory_or_on_the_disk, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
