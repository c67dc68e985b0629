/* Chunks' bytes over stores that are tables: what is kept in memory, what is noticed, and how ranges of a version are put together. */
#include "common/mem.h"
#include "gateway/api/content.h"
#include "gateway/api/content_reader.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define CHUNK (64u << 10)

struct world {
    struct meta meta;
    struct objects objects;
    struct app app;
    struct chunk_row rows[16];
    size_t n_rows;
    struct object {
        char key[64];
        struct buf bytes;
    } stored[16];
    size_t n_stored;
    unsigned looked_up, fetched;
    bool moves; /* the next look-up gives a place that is no longer there */
    struct chunk_ref map[200];
};

/* The stores come first in no struct: found by their address. */
#define WORLD(member, p) ((struct world *)((char *)(p) - offsetof(struct world, member)))

static int chunk_get(struct meta *m, const struct uuid *drive, const struct hash *h, struct chunk_row *ret)
{
    struct world *w = WORLD(meta, m);
    (void)drive;
    w->looked_up++;
    for (size_t i = 0; i < w->n_rows; i++) {
        if (!hash_equal(&w->rows[i].hash, h))
            continue;
        *ret = w->rows[i];
        ret->bytes = w->rows[i].bytes ? mem_dup(w->rows[i].bytes, w->rows[i].stored_size) : NULL;
        if (w->moves)
            snprintf(ret->pack, sizeof ret->pack, "pack/gone");
        w->moves = false;
        return 0;
    }
    return -ENOENT;
}

static int chunks_known(struct meta *m, const struct uuid *drive, const struct hash *h, size_t n, bool *ret)
{
    struct world *w = WORLD(meta, m);
    (void)drive;
    for (size_t i = 0; i < n; i++) {
        ret[i] = false;
        for (size_t k = 0; k < w->n_rows; k++)
            ret[i] = ret[i] || hash_equal(&w->rows[k].hash, &h[i]);
    }
    return 0;
}

static int chunks_add(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n)
{
    struct world *w = WORLD(meta, m);
    (void)drive;
    for (size_t i = 0; i < n; i++) {
        w->rows[w->n_rows] = c[i];
        w->rows[w->n_rows++].bytes = c[i].bytes ? mem_dup(c[i].bytes, c[i].stored_size) : NULL;
    }
    return 0;
}

static int chunk_map(struct meta_tx *tx, uint64_t ino, uint64_t version, uint64_t first, size_t n, struct chunk_ref *ret)
{
    struct world *w = WORLD(meta, tx->meta);
    assert_int_equal(ino, 7);
    assert_int_equal(version, 3);
    memcpy(ret, w->map + first, n * sizeof *ret);
    return 0;
}

static int snapshot(struct meta *m, const struct uuid *drive, struct meta_tx **ret)
{
    (void)drive;
    *ret = mem_alloc(sizeof **ret);
    (*ret)->meta = m;
    return 0;
}

static void rollback(struct meta_tx *tx)
{
    free(tx);
}

static int object_put(struct objects *o, const char *key, const void *p, size_t n, const struct hash *sha256)
{
    struct world *w = WORLD(objects, o);
    struct hash is;
    hash_bytes(p, n, &is);
    assert_true(hash_equal(&is, sha256));
    assert_int_equal(strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-/"), strlen(key));
    snprintf(w->stored[w->n_stored].key, 64, "%s", key);
    buf_append(&w->stored[w->n_stored++].bytes, p, n);
    return 0;
}

static int object_get(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret)
{
    struct world *w = WORLD(objects, o);
    w->fetched++;
    for (size_t i = 0; i < w->n_stored; i++)
        if (strcmp(w->stored[i].key, key) == 0) {
            buf_append(ret, w->stored[i].bytes.data + offset, len);
            return 0;
        }
    return -ENOENT;
}

static const struct meta_ops meta_ops = {.chunk_get = chunk_get, .chunks_known = chunks_known, .chunks_add = chunks_add,
                                         .chunk_map = chunk_map, .snapshot = snapshot, .rollback = rollback};
static const struct objects_ops object_ops = {.put = object_put, .get = object_get};

static int setup(void **state)
{
    struct world *w = mem_alloc(sizeof *w);
    w->meta.ops = &meta_ops;
    w->objects.ops = &object_ops;
    w->app = (struct app){.meta = &w->meta, .objects = &w->objects, .content = content_cache_new(8 * CHUNK)};
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    content_cache_free(w->app.content);
    for (size_t i = 0; i < w->n_rows; i++)
        chunk_row_fini(&w->rows[i]);
    for (size_t i = 0; i < w->n_stored; i++)
        buf_fini(&w->stored[i].bytes);
    free(w);
    return 0;
}

static const struct uuid drive = {{1}};

/* n bytes that no codec makes smaller, different for each seed. */
static void noise(unsigned seed, char *ret, size_t n)
{
    uint64_t x = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        ret[i] = (char)(x >> 32);
    }
}

static struct hash store_noise(struct world *w, unsigned seed, size_t n)
{
    CLEANUP_FREE char *bytes = mem_alloc(n);
    struct hash h;
    noise(seed, bytes, n);
    assert_int_equal(content_chunk_store(&w->app, &drive, bytes, n, &h), 0);
    return h;
}

static void small_ones_are_rows_and_large_ones_objects(void **state)
{
    struct world *w = *state;
    CLEANUP_BUF struct buf got = {0};
    CLEANUP_FREE char *zeros = mem_alloc(1 << 20);
    struct hash h;
    store_noise(w, 1, 1000);
    assert_int_equal(w->n_stored, 0);
    h = store_noise(w, 2, 100000);
    assert_int_equal(w->n_stored, 1);
    store_noise(w, 2, 100000); /* known: not stored again */
    assert_int_equal(w->n_stored, 1);
    assert_int_equal(w->n_rows, 2);
    assert_int_equal(content_chunk_read(&w->app, &drive, &h, &got), 0);
    assert_int_equal(got.len, 100000);
    /* what shrinks to little is small */
    assert_int_equal(content_chunk_store(&w->app, &drive, zeros, 1 << 20, &h), 0);
    assert_int_equal(w->n_stored, 1);
    buf_fini(&got);
    assert_int_equal(content_chunk_read(&w->app, &drive, &h, &got), 0);
    assert_int_equal(got.len, 1 << 20);
    assert_memory_equal(got.data, zeros, got.len);
}

static void what_was_read_is_kept_within_bounds(void **state)
{
    struct world *w = *state;
    struct hash h[12];
    struct chunk_data *d, *held;
    for (unsigned i = 0; i < 12; i++)
        h[i] = store_noise(w, i + 1, CHUNK);
    assert_int_equal(content_chunk_get(&w->app, &drive, &h[0], &held), 0);
    assert_int_equal(content_chunk_get(&w->app, &drive, &h[0], &d), 0);
    assert_ptr_equal(d, held);
    assert_int_equal(w->looked_up, 1);
    chunk_data_unref(d);
    for (unsigned i = 1; i < 12; i++) { /* more than there is room for */
        assert_int_equal(content_chunk_get(&w->app, &drive, &h[i], &d), 0);
        chunk_data_unref(d);
    }
    w->looked_up = 0;
    assert_int_equal(content_chunk_get(&w->app, &drive, &h[11], &d), 0);
    assert_int_equal(w->looked_up, 0);
    chunk_data_unref(d);
    assert_int_equal(content_chunk_get(&w->app, &drive, &h[0], &d), 0);
    assert_int_equal(w->looked_up, 1); /* the least recently used had to go */
    assert_memory_equal(chunk_data_bytes(d), chunk_data_bytes(held), CHUNK); /* a reference outlives that */
    chunk_data_unref(d);
    chunk_data_unref(held);
}

static void drives_do_not_see_each_others(void **state)
{
    struct world *w = *state;
    struct uuid other = {{2}};
    struct chunk_data *d;
    struct hash h = store_noise(w, 1, 1000);
    assert_int_equal(content_chunk_get(&w->app, &drive, &h, &d), 0);
    chunk_data_unref(d);
    w->n_rows = 0; /* of the other drive there is nothing */
    chunk_row_fini(&w->rows[0]);
    assert_int_equal(content_chunk_get(&w->app, &other, &h, &d), -ENOENT);
}

static void a_chunk_that_moves_is_found_again(void **state)
{
    struct world *w = *state;
    struct chunk_data *d;
    struct hash h = store_noise(w, 1, 100000);
    w->moves = true;
    assert_int_equal(content_chunk_get(&w->app, &drive, &h, &d), 0);
    assert_int_equal(w->fetched, 2);
    chunk_data_unref(d);
}

static void damage_is_noticed(void **state)
{
    struct world *w = *state;
    struct chunk_data *d;
    struct hash h = store_noise(w, 1, 100000);
    w->stored[0].bytes.data[5000] ^= 1;
    assert_int_equal(content_chunk_get(&w->app, &drive, &h, &d), -EIO);
    w->stored[0].key[6] = '.'; /* the object is lost */
    assert_int_equal(content_chunk_get(&w->app, &drive, &h, &d), -EIO);
}

/* ---- ranges of a version ---- */

/* Three chunks: full; a hole; one whose last bytes were cut off. Then chunks beyond the first segment. */
static void write_file(struct world *w, char *content, size_t size)
{
    for (size_t n = 0; n * CHUNK < size; n++) {
        size_t len = size - n * CHUNK < CHUNK ? size - n * CHUNK : CHUNK;
        if (n % 3 == 1)
            continue;
        noise((unsigned)(n % 7) + 1, content + n * CHUNK, len);
        assert_int_equal(content_chunk_store(&w->app, &drive, content + n * CHUNK, len, &w->map[n].hash), 0);
        w->map[n].len = (uint32_t)len;
        if (n % 3 == 2) {
            w->map[n].len = (uint32_t)len / 2;
            memset(content + n * CHUNK + len / 2, 0, len - len / 2);
        }
    }
}

static void expect_range(struct world *w, const char *content, size_t size, size_t from, size_t to, size_t most)
{
    struct version_row v = {.ino = 7, .version = 3, .size = size, .chunk_size = CHUNK};
    struct meta_tx tx = {.meta = &w->meta, .drive = {.id = drive}};
    struct content_reader *r;
    CLEANUP_BUF struct buf got = {0};
    int more;
    assert_int_equal(content_reader_new(&w->app, &tx, 7, &v, from, to, &r), 0);
    do {
        size_t before = got.len;
        more = content_reader_next(r, most, &got);
        assert_true(more >= 0);
        assert_true(got.len - before <= most);
    } while (more);
    content_reader_free(r);
    assert_int_equal(got.len, to - from);
    if (to > from)
        assert_memory_equal(got.data, content + from, to - from);
}

static void ranges_are_put_together(void **state)
{
    struct world *w = *state;
    size_t size = 5 * CHUNK + 1234;
    CLEANUP_FREE char *content = mem_alloc(size);
    write_file(w, content, size);
    expect_range(w, content, size, 0, size, 1 << 20);
    expect_range(w, content, size, 0, size, 10000);
    expect_range(w, content, size, 100, 200, 1 << 20);
    expect_range(w, content, size, CHUNK - 1, CHUNK + 1, 1 << 20);
    expect_range(w, content, size, CHUNK + 5, 2 * CHUNK + 5, 777);
    expect_range(w, content, size, 2 * CHUNK + CHUNK / 2 - 3, 3 * CHUNK + 3, 1 << 20);
    expect_range(w, content, size, size - 1, size, 1 << 20);
    expect_range(w, content, size, 0, 0, 1 << 20);
}

static void a_file_longer_than_one_map(void **state)
{
    struct world *w = *state;
    size_t size = 150 * CHUNK - 5;
    CLEANUP_FREE char *content = mem_alloc(size);
    for (size_t n = 0; n < 150; n += 10) { /* the rest are holes */
        size_t len = 1000;
        noise((unsigned)(n % 7) + 1, content + n * CHUNK, len);
        if (n < 70)
            assert_int_equal(content_chunk_store(&w->app, &drive, content + n * CHUNK, len, &w->map[n].hash), 0);
        else
            w->map[n].hash = w->map[n - 70].hash; /* seeds repeat */
        w->map[n].len = (uint32_t)len;
    }
    expect_range(w, content, size, 0, size, 1 << 20);
    expect_range(w, content, size, 63 * CHUNK, 65 * CHUNK, 1 << 20);
    expect_range(w, content, size, 100 * CHUNK, size, 100000);
}

static void short_answers_come_whole_and_errors_before_them(void **state)
{
    struct world *w = *state;
    size_t size = 3 * CHUNK;
    CLEANUP_FREE char *content = mem_alloc(size);
    struct version_row v = {.ino = 7, .version = 3, .size = size, .chunk_size = CHUNK};
    struct meta_tx tx = {.meta = &w->meta, .drive = {.id = drive}};
    struct content_reader *r;
    struct call c = {.method = HTTP_GET};
    write_file(w, content, size);
    assert_int_equal(content_reader_new(&w->app, &tx, 7, &v, 10, 20, &r), 0);
    assert_int_equal(content_reader_serve(r, &c), 0);
    assert_null(c.stream);
    assert_int_equal(c.out.len, 10);
    assert_memory_equal(c.out.data, content + 10, 10);
    buf_fini(&c.out);

    w->map[0].hash = (struct hash){{9}}; /* nobody has this one */
    assert_int_equal(content_reader_new(&w->app, &tx, 7, &v, 0, size, &r), 0);
    assert_int_equal(content_reader_serve(r, &c), -EIO);
    assert_null(c.stream);
    buf_fini(&c.out);
}

static void geometry_by_size(void **state)
{
    (void)state;
    assert_int_equal(content_chunk_size(0), 4 << 20);
    assert_int_equal(content_chunk_size(UINT64_C(1) << 38), 4 << 20);
    assert_int_equal(content_chunk_size((UINT64_C(1) << 38) + 1), 8 << 20);
    assert_int_equal(content_chunk_size(FILE_SIZE_MAX), 64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(small_ones_are_rows_and_large_ones_objects, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_read_is_kept_within_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(drives_do_not_see_each_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_chunk_that_moves_is_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_noticed, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_are_put_together, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_longer_than_one_map, setup, teardown),
        cmocka_unit_test_setup_teardown(short_answers_come_whole_and_errors_before_them, setup, teardown),
        cmocka_unit_test(geometry_by_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
