/* The load generator's figures and parsers: a bench that reads wrong measures nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/bench/load/histogram.h"
#include "tests/bench/load/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void small_values_are_exact(void **state)
{
    (void)state;
    struct histogram h = {0};
    assert_int_equal(histogram_percentile(&h, 99), 0);
    for (uint64_t v = 1; v <= 50; v++)
        histogram_add(&h, v);
    assert_int_equal(histogram_percentile(&h, 50), 25);
    assert_int_equal(histogram_percentile(&h, 2), 1);
    assert_int_equal(histogram_percentile(&h, 100), 50);
    assert_int_equal(h.count, 50);
    assert_int_equal(h.sum, 1275);
}

static void any_value_is_within_a_thirty_second(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 62; bit++)
        for (uint64_t k = 0; k < 70; k++) {
            struct histogram h = {0};
            uint64_t v = (UINT64_C(1) << bit) + (bit > 6 ? k << (bit - 6) : k);
            histogram_add(&h, v);
            histogram_add(&h, INT64_MAX); /* so that the maximum does not help */
            uint64_t got = histogram_percentile(&h, 50);
            assert_true(got >= v && got - v <= v / 32);
        }
}

static void percentiles_are_those_of_a_sorted_list(void **state)
{
    (void)state;
    struct histogram a = {0}, b = {0};
    for (uint64_t v = 1; v <= 100000; v++)
        histogram_add(v & 1 ? &a : &b, v * 7);
    histogram_merge(&a, &b);
    const double percents[] = {1, 50, 90, 99, 99.9, 99.99};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        double wanted = percents[i] * 1000 * 7, got = (double)histogram_percentile(&a, percents[i]);
        assert_true(got >= wanted - 7 && got <= wanted * 33 / 32 + 7);
    }
    assert_int_equal(histogram_percentile(&a, 100), 700000);
    assert_int_equal(a.count, 100000);
    histogram_add(&a, UINT64_MAX); /* beyond all: kept as the largest */
    assert_int_equal(a.max, INT64_MAX);
}

#define HEAD(text, ret) http_head_parse(text, sizeof text - 1, false, ret)

static void reads_heads(void **state)
{
    (void)state;
    struct http_head h;
    static const char text[] = "HTTP/1.1 200 OK\r\ncontent-LENGTH:  12\r\nConnection: close\r\n\r\nhello";
    assert_int_equal(HEAD(text, &h), 1);
    assert_int_equal(h.status, 200);
    assert_int_equal(h.body, 12);
    assert_true(h.close);
    assert_int_equal(h.length, sizeof text - 1 - 5);
    for (size_t n = 0; n < h.length; n++)
        assert_int_equal(http_head_parse(text, n, false, &h), 0);
    assert_int_equal(HEAD("HTTP/1.1 204 No Content\r\n\r\n", &h), 1);
    assert_int_equal(h.body, 0);
    assert_int_equal(HEAD("HTTP/1.1 101 Switching Protocols\r\n\r\n", &h), 1);
    assert_int_equal(http_head_parse("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 38, true, &h), 1);
    assert_int_equal(h.body, 0);
}

static void refuses_heads_that_it_would_misread(void **state)
{
    (void)state;
    struct http_head h;
    assert_int_equal(HEAD("HTTP/1.1 200 OK\r\n\r\n", &h), -1); /* how long is the body? */
    assert_int_equal(HEAD("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", &h), -1);
    assert_int_equal(HEAD("HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", &h), -1);
    assert_int_equal(HEAD("SSH-2.0-x\r\n\r\nlonger than a status line", &h), -1);
    assert_int_equal(HEAD("HTTP/1.1 2x0 OK\r\n\r\n", &h), -1);
}

static void reads_frames(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536, 70000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CLEANUP_BUF struct buf b = {0};
        size_t n = sizes[i], at = 2;
        unsigned char head[10] = {0x81};
        if (n < 126) {
            head[1] = (unsigned char)n;
        } else {
            unsigned bytes = n < 65536 ? 2 : 8;
            head[1] = bytes == 2 ? 126 : 127;
            for (unsigned k = 0; k < bytes; k++)
                head[at++] = (unsigned char)((uint64_t)n >> 8 * (bytes - 1 - k));
        }
        buf_append(&b, head, at);
        for (size_t k = 0; k < n; k++)
            buf_append(&b, "x", 1);
        struct ws_frame f;
        for (size_t k = 0; k < at; k++)
            assert_int_equal(ws_frame_parse(b.data, k < b.len ? k : 0, &f), 0);
        assert_int_equal(ws_frame_parse(b.data, b.len, &f), 1);
        assert_int_equal(f.length, n);
        assert_int_equal(f.whole, b.len);
        assert_int_equal(f.opcode, WS_TEXT);
        assert_true(f.final);
        if (n)
            assert_int_equal(ws_frame_parse(b.data, b.len - 1, &f), 0);
    }
    struct ws_frame f;
    assert_int_equal(ws_frame_parse("\x81\x81mmmmx", 7, &f), -1); /* a server does not mask */
    assert_int_equal(ws_frame_parse("\xc1\x01x", 3, &f), -1);     /* nor has it extensions */
    assert_int_equal(ws_frame_parse("\x81\x7f\x7f\0\0\0\0\0\0\0", 10, &f), -1);
}

static void writes_frames_as_clients_do(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 5, 126, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CLEANUP_BUF struct buf b = {0};
        char *text = calloc(1, sizes[i] + 1);
        memset(text, 'a', sizes[i]);
        ws_frame_put(&b, WS_PONG, text, sizes[i]);
        const unsigned char *p = (const unsigned char *)b.data;
        size_t at = sizes[i] < 126 ? 2 : sizes[i] < 65536 ? 4 : 10;
        assert_int_equal(p[0], 0x8a);
        assert_true(p[1] & 0x80);
        assert_int_equal(b.len, at + 4 + sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[at + 4 + k] ^ p[at + (k & 3)], 'a');
        free(text);
    }
}

static void reads_urls(void **state)
{
    (void)state;
    struct address a;
    const char *path;
    assert_int_equal(url_parse("http://127.0.0.1:8080/a?b", &a, &path), 0);
    assert_string_equal(a.host, "127.0.0.1");
    assert_string_equal(a.port, "8080");
    assert_string_equal(path, "/a?b");
    assert_int_equal(url_parse("http://host", &a, &path), 0);
    assert_string_equal(a.port, "80");
    assert_string_equal(path, "");
    assert_int_equal(url_parse("https://host", &a, &path), -EINVAL);
    assert_int_equal(url_parse("http://:80/", &a, &path), -EINVAL);
    assert_int_equal(url_parse("http://h:8x/", &a, &path), -EINVAL);
    assert_int_equal(url_parse("http://h:123456789/", &a, &path), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(any_value_is_within_a_thirty_second),
        cmocka_unit_test(percentiles_are_those_of_a_sorted_list),
        cmocka_unit_test(reads_heads),
        cmocka_unit_test(refuses_heads_that_it_would_misread),
        cmocka_unit_test(reads_frames),
        cmocka_unit_test(writes_frames_as_clients_do),
        cmocka_unit_test(reads_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
