/* The wire form of operations, and the small things that both programs stand on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base64.h"
#include "common/chunk.h"
#include "common/clock.h"
#include "common/codec.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "common/op.h"
#include "common/utf8.h"
#include "common/uuid_list.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int parse_op(const char *text, struct op *ret)
{
    CLEANUP_JSON json_t *o = jsonx_parse(text, strlen(text), NULL);
    assert_non_null(o);
    return op_from_json(o, ret, NULL);
}

static void operation_survives_the_wire(void **state)
{
    (void)state;
    struct op op = {.kind = OP_CREATE, .ino = 7, .parent = 1, .mode = S_IFLNK | 0777, .uid = 1000, .gid = 5};
    op.name = mem_strdup("caf\xe9"); /* not UTF-8 */
    op.target = mem_strdup("a/b");
    CLEANUP_JSON json_t *o = op_to_json(&op);
    assert_non_null(json_object_get(o, "name64"));
    struct op back;
    assert_int_equal(op_from_json(o, &back, NULL), 0);
    assert_string_equal(back.name, op.name);
    assert_string_equal(back.target, "a/b");
    assert_int_equal(back.mode, op.mode);
    assert_int_equal(back.uid, 1000);
    op_fini(&op);
    op_fini(&back);
}

static void bad_operations_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}", "[]", "{\"op\":\"fly\"}", "{\"op\":\"unlink\",\"parent\":1,\"name\":\"..\"}", "{\"op\":\"unlink\",\"parent\":1,\"name\":\"a/b\"}",
        "{\"op\":\"unlink\",\"parent\":-1,\"name\":\"a\"}", "{\"op\":\"unlink\",\"parent\":1,\"name\":\"\"}",
        "{\"op\":\"create\",\"parent\":1,\"name\":\"a\",\"ino\":2,\"mode\":420,\"uid\":0,\"gid\":0}",
        "{\"op\":\"commit\",\"ino\":2,\"size\":5,\"chunkSize\":3,\"changes\":[]}",
        "{\"op\":\"commit\",\"ino\":2,\"size\":5,\"chunkSize\":65536,\"changes\":[[1,null,0]]}",
        "{\"op\":\"setattr\",\"ino\":2}", "{\"op\":\"setattr\",\"ino\":2,\"mode\":\"x\"}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct op op;
        assert_int_not_equal(parse_op(bad[i], &op), 0);
    }
    char name[300], text[400];
    memset(name, 'x', 256);
    name[256] = 0;
    snprintf(text, sizeof text, "{\"op\":\"rmdir\",\"parent\":1,\"name\":\"%s\"}", name);
    struct op op;
    assert_int_equal(parse_op(text, &op), -ENAMETOOLONG);
}

static void json_is_strict(void **state)
{
    (void)state;
    char deep[4096];
    memset(deep, '[', 2000);
    assert_null(jsonx_parse(deep, 2000, NULL));
    assert_null(jsonx_parse("{\"a\":1,\"a\":2}", 13, NULL));
    assert_null(jsonx_parse("\"\xff\"", 3, NULL));
    assert_null(jsonx_parse("", 0, NULL));
    assert_true(utf8_valid("h\xc3\xa4", 3));
    assert_false(utf8_valid("\xed\xa0\x80", 3));
    assert_false(utf8_valid("\xc0\x80", 2));
}

static void codec_gives_back_what_went_in(void **state)
{
    (void)state;
    static char text[200000], back[200000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)("abcdefg"[i % 7]);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(codec_encode(text, sizeof text, &b), CODEC_ZSTD);
    assert_true(b.len < 2000);
    assert_int_equal(codec_decode(CODEC_ZSTD, b.data, b.len, back, sizeof back), 0);
    assert_memory_equal(text, back, sizeof text);
    assert_int_equal(codec_decode(CODEC_ZSTD, b.data, b.len - 1, back, sizeof back), -EBADMSG);
    assert_int_equal(codec_decode(CODEC_RAW, "ab", 2, back, 3), -EBADMSG);
}

static void times_and_ids(void **state)
{
    (void)state;
    int64_t ns;
    char text[CLOCK_TEXT];
    assert_int_equal(clock_parse_rfc3339("2026-11-24T14:10:37.123Z", &ns), 0);
    clock_format_rfc3339(ns, text);
    assert_string_equal(text, "2026-11-24T14:10:37.123Z");
    assert_int_equal(clock_parse_rfc3339("2026-11-24T16:10:37+02:00", &ns), 0);
    clock_format_path(ns, text);
    assert_string_equal(text, "2026-11-24T14-10-37Z");
    assert_int_equal(clock_parse_path("2026-06-31T00-00-00Z", &ns), -EINVAL);
    struct uuid u, v;
    char id[UUID_TEXT];
    uuid_new(&u);
    uuid_text(&u, id);
    assert_int_equal(uuid_parse(id, &v), 0);
    assert_true(uuid_equal(&u, &v));
    assert_int_equal(uuid_parse("0190-", &v), -EINVAL);
}

static void a_list_has_each_id_once_when_sorted(void **state)
{
    (void)state;
    CLEANUP(uuid_list_fini) struct uuid_list l = {0};
    struct uuid other;
    uuid_new(&other);
    uuid_list_sort(&l);
    assert_false(uuid_list_has(&l, &other));
    for (int round = 0; round < 3; round++)
        for (uint8_t i = 100; i > 0; i--)
            uuid_list_add(&l, &(struct uuid){.b = {i}});
    assert_int_equal(l.n, 300);
    uuid_list_sort(&l);
    assert_int_equal(l.n, 100);
    for (uint8_t i = 0; i < 100; i++)
        assert_int_equal(l.ids[i].b[0], i + 1);
    uuid_list_add(&l, &other); /* there is room behind those that went */
    assert_true(uuid_list_has(&l, &other));
}

static void base64_round_trip(void **state)
{
    (void)state;
    for (size_t n = 0; n < 40; n++) {
        uint8_t in[40];
        for (size_t i = 0; i < n; i++)
            in[i] = (uint8_t)(i * 37 + n);
        for (int url = 0; url < 2; url++) {
            CLEANUP_BUF struct buf text = {0}, out = {0};
            base64_append(&text, in, n, url);
            assert_int_equal(base64_decode(text.data ? text.data : "", text.len, url, &out), 0);
            assert_int_equal(out.len, n);
            if (n)
                assert_memory_equal(out.data, in, n);
        }
    }
}

static void chunks_cover_the_file(void **state)
{
    (void)state;
    assert_int_equal(chunk_count(0, CHUNK_SIZE_MIN), 0);
    assert_int_equal(chunk_count(CHUNK_SIZE_MIN, CHUNK_SIZE_MIN), 1);
    assert_int_equal(chunk_count(CHUNK_SIZE_MIN + 1, CHUNK_SIZE_MIN), 2);
    assert_int_equal(chunk_length(CHUNK_SIZE_MIN + 1, CHUNK_SIZE_MIN, 1), 1);
    assert_int_equal(chunk_length(10, CHUNK_SIZE_MIN, 1), 0);
    assert_false(chunk_size_valid(CHUNK_SIZE_MIN + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operation_survives_the_wire), cmocka_unit_test(bad_operations_are_refused),
        cmocka_unit_test(json_is_strict),              cmocka_unit_test(codec_gives_back_what_went_in),
        cmocka_unit_test(times_and_ids),               cmocka_unit_test(base64_round_trip),
        cmocka_unit_test(chunks_cover_the_file),       cmocka_unit_test(a_list_has_each_id_once_when_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
