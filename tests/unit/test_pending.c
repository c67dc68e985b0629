/* What clients brought is checked, and what they left behind is removed; on SQLite and a folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/codec.h"
#include "gateway/jobs/fsck.h"
#include "gateway/jobs/pending.h"
#include "tests/ports/meta_fixture.h"

#define SIZE (200u << 10)

struct world {
    struct fixture *f;
    struct objects *o;
    char *text; /* SIZE plain bytes that become smaller */
};

static int begin(void **state)
{
    struct world *w = mem_alloc(sizeof *w);
    assert_int_equal(fixture_setup((void **)&w->f), 0);
    CLEANUP_FREE char *dir = mem_printf("%s/objects", w->f->dir);
    assert_int_equal(objects_dir_open(dir, &w->o), 0);
    w->text = mem_alloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        w->text[i] = (char)('a' + (i * i + i / 7) % 17);
    *state = w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    w->o->ops->free(w->o);
    free(w->text);
    fixture_teardown((void **)&w->f);
    free(w);
    return 0;
}

/* Somebody says that p[0..n), in a fresh object, is this chunk, compressed; and it becomes the drive's. */
static void bring(struct world *w, const char *key, const struct hash *hash, const struct buf *stored, bool put)
{
    struct pending_row p = {.drive = w->f->drive.id, .user = w->f->user.id, .expires = 1000};
    struct hash sum;
    int ret;
    p.chunk = (struct chunk_row){.hash = *hash, .size = SIZE, .stored_size = (uint32_t)stored->len, .codec = CODEC_ZSTD, .unverified_by = w->f->user.id};
    strcpy(p.chunk.pack, key);
    assert_int_equal(CALL(w->f, pendings_add, &p, 1), 0);
    hash_bytes(stored->data, stored->len, &sum);
    if (put)
        assert_int_equal(w->o->ops->put(w->o, key, stored->data, stored->len, &sum), 0);
    assert_int_equal(CALL(w->f, pendings_settle, &p, 1, 0, &ret), 0);
    assert_int_equal(ret, 0);
}

static struct chunk_row found(struct world *w, const struct hash *h)
{
    struct chunk_row c;
    assert_int_equal(CALL(w->f, chunks_find, &w->f->drive.id, h, 1, &c), 0);
    assert_int_not_equal(c.stored_size, 0);
    return c;
}

static bool is_checked(struct world *w, const struct hash *h)
{
    struct chunk_row c = found(w, h);
    return uuid_is_zero(&c.unverified_by);
}

static void what_was_brought_is_checked(void **state)
{
    struct world *w = *state;
    CLEANUP_BUF struct buf stored = {0}, noise = {0};
    struct hash right, wrong = hash_of("something else"), gone = hash_of("gone"), odd = hash_of("odd");
    hash_bytes(w->text, SIZE, &right);
    assert_int_equal(codec_encode(w->text, SIZE, &stored), CODEC_ZSTD);
    buf_append_str(&noise, "these bytes were never compressed by anything");
    bring(w, "direct/1", &right, &stored, true);
    bring(w, "direct/2", &wrong, &stored, true);
    bring(w, "direct/3", &gone, &stored, false);
    bring(w, "direct/4", &odd, &noise, true);
    atomic_bool stop = true;
    assert_int_equal(job_verify(w->f->m, w->o, &stop), 0);
    assert_false(is_checked(w, &right));
    assert_int_equal(job_verify(w->f->m, w->o, NULL), 4);
    assert_true(is_checked(w, &right) && !found(w, &right).damaged);
    assert_true(found(w, &wrong).damaged && found(w, &gone).damaged && found(w, &odd).damaged);
    bool known[2];
    assert_int_equal(CALL(w->f, chunks_known, &w->f->drive.id, (struct hash[]){right, wrong}, 2, known), 0);
    assert_true(known[0] && !known[1]);
    assert_int_equal(job_verify(w->f->m, w->o, NULL), 0); /* and not again and again */
}

static int unreachable(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret)
{
    (void)o, (void)key, (void)offset, (void)len, (void)ret;
    return -EHOSTUNREACH;
}

static void a_store_that_is_away_judges_nobody(void **state)
{
    struct world *w = *state;
    CLEANUP_BUF struct buf stored = {0};
    struct hash right;
    hash_bytes(w->text, SIZE, &right);
    codec_encode(w->text, SIZE, &stored);
    bring(w, "direct/1", &right, &stored, true);
    struct objects_ops away = *w->o->ops;
    away.get = unreachable;
    struct objects o = {.ops = &away};
    assert_int_equal(job_verify(w->f->m, &o, NULL), -EHOSTUNREACH);
    assert_false(found(w, &right).damaged);
    assert_int_equal(job_verify(w->f->m, w->o, NULL), 1);
    assert_true(is_checked(w, &right));
}

static int count(void *ctx, const char *key, uint64_t size, int64_t modified_ns)
{
    (void)key, (void)size, (void)modified_ns;
    ++*(unsigned *)ctx;
    return 0;
}

static unsigned objects_now(struct world *w)
{
    unsigned n = 0;
    assert_int_equal(w->o->ops->list(w->o, "direct/", count, &n), 0);
    return n;
}

static void what_nobody_came_back_for_is_removed(void **state)
{
    struct world *w = *state;
    enum { N = 300 }; /* more than are removed at once */
    struct pending_row p = {.drive = w->f->drive.id, .user = w->f->user.id};
    for (unsigned i = 0; i < N; i++) {
        snprintf(p.chunk.pack, sizeof p.chunk.pack, "direct/%03u", i);
        p.chunk = (struct chunk_row){.hash = hash_of(p.chunk.pack), .size = 5, .stored_size = 5};
        snprintf(p.chunk.pack, sizeof p.chunk.pack, "direct/%03u", i);
        p.expires = i < N - 2 ? 1000 : 2000;
        assert_int_equal(CALL(w->f, pendings_add, &p, 1), 0);
        struct hash sum = hash_of("bytes");
        if (i % 3) /* others were never brought */
            assert_int_equal(w->o->ops->put(w->o, p.chunk.pack, "bytes", 5, &sum), 0);
    }
    int settled;
    assert_int_equal(CALL(w->f, pendings_settle, &p, 1, 0, &settled), 0); /* the last one is a chunk now */
    assert_int_equal(settled, 0);
    assert_int_equal(job_pending(w->f->m, w->o, PENDING_KEPT_NS + 1000, NULL), 0);
    assert_int_equal(objects_now(w), 200);
    assert_int_equal(job_pending(w->f->m, w->o, PENDING_KEPT_NS + 1001, NULL), N - 2);
    assert_int_equal(objects_now(w), 2);
    assert_int_equal(job_pending(w->f->m, w->o, PENDING_KEPT_NS + 2001, NULL), 1);
    assert_int_equal(objects_now(w), 1);
    CLEANUP_BUF struct buf bytes = {0};
    assert_int_equal(w->o->ops->get(w->o, p.chunk.pack, 0, 5, &bytes), 0);
}

/* ---- fsck ---- */

static void note(void *ctx, const char *text)
{
    buf_appendf(ctx, "%s\n", text);
}

static void fsck_knows_them(void **state)
{
    struct world *w = *state;
    CLEANUP_BUF struct buf stored = {0}, said = {0};
    struct hash wrong = hash_of("something else");
    codec_encode(w->text, SIZE, &stored);
    bring(w, "direct/1", &wrong, &stored, true);
    struct fsck_report r = {.wrong = note, .ctx = &said};
    assert_int_equal(fsck_drive(w->f->m, w->o, &w->f->drive.id, false, &r), 0);
    assert_int_equal(r.problems, 0);
    job_verify(w->f->m, w->o, NULL);
    assert_int_equal(fsck_drive(w->f->m, w->o, &w->f->drive.id, true, &r), 0);
    assert_int_equal(r.problems, 1);
    assert_non_null(strstr(said.data, "its bytes are not those of its hash; user "));
    /* an object that a chunk lies in must never be pending: it would be removed */
    struct pending_row p = {.drive = w->f->drive.id, .user = w->f->user.id, .expires = 1000, .chunk = found(w, &wrong)};
    assert_int_equal(CALL(w->f, pendings_add, &p, 1), 0);
    buf_fini(&said);
    r.problems = 0;
    assert_int_equal(fsck_drive(w->f->m, w->o, &w->f->drive.id, false, &r), 0);
    assert_int_equal(r.problems, 1);
    assert_non_null(strstr(said.data, "direct/1 is pending"));
}

#undef TEST
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_brought_is_checked), TEST(a_store_that_is_away_judges_nobody), TEST(what_nobody_came_back_for_is_removed), TEST(fsck_knows_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
