/* Paths: what is one, what is not, and where it leads in a tree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/api/app.h"
#include "gateway/core/paths.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/* /docs (2) /docs/a (3) /docs/a/deep (4), /file (5), /gone is (6) with no name */
static const struct entry_row tree[] = {
    {.parent = 1, .ino = 2, .name = "docs", .attr = {.ino = 2, .mode = S_IFDIR | 0755}},
    {.parent = 2, .ino = 3, .name = "a", .attr = {.ino = 3, .mode = S_IFDIR | 0755}},
    {.parent = 3, .ino = 4, .name = "deep", .attr = {.ino = 4, .mode = S_IFDIR | 0755}},
    {.parent = 1, .ino = 5, .name = "file", .attr = {.ino = 5, .mode = S_IFREG | 0644}},
    /* a cycle that no sound database has: it must end all the same */
    {.parent = 8, .ino = 7, .name = "x", .attr = {.ino = 7, .mode = S_IFDIR | 0755}},
    {.parent = 7, .ino = 8, .name = "y", .attr = {.ino = 8, .mode = S_IFDIR | 0755}},
};

static int find(uint64_t parent, const char *name, uint64_t ino, struct entry_row *ret)
{
    for (size_t i = 0; i < sizeof tree / sizeof *tree; i++)
        if (name ? tree[i].parent == parent && strcmp(tree[i].name, name) == 0 : tree[i].ino == ino) {
            *ret = tree[i];
            return 0;
        }
    return -ENOENT;
}

static int entry(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct entry_row *ret)
{
    (void)tx;
    assert_int_equal(at, 9);
    return find(parent, name, 0, ret);
}

static int entry_of_ino(struct meta_tx *tx, uint64_t ino, uint64_t at, struct entry_row *ret)
{
    (void)tx;
    assert_int_equal(at, 9);
    return find(0, NULL, ino, ret);
}

static const struct meta_ops ops = {.entry = entry, .entry_of_ino = entry_of_ino};
static struct meta meta = {.ops = &ops};
static struct meta_tx tx = {.meta = &meta, .drive = {.root = 1}};

static void assert_leads_to(const char *path, uint64_t parent, const char *name)
{
    uint64_t got = 0;
    char got_name[NAME_LEN_MAX + 1] = "?";
    assert_int_equal(access_path(&tx, path, 9, &got, got_name), 0);
    assert_int_equal(got, parent);
    assert_string_equal(got_name, name);
}

static void paths_lead_to_a_directory_and_a_name(void **state)
{
    (void)state;
    assert_leads_to("/", 1, "");
    assert_leads_to("/docs", 1, "docs");
    assert_leads_to("/docs/a/deep/new", 4, "new");
    assert_leads_to("/file", 1, "file");
    assert_leads_to("/docs/caf\xe9", 2, "caf\xe9"); /* bytes */
    assert_leads_to("/docs/...", 2, "...");
    assert_leads_to("/docs/.hidden", 2, ".hidden");
}

static void what_is_not_there_says_so(void **state)
{
    (void)state;
    uint64_t parent = 77;
    char name[NAME_LEN_MAX + 1];
    assert_int_equal(access_path(&tx, "/nowhere/x", 9, &parent, name), -ENOENT);
    assert_int_equal(access_path(&tx, "/file/x", 9, &parent, name), -ENOTDIR);
    assert_int_equal(parent, 77);
}

static void what_is_no_path_is_refused(void **state)
{
    (void)state;
    char longest[NAME_LEN_MAX + 2] = "/", longer[NAME_LEN_MAX + 3] = "/";
    memset(longest + 1, 'x', NAME_LEN_MAX);
    memset(longer + 1, 'x', NAME_LEN_MAX + 1);
    longest[NAME_LEN_MAX + 1] = longer[NAME_LEN_MAX + 2] = 0;
    static const char *const bad[] = {"", "a", "a/b", "//", "//a", "/a//b", "/a/", "/.", "/..", "/a/.", "/a/..", "/../a", "/./a", "/docs/../docs"};
    uint64_t parent;
    char name[NAME_LEN_MAX + 1];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_non_null(access_path_wrong(bad[i]));
        assert_int_equal(access_path(&tx, bad[i], 9, &parent, name), -EINVAL);
    }
    assert_non_null(access_path_wrong(longer));
    assert_null(access_path_wrong(longest));
    assert_leads_to(longest, 1, longest + 1);
}

static void directories_know_their_path(void **state)
{
    (void)state;
    static const struct {
        uint64_t ino;
        const char *path;
    } known[] = {{1, "/"}, {2, "/docs"}, {3, "/docs/a"}, {4, "/docs/a/deep"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        CLEANUP_BUF struct buf b = {0};
        buf_append_str(&b, "in ");
        assert_int_equal(path_of_directory(&tx, known[i].ino, 9, &b), 0);
        assert_string_equal(b.data + 3, known[i].path);
    }
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(path_of_directory(&tx, 6, 9, &b), -ENOENT);
    assert_int_equal(path_of_directory(&tx, 7, 9, &b), -ELOOP);
    assert_int_equal(b.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_lead_to_a_directory_and_a_name),
        cmocka_unit_test(what_is_not_there_says_so),
        cmocka_unit_test(what_is_no_path_is_refused),
        cmocka_unit_test(directories_know_their_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
