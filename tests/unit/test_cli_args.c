/* What the command line understands, and what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mem.h"
#include "fusefs/cli/cli.h"
#include "fusefs/cli/mount_options.h"

#include <errno.h>
#include <string.h>

static int ran;
static int run_nothing(const struct verb *self, int argc, char **argv)
{
    (void)self;
    (void)argv;
    ran = argc;
    return CLI_DONE;
}
static const struct verb mount = {"mount", "DIR", "Mounts", NULL, run_nothing};
static const struct verb unmount = {"unmount", "DIR", "Unmounts", NULL, run_nothing};
static const struct verb ls = {"ls", "PATH", "Lists", NULL, run_nothing};
static const struct verb *const verbs[] = {&mount, &unmount, &ls};

#define ARGS(...) ((char *[]){__VA_ARGS__, NULL})

static void sizes_and_numbers(void **state)
{
    (void)state;
    uint64_t n;
    assert_int_equal(cli_parse_size("10G", &n), 0);
    assert_true(n == UINT64_C(10) << 30);
    assert_int_equal(cli_parse_size("512MiB", &n), 0);
    assert_true(n == UINT64_C(512) << 20);
    assert_int_equal(cli_parse_size("7", &n), 0);
    assert_true(n == 7);
    static const char *const bad[] = {"", "G", "-1", "1.5G", "10X", "10GG", "99999999999999999999", "9999999999P", " 1", "1 "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cli_parse_size(bad[i], &n), -EINVAL);
    assert_int_equal(cli_parse_number("12", &n), 0);
    assert_int_equal(cli_parse_number("0x12", &n), -EINVAL);
    assert_int_equal(cli_parse_number("-3", &n), -EINVAL);
}

static void options_may_stand_anywhere(void **state)
{
    (void)state;
    bool flag = false, other = false;
    const char *text = NULL;
    uint64_t n = 0;
    const struct cli_option o[] = {{"flag", 'f', CLI_FLAG, &flag}, {"other", 'x', CLI_FLAG, &other}, {"text", 't', CLI_TEXT, &text}, {"n", 0, CLI_NUMBER, &n}};
    char **args = ARGS("ls", "a", "-fx", "--text=v", "--n", "3", "b", "--", "-c");
    assert_int_equal(cli_parse(&ls, 9, args, o, 4, 0, -1), 3);
    assert_true(flag && other);
    assert_string_equal(text, "v");
    assert_int_equal(n, 3);
    assert_string_equal(args[0], "a");
    assert_string_equal(args[1], "b");
    assert_string_equal(args[2], "-c");
    assert_int_equal(cli_parse(&ls, 3, ARGS("ls", "-tw", "-"), o, 4, 1, 1), 1);
    assert_string_equal(text, "w");
    assert_int_equal(cli_parse(&ls, 2, ARGS("ls", "--nonsense"), o, 4, 0, -1), -EINVAL);
    assert_int_equal(cli_parse(&ls, 2, ARGS("ls", "-z"), o, 4, 0, -1), -EINVAL);
    assert_int_equal(cli_parse(&ls, 2, ARGS("ls", "--text"), o, 4, 0, -1), -EINVAL);
    assert_int_equal(cli_parse(&ls, 2, ARGS("ls", "--flag=1"), o, 4, 0, -1), -EINVAL);
    assert_int_equal(cli_parse(&ls, 3, ARGS("ls", "--n", "x"), o, 4, 0, -1), -EINVAL);
    assert_int_equal(cli_parse(&ls, 1, ARGS("ls"), o, 4, 1, 1), -EINVAL);
    assert_int_equal(cli_parse(&ls, 3, ARGS("ls", "a", "b"), o, 4, 0, 1), -EINVAL);
}

static void the_nearest_verb_is_suggested(void **state)
{
    (void)state;
    assert_ptr_equal(cli_nearest(verbs, 3, "mont"), &mount);
    assert_ptr_equal(cli_nearest(verbs, 3, "umount"), &unmount);
    assert_null(cli_nearest(verbs, 3, "frobnicate"));
    assert_null(cli_nearest(verbs, 3, "x"));
    assert_int_equal(cli_run(verbs, 3, 2, ARGS("cairn", "mont")), CLI_USAGE);
    assert_int_equal(cli_run(verbs, 3, 1, ARGS("cairn")), CLI_USAGE);
    assert_int_equal(cli_run(verbs, 3, 2, ARGS("cairn", "--help")), CLI_DONE);
    ran = 0;
    assert_int_equal(cli_run(verbs, 3, 3, ARGS("cairn", "ls", "--help")), CLI_DONE);
    assert_int_equal(ran, 0);
    assert_int_equal(cli_run(verbs, 3, 4, ARGS("cairn", "ls", "--", "--help")), CLI_DONE);
    assert_int_equal(ran, 3);
}

static void places_in_drives(void **state)
{
    (void)state;
    static const struct {
        const char *text, *drive, *path;
        bool slash;
    } good[] = {
        {"work:/a/b", "work", "/a/b", false}, {"work:/a//b/", "work", "/a/b", true}, {"work:", "work", "/", false}, {"work:/", "work", "/", true},
        {":/x", NULL, "/x", false}, {"work:/./a/.", "work", "/a", false}, {"work:/a:b", "work", "/a:b", false},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CLEANUP_TARGET struct target t = {0};
        assert_int_equal(target_parse(good[i].text, &t), 0);
        assert_string_equal(t.path, good[i].path);
        assert_int_equal(t.slash, good[i].slash);
        if (good[i].drive)
            assert_string_equal(t.drive, good[i].drive);
        else
            assert_null(t.drive);
    }
    static const char *const bad[] = {"", "a", "/a/b", "./x:/y", "work:a", "work:/../x", "work:/a/.."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct target t;
        assert_int_equal(target_parse(bad[i], &t), -EINVAL);
    }
}

static void urls(void **state)
{
    (void)state;
    char url[CLI_URL_MAX];
    assert_int_equal(cli_normal_url("http://localhost:8080//", url), 0);
    assert_string_equal(url, "http://localhost:8080");
    static const char *const bad[] = {"", "localhost:8080", "ftp://x", "http://", "http:///", "http://a b", "http://u:p@host", "https://h?x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cli_normal_url(bad[i], url), -EINVAL);
}

static void mounts_are_found_in_mountinfo(void **state)
{
    (void)state;
    static const char text[] = "22 1 0:21 / / rw - ext4 /dev/sda1 rw\n"
                               "40 22 0:50 / /home/a\\040b\\134c rw,nosuid shared:5 - fuse.cairn cairn:my\\040drive rw,user_id=0\n"
                               "41 22 0:51 / /mnt rw - fuse.sshfs host: rw\n"
                               "42 22 0:52 / /x rw master:1 propagate_from:2 - fuse.cairn d rw\n"
                               "broken - fuse.cairn\n";
    CLEANUP_FILE FILE *f = fmemopen((char *)text, sizeof text - 1, "r");
    struct cli_mount *m;
    size_t n = cli_mounts_parse(f, &m);
    assert_int_equal(n, 2);
    assert_string_equal(m[0].dir, "/home/a b\\c");
    assert_string_equal(m[0].source, "cairn:my drive");
    assert_string_equal(m[1].dir, "/x");
    cli_mounts_free(m, n);
}

static void mount_options(void **state)
{
    (void)state;
    CLEANUP(mount_options_fini) struct mount_options o = {0};
    char **args = ARGS("mount", "-o", "timeout=5,uid=1000,gid=7,ro,_netdev", "--drive", "work", "-oallow_other,strict,max_read=4096,nosuid", "--cache-size", "1G", "/mnt");
    assert_int_equal(mount_options_parse(&mount, 9, args, &o), 0);
    assert_int_equal(o.timeout_s, 5);
    assert_true(o.has_uid && o.has_gid && o.read_only && o.allow_other && o.strict);
    assert_int_equal(o.uid, 1000);
    assert_int_equal(o.gid, 7);
    assert_true(o.cache_size == UINT64_C(1) << 30);
    assert_string_equal(o.drive, "work");
    assert_string_equal(o.dir, "/mnt");
    assert_string_equal(o.fuse_options, "max_read=4096,nosuid");
    static const char *const bad[] = {"timeout=0", "timeout=x", "uid=-1", "cache-size=10", "cache-size=many", "gid="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CLEANUP(mount_options_fini) struct mount_options b = {0};
        assert_int_equal(mount_options_parse(&mount, 4, ARGS("mount", "-o", (char *)bad[i], "/mnt"), &b), -EINVAL);
    }
}

static void mount_helpers_are_understood(void **state)
{
    (void)state;
    int n;
    assert_null(mount_helper_arguments(3, ARGS("cairn", "ls", "work:/"), &n));
    assert_null(mount_helper_arguments(4, ARGS("cairn", "mount", "--drive", "x"), &n));
    static char *const calls[][8] = {
        {"/usr/bin/cairn", "work", "/mnt", "-o", "rw,timeout=9", NULL},
        {"/sbin/mount.fuse.cairn", "work", "/mnt", "-s", "-o", "timeout=9", NULL},
    };
    for (int i = 0; i < 2; i++) {
        char **args = mount_helper_arguments(5 + i, (char **)calls[i], &n);
        assert_non_null(args);
        assert_string_equal(args[1], "mount");
        CLEANUP(mount_options_fini) struct mount_options o = {0};
        assert_int_equal(mount_options_parse(&mount, n - 1, args + 1, &o), 0);
        assert_string_equal(o.drive, "work");
        assert_string_equal(o.dir, "/mnt");
        assert_int_equal(o.timeout_s, 9);
        free(args);
    }
}

static void names_cannot_play_with_the_terminal(void **state)
{
    (void)state;
    assert_string_equal(cli_name("a\033[2Jb\nc"), "a?[2Jb?c");
    char size[32];
    assert_string_equal(cli_size(1536, size), "1.5 KiB");
    assert_string_equal(cli_size(12, size), "12 B");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_numbers),
        cmocka_unit_test(options_may_stand_anywhere),
        cmocka_unit_test(the_nearest_verb_is_suggested),
        cmocka_unit_test(places_in_drives),
        cmocka_unit_test(urls),
        cmocka_unit_test(mounts_are_found_in_mountinfo),
        cmocka_unit_test(mount_options),
        cmocka_unit_test(mount_helpers_are_understood),
        cmocka_unit_test(names_cannot_play_with_the_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
