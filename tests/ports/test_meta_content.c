/* Content: versions, and the chunks that they are made of. */
#include "common/clock.h"
#include "tests/ports/meta_fixture.h"

#define CHUNK CHUNK_SIZE_MIN

/* ---- versions ---- */

/* Chunk n of the file as written by a version: its hash is of "n/version". */
static struct chunk_ref ref(uint64_t n, uint64_t version)
{
    char text[64];
    snprintf(text, sizeof text, "%llu/%llu", (unsigned long long)n, (unsigned long long)version);
    return (struct chunk_ref){.hash = hash_of(text), .len = CHUNK};
}

static void add_version(struct step *s, uint64_t size)
{
    struct version_row v = {.ino = 10, .version = s->seq, .size = size, .chunk_size = CHUNK, .tree_hash = hash_of("tree"), .mtime = 3, .at = 4};
    v.listed = true;
    strcpy(v.device, "laptop");
    rows_version_add(s->rows, &v);
}

/* Writes chunks [first, first + n) of the file, all in one segment, over what is there. */
static void write_chunks(struct step *s, uint64_t first, uint64_t n)
{
    const struct segment_row *was;
    struct chunk_ref chunks[SEGMENT_CHUNKS];
    uint64_t number = first / SEGMENT_CHUNKS;
    assert_int_equal(LOADED(s, rows_segment(s->rows, 10, number, ALIVE, &was)), 0);
    memcpy(chunks, was->chunks, sizeof chunks);
    for (uint64_t i = first; i < first + n; i++)
        chunks[i % SEGMENT_CHUNKS] = ref(i, s->seq);
    rows_segment_add(s->rows, 10, number, s->seq, chunks);
}

static void assert_chunk(struct meta_tx *tx, uint64_t version, uint64_t n, uint64_t writer)
{
    struct chunk_ref got, want = {0};
    assert_int_equal(IN(tx, chunk_map, 10, version, n, 1, &got), 0);
    if (writer)
        want = ref(n, writer);
    assert_memory_equal(&got.hash, &want.hash, sizeof got.hash);
    assert_int_equal(got.len, want.len);
}

static void content_is_seen_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    add_version(&s, 70 * CHUNK);
    write_chunks(&s, 0, 64);
    write_chunks(&s, 64, 6);
    uint64_t whole = step_end(&s);
    s = step_begin(f, 0);
    add_version(&s, 70 * CHUNK);
    write_chunks(&s, 3, 1);
    uint64_t changed = step_end(&s);
    s = step_begin(f, 0);
    add_version(&s, 2 * CHUNK);
    rows_cut_add(s.rows, 10, s.seq, 1);
    uint64_t shrunk = step_end(&s);
    s = step_begin(f, 0);
    add_version(&s, 70 * CHUNK);
    write_chunks(&s, 66, 1);
    uint64_t grown = step_end(&s);

    struct meta_tx *tx = snapshot(f);
    for (uint64_t n = 0; n < 70; n += 3) {
        assert_chunk(tx, whole, n, whole);
        assert_chunk(tx, changed, n, n == 3 ? changed : whole);
        assert_chunk(tx, shrunk, n, n < 2 ? whole : 0);
        assert_chunk(tx, grown, n, n == 66 ? grown : n >= 64 ? 0 : n == 3 ? changed : whole);
    }
    struct chunk_ref all[100];
    assert_int_equal(IN(tx, chunk_map, 10, changed, 60, 100, all), 0);
    struct chunk_ref r = ref(69, whole);
    assert_memory_equal(&all[9].hash, &r.hash, sizeof r.hash);
    assert_true(hash_is_zero(&all[10].hash) && hash_is_zero(&all[99].hash));
    assert_int_equal(IN(tx, chunk_map, 10, 0, 0, 100, all), 0);
    assert_true(hash_is_zero(&all[0].hash));
    assert_int_equal(IN(tx, chunk_map, 10, 12345, 0, 1, all), -ENOENT);
    done(tx);
    s = step_begin(f, 0); /* and a transaction sees the same */
    const struct segment_row *g;
    assert_int_equal(LOADED(&s, rows_segment(s.rows, 10, 1, changed, &g)), 0);
    assert_int_equal(g->version, whole);
    assert_int_equal(LOADED(&s, rows_segment(s.rows, 10, 1, shrunk, &g)), 0);
    assert_int_equal(g->version, 0);
    assert_true(hash_is_zero(&g->chunks[5].hash));
    rows_free(s.rows);
    done(s.tx);
}

static void a_chunk_map_ends_with_the_file(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    add_version(&s, CHUNK + 100);
    write_chunks(&s, 0, 3); /* more than the size tells: what is beyond is not the file's */
    uint64_t v = step_end(&s);
    struct meta_tx *tx = snapshot(f);
    struct chunk_ref map[4];
    assert_int_equal(IN(tx, chunk_map, 10, v, 0, 4, map), 0);
    assert_int_equal(map[0].len, CHUNK);
    assert_int_equal(map[1].len, 100);
    assert_int_equal(map[2].len, 0);
    assert_true(hash_is_zero(&map[2].hash));
    assert_int_equal(IN(tx, chunk_map, 10, v, UINT64_MAX - 1, 1, map), 0);
    done(tx);
}

static int add_number(void *ctx, const struct version_row *v)
{
    buf_appendf(ctx, "%llu ", (unsigned long long)(v->version & 0xff));
    return 0;
}

static void versions_are_listed_newest_first(void **state)
{
    struct fixture *f = *state;
    uint64_t v[4];
    for (int i = 0; i < 4; i++) {
        struct step s = step_begin(f, 0);
        if (i == 0)
            make(&s, 1, "a", 10, S_IFREG);
        add_version(&s, 1);
        if (i == 3)
            rows_version_unlist(s.rows, 10, v[1]);
        v[i] = step_end(&s);
    }
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(IN(tx, versions, 10, 0, ALIVE, 10, add_number, &b), 0);
    assert_string_equal(b.data, "4 3 1 ");
    assert_int_equal(IN(tx, versions, 10, v[0], v[2], 10, add_number, &b), 0);
    assert_string_equal(b.data, "4 3 1 3 ");
    assert_int_equal(IN(tx, versions, 10, 0, ALIVE, 1, add_number, &b), 0);
    assert_string_equal(b.data, "4 3 1 3 4 ");
    struct version_row row;
    assert_int_equal(IN(tx, version, 10, v[1], &row), 0);
    assert_false(row.listed);
    assert_string_equal(row.device, "laptop");
    assert_true(hash_is_zero(&row.sha256) && !hash_is_zero(&row.tree_hash));
    done(tx);
}

static void a_version_is_quarantined(void **state)
{
    struct fixture *f = *state;
    uint64_t v[3];
    for (int i = 0; i < 3; i++) {
        struct step s = step_begin(f, 0);
        if (i == 0)
            make(&s, 1, "a", 10, S_IFREG);
        add_version(&s, 1);
        if (i == 2) {
            rows_version_quarantine(s.rows, 10, v[0]);  /* one that was stored before */
            rows_version_quarantine(s.rows, 10, s.seq); /* and the one that comes with it */
        }
        v[i] = step_end(&s);
    }
    struct meta_tx *tx = snapshot(f);
    struct version_row row;
    const bool expected[] = {true, false, true};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(IN(tx, version, 10, v[i], &row), 0);
        assert_int_equal(row.quarantined, expected[i]);
        assert_true(row.listed);
    }
    done(tx);
}

/* ---- chunks ---- */

static int add_bytes(void *ctx, const struct chunk_row *c)
{
    buf_append(ctx, c->bytes, c->stored_size);
    return 0;
}

static void a_chunk_is_kept_once_and_moves_into_a_pack(void **state)
{
    struct fixture *f = *state;
    struct chunk_row c[] = {inline_chunk("one"), inline_chunk("two"), inline_chunk("three")};
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, c, 2), 0);
    struct step s = step_begin(f, 0);
    rows_chunk_add(s.rows, &c[0]);
    rows_chunk_add(s.rows, &c[2]);
    step_end(&s);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(CALL(f, chunks_inline, &f->drive.id, 1000, add_bytes, &b), 0);
    assert_string_equal(b.data, "onetwothree");
    buf_fini(&b);
    assert_int_equal(CALL(f, chunks_inline, &f->drive.id, 7, add_bytes, &b), 0);
    assert_string_equal(b.data, "onetwo");

    struct hash h[] = {c[0].hash, hash_of("none"), c[2].hash};
    bool known[3];
    assert_int_equal(CALL(f, chunks_known, &f->drive.id, h, 3, known), 0);
    assert_true(known[0] && !known[1] && known[2]);
    struct uuid other;
    uuid_new(&other);
    assert_int_equal(CALL(f, chunks_known, &other, h, 3, known), 0);
    assert_false(known[0] || known[2]);

    struct chunk_row moved = c[0];
    strcpy(moved.pack, "packs/1");
    moved.offset = 4096;
    moved.bytes = NULL;
    assert_int_equal(CALL(f, chunks_moved, &f->drive.id, &moved, 1), 0);
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, c, 1), 0); /* known: stays where it is */
    CLEANUP(chunk_row_fini) struct chunk_row got = {0};
    assert_int_equal(CALL(f, chunk_get, &f->drive.id, &h[0], &got), 0);
    assert_string_equal(got.pack, "packs/1");
    assert_int_equal(got.offset, 4096);
    struct chunk_row found[3];
    assert_int_equal(CALL(f, chunks_find, &f->drive.id, h, 3, found), 0);
    assert_string_equal(found[0].pack, "packs/1");
    assert_int_equal(found[0].offset, 4096);
    assert_int_equal(found[0].size, 99);
    assert_int_equal(found[0].codec, CODEC_ZSTD);
    assert_memory_equal(&found[0].hash, &h[0], sizeof h[0]);
    assert_int_equal(found[1].stored_size, 0);
    assert_int_equal(found[2].stored_size, 5);
    assert_string_equal(found[2].pack, "");
    assert_true(found[2].offset == 0 && !found[2].bytes);
    assert_null(got.bytes);
    chunk_row_fini(&got);
    assert_int_equal(CALL(f, chunk_get, &f->drive.id, &c[1].hash, &got), 0);
    assert_string_equal(got.pack, "");
    assert_int_equal(got.size, 99);
    assert_int_equal(got.codec, CODEC_ZSTD);
    assert_memory_equal(got.bytes, "two", 3);
    chunk_row_fini(&got);
    assert_int_equal(CALL(f, chunk_get, &f->drive.id, &h[1], &got), -ENOENT);
    buf_fini(&b);
    assert_int_equal(CALL(f, chunks_inline, &f->drive.id, 1000, add_bytes, &b), 0);
    assert_string_equal(b.data, "twothree");
}

static int is_mine(void *ctx, const struct uuid *drive)
{
    const struct fixture *f = ctx;
    return uuid_equal(drive, &f->drive.id);
}

static void drives_with_chunks_in_rows_are_found(void **state)
{
    struct fixture *f = *state;
    struct chunk_row c = inline_chunk("one");
    int64_t before = clock_wall_ns() - 1000000000;
    assert_int_equal(CALL(f, inline_drives, 0, is_mine, f), 0);
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, &c, 1), 0);
    assert_int_equal(CALL(f, inline_drives, 0, is_mine, f), 1);
    assert_int_equal(CALL(f, inline_drives, before, is_mine, f), 1);
    strcpy(c.pack, "pack/1");
    assert_int_equal(CALL(f, chunks_moved, &f->drive.id, &c, 1), 0);
    assert_int_equal(CALL(f, inline_drives, 0, is_mine, f), 0);
}

static void a_commit_knows_which_chunks_are_there(void **state)
{
    struct fixture *f = *state;
    struct chunk_row c = inline_chunk("one");
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, &c, 1), 0);
    struct hash none = hash_of("none");
    struct step s = step_begin(f, 0);
    assert_int_equal(LOADED(&s, rows_chunk(s.rows, &c.hash)), 0);
    assert_int_equal(LOADED(&s, rows_chunk(s.rows, &none)), -ENOENT);
    step_store(&s);
    struct chunk_row more = inline_chunk("more"); /* part of the transaction that the thread has open, and undone with it */
    bool known;
    assert_int_equal(CALL(f, chunks_add, &f->drive.id, &more, 1), 0);
    assert_int_equal(CALL(f, chunks_known, &f->drive.id, &more.hash, 1, &known), 0);
    assert_true(known);
    done(s.tx);
    assert_int_equal(CALL(f, chunks_known, &f->drive.id, &more.hash, 1, &known), 0);
    assert_false(known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(content_is_seen_as_it_was),
        TEST(a_chunk_map_ends_with_the_file),
        TEST(versions_are_listed_newest_first),
        TEST(a_version_is_quarantined),
        TEST(a_chunk_is_kept_once_and_moves_into_a_pack),
        TEST(drives_with_chunks_in_rows_are_found),
        TEST(a_commit_knows_which_chunks_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
