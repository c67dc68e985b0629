/* A path's history: the walk over the inodes that had the path, on a store that is a few tables. */
#include "gateway/api/history.h"
#include "gateway/core/rows.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#define ROOT 1

/* What names were born and died, and which versions were written. */
struct story {
    struct meta meta; /* first */
    struct {
        uint64_t parent;
        const char *name;
        uint64_t ino, born, died;
    } names[32];
    struct {
        uint64_t ino, version;
        bool unlisted;
    } versions[32];
    unsigned asked; /* calls of versions() */
};

static bool is_directory(uint64_t ino)
{
    return ino >= 100;
}

static int entry_history(struct meta_tx *tx, uint64_t parent, const char *name, int (*each)(void *, const struct entry_row *), void *ctx)
{
    const struct story *s = (const struct story *)tx->meta;
    for (size_t i = 32; i > 0; i--) { /* newest first: stories are told in order */
        if (!s->names[i - 1].name || s->names[i - 1].parent != parent || strcmp(s->names[i - 1].name, name) != 0)
            continue;
        struct entry_row e = {.parent = parent, .ino = s->names[i - 1].ino, .born = s->names[i - 1].born, .died = s->names[i - 1].died};
        e.attr.mode = is_directory(e.ino) ? S_IFDIR : S_IFREG;
        for (size_t v = 0; v < 32; v++)
            if (s->versions[v].ino == e.ino && s->versions[v].version > e.attr.version)
                e.attr.version = s->versions[v].version;
        int err = each(ctx, &e);
        if (err)
            return err;
    }
    return 0;
}

static int versions(struct meta_tx *tx, uint64_t ino, uint64_t from, uint64_t to, unsigned limit, int (*each)(void *, const struct version_row *), void *ctx)
{
    struct story *s = (struct story *)tx->meta;
    s->asked++;
    for (size_t i = 32; i > 0 && limit; i--) {
        struct version_row v = {.ino = ino, .version = s->versions[i - 1].version, .listed = true};
        if (s->versions[i - 1].ino != ino || s->versions[i - 1].unlisted || v.version <= from || v.version > to)
            continue;
        limit--;
        int err = each(ctx, &v);
        if (err)
            return err;
    }
    return 0;
}

static int version(struct meta_tx *tx, uint64_t ino, uint64_t number, struct version_row *ret)
{
    const struct story *s = (const struct story *)tx->meta;
    for (size_t i = 0; i < 32; i++)
        if (s->versions[i].ino == ino && s->versions[i].version == number) {
            *ret = (struct version_row){.ino = ino, .version = number, .listed = !s->versions[i].unlisted};
            return 0;
        }
    return -ENOENT;
}

static const struct meta_ops ops = {.entry_history = entry_history, .versions = versions, .version = version};

static int append(void *ctx, const struct version_row *v)
{
    struct buf *b = ctx;
    buf_appendf(b, "%s%llu", b->len ? " " : "", (unsigned long long)v->version);
    return 0;
}

static void expect(struct story *s, const char *path, uint64_t before, unsigned limit, const char *want)
{
    struct meta_tx tx = {.meta = &s->meta, .drive = {.root = ROOT}};
    struct history h = {0};
    CLEANUP_BUF struct buf got = {0};
    s->meta.ops = &ops;
    assert_int_equal(history_of_path(&tx, path, &h), 0);
    assert_int_equal(history_versions(&tx, &h, before, limit, append, &got), 0);
    assert_string_equal(got.data ? got.data : "", want);
    history_fini(&h);
}

static void a_file_written_again(void **state)
{
    struct story s = {.names = {{ROOT, "a", 2, 1, ALIVE}}, .versions = {{.ino = 2, .version = 2}, {.ino = 2, .version = 5}}};
    (void)state;
    expect(&s, "/a", ALIVE, 10, "5 2");
    expect(&s, "/b", ALIVE, 10, "");
}

static void saving_by_rename_goes_on(void **state)
{
    struct story s = {
        .names = {{ROOT, "a", 2, 1, 5}, {ROOT, "tmp", 3, 3, 5}, {ROOT, "a", 3, 5, 9}, {ROOT, "tmp", 4, 7, 9}, {ROOT, "a", 4, 9, ALIVE}},
        .versions = {{.ino = 2, .version = 2}, {.ino = 3, .version = 4}, {.ino = 4, .version = 8}},
    };
    (void)state;
    expect(&s, "/a", ALIVE, 10, "8 4 2");
    expect(&s, "/tmp", ALIVE, 10, "8 4");
}

static void a_moved_file_takes_its_history_along_and_leaves_what_was(void **state)
{
    /* a (2, 4) becomes b at 5 and is written there (6); another a is made at 7 */
    struct story s = {
        .names = {{ROOT, "a", 2, 1, 5}, {ROOT, "b", 2, 5, ALIVE}, {ROOT, "a", 3, 7, ALIVE}},
        .versions = {{.ino = 2, .version = 2}, {.ino = 2, .version = 4}, {.ino = 2, .version = 6}, {.ino = 3, .version = 8}},
    };
    (void)state;
    expect(&s, "/b", ALIVE, 10, "6 4 2");
    expect(&s, "/a", ALIVE, 10, "8 4 2"); /* not 6: it was b by then */
}

static void deleted_files_keep_theirs(void **state)
{
    struct story s = {.names = {{ROOT, "a", 2, 1, 3}, {ROOT, "a", 3, 5, 7}}, .versions = {{.ino = 2, .version = 2}, {.ino = 3, .version = 6}}};
    (void)state;
    expect(&s, "/a", ALIVE, 10, "6 2");
}

static void directories_that_were_the_path_count_as_long_as_they_were(void **state)
{
    /* d (100) holds f (2); d is moved to e at 10, f is written there (12); a new d (101) gets its own f (3) */
    struct story s = {
        .names = {{ROOT, "d", 100, 1, 10}, {100, "f", 2, 2, ALIVE}, {ROOT, "e", 100, 10, ALIVE}, {ROOT, "d", 101, 14, ALIVE}, {101, "f", 3, 15, ALIVE}},
        .versions = {{.ino = 2, .version = 3}, {.ino = 2, .version = 12}, {.ino = 3, .version = 16}},
    };
    (void)state;
    expect(&s, "/e/f", ALIVE, 10, "12 3");
    expect(&s, "/d/f", ALIVE, 10, "16 3");
    expect(&s, "/d", ALIVE, 10, ""); /* a directory has no versions */
}

static void a_name_had_twice_counts_to_the_end(void **state)
{
    struct story s = {
        .names = {{ROOT, "a", 2, 1, 4}, {ROOT, "b", 2, 4, 6}, {ROOT, "a", 2, 6, 9}},
        .versions = {{.ino = 2, .version = 2}, {.ino = 2, .version = 5}, {.ino = 2, .version = 8}},
    };
    (void)state;
    expect(&s, "/a", ALIVE, 10, "8 5 2");
}

static void pages_are_by_number(void **state)
{
    struct story s = {.names = {{ROOT, "a", 2, 1, 5}, {ROOT, "a", 3, 5, 9}, {ROOT, "a", 4, 9, ALIVE}},
                      .versions = {{.ino = 2, .version = 2}, {.ino = 2, .version = 3}, {.ino = 3, .version = 6}, {.ino = 3, .version = 7}, {.ino = 4, .version = 10}}};
    (void)state;
    expect(&s, "/a", ALIVE, 2, "10 7");
    expect(&s, "/a", 7, 2, "6 3");
    expect(&s, "/a", 3, 2, "2");
    expect(&s, "/a", 2, 2, "");
    expect(&s, "/a", ALIVE, 0, "");
    s.asked = 0;
    expect(&s, "/a", ALIVE, 1, "10");
    assert_int_equal(s.asked, 1); /* what is older is not read */
}

static void one_version_is_found_by_its_number(void **state)
{
    struct story s = {.names = {{ROOT, "a", 2, 1, 5}, {ROOT, "b", 2, 5, ALIVE}, {ROOT, "a", 3, 7, ALIVE}},
                      .versions = {{.ino = 2, .version = 2}, {.ino = 2, .version = 3, .unlisted = true}, {.ino = 2, .version = 6}, {.ino = 3, .version = 8}}};
    struct meta_tx tx = {.meta = &s.meta, .drive = {.root = ROOT}};
    struct history h;
    struct version_row v;
    (void)state;
    s.meta.ops = &ops;
    assert_int_equal(history_of_path(&tx, "/a", &h), 0);
    assert_int_equal(history_version(&tx, &h, 8, &v), 0);
    assert_true(history_is_current(&h, &v));
    assert_int_equal(history_version(&tx, &h, 2, &v), 0);
    assert_int_equal(v.ino, 2);
    assert_false(history_is_current(&h, &v));
    assert_int_equal(history_version(&tx, &h, 3, &v), -ENOENT); /* it gave way to a later one */
    assert_int_equal(history_version(&tx, &h, 6, &v), -ENOENT); /* another path's */
    assert_int_equal(history_version(&tx, &h, 99, &v), -ENOENT);
    assert_int_equal(history_version(&tx, &h, 0, &v), -ENOENT);
    history_fini(&h);
}

static void what_is_no_path(void **state)
{
    struct story s = {.meta = {&ops}};
    struct meta_tx tx = {.meta = &s.meta, .drive = {.root = ROOT}};
    struct history h = {0};
    char name[NAME_LEN_MAX + 3];
    (void)state;
    memset(name, 'x', sizeof name);
    name[0] = '/';
    name[sizeof name - 1] = 0;
    assert_int_equal(history_of_path(&tx, "/", &h), -EINVAL);
    assert_int_equal(history_of_path(&tx, "a", &h), -EINVAL);
    assert_int_equal(history_of_path(&tx, "/a/../b", &h), -EINVAL);
    assert_int_equal(history_of_path(&tx, name, &h), -ENAMETOOLONG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_written_again),
        cmocka_unit_test(saving_by_rename_goes_on),
        cmocka_unit_test(a_moved_file_takes_its_history_along_and_leaves_what_was),
        cmocka_unit_test(deleted_files_keep_theirs),
        cmocka_unit_test(directories_that_were_the_path_count_as_long_as_they_were),
        cmocka_unit_test(a_name_had_twice_counts_to_the_end),
        cmocka_unit_test(pages_are_by_number),
        cmocka_unit_test(one_version_is_found_by_its_number),
        cmocka_unit_test(what_is_no_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
