/* The journal of what is dirty: what is read again after a crash, a torn end, and that it does not grow for ever. */
#include "common/cleanup.h"
#include "common/mem.h"
#include "fusefs/upload/journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static char path[64];
static struct journal *j;

static int setup(void **state)
{
    (void)state;
    strcpy(path, "/tmp/cairn-journal-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(journal_open(path, &j), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    journal_close(j);
    unlink(path);
    return 0;
}

static void reopen(void)
{
    journal_close(j);
    assert_int_equal(journal_open(path, &j), 0);
}

static void append(uint64_t ino, enum journal_kind kind, uint64_t a)
{
    struct journal_record r = {.kind = kind, .ino = ino, .a = a};
    assert_int_equal(journal_append(j, &r, 1), 0);
}

struct seen {
    size_t files, records;
    uint64_t last_a;
    bool drop;
};
static bool see(void *ctx, const struct journal_record *r, size_t n)
{
    struct seen *s = ctx;
    s->files++;
    s->records += n;
    s->last_a = r[n - 1].a;
    return !s->drop;
}

static struct seen look(bool drop)
{
    struct seen s = {.drop = drop};
    journal_each(j, see, &s);
    return s;
}

static off_t size(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void test_what_is_dirty_is_found_again(void **state)
{
    (void)state;
    append(1, JOURNAL_DIRTY, 10);
    append(1, JOURNAL_CHUNK, 3);
    append(2, JOURNAL_DIRTY, 20);
    append(2, JOURNAL_CLEAN, 0);
    append(3, JOURNAL_DIRTY, 30);
    append(3, JOURNAL_CHUNK, 1);
    append(3, JOURNAL_DIRTY, 31); /* on a new base: what was known is history */
    append(3, JOURNAL_CHUNK, 7);
    reopen();
    struct seen s = look(false);
    assert_int_equal(s.files, 2);
    assert_int_equal(s.records, 4);
    assert_int_equal(s.last_a, 7);
    look(true);
    reopen();
    assert_int_equal(look(false).files, 0);
}

static void test_a_torn_end_is_cut_off(void **state)
{
    (void)state;
    append(1, JOURNAL_DIRTY, 10);
    append(1, JOURNAL_CHUNK, 3);
    off_t whole = size();
    append(1, JOURNAL_CHUNK, 4);
    assert_int_equal(truncate(path, whole + 40), 0);
    reopen();
    assert_int_equal(look(false).records, 2);
    assert_int_equal(size(), whole);
    append(1, JOURNAL_CHUNK, 5);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, whole + 20), 1); /* damaged: what is behind cannot be believed either */
    append(1, JOURNAL_CHUNK, 6);
    reopen();
    assert_int_equal(look(false).records, 2);
}

static void test_history_is_dropped(void **state)
{
    (void)state;
    append(7, JOURNAL_DIRTY, 70);
    for (uint64_t i = 0; i < 40000; i++) {
        append(8, JOURNAL_DIRTY, i);
        append(8, JOURNAL_CLEAN, 0);
    }
    assert_true(size() < 2 << 20);
    reopen();
    assert_int_equal(look(false).files, 1);
    assert_int_equal(look(false).last_a, 70);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {T(what_is_dirty_is_found_again), T(a_torn_end_is_cut_off), T(history_is_dropped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
