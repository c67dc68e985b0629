/* STOMP frames as clients send them: whole, in pieces, several at once, and broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/stomp.h"

#include <errno.h>
#include <string.h>

static int parse(enum stomp_version v, const char *bytes, size_t n, struct stomp_frame *ret)
{
    struct stomp_parser p;
    const char *why;
    stomp_parser_init(&p, 1000);
    p.version = v;
    stomp_feed(&p, bytes, n);
    int got = stomp_next(&p, ret, &why);
    stomp_parser_fini(&p);
    return got;
}
#define PARSE(v, literal, ret) parse(v, literal, sizeof literal - 1, ret)

static void reads_a_frame(void **state)
{
    (void)state;
    struct stomp_frame f;
    assert_int_equal(PARSE(STOMP_12, "\n\r\nSUBSCRIBE\r\nid:7\r\ndestination:/topic/x\r\nid:8\r\n\r\n\0", &f), 1);
    assert_string_equal(f.command, "SUBSCRIBE");
    assert_string_equal(stomp_get(&f, "id"), "7"); /* the first one counts */
    assert_string_equal(stomp_get(&f, "destination"), "/topic/x");
    assert_null(stomp_get(&f, "ack"));
    assert_int_equal(f.body_len, 0);
    stomp_frame_fini(&f);
}

static void a_body_may_hold_nul(void **state)
{
    (void)state;
    struct stomp_frame f;
    assert_int_equal(PARSE(STOMP_12, "SEND\ncontent-length:3\n\na\0b\0", &f), 1);
    assert_int_equal(f.body_len, 3);
    assert_memory_equal(f.body, "a\0b", 4);
    stomp_frame_fini(&f);
    assert_int_equal(PARSE(STOMP_12, "SEND\n\nab\0", &f), 1);
    assert_string_equal(f.body, "ab");
    stomp_frame_fini(&f);
}

static void frames_come_in_pieces(void **state)
{
    (void)state;
    static const char bytes[] = "SEND\r\na:b\r\ncontent-length:2\r\n\r\n\0x\0\n\nDISCONNECT\nreceipt:9\n\n\0";
    struct stomp_parser p;
    struct stomp_frame f;
    const char *why;
    int frames = 0;
    stomp_parser_init(&p, 1000);
    for (size_t i = 0; i < sizeof bytes - 1; i++) {
        stomp_feed(&p, bytes + i, 1);
        int got = stomp_next(&p, &f, &why);
        assert_true(got >= 0);
        if (got == 0)
            continue;
        if (frames++ == 0) {
            assert_string_equal(f.command, "SEND");
            assert_memory_equal(f.body, "\0x", 3);
        } else {
            assert_string_equal(stomp_get(&f, "receipt"), "9");
        }
        stomp_frame_fini(&f);
    }
    assert_int_equal(frames, 2);
    stomp_parser_fini(&p);
}

static void escapes_follow_the_version(void **state)
{
    (void)state;
    struct stomp_frame f;
    assert_int_equal(PARSE(STOMP_12, "M\nk\\cy:a\\nb\\\\c\\r\n\n\0", &f), 1);
    assert_string_equal(stomp_get(&f, "k:y"), "a\nb\\c\r");
    stomp_frame_fini(&f);
    assert_int_equal(PARSE(STOMP_11, "M\nk:a\\r\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "M\nk:a\\t\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "M\nk:a\\\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_10, "M\nk: a\\n\n\n\0", &f), 1);
    assert_string_equal(stomp_get(&f, "k"), "a\\n");
    stomp_frame_fini(&f);
    assert_int_equal(PARSE(STOMP_12, "CONNECT\nk:a\\n:b\n\n\0", &f), 1); /* CONNECT is not escaped */
    assert_string_equal(stomp_get(&f, "k"), "a\\n:b");
    stomp_frame_fini(&f);
}

static void broken_frames_are_refused(void **state)
{
    (void)state;
    struct stomp_frame f;
    assert_int_equal(PARSE(STOMP_12, "SEND\nno colon\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "SEND\n:x\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "SEND\ncontent-length:-1\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "SEND\ncontent-length:99999999999999999999\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "SEND\ncontent-length:1001\n\n", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "SEND\ncontent-length:1\n\nabc\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "SEND\na:\xff\n\n\0", &f), -EPROTO);
    assert_int_equal(PARSE(STOMP_12, "SE\0ND\na:b\n\n\0", &f), -EPROTO);
    CLEANUP_BUF struct buf big = {0};
    buf_append_str(&big, "SEND\n");
    for (int i = 0; i < 40; i++)
        buf_append_str(&big, "a:b\n");
    buf_append(&big, "\n\0", 2);
    assert_int_equal(parse(STOMP_12, big.data, big.len, &f), -EPROTO);
    for (int i = 0; i < 20000; i++)
        buf_append_str(&big, "x");
    assert_int_equal(parse(STOMP_12, big.data + big.len - 20000, 20000, &f), -EPROTO);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    for (int v = STOMP_11; v <= STOMP_12; v++) {
        CLEANUP_BUF struct buf out = {0};
        struct stomp_frame f;
        stomp_begin(&out, "MESSAGE");
        stomp_header(&out, (enum stomp_version)v, true, "a:b", "c\nd\\:");
        stomp_end(&out, "x\0y", 3);
        assert_int_equal(parse((enum stomp_version)v, out.data, out.len, &f), 1);
        assert_string_equal(stomp_get(&f, "a:b"), "c\nd\\:");
        assert_int_equal(f.body_len, 3);
        stomp_frame_fini(&f);
    }
    CLEANUP_BUF struct buf out = {0};
    stomp_begin(&out, "RECEIPT");
    stomp_header(&out, STOMP_10, true, "receipt-id", "a:\nb"); /* cannot be said in 1.0; must not break the frame */
    stomp_end(&out, NULL, 0);
    assert_string_equal(out.data, "RECEIPT\nreceipt-id:a:b\n\n");
}

static void both_sides_agree(void **state)
{
    (void)state;
    enum stomp_version v;
    unsigned send, expect;
    assert_int_equal(stomp_negotiate(NULL, &v), 0);
    assert_int_equal(v, STOMP_10);
    assert_int_equal(stomp_negotiate("1.0,1.2,1.1", &v), 0);
    assert_int_equal(v, STOMP_12);
    assert_int_equal(stomp_negotiate("1.0, 1.1, 9.9", &v), 0);
    assert_int_equal(v, STOMP_11);
    assert_int_equal(stomp_negotiate("2.0", &v), -EPROTO);
    assert_int_equal(stomp_heartbeat(NULL, 10000, &send, &expect), 0);
    assert_int_equal(send, 0);
    assert_int_equal(expect, 0);
    assert_int_equal(stomp_heartbeat("20000,500", 10000, &send, &expect), 0);
    assert_int_equal(send, 10000);
    assert_int_equal(expect, 20000);
    assert_int_equal(stomp_heartbeat("0,30000", 10000, &send, &expect), 0);
    assert_int_equal(send, 30000);
    assert_int_equal(expect, 0);
    assert_int_equal(stomp_heartbeat("10", 10000, &send, &expect), -EPROTO);
    assert_int_equal(stomp_heartbeat("a,b", 10000, &send, &expect), -EPROTO);
    assert_int_equal(stomp_heartbeat("1,99999999999", 10000, &send, &expect), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_frame),           cmocka_unit_test(a_body_may_hold_nul),
        cmocka_unit_test(frames_come_in_pieces),   cmocka_unit_test(escapes_follow_the_version),
        cmocka_unit_test(broken_frames_are_refused), cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(both_sides_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
