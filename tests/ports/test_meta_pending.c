/* What is on its way: objects that clients bring, and uploads. */
#include "tests/ports/meta_fixture.h"

/* ---- objects that clients bring ---- */

static struct pending_row pending(const struct fixture *f, const char *key, const char *content, int64_t expires)
{
    struct pending_row p = {.drive = f->drive.id, .user = f->user.id, .expires = expires};
    p.chunk = (struct chunk_row){.hash = hash_of(content), .size = 200000, .stored_size = 100000, .codec = CODEC_ZSTD};
    strcpy(p.chunk.pack, key);
    return p;
}

static int add_key(void *ctx, const struct pending_row *p)
{
    buf_appendf(ctx, "%s ", p->chunk.pack);
    return 0;
}

static struct chunk_row chunk_found(struct fixture *f, const struct hash *h)
{
    struct chunk_row c;
    assert_int_equal(CALL(f, chunks_find, &f->drive.id, h, 1, &c), 0);
    return c;
}

static bool is_known(struct fixture *f, const struct hash *h)
{
    bool known;
    assert_int_equal(CALL(f, chunks_known, &f->drive.id, h, 1, &known), 0);
    return known;
}

static int committable(struct fixture *f, const struct hash *h)
{
    struct step s = step_begin(f, 0);
    int err = LOADED(&s, rows_chunk(s.rows, h));
    rows_free(s.rows);
    done(s.tx);
    return err;
}

static void an_object_is_pending_until_it_is_there(void **state)
{
    struct fixture *f = *state;
    struct pending_row p[] = {pending(f, "direct/a/1", "one", 100), pending(f, "direct/a/2", "two", 200), pending(f, "direct/b", "three", 300)};
    int ret[3];
    assert_int_equal(CALL(f, pendings_add, p, 3), 0);
    CLEANUP_BUF struct buf keys = {0};
    assert_int_equal(CALL(f, pendings, &f->drive.id, "direct/a/", add_key, &keys), 0);
    assert_string_equal(keys.data, "direct/a/1 direct/a/2 ");
    assert_false(is_known(f, &p[0].chunk.hash));
    assert_int_equal(committable(f, &p[0].chunk.hash), -ENOENT);

    assert_int_equal(CALL(f, pendings_settle, p, 3, 150, ret), 0);
    assert_int_equal(ret[0], -ENOENT); /* too late */
    assert_int_equal(ret[1], 0);
    assert_int_equal(ret[2], 0);
    assert_true(!is_known(f, &p[0].chunk.hash) && is_known(f, &p[1].chunk.hash) && is_known(f, &p[2].chunk.hash));
    struct chunk_row c = chunk_found(f, &p[1].chunk.hash);
    assert_string_equal(c.pack, "direct/a/2");
    assert_true(c.size == 200000 && c.stored_size == 100000 && c.codec == CODEC_ZSTD && c.offset == 0);
    assert_true(uuid_is_zero(&c.unverified_by) && !c.damaged);
    assert_int_equal(committable(f, &p[1].chunk.hash), 0);
    assert_int_equal(CALL(f, pendings_settle, &p[1], 1, 150, ret), 0);
    assert_int_equal(ret[0], -ENOENT); /* once */

    struct pending_row over[5], again = pending(f, "direct/c", "two", 250);
    unsigned n;
    assert_int_equal(CALL(f, pendings_add, &again, 1), 0);
    assert_int_equal(CALL(f, pendings_settle, &again, 1, 150, ret), 0);
    assert_int_equal(ret[0], 0); /* the drive has it; this object is one too many */
    c = chunk_found(f, &again.chunk.hash);
    assert_string_equal(c.pack, "direct/a/2");
    assert_int_equal(CALL(f, pendings_over, 250, 5, over, &n), 0);
    assert_int_equal(n, 1);
    assert_string_equal(over[0].chunk.pack, "direct/a/1");
    assert_true(uuid_equal(&over[0].drive, &f->drive.id) && uuid_equal(&over[0].user, &f->user.id) && over[0].expires == 100);
    assert_int_equal(CALL(f, pendings_over, 251, 1, over, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(CALL(f, pendings_over, 251, 5, over, &n), 0);
    assert_int_equal(n, 2);
    assert_string_equal(over[1].chunk.pack, "direct/c");
    assert_int_equal(CALL(f, pendings_forget, over, 2), 0);
    assert_int_equal(CALL(f, pendings_over, INT64_MAX, 5, over, &n), 0);
    assert_int_equal(n, 0);
}

static int take_first(void *ctx, const struct uuid *drive, const struct chunk_row *c)
{
    struct pending_row *ret = ctx;
    if (!ret->chunk.size) {
        ret->drive = *drive;
        ret->chunk = *c;
    }
    return 0;
}

static struct pending_row first_unverified(struct fixture *f)
{
    struct pending_row ret = {0};
    assert_int_equal(CALL(f, chunks_unverified, 10, take_first, &ret), 0);
    return ret;
}

static void what_nobody_has_checked_is_not_given_to_others(void **state)
{
    struct fixture *f = *state;
    struct pending_row p[] = {pending(f, "direct/1", "one", 100), pending(f, "direct/2", "two", 100)}, other = pending(f, "direct/3", "one", 100);
    int ret[2];
    p[0].chunk.unverified_by = p[1].chunk.unverified_by = other.chunk.unverified_by = f->user.id;
    const struct hash *h = &p[0].chunk.hash;
    assert_int_equal(CALL(f, pendings_add, p, 2), 0);
    assert_int_equal(CALL(f, pendings_add, &other, 1), 0);
    assert_int_equal(CALL(f, pendings_settle, p, 2, 50, ret), 0);
    assert_true(ret[0] == 0 && ret[1] == 0);
    assert_false(is_known(f, h));
    assert_int_equal(committable(f, h), 0); /* whoever brought it */
    struct chunk_row c = chunk_found(f, h);
    assert_true(uuid_equal(&c.unverified_by, &f->user.id) && !c.damaged);
    /* a second word on the same is not taken */
    assert_int_equal(CALL(f, pendings_settle, &other, 1, 50, ret), 0);
    assert_int_equal(ret[0], -EBUSY);
    c = chunk_found(f, h);
    assert_string_equal(c.pack, "direct/1");

    /* found right */
    struct pending_row first = first_unverified(f);
    assert_true(uuid_equal(&first.drive, &f->drive.id) && uuid_equal(&first.chunk.unverified_by, &f->user.id) && first.chunk.size == 200000);
    assert_int_equal(CALL(f, chunk_judge, &f->drive.id, &p[1].chunk, true), 0);
    assert_true(is_known(f, &p[1].chunk.hash));
    first = first_unverified(f);
    assert_memory_equal(&first.chunk.hash, h, sizeof *h);

    /* found wrong: nobody's new content may consist of it, until somebody brings the right bytes */
    assert_int_equal(CALL(f, chunk_judge, &f->drive.id, &p[0].chunk, false), 0);
    assert_false(is_known(f, h));
    assert_int_equal(committable(f, h), -ENOENT);
    c = chunk_found(f, h);
    assert_true(c.damaged && uuid_equal(&c.unverified_by, &f->user.id));
    first = first_unverified(f);
    assert_int_equal(first.chunk.size, 0);
    struct chunk_row right = inline_chunk("one");
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, &right, 1), 0);
    assert_true(is_known(f, h));
    assert_int_equal(committable(f, h), 0);
    c = chunk_found(f, h);
    assert_true(!c.damaged && uuid_is_zero(&c.unverified_by) && !c.pack[0] && c.size == 99);
    CLEANUP_BUF struct buf keys = {0};
    assert_int_equal(CALL(f, pendings, &f->drive.id, "", add_key, &keys), 0);
    assert_string_equal(keys.data, "direct/1 direct/3 "); /* to be removed */
    assert_int_equal(CALL(f, chunk_judge, &f->drive.id, &p[0].chunk, false), 0); /* it has another place by now */
    c = chunk_found(f, h);
    assert_false(c.damaged);
}

static void the_right_bytes_replace_a_mere_word(void **state)
{
    struct fixture *f = *state;
    struct pending_row p[] = {pending(f, "direct/1", "one", 100), pending(f, "direct/2", "two", 100)}, checked = pending(f, "direct/3", "two", 100);
    int ret[2];
    p[0].chunk.unverified_by = p[1].chunk.unverified_by = f->user.id;
    assert_int_equal(CALL(f, pendings_add, p, 2), 0);
    assert_int_equal(CALL(f, pendings_add, &checked, 1), 0);
    assert_int_equal(CALL(f, pendings_settle, p, 2, 50, ret), 0);
    struct step s = step_begin(f, 0); /* with an operation */
    struct chunk_row right = inline_chunk("one");
    rows_chunk_add(s.rows, &right);
    step_end(&s);
    assert_true(is_known(f, &p[0].chunk.hash));
    CLEANUP(chunk_row_fini) struct chunk_row got = {0};
    assert_int_equal(CALL(f, chunk_get, &f->drive.id, &p[0].chunk.hash, &got), 0);
    assert_memory_equal(got.bytes, "one", 3);
    assert_int_equal(CALL(f, pendings_settle, &checked, 1, 50, ret), 0); /* with an object that the store itself has checked */
    assert_int_equal(ret[0], 0);
    assert_true(is_known(f, &checked.chunk.hash));
    struct chunk_row c = chunk_found(f, &checked.chunk.hash);
    assert_string_equal(c.pack, "direct/3");
    CLEANUP_BUF struct buf keys = {0};
    assert_int_equal(CALL(f, pendings, &f->drive.id, "direct/", add_key, &keys), 0);
    assert_string_equal(keys.data, "direct/1 direct/2 ");
    /* what was checked never gives way to a word */
    struct pending_row late = pending(f, "direct/4", "one", 100);
    late.chunk.unverified_by = f->user.id;
    assert_int_equal(CALL(f, pendings_add, &late, 1), 0);
    assert_int_equal(CALL(f, pendings_settle, &late, 1, 50, ret), 0);
    assert_int_equal(ret[0], 0);
    assert_true(is_known(f, &late.chunk.hash));
}

/* ---- uploads ---- */

static struct upload_row upload(struct fixture *f, int64_t expires)
{
    struct upload_row u = {.user = f->user.id, .drive = f->drive.id, .parent = 1, .name = "a\xff", .size = 1000, .chunk_size = CHUNK_SIZE_MIN, .mode = 0600};
    uuid_new(&u.id);
    u.path = mem_strdup("/a");
    u.state = 'a';
    u.expires = expires;
    return u;
}

static int add_chunk(void *ctx, const struct upload_chunk_row *c)
{
    buf_appendf(ctx, "%llu:%u ", (unsigned long long)c->n, c->size);
    return 0;
}

static void an_upload_remembers_its_chunks(void **state)
{
    struct fixture *f = *state;
    CLEANUP(upload_row_fini) struct upload_row u = upload(f, 100);
    u.has_base = true; /* of the empty file */
    assert_int_equal(CALL(f, upload_add, &u), 0);
    struct upload_chunk_row c[] = {{.n = 1, .size = 7, .sha256 = hash_of("1")}, {.n = 0, .size = 6}, {.n = 1, .size = 8}};
    uint64_t received;
    assert_int_equal(CALL(f, upload_chunks_put, &u.id, c, 2, 200, &received), 0);
    assert_int_equal(received, 2);
    assert_int_equal(CALL(f, upload_chunks_put, &u.id, c + 2, 1, 300, &received), 0);
    assert_int_equal(received, 2);
    fixture_reopen(f);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(CALL(f, upload_chunks, &u.id, add_chunk, &b), 0);
    assert_string_equal(b.data, "0:6 1:8 ");
    CLEANUP(upload_row_fini) struct upload_row got = {0};
    assert_int_equal(CALL(f, upload_get, &u.id, &got), 0);
    assert_string_equal(got.name, "a\xff");
    assert_string_equal(got.path, "/a");
    assert_int_equal(got.expires, 300);
    assert_int_equal(got.received, 2);
    assert_true(got.has_base && got.base == 0 && got.state == 'a' && !got.answer);

    struct step s = step_begin(f, 0); /* completed in the drive's transaction, or not at all */
    got.state = 'c';
    got.answer = mem_strdup("{}");
    assert_int_equal(CALL(f, upload_update, s.tx, &got), 0);
    rows_free(s.rows);
    done(s.tx);
    assert_int_equal(CALL(f, upload_chunks_put, &u.id, c, 1, 400, &received), 0);
    assert_int_equal(CALL(f, upload_update, NULL, &got), 0);
    assert_int_equal(CALL(f, upload_chunks_put, &u.id, c, 1, 500, &received), -ENOENT);
    upload_row_fini(&got);
    assert_int_equal(CALL(f, upload_get, &u.id, &got), 0);
    assert_string_equal(got.answer, "{}");
    assert_int_equal(got.state, 'c');
}

static void uploads_expire(void **state)
{
    struct fixture *f = *state;
    CLEANUP(upload_row_fini) struct upload_row old = upload(f, 100);
    CLEANUP(upload_row_fini) struct upload_row young = upload(f, 200);
    assert_int_equal(CALL(f, upload_add, &old), 0);
    assert_int_equal(CALL(f, upload_add, &young), 0);
    unsigned n;
    assert_int_equal(CALL(f, uploads_expire, 150, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(CALL(f, uploads_expire, 150, &n), 0);
    assert_int_equal(n, 0);
    struct upload_row got = {0};
    assert_int_equal(CALL(f, upload_get, &old.id, &got), 0);
    assert_int_equal(got.state, 'e');
    upload_row_fini(&got);
    assert_int_equal(CALL(f, upload_get, &young.id, &got), 0);
    assert_int_equal(got.state, 'a');
    upload_row_fini(&got);
    assert_int_equal(CALL(f, uploads_expire, 100 * 24 * 3600 * SECOND, &n), 0);
    assert_int_equal(CALL(f, upload_get, &old.id, &got), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_object_is_pending_until_it_is_there),
        TEST(what_nobody_has_checked_is_not_given_to_others),
        TEST(the_right_bytes_replace_a_mere_word),
        TEST(an_upload_remembers_its_chunks),
        TEST(uploads_expire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
