/* The worked examples of the Amazon S3 API Reference ("Signature Calculations for the Authorization Header", "Using Query Parameters"). Their signatures were computed a
   second time, by other code, from the canonical requests that the text gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gateway/adapters/s3_sign.h"

#include <string.h>

static struct s3_sign example(void)
{
    return (struct s3_sign){.access_key = "AKIAIOSFODNN7EXAMPLE",
                            .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                            .region = "us-east-1",
                            .method = "GET",
                            .host = "examplebucket.s3.amazonaws.com",
                            .path = "/",
                            .query = "",
                            .now_ns = INT64_C(1369353600) * 1000000000};
}

static void assert_header(const struct s3_sign *s, const char *body, const char *signed_headers, const char *signature)
{
    CLEANUP_BUF struct buf b = {0}, expected = {0};
    struct hash payload;
    hash_bytes(body, strlen(body), &payload);
    s3_sign_header(s, &payload, &b);
    buf_appendf(&expected, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=%s,Signature=%s", signed_headers, signature);
    assert_string_equal(b.data, expected.data);
}

static void get_object(void **state)
{
    (void)state;
    struct s3_sign s = example();
    s.path = "/test.txt";
    s.headers[s.n_headers++] = (struct s3_header){"range", "bytes=0-9"};
    assert_header(&s, "", "host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void put_object(void **state)
{
    (void)state;
    struct s3_sign s = example();
    CLEANUP_BUF struct buf path = {0};
    s3_encode(&path, "/test$file.text", true);
    assert_string_equal(path.data, "/test%24file.text");
    s.method = "PUT";
    s.path = path.data;
    /* in an order that is not that of their names */
    s.headers[s.n_headers++] = (struct s3_header){"x-amz-storage-class", "REDUCED_REDUNDANCY"};
    s.headers[s.n_headers++] = (struct s3_header){"date", "Fri, 24 May 2013 00:00:00 GMT"};
    assert_header(&s, "Welcome to Amazon S3.", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                  "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void queries(void **state)
{
    (void)state;
    struct s3_sign s = example();
    s.query = "lifecycle=";
    assert_header(&s, "", "host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    s.query = "max-keys=2&prefix=J";
    assert_header(&s, "", "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void presigned(void **state)
{
    (void)state;
    struct s3_sign s = example();
    CLEANUP_BUF struct buf b = {0};
    s.path = "/test.txt";
    s3_sign_query(&s, 86400, &b);
    assert_string_equal(b.data, "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
                                "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
                                "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

static void encoding(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf b = {0};
    s3_encode(&b, "a/b c~-._ä=+", true);
    assert_string_equal(b.data, "a/b%20c~-._%C3%A4%3D%2B");
    b.len = 0;
    s3_encode(&b, "a/b", false);
    assert_string_equal(b.data, "a%2Fb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_object), cmocka_unit_test(put_object), cmocka_unit_test(queries), cmocka_unit_test(presigned), cmocka_unit_test(encoding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
