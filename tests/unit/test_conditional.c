/* What a Range header asks for, whether an entity tag is listed, and tokens of download URLs. */
#include "common/buf.h"
#include "gateway/api/conditional.h"
#include "gateway/api/json_out.h"
#include "gateway/api/signed_url.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void ranges_of_a_file(void **state)
{
    static const struct {
        const char *header;
        uint64_t size;
        enum range_kind kind;
        uint64_t from, to;
    } cases[] = {
        {NULL, 10, RANGE_ALL, 0, 0},
        {"bytes=0-4", 10, RANGE_PART, 0, 5},
        {"bytes=4-4", 10, RANGE_PART, 4, 5},
        {"bytes=0-9", 10, RANGE_PART, 0, 10},
        {"bytes=0-99", 10, RANGE_PART, 0, 10},
        {"bytes=3-", 10, RANGE_PART, 3, 10},
        {"bytes=9-", 10, RANGE_PART, 9, 10},
        {"bytes=-3", 10, RANGE_PART, 7, 10},
        {"bytes=-10", 10, RANGE_PART, 0, 10},
        {"bytes=-99", 10, RANGE_PART, 0, 10},
        {"Bytes = 1-2 ", 10, RANGE_PART, 1, 3},
        {"bytes=0-18446744073709551615", 10, RANGE_PART, 0, 10},
        {"bytes=0-99999999999999999999999", 10, RANGE_PART, 0, 10},
        /* not there */
        {"bytes=10-", 10, RANGE_NONE, 0, 0},
        {"bytes=10-20", 10, RANGE_NONE, 0, 0},
        {"bytes=-0", 10, RANGE_NONE, 0, 0},
        {"bytes=0-", 0, RANGE_NONE, 0, 0},
        {"bytes=-5", 0, RANGE_NONE, 0, 0},
        {"bytes=99999999999999999999999-", 10, RANGE_NONE, 0, 0},
        /* ignored */
        {"", 10, RANGE_ALL, 0, 0},
        {"bytes", 10, RANGE_ALL, 0, 0},
        {"bytes=", 10, RANGE_ALL, 0, 0},
        {"bytes=-", 10, RANGE_ALL, 0, 0},
        {"bytes=5-4", 10, RANGE_ALL, 0, 0},
        {"bytes=0-1,3-4", 10, RANGE_ALL, 0, 0},
        {"bytes=a-b", 10, RANGE_ALL, 0, 0},
        {"bytes=0-1x", 10, RANGE_ALL, 0, 0},
        {"bytes=+1-2", 10, RANGE_ALL, 0, 0},
        {"lines=0-1", 10, RANGE_ALL, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t from = 0, to = 0;
        print_message("%s of %llu\n", cases[i].header ? cases[i].header : "none", (unsigned long long)cases[i].size);
        assert_int_equal(range_parse(cases[i].header, cases[i].size, &from, &to), cases[i].kind);
        assert_int_equal(from, cases[i].from);
        assert_int_equal(to, cases[i].to);
    }
}

static void entity_tags(void **state)
{
    (void)state;
    assert_true(etag_listed("\"7\"", "\"7\"", false));
    assert_true(etag_listed(" * ", "\"7\"", false));
    assert_true(etag_listed("\"1\", \"7\"", "\"7\"", false));
    assert_true(etag_listed("\"1\",\"7\",\"9\"", "\"7\"", false));
    assert_true(etag_listed("W/\"7\"", "\"7\"", true));
    assert_false(etag_listed("W/\"7\"", "\"7\"", false));
    assert_false(etag_listed("\"77\"", "\"7\"", true));
    assert_false(etag_listed("7", "\"7\"", true));
    assert_false(etag_listed("", "\"7\"", true));
    assert_false(etag_listed("\"7", "\"7\"", true));
    assert_false(etag_listed("\"1\" nonsense \"7\"", "\"7\"", true));
}

static void tokens_open_what_they_were_made_for(void **state)
{
    static const uint8_t secret[32] = "one secret", other[32] = "another";
    struct signed_file f = {.ino = 42, .version = 1099511627777, .expires = 1000}, got;
    CLEANUP_BUF struct buf token = {0};
    (void)state;
    uuid_new(&f.drive);
    signed_url_make(secret, &f, "a b.txt", &token);
    assert_int_equal(strspn(token.data, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), token.len);

    assert_int_equal(signed_url_open(secret, token.data, "a b.txt", 999, &got), 0);
    assert_memory_equal(&got.drive, &f.drive, sizeof f.drive);
    assert_int_equal(got.ino, f.ino);
    assert_int_equal(got.version, f.version);
    assert_int_equal(got.expires, f.expires);

    assert_int_equal(signed_url_open(secret, token.data, "a b.txt", 1000, &got), -ETIME);
    assert_int_equal(signed_url_open(secret, token.data, "b b.txt", 999, &got), -EACCES);
    assert_int_equal(signed_url_open(other, token.data, "a b.txt", 999, &got), -EACCES);
    assert_int_equal(signed_url_open(secret, "", "a b.txt", 999, &got), -EACCES);
    assert_int_equal(signed_url_open(secret, "!", "a b.txt", 999, &got), -EACCES);
}

static void a_token_with_any_bit_changed_opens_nothing(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static const uint8_t secret[32] = "one secret";
    struct signed_file f = {.ino = 1, .version = 2, .expires = 1000}, got;
    CLEANUP_BUF struct buf token = {0};
    (void)state;
    signed_url_make(secret, &f, "x", &token);
    for (size_t i = 0; i < token.len; i++) {
        char was = token.data[i];
        token.data[i] = digits[((size_t)(strchr(digits, was) - digits) + 1) % 64];
        assert_int_equal(signed_url_open(secret, token.data, "x", 1, &got), -EACCES);
        token.data[i] = was;
    }
    token.data[token.len - 1] = 0;
    assert_int_equal(signed_url_open(secret, token.data, "x", 1, &got), -EACCES);
}

static void json_is_what_a_parser_reads(void **state)
{
    CLEANUP_BUF struct buf b = {0};
    struct hash none = {{0}};
    (void)state;
    jout_open(&b, NULL, '{');
    jout_str(&b, "text", "a \"b\" \\ \n \x01 \xc3\xa9 {[");
    jout_u64(&b, "zero", 0);
    jout_u64(&b, "large", INT64_MAX);
    jout_bytes(&b, "raw", "\xff\xfe", 2);
    jout_bytes(&b, "name", "plain", 5);
    jout_hash(&b, "hash", &none);
    jout_time(&b, "at", 1500000000);
    jout_open(&b, "list", '[');
    for (uint64_t i = 0; i < 3; i++)
        jout_u64(&b, NULL, i);
    jout_open(&b, NULL, '{');
    jout_close(&b, '}');
    jout_close(&b, ']');
    jout_bool(&b, "yes", true);
    jout_close(&b, '}');
    CLEANUP_JSON json_t *got = json_loads(b.data, 0, NULL);
    CLEANUP_JSON json_t *want = json_pack("{ss si sI ss ss sn ss s[iii{}] sb}", "text", "a \"b\" \\ \n \x01 \xc3\xa9 {[", "zero", 0, "large",
                                          (json_int_t)INT64_MAX, "raw64", "//4=", "name", "plain", "hash", "at", "1970-01-01T00:00:01.500Z", "list", 0, 1, 2, "yes", 1);
    assert_non_null(got);
    assert_true(json_equal(got, want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_of_a_file),
        cmocka_unit_test(entity_tags),
        cmocka_unit_test(tokens_open_what_they_were_made_for),
        cmocka_unit_test(a_token_with_any_bit_changed_opens_nothing),
        cmocka_unit_test(json_is_what_a_parser_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
