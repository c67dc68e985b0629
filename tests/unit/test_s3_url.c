/* What is read from an s3: URL, and what of it is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "common/url.h"
#include "gateway/adapters/s3_url.h"

#include <errno.h>
#include <string.h>

static void all_parts(void **state)
{
    (void)state;
    struct s3_config c;
    assert_int_equal(s3_url_parse("s3://KEY:a%2Fb%2Bc@my-bucket/?endpoint=https://S3.example:443/&region=eu-1&public-endpoint=http%3A%2F%2F10.0.0.1%3A9000", &c), 0);
    assert_string_equal(c.access_key, "KEY");
    assert_string_equal(c.secret_key, "a/b+c");
    assert_string_equal(c.bucket, "my-bucket");
    assert_string_equal(c.region, "eu-1");
    assert_string_equal(c.store.base, "https://s3.example");
    assert_string_equal(c.store.host, "s3.example");
    assert_string_equal(c.public.base, "http://10.0.0.1:9000");
    assert_true(c.path_style);
    s3_config_fini(&c);
    assert_int_equal(s3_url_parse("s3://KEY:s@my-bucket?endpoint=http://store:9000&path-style=0&public-endpoint=none", &c), 0);
    assert_string_equal(c.store.base, "http://my-bucket.store:9000");
    assert_null(c.public.base);
    s3_config_fini(&c);
}

static void credentials_from_elsewhere(void **state)
{
    (void)state;
    static const char url[] = "s3://bucket?endpoint=http://store:9000";
    char access[] = "/tmp/cairn-s3-access-XXXXXX";
    CLEANUP_CLOSE int fd = mkstemp(access);
    struct s3_config c;
    unsetenv("AWS_ACCESS_KEY_ID");
    assert_int_equal(s3_url_parse(url, &c), -EACCES);
    setenv("AWS_ACCESS_KEY_ID", "from-env", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    assert_int_equal(s3_url_parse(url, &c), 0);
    assert_string_equal(c.access_key, "from-env");
    s3_config_fini(&c);
    assert_int_equal(write(fd, "from-file\n", 10), 10);
    setenv("CAIRN_S3_ACCESS_KEY_FILE", access, 1);
    assert_int_equal(s3_url_parse(url, &c), 0);
    assert_string_equal(c.access_key, "from-file");
    assert_string_equal(c.secret_key, "secret");
    s3_config_fini(&c);
    unlink(access);
    unsetenv("CAIRN_S3_ACCESS_KEY_FILE");
}

static void what_is_wrong(void **state)
{
    (void)state;
    static const char *const bad[] = {"s3://", "s3://b?endpoint=http://h", "s3://Bucket?endpoint=http://h", "s3://bucket", "s3://bucket?endpoint=", "s3://bucket?endpoint=http://",
                                      "s3://bucket?endpoint=http://h/path", "s3://bucket?endpoint=http://h&x=1", "s3://key@bucket?endpoint=http://h",
                                      "s3://:s@bucket?endpoint=http://h", "s3://bucket?endpoint=http://h&path-style=maybe", "s3://bucket?endpoint=http://h&region=a/b",
                                      "s3://bucket?endpoint=http://h&public-endpoint=h", "s3://buc%ket?endpoint=http://h", "s3://buc%00ket?endpoint=http://h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!s3_url_wrong(bad[i]))
            fail_msg("taken: %s", bad[i]);
    assert_null(s3_url_wrong("s3://bucket?endpoint=http://[::1]:9000"));
}

static void secrets_are_not_shown(void **state)
{
    (void)state;
    static const char *const shown[][2] = {{"s3://k:secret@b?endpoint=http://h", "s3://k:***@b?endpoint=http://h"},
                                           {"s3://k:se/c@r/et@b", "s3://k:***@b"},
                                           {"postgres://user:pw@host:5432/db?x=1", "postgres://user:***@host:5432/db?x=1"},
                                           {"redis://:pw@host", "redis://:***@host"},
                                           {"redis://host:6379", "redis://host:6379"},
                                           {"file:/data", "file:/data"}};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        CLEANUP_FREE char *s = url_shown(shown[i][0]);
        assert_string_equal(s, shown[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_parts),
        cmocka_unit_test(credentials_from_elsewhere),
        cmocka_unit_test(what_is_wrong),
        cmocka_unit_test(secrets_are_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
