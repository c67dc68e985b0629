/* Options: where each value comes from, and what is refused at start, by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/config.h"

#include <errno.h>
#include <string.h>

#define ARGS_MAX 16

static int parse(enum verb verb, const char *line, struct config *ret, struct buf *why)
{
    static char words[512];
    char *argv[ARGS_MAX], *save = NULL;
    int argc = 0;
    snprintf(words, sizeof words, "%s", line);
    for (char *w = strtok_r(words, " ", &save); w && argc < ARGS_MAX; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    buf_fini(why);
    return config_parse(verb, argc, argv, ret, why);
}

static void embedded_is_short_for_its_parts(void **state)
{
    (void)state;
    struct config c;
    CLEANUP_BUF struct buf why = {0};
    assert_int_equal(parse(VERB_SERVE, "--embedded /data", &c, &why), 0);
    assert_string_equal(c.meta, "sqlite:/data/meta.db");
    assert_string_equal(c.objects, "file:/data/objects");
    assert_string_equal(c.listen, "127.0.0.1:8080");
    assert_int_equal(c.workers, 1);
    config_fini(&c);
}

static void options_are_taken_in_both_forms(void **state)
{
    (void)state;
    struct config c;
    CLEANUP_BUF struct buf why = {0};
    assert_int_equal(parse(VERB_SERVE, "--meta sqlite:/a --objects=file:/b --listen [::1]:0 --rate-limit=2.5 --log-level debug --public-url https://cairn.example:8443 --rate-limit 0", &c, &why), 0);
    assert_string_equal(c.meta, "sqlite:/a");
    assert_string_equal(c.objects, "file:/b");
    assert_string_equal(c.listen, "[::1]:0");
    assert_true(c.rate_limit == 0); /* the last one counts */
    assert_int_equal(c.log_level, LOG_LEVEL_DEBUG);
    config_fini(&c);
}

static void the_environment_is_overruled_by_the_command_line(void **state)
{
    (void)state;
    struct config c;
    CLEANUP_BUF struct buf why = {0};
    setenv("CAIRN_EMBEDDED", "/env", 1);
    setenv("CAIRN_PUBLIC_URL", "http://env", 1);
    setenv("CAIRN_LISTEN", "0.0.0.0:9000", 1);
    assert_int_equal(parse(VERB_SERVE, "--listen 127.0.0.1:1", &c, &why), 0);
    assert_string_equal(c.meta, "sqlite:/env/meta.db");
    assert_string_equal(c.public_url, "http://env");
    assert_string_equal(c.listen, "127.0.0.1:1");
    config_fini(&c);
    /* another way to say where things are replaces the whole of it */
    assert_int_equal(parse(VERB_SERVE, "--meta sqlite:/x --objects file:/y", &c, &why), 0);
    assert_null(c.embedded);
    assert_string_equal(c.meta, "sqlite:/x");
    config_fini(&c);
    setenv("CAIRN_LISTEN", "nonsense", 1);
    assert_int_equal(parse(VERB_SERVE, "", &c, &why), -EINVAL);
    assert_non_null(strstr(why.data, "$CAIRN_LISTEN \"nonsense\""));
    unsetenv("CAIRN_EMBEDDED");
    unsetenv("CAIRN_PUBLIC_URL");
    unsetenv("CAIRN_LISTEN");
}

static void bad_values_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } bad[] = {
        {"", "--embedded"},
        {"--embedded", "--embedded"},
        {"--embedded=", "--embedded"},
        {"--meta sqlite:/a", "--objects"},
        {"--embedded /d --wings 2", "--wings"},
        {"--embedded /d -x", "-x"},
        {"--embedded /d extra", "extra"},
        {"--embedded /d --listen 8080", "--listen \"8080\""},
        {"--embedded /d --listen :8080", "--listen"},
        {"--embedded /d --listen 127.0.0.1:65536", "--listen"},
        {"--embedded /d --listen ::1:8080", "--listen"},
        {"--embedded /d --listen 127.0.0.1:80x", "--listen"},
        {"--embedded /d --workers 0", "--workers \"0\""},
        {"--embedded /d --workers 4", "--workers 4"},
        {"--embedded /d --workers -1", "--workers"},
        {"--embedded /d --rate-limit many", "--rate-limit"},
        {"--embedded /d --rate-limit -1", "--rate-limit"},
        {"--embedded /d --rate-limit nan", "--rate-limit"},
        {"--embedded /d --log-level loud", "--log-level \"loud\""},
        {"--embedded /d --public-url cairn.example", "--public-url"},
        {"--embedded /d --public-url http://host/path", "--public-url"},
        {"--embedded /d --meta mysql://x", "--meta \"mysql://x\""},
        {"--embedded /d --meta postgres://h:port:x/%zz", "--meta \"postgres://"},
        {"--embedded /d --meta sqlite:", "--meta"},
        {"--embedded /d --objects s3://x", "--objects"},
        {"--embedded /d --objects s3://bucket", "endpoint"},
        {"--embedded /d --objects s3://user:pass/word@bucket?endpoint=ftp://host", "\"s3://user:***@bucket?"},
        {"--embedded /d --objects s3://bucket?endpoint=http://host&reigon=x", "region"},
        {"--embedded /d --cache redis://x/y", "--cache"},
        {"--embedded /d --events http://x", "--events"},
        {"--embedded /d --owner ann", "--owner"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct config c;
        CLEANUP_BUF struct buf why = {0};
        if (parse(VERB_SERVE, bad[i].line, &c, &why) != -EINVAL)
            fail_msg("taken: %s", bad[i].line);
        if (!strstr(why.data, bad[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].line, why.data, bad[i].says);
    }
}

static void admin_takes_words_and_its_own_options(void **state)
{
    (void)state;
    struct config c;
    CLEANUP_BUF struct buf why = {0};
    assert_int_equal(parse(VERB_ADMIN, "drive create work --owner ann --embedded /d", &c, &why), 0);
    assert_int_equal(c.n_positional, 3);
    assert_string_equal(c.positional[2], "work");
    assert_string_equal(c.owner, "ann");
    config_fini(&c);
    assert_int_equal(parse(VERB_ADMIN, "user add ann --password-stdin --admin --days 7 --embedded /d", &c, &why), 0);
    assert_true(c.password_stdin && c.admin);
    assert_int_equal(c.days, 7);
    config_fini(&c);
    assert_int_equal(parse(VERB_ADMIN, "user token ann --days 0 --embedded /d", &c, &why), -EINVAL);
    assert_int_equal(parse(VERB_ADMIN, "user list --listen 127.0.0.1:1 --embedded /d", &c, &why), -EINVAL);
}

static void sizes_have_units(void **state)
{
    (void)state;
    uint64_t n = 0;
    assert_int_equal(config_parse_size("10G", &n), 0);
    assert_true(n == UINT64_C(10) << 30);
    assert_int_equal(config_parse_size("512k", &n), 0);
    assert_true(n == 512 << 10);
    assert_int_equal(config_parse_size("3MiB", &n), 0);
    assert_true(n == 3 << 20);
    assert_int_equal(config_parse_size("0", &n), 0);
    assert_true(n == 0);
    static const char *const bad[] = {"", "G", "-1", "1.5G", "10X", "10GG", "9999999T", "99999999999999999999", " 1", "0x10"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(config_parse_size(bad[i], &n), -EINVAL);
}

static void names_follow_rules(void **state)
{
    (void)state;
    static const char *const users[] = {"ann", "a", "7of9", "ann.b-c_d", "ann@example.org"};
    static const char *const no_users[] = {"", "-ann", ".ann", "ann b", "ann/b", "änn", "ann:b", "0123456789012345678901234567890123456789012345678901234567890123x"};
    static const char *const drives[] = {"home", "Bilder 2026", "Fotos – Ä", "a.b"};
    static const char *const no_drives[] = {"", ".", "..", ".x", " x", "x ", "a/b", "a:b", "a\nb", "caf\xe9", "01890a5d-ac96-774b-bcce-b302099a8057"};
    for (size_t i = 0; i < sizeof users / sizeof *users; i++)
        assert_null(config_user_name_wrong(users[i]));
    for (size_t i = 0; i < sizeof no_users / sizeof *no_users; i++)
        assert_non_null(config_user_name_wrong(no_users[i]));
    for (size_t i = 0; i < sizeof drives / sizeof *drives; i++)
        assert_null(config_drive_name_wrong(drives[i]));
    for (size_t i = 0; i < sizeof no_drives / sizeof *no_drives; i++)
        assert_non_null(config_drive_name_wrong(no_drives[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedded_is_short_for_its_parts),
        cmocka_unit_test(options_are_taken_in_both_forms),
        cmocka_unit_test(the_environment_is_overruled_by_the_command_line),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(admin_takes_words_and_its_own_options),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(names_follow_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
