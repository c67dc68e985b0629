/* The port to an object store. $CAIRN_TEST_OBJECTS names the store to test; without it, a fresh folder. Keys are fresh in each test, as the port asks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mem.h"
#include "common/uuid.h"
#include "gateway/ports/objects.h"

#include <curl/curl.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    char dir[64];
    char *url;
    struct objects *o;
    char prefix[64]; /* "test/UUID/" */
    char key[80];
};
#define CALL(f, fn, ...) ((f)->o->ops->fn((f)->o, __VA_ARGS__))

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    const char *url = getenv("CAIRN_TEST_OBJECTS");
    strcpy(f->dir, "/tmp/cairn-objects-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->url = url ? mem_strdup(url) : mem_printf("file:%s/objects", f->dir);
    assert_int_equal(objects_open(f->url, &f->o), 0);
    struct uuid id;
    char text[UUID_TEXT];
    uuid_new(&id);
    uuid_text(&id, text);
    snprintf(f->prefix, sizeof f->prefix, "test/%s/", text);
    snprintf(f->key, sizeof f->key, "%sa", f->prefix);
    *state = f;
    return 0;
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
    (void)st;
    (void)type;
    (void)w;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->o->ops->free(f->o);
    nftw(f->dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f->url);
    free(f);
    return 0;
}

static int put(struct fixture *f, const char *key, const char *text)
{
    struct hash h;
    hash_bytes(text, strlen(text), &h);
    return CALL(f, put, key, text, strlen(text), &h);
}

static void an_object_is_there_after_a_restart(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(f->o->ops->ping(f->o), 0);
    assert_int_equal(put(f, f->key, "hello world"), 0);
    f->o->ops->free(f->o);
    assert_int_equal(objects_open(f->url, &f->o), 0);
    CLEANUP_BUF struct buf b = {0};
    buf_append_str(&b, ">");
    assert_int_equal(CALL(f, get, f->key, 0, 11, &b), 0);
    assert_string_equal(b.data, ">hello world");
    assert_int_equal(CALL(f, get, f->key, 6, 3, &b), 0);
    assert_string_equal(b.data, ">hello worldwor");
}

static void an_object_is_never_replaced(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put(f, f->key, "first"), 0);
    assert_int_equal(put(f, f->key, "other"), -EEXIST);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(CALL(f, get, f->key, 0, 5, &b), 0);
    assert_string_equal(b.data, "first");
}

static void a_range_beyond_the_end_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(CALL(f, get, f->key, 0, 1, &b), -ENOENT);
    assert_int_equal(put(f, f->key, "12345"), 0);
    assert_int_equal(CALL(f, get, f->key, 3, 3, &b), -ERANGE);
    assert_int_equal(CALL(f, get, f->key, 6, 0, &b), -ERANGE);
    assert_int_equal(CALL(f, get, f->key, 2, UINT64_MAX, &b), -ERANGE);
    assert_int_equal(b.len, 0);
    assert_int_equal(CALL(f, get, f->key, 5, 0, &b), 0);
}

static void what_is_removed_is_gone(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(put(f, f->key, "x"), 0);
    assert_int_equal(CALL(f, remove, f->key), 0);
    assert_int_equal(CALL(f, remove, f->key), 0);
    assert_int_equal(CALL(f, get, f->key, 0, 1, &b), -ENOENT);
}

struct seen {
    unsigned mask;
    int stop;
    size_t prefix;
};

static int see(void *ctx, const char *key, uint64_t size, int64_t modified_ns)
{
    struct seen *s = ctx;
    assert_int_equal(size, 3);
    assert_true(modified_ns > 0);
    s->mask |= 1u << (key[s->prefix] - 'a');
    return s->stop;
}

static void a_prefix_lists_its_objects(void **state)
{
    struct fixture *f = *state;
    char key[80];
    for (char c = 'a'; c < 'f'; c++) {
        snprintf(key, sizeof key, "%s%c", f->prefix, c);
        assert_int_equal(put(f, key, "abc"), 0);
    }
    snprintf(key, sizeof key, "other/%s", f->prefix + strlen("test/"));
    key[strlen(key) - 1] = 0;
    assert_int_equal(put(f, key, "not in the list"), 0);
    struct seen s = {.prefix = strlen(f->prefix)};
    assert_int_equal(CALL(f, list, f->prefix, see, &s), 0);
    assert_int_equal(s.mask, 31);
    s.stop = 5;
    assert_int_equal(CALL(f, list, f->prefix, see, &s), 5);
    s = (struct seen){0};
    snprintf(key, sizeof key, "%sc", f->prefix);
    s.prefix = strlen(f->prefix);
    assert_int_equal(CALL(f, list, key, see, &s), 0);
    assert_int_equal(s.mask, 4);
}

static void a_bad_key_is_refused(void **state)
{
    struct fixture *f = *state;
    char longest[202];
    memset(longest, 'a', sizeof longest);
    longest[201] = 0;
    const char *const bad[] = {"", "../x", "A", "a_b", "a b", longest};
    CLEANUP_BUF struct buf b = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(put(f, bad[i], "x"), -EINVAL);
        assert_int_equal(CALL(f, get, bad[i], 0, 1, &b), -EINVAL);
        assert_int_equal(CALL(f, remove, bad[i]), -EINVAL);
    }
    longest[200] = 0;
    CALL(f, remove, longest);
    assert_int_equal(put(f, longest, "x"), 0);
    assert_int_equal(CALL(f, get, longest, 0, 1, &b), 0);
    assert_int_equal(CALL(f, remove, longest), 0);
}

static void many_are_removed_at_once(void **state)
{
    struct fixture *f = *state;
    char names[5][80];
    const char *keys[5];
    struct seen s = {.prefix = strlen(f->prefix)};
    for (int i = 0; i < 5; i++) {
        snprintf(names[i], sizeof names[i], "%s%c", f->prefix, 'a' + i);
        keys[i] = names[i];
        if (i != 3) /* one that is not there is no error */
            assert_int_equal(put(f, keys[i], "abc"), 0);
    }
    assert_int_equal(CALL(f, remove_many, keys + 1, 4), 0);
    assert_int_equal(CALL(f, list, f->prefix, see, &s), 0);
    assert_int_equal(s.mask, 1);
    assert_int_equal(CALL(f, remove_many, keys, 0), 0);
    assert_int_equal(CALL(f, remove_many, (const char *const[]){"A"}, 1), -EINVAL);
}

/* As a client does it: knows the URL, and nothing else. headers: a JSON object or NULL. Returns the status. */
static long by_url(const char *url, const char *headers, const char *body, const char *range, struct buf *ret)
{
    CURL *c = curl_easy_init();
    struct curl_slist *list = NULL;
    CLEANUP_JSON json_t *given = headers ? json_loads(headers, 0, NULL) : NULL;
    const char *name;
    json_t *value;
    long status = 0;
    FILE *out = open_memstream(&ret->data, &ret->len);
    json_object_foreach(given, name, value)
    {
        CLEANUP_FREE char *line = mem_printf("%s: %s", name, json_string_value(value));
        if (strcmp(name, "content-length") != 0) /* curl sends the true one */
            list = curl_slist_append(list, line);
    }
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
    if (range)
        curl_easy_setopt(c, CURLOPT_RANGE, range);
    if (body) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "PUT");
    }
    assert_int_equal(curl_easy_perform(c), CURLE_OK);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    fclose(out);
    curl_easy_cleanup(c);
    curl_slist_free_all(list);
    return status;
}

static long by_url_with(const char *url, const char *headers, const char *more, const char *body, struct buf *ret)
{
    CLEANUP_JSON json_t *all = json_loads(headers, 0, NULL), *added = json_loads(more, 0, NULL);
    json_object_update(all, added);
    CLEANUP_FREE char *text = json_dumps(all, 0);
    return by_url(url, text, body, NULL, ret);
}

/* Of s3://ACCESS:SECRET@BUCKET?… */
static const char *bucket_of(const char *url)
{
    static char name[64];
    const char *at = strrchr(url, '@');
    snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 1, "?"), at + 1);
    return name;
}

/* Only for a store that clients can reach; a folder says that it is none. */
static void a_client_reads_and_writes_by_url(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUF struct buf url = {0}, headers = {0}, b = {0};
    struct hash h;
    hash_bytes("hello world", 11, &h);
    if (strncmp(f->url, "file:", 5) == 0) {
        assert_int_equal(CALL(f, presign_get, f->key, 60, &url), -ENOTSUP);
        assert_int_equal(CALL(f, presign_put, f->key, 11, &h, 60, &url, &headers), -ENOTSUP);
        return;
    }
    assert_int_equal(CALL(f, presign_put, f->key, 11, &h, 60, &url, &headers), 0);
    assert_true(by_url(url.data, headers.data, "other words", NULL, &b) >= 400); /* as long, but not what was signed */
    buf_fini(&b);
    assert_true(by_url(url.data, headers.data, "hello world, and more", NULL, &b) >= 400);
    buf_fini(&b);
    assert_true(by_url(url.data, NULL, "other words", NULL, &b) >= 400); /* without the sum */
    buf_fini(&b);
    /* nor by what its holder adds: another sum that is to be checked, an object that is to be copied */
    assert_true(by_url_with(url.data, headers.data, "{\"x-amz-checksum-algorithm\":\"CRC32\",\"x-amz-checksum-crc32\":\"471WNg==\"}", "other words", &b) >= 400);
    buf_fini(&b);
    CLEANUP_FREE char *other = mem_printf("%s-other", f->key), *copy = mem_printf("{\"x-amz-copy-source\":\"/%s/%s\"}", bucket_of(f->url), other);
    assert_int_equal(put(f, other, "other words"), 0);
    assert_true(by_url_with(url.data, headers.data, copy, "hello world", &b) >= 400);
    buf_fini(&b);
    assert_int_equal(CALL(f, get, f->key, 0, 1, &b), -ENOENT);
    assert_int_equal(by_url(url.data, headers.data, "hello world", NULL, &b), 200);
    buf_fini(&b);
    assert_true(by_url_with(url.data, headers.data, copy, "hello world", &b) >= 400); /* nor afterwards */
    buf_fini(&b);
    assert_int_equal(CALL(f, get, f->key, 0, 11, &b), 0);
    assert_string_equal(b.data, "hello world");
    buf_fini(&b);
    buf_fini(&url);
    assert_int_equal(CALL(f, presign_get, f->key, 60, &url), 0);
    assert_int_equal(by_url(url.data, NULL, NULL, "6-8", &b), 206);
    assert_memory_equal(b.data, "wor", 3);
    buf_fini(&b);
    url.data[url.len - 1] = url.data[url.len - 1] == '0' ? '1' : '0';
    assert_int_equal(by_url(url.data, NULL, NULL, NULL, &b), 403);
}

static void *put_same(void *arg)
{
    struct fixture *f = arg;
    return (void *)(intptr_t)put(f, f->key, "from another thread");
}

static void one_of_two_writers_of_a_key_wins(void **state)
{
    struct fixture *f = *state;
    pthread_t t;
    void *other;
    assert_int_equal(pthread_create(&t, NULL, put_same, f), 0);
    int err = put(f, f->key, "from this thread");
    pthread_join(t, &other);
    assert_true((err == 0) != ((intptr_t)other == 0));
    assert_int_equal(err + (int)(intptr_t)other, -EEXIST);
}

static void an_unknown_scheme_is_refused(void **state)
{
    (void)state;
    struct objects *o;
    assert_int_equal(objects_open("carrier-pigeon:home", &o), -ENOTSUP);
    assert_int_equal(objects_open("file:", &o), -EINVAL);
    assert_true(objects_open("file:/proc/none/objects", &o) < 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_object_is_there_after_a_restart),
        TEST(an_object_is_never_replaced),
        TEST(a_range_beyond_the_end_is_refused),
        TEST(what_is_removed_is_gone),
        TEST(a_prefix_lists_its_objects),
        TEST(a_bad_key_is_refused),
        TEST(one_of_two_writers_of_a_key_wins),
        TEST(many_are_removed_at_once),
        TEST(a_client_reads_and_writes_by_url),
        cmocka_unit_test(an_unknown_scheme_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
