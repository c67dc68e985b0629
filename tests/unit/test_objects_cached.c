/* An object store with a cache before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mem.h"
#include "gateway/ports/cache.h"
#include "gateway/ports/objects.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>

#define KEY "pack/00/object"

struct fixture {
    char dir[64];
    struct objects *below, *o;
    struct cache *cache;
    char bytes[2 * OBJECTS_CACHED_MAX];
};

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    struct hash sum;
    snprintf(f->dir, sizeof f->dir, "/tmp/cairn-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(objects_dir_open(f->dir, &f->below), 0);
    f->cache = cache_memory_new(16u << 20);
    f->o = objects_cached_new(f->below, f->cache);
    for (size_t i = 0; i < sizeof f->bytes; i++)
        f->bytes[i] = (char)(i * 7 + i / 251);
    hash_bytes(f->bytes, sizeof f->bytes, &sum);
    assert_int_equal(f->o->ops->put(f->o, KEY, f->bytes, sizeof f->bytes, &sum), 0);
    *state = f;
    return 0;
}

static int remove_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->o->ops->free(f->o);
    f->cache->ops->free(f->cache);
    f->below->ops->free(f->below);
    nftw(f->dir, remove_file, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static int read_range(struct fixture *f, uint64_t offset, uint64_t len)
{
    CLEANUP_BUF struct buf b = {0};
    buf_append_str(&b, "before");
    int err = f->o->ops->get(f->o, KEY, offset, len, &b);
    if (err)
        return err;
    assert_int_equal(b.len, 6 + len);
    assert_memory_equal(b.data, "before", 6);
    assert_memory_equal(b.data + 6, f->bytes + offset, len);
    return 0;
}

static void take_away(struct fixture *f)
{
    assert_int_equal(f->below->ops->remove(f->below, KEY), 0);
}

static void a_range_is_read_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(read_range(f, 1000, 5000), 0);
    assert_int_equal(read_range(f, 0, OBJECTS_CACHED_MAX), 0);
    take_away(f);
    assert_int_equal(read_range(f, 1000, 5000), 0);
    assert_int_equal(read_range(f, 0, OBJECTS_CACHED_MAX), 0);
    assert_int_equal(read_range(f, 1000, 4999), -ENOENT);
    assert_int_equal(read_range(f, 1001, 5000), -ENOENT);
}

static void large_ranges_are_not_kept(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(read_range(f, 0, OBJECTS_CACHED_MAX + 1), 0);
    take_away(f);
    assert_int_equal(read_range(f, 0, OBJECTS_CACHED_MAX + 1), -ENOENT);
}

static void errors_are_not_kept(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(f->o->ops->get(f->o, "pack/00/other", 0, 10, &b), -ENOENT);
    assert_int_equal(f->o->ops->get(f->o, KEY, sizeof f->bytes - 5, 10, &b), -ERANGE);
    struct hash sum;
    hash_bytes("0123456789", 10, &sum);
    assert_int_equal(f->o->ops->put(f->o, "pack/00/other", "0123456789", 10, &sum), 0);
    assert_int_equal(f->o->ops->get(f->o, "pack/00/other", 0, 10, &b), 0);
    assert_memory_equal(b.data, "0123456789", 10);
}

static void what_the_cache_says_is_checked(void **state)
{
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    const char *mine = "range:" KEY ":1000:100", *others = "range:" KEY ":2000:100";
    assert_int_equal(read_range(f, 1000, 100), 0);
    assert_int_equal(read_range(f, 2000, 100), 0);
    assert_int_equal(f->cache->ops->get(f->cache, others, &b), 0);
    /* another range's bytes, whole as they are */
    assert_int_equal(f->cache->ops->put(f->cache, mine, b.data, b.len, 60000), 0);
    assert_int_equal(read_range(f, 1000, 100), 0);
    b.data[20] ^= 1;
    assert_int_equal(f->cache->ops->put(f->cache, others, b.data, b.len, 60000), 0);
    assert_int_equal(read_range(f, 2000, 100), 0);
    assert_int_equal(f->cache->ops->put(f->cache, others, b.data, 50, 60000), 0);
    assert_int_equal(read_range(f, 2000, 100), 0);
    assert_int_equal(f->cache->ops->put(f->cache, others, "", 0, 60000), 0);
    assert_int_equal(read_range(f, 2000, 100), 0);
}

static int list_one(void *ctx, const char *key, uint64_t size, int64_t modified_ns)
{
    (void)size, (void)modified_ns;
    snprintf(ctx, 64, "%s", key);
    return 7;
}

static void the_rest_is_the_stores(void **state)
{
    struct fixture *f = *state;
    char key[64] = "";
    CLEANUP_BUF struct buf url = {0};
    assert_int_equal(f->o->ops->list(f->o, "pack/", list_one, key), 7);
    assert_string_equal(key, KEY);
    assert_int_equal(f->o->ops->presign_get(f->o, KEY, 60, &url), f->below->ops->presign_get(f->below, KEY, 60, &url));
    assert_int_equal(f->o->ops->ping(f->o), 0);
    assert_int_equal(f->o->ops->remove_many(f->o, (const char *const[]){KEY}, 1), 0);
    assert_int_equal(f->o->ops->remove(f->o, KEY), 0);
    assert_int_equal(read_range(f, 0, 10), -ENOENT);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_range_is_read_once), TEST(large_ranges_are_not_kept), TEST(errors_are_not_kept), TEST(what_the_cache_says_is_checked), TEST(the_rest_is_the_stores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
