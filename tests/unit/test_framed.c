/* Framed bodies: every length that a client states is checked against what it sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/framed.h"

#include <errno.h>
#include <string.h>

/* A body of which only the numbers vary. */
static int parse(const char *head_len, const char *head, const char *contents, struct framed *ret)
{
    CLEANUP_BUF struct buf b = {0};
    char len[32];
    const char *why;
    buf_append_str(&b, head);
    buf_append_str(&b, contents);
    snprintf(len, sizeof len, "%zu", strlen(head));
    struct framed f = {0};
    int err = framed_parse(head_len ? head_len : len, b.data, b.len, &f, &why);
    if (err)
        assert_non_null(why);
    if (ret && !err) {
        *ret = f;
        ret->contents[0].bytes = NULL; /* the body is gone */
    } else {
        framed_fini(&f);
    }
    return err;
}

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define CONTENT(size, stored, codec) "{\"sha256\":\"" ABC "\",\"size\":" #size ",\"stored\":" #stored ",\"codec\":\"" codec "\"}"

static void lengths_must_add_up(void **state)
{
    (void)state;
    struct framed f;
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(3, 3, "raw") "]}", "abc", &f), 0);
    assert_int_equal(f.n_contents, 1);
    assert_int_equal(f.contents[0].stored_size, 3);
    framed_fini(&f);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(3, 3, "raw") "]}", "ab", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(3, 3, "raw") "]}", "abcd", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(3, 3, "raw") "," CONTENT(3, 3, "raw") "]}", "abcab", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{}", "", NULL), 0);
    assert_int_equal(parse(NULL, "{}", "x", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(4, 3, "raw") "]}", "abc", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(0, 0, "raw") "]}", "", NULL), -EINVAL);
}

static void heads_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "-1", "1", "3x", "3", "99999999999999999999", " 2"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parse(bad[i], "{}", "", NULL), -EINVAL);
    const char *why;
    struct framed f;
    assert_int_equal(framed_parse(NULL, "{}", 2, &f, &why), -EINVAL);
    assert_int_equal(parse(NULL, "[]", "", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":{}}", "", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[1]}", "", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[{}]}", "", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(3, 3, "lzma") "]}", "abc", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(3, -3, "raw") "]}", "abc", NULL), -EINVAL);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(3, 65537, "zstd") "]}", "abc", NULL), -EMSGSIZE);
    assert_int_equal(parse(NULL, "{\"contents\":[" CONTENT(67108865, 3, "zstd") "]}", "abc", NULL), -EMSGSIZE);
}

static void contents_are_bounded_together(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf b = {0};
    buf_append_str(&b, "{\"contents\":[");
    for (int i = 0; i < 17; i++) /* 17 · 64 MiB */
        buf_append_str(&b, i ? "," CONTENT(67108864, 1, "zstd") : CONTENT(67108864, 1, "zstd"));
    buf_append_str(&b, "]}");
    assert_int_equal(parse(NULL, b.data, "aaaaaaaaaaaaaaaaa", NULL), -EMSGSIZE);
}

static void contents_are_what_they_say(void **state)
{
    (void)state;
    static char text[5000];
    memset(text, 'a', sizeof text);
    CLEANUP_BUF struct buf stored = {0};
    struct chunk_row c = {.size = sizeof text};
    c.codec = codec_encode(text, sizeof text, &stored);
    assert_int_equal(c.codec, CODEC_ZSTD);
    c.stored_size = (uint32_t)stored.len;
    c.bytes = stored.data;
    hash_bytes(text, sizeof text, &c.hash);

    CLEANUP_BUF struct buf head = {0};
    buf_append_str(&head, "{\"contents\":[");
    framed_describe(&head, &c);
    buf_append_str(&head, "]}");
    char len[32];
    snprintf(len, sizeof len, "%zu", head.len);
    buf_append(&head, stored.data, stored.len);
    struct framed f;
    const char *why;
    size_t bad;
    assert_int_equal(framed_parse(len, head.data, head.len, &f, &why), 0);
    assert_true(hash_equal(&f.contents[0].hash, &c.hash));
    assert_int_equal(framed_verify(&f, &bad), 0);

    f.contents[0].size--; /* decodes to more than it says */
    assert_int_equal(framed_verify(&f, &bad), -EBADMSG);
    f.contents[0].size += 2;
    assert_int_equal(framed_verify(&f, &bad), -EBADMSG);
    f.contents[0].size--;
    f.contents[0].hash.b[0] ^= 1;
    assert_int_equal(framed_verify(&f, &bad), -EBADMSG);
    assert_int_equal(bad, 0);
    framed_fini(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_must_add_up),
        cmocka_unit_test(heads_are_checked),
        cmocka_unit_test(contents_are_bounded_together),
        cmocka_unit_test(contents_are_what_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
