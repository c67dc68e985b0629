/* What a real store cannot be made to do: failing now and then, cutting an answer, losing one, ignoring what it was asked to check. The store here is made up; that the
   adapter fits real ones is shown by ports/test_objects on each of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_http.h"
#include "gateway/ports/objects.h"

#include <pthread.h>
#include <stdatomic.h>

#define BUCKET "/bucket"

/* One object at a time is all it holds. */
struct store {
    struct fake_http http;
    struct objects *o;
    char *url;
    struct buf object;
    bool there, has_bucket;
    bool careless; /* checks neither sums nor conditions */
    enum { REFUSES, SEES_WHAT_IS_SIGNED, COPIES } unsigned_headers; /* refuses them; heeds them, unless others were signed (MinIO); copies in any case */
    /* faults, for requests of an object "t/…" */
    int fail_with, failures;   /* so many answers of this status; 0 cuts the connection */
    bool lose_answer;          /* of the next PUT, which is carried out */
    int cut_bodies;
    const char *error_code;
    const char *pages[3];
    char asked[3][1024];
    int page;
    const char *remove_answer;
    atomic_int requests, bucket_made;
};

static int probed(const struct store *s, const struct fake_request *req)
{
    char copied[256], another_sum[64], payload[80];
    bool right = memcmp(req->body.data, "cairn asks", 10) == 0, bound = strstr(req->path, "x-amz-copy-source");
    bool copies = fake_header(req->text, "x-amz-copy-source", copied, sizeof copied)[0] != 0;
    bool sums = fake_header(req->text, "x-amz-checksum-crc32", another_sum, sizeof another_sum)[0] != 0;
    if (bound && strlen(fake_header(req->text, "x-amz-content-sha256", payload, sizeof payload)) != HASH_HEX_LEN)
        return 403;
    if (s->careless)
        return 200;
    if (copies)
        return s->unsigned_headers == COPIES || (s->unsigned_headers == SEES_WHAT_IS_SIGNED && !bound) ? 200 : 403;
    if (sums)
        return s->unsigned_headers != REFUSES && !bound ? 200 : 400;
    return right ? 200 : 400;
}

static void put(struct store *s, const struct fake_request *req, struct fake_answer *ans)
{
    if (s->there && !s->careless) {
        ans->status = 412;
        return;
    }
    buf_fini(&s->object);
    buf_append(&s->object, req->body.data ? req->body.data : "", req->body.len);
    s->there = true;
    if (s->lose_answer)
        ans->status = 0;
    s->lose_answer = false;
}

static void object(struct store *s, const struct fake_request *req, struct fake_answer *ans)
{
    s->requests++;
    if (s->failures > 0) {
        s->failures--;
        ans->status = s->fail_with;
        if (s->error_code)
            buf_appendf(&ans->body, "<Error><Code>%s</Code></Error>", s->error_code);
    } else if (strcmp(req->method, "PUT") == 0) {
        put(s, req, ans);
    } else if (!s->there) {
        ans->status = 404;
    } else if (strcmp(req->method, "GET") == 0) {
        ans->status = 206;
        if (s->cut_bodies > 0) {
            s->cut_bodies--;
            ans->promised = s->object.len;
        } else {
            buf_append(&ans->body, s->object.data, s->object.len);
        }
    }
}

static void handle(void *ctx, const struct fake_request *req, struct fake_answer *ans)
{
    struct store *s = ctx;
    char value[256];
    bool presigned = strstr(req->path, "X-Amz-Signature=");
    if (strncmp(req->path, BUCKET "/probe/", 14) == 0 && presigned)
        ans->status = probed(s, req);
    else if (strncmp(req->path, BUCKET "/probe/", 14) == 0)
        ans->status = fake_header(req->text, "If-None-Match", value, sizeof value)[0] && !s->careless ? 412 : 200;
    else if (strncmp(req->path, BUCKET "/t/", 10) == 0)
        object(s, req, ans);
    else if (strstr(req->path, "list-type=2") && s->page < 3) {
        snprintf(s->asked[s->page], sizeof s->asked[0], "%s", req->path);
        buf_append_str(&ans->body, s->pages[s->page++]);
    } else if (strstr(req->path, "?delete=")) {
        buf_append_str(&ans->body, s->remove_answer);
    } else if (strcmp(req->method, "PUT") == 0) {
        s->has_bucket = true;
        s->bucket_made++;
    } else {
        ans->status = s->has_bucket ? 200 : 404;
    }
}

static void start(struct store *s)
{
    s->http.handle = handle;
    s->http.ctx = s;
    fake_start(&s->http, 0);
    s->url = mem_printf("s3://key:secret@bucket?endpoint=http://127.0.0.1:%d", s->http.port);
    assert_int_equal(objects_open(s->url, &s->o), 0);
}

static int setup(void **state)
{
    struct store *s = mem_alloc(sizeof *s);
    s->has_bucket = true;
    start(s);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct store *s = *state;
    s->o->ops->free(s->o);
    fake_stop(&s->http);
    buf_fini(&s->object);
    free(s->url);
    free(s);
    return 0;
}

static int put_text(struct store *s, const char *text)
{
    struct hash h;
    hash_bytes(text, strlen(text), &h);
    return s->o->ops->put(s->o, "t/a", text, strlen(text), &h);
}

static void what_fails_now_and_then_is_tried_again(void **state)
{
    struct store *s = *state;
    CLEANUP_BUF struct buf b = {0};
    s->fail_with = 503;
    s->failures = 2;
    assert_int_equal(put_text(s, "text"), 0);
    assert_int_equal(s->requests, 3);
    s->fail_with = 0; /* cut */
    s->failures = 2;
    assert_int_equal(s->o->ops->get(s->o, "t/a", 0, 4, &b), 0);
    assert_string_equal(b.data, "text");
}

static void an_answer_that_is_cut_leaves_nothing_behind(void **state)
{
    struct store *s = *state;
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(put_text(s, "text"), 0);
    s->cut_bodies = 1;
    assert_int_equal(s->o->ops->get(s->o, "t/a", 0, 4, &b), 0);
    assert_string_equal(b.data, "text");
}

static void a_put_whose_answer_was_lost_is_known_again(void **state)
{
    struct store *s = *state;
    s->lose_answer = true;
    assert_int_equal(put_text(s, "text"), 0);
    assert_int_equal(put_text(s, "more"), -EEXIST);
    assert_memory_equal(s->object.data, "text", 4);
}

static void what_goes_on_failing_ends(void **state)
{
    struct store *s = *state;
    s->fail_with = 500;
    s->failures = 1000000;
    assert_int_equal(put_text(s, "text"), -EIO);
    assert_true(s->requests > 3);
}

static void refusals_are_told_apart(void **state)
{
    struct store *s = *state;
    s->failures = 3;
    s->fail_with = 507;
    s->error_code = "XMinioStorageFull";
    assert_int_equal(put_text(s, "text"), -ENOSPC);
    s->fail_with = 403;
    s->error_code = "AccessDenied";
    assert_int_equal(put_text(s, "text"), -EACCES);
    s->error_code = "QuotaExceeded";
    assert_int_equal(put_text(s, "text"), -ENOSPC);
    assert_int_equal(s->requests, 3); /* none of them twice */
}

static void a_store_that_is_away_is_noticed_and_comes_back(void **state)
{
    struct store *s = *state;
    int port = s->http.port;
    fake_stop(&s->http);
    assert_int_equal(put_text(s, "text"), -EHOSTUNREACH);
    assert_int_equal(put_text(s, "text"), -EHOSTUNREACH);
    assert_int_equal(s->o->ops->ping(s->o), -EHOSTUNREACH);
    /* opened while it is away: no error, and it is asked what it can do when it is there */
    struct objects *second;
    CLEANUP_BUF struct buf url = {0}, headers = {0};
    struct hash h = {0};
    assert_int_equal(objects_open(s->url, &second), 0);
    assert_int_equal(second->ops->presign_put(second, "t/b", 1, &h, 60, &url, &headers), -ENOTSUP);
    fake_start(&s->http, port);
    assert_int_equal(s->o->ops->ping(s->o), 0);
    int err;
    while ((err = put_text(s, "text")) == -EHOSTUNREACH)
        usleep(50000);
    assert_int_equal(err, 0);
    while ((err = second->ops->presign_put(second, "t/b", 1, &h, 60, &url, &headers)) == -ENOTSUP)
        usleep(50000);
    assert_int_equal(err, 0);
    second->ops->free(second);
}

static void *put_it(void *arg)
{
    struct store *s = arg;
    return (void *)(intptr_t)put_text(s, "text");
}

static void a_store_that_comes_back_takes_every_put(void **state)
{
    struct store *s = *state;
    pthread_t threads[4];
    void *failed;
    int port = s->http.port;
    CLEANUP_BUF struct buf b = {0};
    fake_stop(&s->http);
    s->o->ops->free(s->o);
    assert_int_equal(objects_open(s->url, &s->o), 0);
    fake_start(&s->http, port);
    while (s->o->ops->get(s->o, "t/a", 0, 1, &b) == -EHOSTUNREACH)
        usleep(50000);
    usleep(600000); /* it is asked again after a pause */
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_it, s), 0);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

static void a_careless_store_is_not_relied_on(void **state)
{
    struct store *s = *state;
    CLEANUP_BUF struct buf url = {0}, headers = {0};
    struct hash h = {0};
    assert_int_equal(s->o->ops->presign_put(s->o, "t/b", 1, &h, 60, &url, &headers), 0);
    s->o->ops->free(s->o);
    s->careless = true;
    assert_int_equal(objects_open(s->url, &s->o), 0);
    assert_int_equal(s->o->ops->presign_put(s->o, "t/b", 1, &h, 60, &url, &headers), -ENOTSUP);
    assert_int_equal(put_text(s, "text"), 0);
    assert_int_equal(put_text(s, "more"), -EEXIST); /* looked first */
    assert_memory_equal(s->object.data, "text", 4);
}

static void reopen(struct store *s)
{
    s->o->ops->free(s->o);
    assert_int_equal(objects_open(s->url, &s->o), 0);
}

/* Some heed what was not signed: another sum to check, an object to copy from. Then that it is not there is signed as well; where that does not help, clients get no URLs. */
static void what_was_not_signed_must_not_count(void **state)
{
    struct store *s = *state;
    CLEANUP_BUF struct buf url = {0}, headers = {0};
    struct hash h = {0};
    assert_int_equal(s->o->ops->presign_put(s->o, "t/b", 1, &h, 60, &url, &headers), 0);
    assert_null(strstr(url.data, "x-amz-copy-source"));
    assert_null(strstr(headers.data, "x-amz-content-sha256"));
    s->unsigned_headers = SEES_WHAT_IS_SIGNED;
    reopen(s);
    buf_fini(&url);
    buf_fini(&headers);
    assert_int_equal(s->o->ops->presign_put(s->o, "t/b", 1, &h, 60, &url, &headers), 0);
    assert_non_null(strstr(url.data, "x-amz-copy-source%3Bx-amz-server-side-encryption-customer-algorithm&x-amz-copy-source=&x-amz-server-side-encryption-customer-algorithm=&X-Amz-Signature="));
    assert_non_null(strstr(headers.data, "\"x-amz-content-sha256\":\"0000"));
    s->unsigned_headers = COPIES;
    reopen(s);
    assert_int_equal(s->o->ops->presign_put(s->o, "t/b", 1, &h, 60, &url, &headers), -ENOTSUP);
}

static void a_bucket_that_is_missing_is_made(void **state)
{
    struct store *s = *state;
    assert_int_equal(s->bucket_made, 0);
    s->o->ops->free(s->o);
    s->has_bucket = false;
    assert_int_equal(objects_open(s->url, &s->o), 0);
    assert_int_equal(s->bucket_made, 1);
}

static int collect(void *ctx, const char *key, uint64_t size, int64_t modified_ns)
{
    buf_appendf(ctx, "%s=%d@%lld ", key, (int)size, (long long)(modified_ns / 1000000000));
    return 0;
}

static void a_list_goes_on_over_pages(void **state)
{
    struct store *s = *state;
    CLEANUP_BUF struct buf seen = {0};
    s->pages[0] = "<ListBucketResult xmlns=\"x\"><KeyCount>1</KeyCount><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b+/=</NextContinuationToken>"
                  "<Contents><Key>t/1</Key><LastModified>1970-01-01T00:00:05.000Z</LastModified><Size>7</Size></Contents></ListBucketResult>";
    s->pages[1] = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>t/Strange &lt;</Key><Size>1</Size><LastModified>1970-01-01T00:00:05.000Z</LastModified></Contents>"
                  "<Contents><Key>t/2</Key><Size>8</Size><LastModified>1970-01-01T00:00:06.000Z</LastModified></Contents></ListBucketResult>";
    assert_int_equal(s->o->ops->list(s->o, "t/", collect, &seen), 0);
    assert_string_equal(seen.data, "t/1=7@5 t/2=8@6 ");
    assert_non_null(strstr(s->asked[0], "?list-type=2&prefix=t%2F"));
    assert_non_null(strstr(s->asked[1], "?continuation-token=a%26b%2B%2F%3D&list-type=2&prefix=t%2F"));
}

static void a_removal_that_fails_for_one_key_is_told(void **state)
{
    struct store *s = *state;
    const char *const keys[] = {"t/a", "t/b"};
    s->remove_answer = "<DeleteResult><Error><Key>t/b</Key><Code>NoSuchKey</Code></Error></DeleteResult>";
    assert_int_equal(s->o->ops->remove_many(s->o, keys, 2), 0);
    s->remove_answer = "<DeleteResult><Error><Key>t/b</Key><Code>AccessDenied</Code></Error></DeleteResult>";
    assert_int_equal(s->o->ops->remove_many(s->o, keys, 2), -EACCES);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_fails_now_and_then_is_tried_again),
        TEST(an_answer_that_is_cut_leaves_nothing_behind),
        TEST(a_put_whose_answer_was_lost_is_known_again),
        TEST(what_goes_on_failing_ends),
        TEST(refusals_are_told_apart),
        TEST(a_store_that_is_away_is_noticed_and_comes_back),
        TEST(a_store_that_comes_back_takes_every_put),
        TEST(a_careless_store_is_not_relied_on),
        TEST(what_was_not_signed_must_not_count),
        TEST(a_bucket_that_is_missing_is_made),
        TEST(a_list_goes_on_over_pages),
        TEST(a_removal_that_fails_for_one_key_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
