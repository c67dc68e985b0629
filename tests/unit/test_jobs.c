/* Packing, on a drive and a store in memory: what was in rows is in packs, byte for byte, and no pack is named before it is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mem.h"
#include "gateway/jobs/jobs_internal.h"

#include <errno.h>
#include <string.h>

#define CHUNKS_MAX 200

/* ---- ports in memory ---- */

struct fake_meta {
    struct meta port; /* first */
    struct chunk_row rows[CHUNKS_MAX];
    size_t n;
    int moved_err;
};
struct fake_objects {
    struct objects port; /* first */
    struct {
        char key[64];
        struct buf bytes;
    } all[20];
    size_t n;
    int put_err;
};

static int fake_inline(struct meta *m, const struct uuid *drive, uint64_t limit, int (*each)(void *ctx, const struct chunk_row *c), void *ctx)
{
    struct fake_meta *f = (struct fake_meta *)m;
    uint64_t bytes = 0;
    (void)drive;
    for (size_t i = 0; i < f->n && bytes < limit; i++) {
        if (f->rows[i].pack[0])
            continue;
        bytes += f->rows[i].stored_size;
        int stop = each(ctx, &f->rows[i]);
        if (stop)
            return stop;
    }
    return 0;
}

static int fake_moved(struct meta *m, const struct uuid *drive, const struct chunk_row *c, size_t n)
{
    struct fake_meta *f = (struct fake_meta *)m;
    (void)drive;
    if (f->moved_err)
        return f->moved_err;
    for (size_t k = 0; k < n; k++)
        for (size_t i = 0; i < f->n; i++)
            if (hash_equal(&f->rows[i].hash, &c[k].hash)) {
                memcpy(f->rows[i].pack, c[k].pack, sizeof c[k].pack);
                f->rows[i].offset = c[k].offset;
            }
    return 0;
}

static int fake_put(struct objects *o, const char *key, const void *p, size_t n, const struct hash *sha256)
{
    struct fake_objects *f = (struct fake_objects *)o;
    struct hash h;
    if (f->put_err)
        return f->put_err;
    hash_bytes(p, n, &h);
    assert_true(hash_equal(&h, sha256));
    assert_true(n <= PACK_BYTES);
    assert_true(f->n < 20);
    snprintf(f->all[f->n].key, sizeof f->all[f->n].key, "%s", key);
    buf_append(&f->all[f->n++].bytes, p, n);
    return 0;
}

static int fake_remove(struct objects *o, const char *key)
{
    struct fake_objects *f = (struct fake_objects *)o;
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->all[i].key, key) == 0)
            buf_fini(&f->all[i].bytes);
    return 0;
}

static const struct meta_ops meta_ops = {.chunks_inline = fake_inline, .chunks_moved = fake_moved};
static const struct objects_ops objects_ops = {.put = fake_put, .remove = fake_remove};

struct world {
    struct fake_meta meta;
    struct fake_objects objects;
    struct uuid drive;
};

static int begin(void **state)
{
    struct world *w = mem_alloc(sizeof *w);
    w->meta.port.ops = &meta_ops;
    w->objects.port.ops = &objects_ops;
    *state = w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    for (size_t i = 0; i < w->meta.n; i++)
        free(w->meta.rows[i].bytes);
    for (size_t i = 0; i < w->objects.n; i++)
        buf_fini(&w->objects.all[i].bytes);
    free(w);
    return 0;
}

static void add_chunks(struct world *w, size_t n, uint32_t size)
{
    while (n--) {
        struct chunk_row *row = &w->meta.rows[w->meta.n];
        row->bytes = mem_alloc(size);
        memset(row->bytes, 'a' + (int)(w->meta.n % 26), size);
        memcpy(row->bytes, &w->meta.n, sizeof w->meta.n);
        row->size = row->stored_size = size;
        hash_bytes(row->bytes, size, &row->hash);
        w->meta.n++;
    }
}

static int64_t pack(struct world *w)
{
    return job_pack(&w->meta.port, &w->objects.port, &w->drive);
}

/* ---- */

static void chunks_keep_their_bytes(void **state)
{
    struct world *w = *state;
    add_chunks(w, 150, 65536); /* 9.4 MiB: two packs */
    add_chunks(w, 3, 10);
    assert_int_equal(pack(w), 153);
    assert_int_equal(w->objects.n, 2);
    for (size_t i = 0; i < w->meta.n; i++) {
        const struct chunk_row *row = &w->meta.rows[i];
        const struct buf *b = NULL;
        for (size_t k = 0; k < w->objects.n; k++)
            if (strcmp(w->objects.all[k].key, row->pack) == 0)
                b = &w->objects.all[k].bytes;
        assert_non_null(b);
        assert_true(row->offset + row->stored_size <= b->len);
        assert_memory_equal(b->data + row->offset, row->bytes, row->stored_size);
    }
    assert_int_equal(pack(w), 0);
}

static void a_store_that_is_full_changes_nothing(void **state)
{
    struct world *w = *state;
    add_chunks(w, 3, 100);
    w->objects.put_err = -ENOSPC;
    assert_int_equal(pack(w), -ENOSPC);
    assert_string_equal(w->meta.rows[0].pack, "");
}

static void a_pack_that_was_refused_is_removed(void **state)
{
    struct world *w = *state;
    add_chunks(w, 3, 100);
    w->meta.moved_err = -EAGAIN;
    assert_int_equal(pack(w), -EAGAIN);
    assert_int_equal(w->objects.all[0].bytes.len, 0);
}

static void a_pack_that_may_be_named_stays(void **state)
{
    struct world *w = *state;
    add_chunks(w, 3, 100);
    w->meta.moved_err = -EIO;
    assert_int_equal(pack(w), -EIO);
    assert_int_equal(w->objects.all[0].bytes.len, 300);
}

static void little_stays_in_rows(void **state)
{
    struct world *w = *state;
    add_chunks(w, 3, 100);
    assert_int_equal(pack_drive(&w->meta.port, &w->objects.port, &w->drive, 301, NULL), 0);
    assert_int_equal(w->objects.n, 0);
    assert_int_equal(pack_drive(&w->meta.port, &w->objects.port, &w->drive, 300, NULL), 3);
}

static void it_can_be_stopped(void **state)
{
    struct world *w = *state;
    atomic_bool stop = true;
    add_chunks(w, 3, 100);
    assert_int_equal(pack_drive(&w->meta.port, &w->objects.port, &w->drive, 1, &stop), 0);
    struct jobs *j = jobs_start(&w->meta.port, &w->objects.port);
    jobs_stop(j); /* without waiting for any job's time */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(chunks_keep_their_bytes, begin, end),
        cmocka_unit_test_setup_teardown(a_store_that_is_full_changes_nothing, begin, end),
        cmocka_unit_test_setup_teardown(a_pack_that_was_refused_is_removed, begin, end),
        cmocka_unit_test_setup_teardown(a_pack_that_may_be_named_stays, begin, end),
        cmocka_unit_test_setup_teardown(little_stays_in_rows, begin, end),
        cmocka_unit_test_setup_teardown(it_can_be_stopped, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
