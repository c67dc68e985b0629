#include "fake_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/xattr.h>

#include <cmocka.h>

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE (S_IFDIR | 0755)

static int create(struct fake_world *w, uint64_t parent, const char *name, uint64_t ino, uint32_t mode)
{
    return world_do(w, &(struct op){.kind = OP_CREATE, .parent = parent, .name = (char *)name, .ino = ino, .mode = mode, .target = (char *)"to"});
}
static int dir(struct fake_world *w, uint64_t parent, const char *name, uint64_t ino)
{
    return create(w, parent, name, ino, DIR_MODE);
}
static int file(struct fake_world *w, uint64_t parent, const char *name, uint64_t ino)
{
    return create(w, parent, name, ino, FILE_MODE);
}
static int named(struct fake_world *w, enum op_kind kind, uint64_t parent, const char *name, uint64_t ino)
{
    return world_do(w, &(struct op){.kind = kind, .parent = parent, .name = (char *)name, .ino = ino});
}
static int rename_flags(struct fake_world *w, uint64_t parent, const char *name, uint64_t to, const char *new_name, uint32_t flags)
{
    return world_do(w, &(struct op){.kind = OP_RENAME, .parent = parent, .name = (char *)name, .new_parent = to, .new_name = (char *)new_name,
                                    .rename_flags = flags});
}
static int move(struct fake_world *w, uint64_t parent, const char *name, uint64_t to, const char *new_name)
{
    return rename_flags(w, parent, name, to, new_name, 0);
}
static const struct attr *attr_of(struct fake_world *w, uint64_t ino)
{
    return &world_inode(w, ino)->attr;
}

static int setup(void **state)
{
    struct fake_world *w = mem_alloc(sizeof *w);
    world_open(w);
    *state = w;
    return 0;
}
static int teardown(void **state)
{
    world_close(*state);
    free(*state);
    return 0;
}

static void creating(void **state)
{
    struct fake_world *w = *state;
    assert_int_equal(file(w, 1, "a", 100), 0);
    assert_int_equal(w->res.seq, 11);
    assert_int_equal(w->res.ino, 100);
    assert_int_equal(w->res.n_attrs, 2);
    assert_int_equal(w->res.n_names, 1);
    assert_int_equal(w->res.names[0].ino, 100);
    assert_int_equal(attr_of(w, 100)->nlink, 1);
    assert_int_equal(attr_of(w, 100)->btime, w->now);
    assert_int_equal(attr_of(w, 1)->mtime, w->now);
    assert_int_equal(world_inode(w, 1)->children, 1);
    assert_int_equal(w->store.drive.files, 2);
    assert_int_equal(w->store.changes[0].row.kind, 'c');
    assert_string_equal(w->store.changes[0].touch, "{\"seq\":11,\"inodes\":[100,1],\"names\":[{\"parent\":1,\"name\":\"a\"}],"
                                                   "\"by\":\"01000000-0000-0000-0000-000000000000\"}");

    assert_int_equal(file(w, 1, "a", 101), -EEXIST);
    assert_int_equal(file(w, 77, "b", 101), -ENOENT);
    assert_int_equal(file(w, 100, "b", 101), -ENOTDIR);
    assert_int_equal(file(w, 1, "b", 100), -EINVAL);  /* the number is taken */
    assert_int_equal(file(w, 1, "b", 1000), -EINVAL); /* and this one was never handed out */
    assert_int_equal(file(w, 1, "..", 101), -EINVAL);
    assert_int_equal(file(w, 1, "x/y", 101), -EINVAL);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = '\0';
    assert_int_equal(file(w, 1, name, 101), -ENAMETOOLONG);
    name[255] = '\0';
    assert_int_equal(file(w, 1, name, 101), 0);

    assert_int_equal(dir(w, 1, "d", 102), 0);
    assert_int_equal(attr_of(w, 102)->nlink, 2);
    assert_int_equal(attr_of(w, 1)->nlink, 3);
    assert_int_equal(world_inode(w, 102)->parent, 1);
    assert_int_equal(create(w, 102, "l", 103, S_IFLNK | 0777), 0);
    assert_int_equal(attr_of(w, 103)->size, 2);
    assert_string_equal(w->store.targets[0].target, "to");
}

static void linking(void **state)
{
    struct fake_world *w = *state;
    file(w, 1, "a", 100);
    dir(w, 1, "d", 101);
    w->now += 5;
    assert_int_equal(named(w, OP_LINK, 101, "b", 100), 0);
    assert_int_equal(attr_of(w, 100)->nlink, 2);
    assert_int_equal(attr_of(w, 100)->ctime, w->now);
    assert_int_equal(w->store.drive.files, 3);
    assert_int_equal(named(w, OP_LINK, 101, "b", 100), -EEXIST);
    assert_int_equal(named(w, OP_LINK, 101, "c", 101), -EPERM);
    assert_int_equal(named(w, OP_LINK, 101, "c", 555), -ENOENT);
    assert_int_equal(named(w, OP_UNLINK, 1, "a", 0), 0);
    assert_int_equal(named(w, OP_UNLINK, 101, "b", 100), 0);
    assert_int_equal(attr_of(w, 100)->nlink, 0); /* its row stays: history and open files need it */
    assert_int_equal(w->store.drive.files, 2);
    assert_int_equal(named(w, OP_LINK, 1, "again", 100), -ENOENT);
}

static void removing(void **state)
{
    struct fake_world *w = *state;
    dir(w, 1, "d", 100);
    file(w, 100, "f", 101);
    assert_int_equal(named(w, OP_UNLINK, 1, "none", 0), -ENOENT);
    assert_int_equal(named(w, OP_UNLINK, 1, "d", 0), -EISDIR);
    assert_int_equal(named(w, OP_RMDIR, 1, "d", 0), -ENOTEMPTY);
    assert_int_equal(named(w, OP_RMDIR, 100, "f", 0), -ENOTDIR);
    assert_int_equal(named(w, OP_UNLINK, 100, "f", 99), -ESTALE);
    assert_int_equal(named(w, OP_UNLINK, 100, "f", 101), 0);
    assert_int_equal(w->store.changes[w->store.n_changes - 1].row.kind, 'd');
    assert_int_equal(w->res.names[0].ino, 0);
    assert_int_equal(named(w, OP_RMDIR, 1, "d", 0), 0);
    assert_int_equal(attr_of(w, 100)->nlink, 0);
    assert_int_equal(attr_of(w, 1)->nlink, 2);
    assert_int_equal(world_inode(w, 1)->children, 0);
    assert_int_equal(file(w, 100, "late", 102), -ENOENT); /* a directory that is gone takes nothing */
    assert_int_equal(w->store.drive.files, 1);
    assert_int_equal(w->store.n_dead, 2);
}

static void renaming(void **state)
{
    struct fake_world *w = *state;
    file(w, 1, "a", 100);
    file(w, 1, "b", 101);
    dir(w, 1, "d", 102);
    w->now += 7;
    assert_int_equal(move(w, 1, "none", 1, "x"), -ENOENT);
    assert_int_equal(move(w, 1, "a", 55, "x"), -ENOENT);
    assert_int_equal(move(w, 1, "a", 101, "x"), -ENOTDIR);
    assert_int_equal(rename_flags(w, 1, "a", 1, "b", OP_RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(rename_flags(w, 1, "a", 1, "x", OP_RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(rename_flags(w, 1, "a", 1, "b", 3), -EINVAL);
    assert_int_equal(world_do(w, &(struct op){.kind = OP_RENAME, .ino = 101, .parent = 1, .name = (char *)"a", .new_parent = 1, .new_name = (char *)"x"}), -ESTALE);
    assert_int_equal(move(w, 1, "a", 102, "x"), 0);
    assert_int_equal(world_lookup(w, 102, "x"), 100);
    assert_int_equal(world_lookup(w, 1, "a"), 0);
    assert_int_equal(attr_of(w, 100)->ctime, w->now);
    const struct change_row *c = &w->store.changes[w->store.n_changes - 1].row;
    assert_int_equal(c->kind, 'v');
    assert_int_equal(c->from_parent, 1);
    assert_string_equal(c->from_name, "a");
    assert_string_equal(c->name, "x");
    assert_int_equal(move(w, 102, "x", 1, "b"), 0); /* over a file */
    assert_int_equal(attr_of(w, 101)->nlink, 0);
    assert_int_equal(world_lookup(w, 1, "b"), 100);
    assert_int_equal(w->store.drive.files, 3);
    assert_int_equal(world_inode(w, 1)->children, 2);
    assert_int_equal(world_inode(w, 102)->children, 0);
    /* two names of one file: nothing happens, and no number is given */
    named(w, OP_LINK, 1, "b2", 100);
    uint64_t seq = w->store.drive.seq;
    assert_int_equal(move(w, 1, "b", 1, "b2"), 0);
    assert_int_equal(move(w, 1, "b", 1, "b"), 0);
    assert_int_equal(w->store.drive.seq, seq);
    assert_int_equal(world_lookup(w, 1, "b"), 100);
}

static void renaming_directories(void **state)
{
    struct fake_world *w = *state;
    dir(w, 1, "a", 100);
    dir(w, 100, "b", 101);
    dir(w, 101, "c", 102);
    dir(w, 1, "e", 103);
    file(w, 1, "f", 104);
    assert_int_equal(move(w, 1, "a", 102, "x"), -EINVAL);
    assert_int_equal(move(w, 1, "a", 100, "x"), -EINVAL);
    assert_int_equal(move(w, 1, "e", 1, "f"), -ENOTDIR);
    assert_int_equal(move(w, 1, "f", 1, "e"), -EISDIR);
    assert_int_equal(move(w, 1, "e", 1, "a"), -ENOTEMPTY);
    assert_int_equal(move(w, 100, "b", 1, "a"), -ENOTEMPTY);
    file(w, 102, "g", 105);
    assert_int_equal(move(w, 102, "g", 1, "a"), -ENOTEMPTY); /* holds the source: said before the types are compared */
    assert_int_equal(move(w, 100, "b", 1, "e"), 0);          /* over an empty one */
    assert_int_equal(world_lookup(w, 1, "e"), 101);
    assert_int_equal(world_inode(w, 101)->parent, 1);
    assert_int_equal(attr_of(w, 103)->nlink, 0);
    assert_int_equal(attr_of(w, 100)->nlink, 2);
    assert_int_equal(attr_of(w, 1)->nlink, 4); /* a, e */
    assert_int_equal(move(w, 1, "a", 102, "x"), 0);
    assert_int_equal(attr_of(w, 1)->nlink, 3);
    assert_int_equal(attr_of(w, 102)->nlink, 3);
    assert_int_equal(world_inode(w, 100)->parent, 102);
}

static void exchanging(void **state)
{
    struct fake_world *w = *state;
    dir(w, 1, "d", 100);
    file(w, 100, "f", 101);
    dir(w, 1, "e", 102);
    assert_int_equal(rename_flags(w, 100, "f", 1, "d", OP_RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(rename_flags(w, 1, "d", 100, "f", OP_RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(rename_flags(w, 100, "f", 1, "e", OP_RENAME_EXCHANGE), 0);
    assert_int_equal(world_lookup(w, 1, "e"), 101);
    assert_int_equal(world_lookup(w, 100, "f"), 102);
    assert_int_equal(world_inode(w, 102)->parent, 100);
    assert_int_equal(attr_of(w, 1)->nlink, 3);
    assert_int_equal(attr_of(w, 100)->nlink, 3);
    assert_int_equal(world_inode(w, 1)->children, 2);
    assert_int_equal(world_inode(w, 100)->children, 1);
    assert_int_equal(attr_of(w, 101)->nlink, 1);
}

static void attributes(void **state)
{
    struct fake_world *w = *state;
    file(w, 1, "a", 100);
    w->now += 3000000000;
    struct op op = {.kind = OP_SETATTR, .ino = 100, .set = SET_MODE | SET_UID | SET_MTIME, .mode = 0104755, .uid = 5, .gid = 6, .mtime = 42};
    assert_int_equal(world_do(w, &op), 0);
    const struct attr *a = attr_of(w, 100);
    assert_int_equal(a->mode, S_IFREG | 04755);
    assert_int_equal(a->uid, 5);
    assert_int_equal(a->gid, 0);
    assert_int_equal(a->mtime, 42);
    assert_int_equal(a->ctime, w->now);
    assert_int_equal(w->store.n_past, 1); /* a second has passed: history has the state before */
    assert_int_equal(w->store.past[0].attr.uid, 0);
    const struct change_row *c = &w->store.changes[w->store.n_changes - 1].row;
    assert_int_equal(c->kind, 'a');
    assert_int_equal(c->parent, 1);
    assert_string_equal(c->name, "a");
    op.set = SET_MTIME_NOW | SET_ATIME_NOW;
    assert_int_equal(world_do(w, &op), 0);
    assert_int_equal(attr_of(w, 100)->mtime, w->now);
    assert_int_equal(w->store.n_past, 1);
    op.ino = 777;
    assert_int_equal(world_do(w, &op), -ENOENT);
}

static void extended_attributes(void **state)
{
    struct fake_world *w = *state;
    file(w, 1, "a", 100);
    struct op set = {.kind = OP_SETXATTR, .ino = 100, .xattr = (char *)"user.x", .value = (char *)"one", .value_len = 3, .xattr_flags = XATTR_REPLACE};
    struct op remove = {.kind = OP_REMOVEXATTR, .ino = 100, .xattr = (char *)"user.x"};
    assert_int_equal(world_do(w, &remove), -ENODATA);
    assert_int_equal(world_do(w, &set), -ENODATA);
    set.xattr_flags = XATTR_CREATE;
    assert_int_equal(world_do(w, &set), 0);
    assert_int_equal(w->res.xattr_ino, 100);
    assert_int_equal(world_do(w, &set), -EEXIST);
    set.xattr_flags = 0;
    set.value_len = 0;
    assert_int_equal(world_do(w, &set), 0); /* an empty value is a value */
    assert_int_equal(w->store.n_xattrs, 1);
    assert_int_equal(w->store.xattrs[0].len, 0);
    set.value_len = XATTR_VALUE_MAX + 1;
    assert_int_equal(world_do(w, &set), -E2BIG);
    assert_int_equal(world_do(w, &remove), 0);
    assert_int_equal(w->store.n_xattrs, 0);
    set.ino = 777;
    set.value_len = 1;
    assert_int_equal(world_do(w, &set), -ENOENT);
}

static void in_one_transaction(void **state)
{
    struct fake_world *w = *state;
    struct rows *r = rows_new(&w->store.drive, w->now);
    struct op ops[] = {
        {.kind = OP_CREATE, .parent = 1, .name = (char *)"d", .ino = 100, .mode = DIR_MODE},
        {.kind = OP_CREATE, .parent = 100, .name = (char *)"f", .ino = 101, .mode = FILE_MODE},
        {.kind = OP_RENAME, .parent = 100, .name = (char *)"f", .new_parent = 1, .new_name = (char *)"g"},
        {.kind = OP_RMDIR, .parent = 1, .name = (char *)"d"},
        {.kind = OP_SETATTR, .ino = 101, .set = SET_MODE, .mode = 0600},
        {.kind = OP_UNLINK, .parent = 1, .name = (char *)"g"},
        {.kind = OP_CREATE, .parent = 1, .name = (char *)"g", .ino = 102, .mode = FILE_MODE},
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        assert_int_equal(world_apply(w, r, &ops[i]), 0);
        assert_int_equal(w->res.seq, 11 + i);
    }
    fake_save(&w->store, r); /* which checks births and deaths */
    rows_free(r);
    assert_int_equal(world_lookup(w, 1, "g"), 102);
    assert_int_equal(attr_of(w, 101)->nlink, 0);
    assert_int_equal(w->store.drive.files, 2);
    assert_int_equal(w->store.n_changes, 7);
    assert_string_equal(w->store.changes[4].row.name, "g"); /* the attributes' change knows the name of that moment */
}

static void conflict_names(void **state)
{
    (void)state;
    char name[NAME_LEN_MAX + 1], longest[NAME_LEN_MAX + 1];
    int64_t at = INT64_C(1795529437123456789); /* 2026-11-24T14:10:37Z */
    apply_conflict_name("report.txt", "laptop", at, 1, name);
    assert_string_equal(name, "report (conflict, laptop, 2026-11-24T14-10-37Z).txt");
    apply_conflict_name("report.txt", "laptop", at, 3, name);
    assert_string_equal(name, "report (conflict, laptop, 2026-11-24T14-10-37Z 3).txt");
    apply_conflict_name(".bashrc", "a/b", at, 1, name);
    assert_string_equal(name, ".bashrc (conflict, a_b, 2026-11-24T14-10-37Z)");
    memset(longest, 'x', 250);
    strcpy(longest + 250, ".html");
    apply_conflict_name(longest, "laptop", at, 12, name);
    assert_int_equal(strlen(name), 255);
    assert_string_equal(name + 250, ".html");
    for (int i = 0; i + 2 < 255; i += 2)
        memcpy(longest + i, "ä", 3);
    apply_conflict_name(longest, "laptop", at, 1, name); /* no half of a character */
    assert_true(strlen(name) <= 255);
    assert_int_equal((unsigned char)strstr(name, " (conflict")[-1], 0xa4);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(creating),   CASE(linking),    CASE(removing),           CASE(renaming),           CASE(renaming_directories),
        CASE(exchanging), CASE(attributes), CASE(extended_attributes), CASE(in_one_transaction), cmocka_unit_test(conflict_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
