/* Content and its chunks, uploads, and the log of changes. */
#include "tests/ports/meta_fixture.h"

#include <pthread.h>

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

static struct chunk_row inline_chunk(const char *text)
{
    return (struct chunk_row){.hash = hash_of(text), .size = 99, .stored_size = (uint32_t)strlen(text), .codec = CODEC_ZSTD, .bytes = (char *)text};
}

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
    struct upload_row u = {.user = f->user.id, .drive = f->drive.id, .parent = 1, .name = "a\xff", .size = 1000, .chunk_size = CHUNK, .mode = 0600};
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

/* ---- the log ---- */

static uint64_t change(struct fixture *f, char kind, const char *name, int seconds)
{
    struct step s = step_begin(f, seconds);
    struct change_row *c = rows_change_add(s.rows);
    *c = (struct change_row){.seq = s.seq, .kind = kind, .ino = 10, .parent = 1, .from_parent = 2, .version = 3, .user = f->user.id, .at = s.rows->now};
    strcpy(c->name, name);
    strcpy(c->from_name, "before");
    strcpy(c->device, "laptop");
    c->touch = mem_strdup("{\"seq\":1}");
    return step_end(&s);
}

static int add_change(void *ctx, const struct change_row *c)
{
    assert_string_equal(c->from_name, "before");
    assert_string_equal(c->touch, "{\"seq\":1}");
    assert_string_equal(c->device, "laptop");
    assert_int_equal(c->version, 3);
    buf_appendf(ctx, "%c%s ", c->kind, c->name);
    return 0;
}

static void changes_come_in_pages_and_are_trimmed(void **state)
{
    struct fixture *f = *state;
    uint64_t seq[5];
    const char kinds[] = "cmdmd";
    int64_t third = 0;
    for (int i = 0; i < 5; i++) {
        const char name[] = {(char)('1' + i), 0};
        seq[i] = change(f, kinds[i], name, 1);
        struct meta_tx *tx = snapshot(f);
        third = i == 2 ? tx->drive.last_time : third;
        done(tx);
    }
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(IN(tx, changes, 0, 2, add_change, &b), 0);
    assert_int_equal(IN(tx, changes, seq[1], 9, add_change, &b), 0);
    assert_string_equal(b.data, "c1 m2 d3 m4 d5 ");
    buf_fini(&b);
    assert_int_equal(IN(tx, deletions, ALIVE, 1, add_change, &b), 0);
    assert_int_equal(IN(tx, deletions, seq[4], 9, add_change, &b), 0);
    assert_string_equal(b.data, "d5 d3 ");
    done(tx);

    assert_int_equal(CALL(f, changes_trim, &f->drive.id, third, 0), 0);
    tx = snapshot(f);
    assert_int_equal(tx->drive.oldest_change, seq[1]);
    buf_fini(&b);
    assert_int_equal(IN(tx, changes, 0, 9, add_change, &b), 0);
    assert_string_equal(b.data, "d3 m4 d5 ");
    done(tx);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, 0, 10), 0);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, 0, 1), 0);
    tx = snapshot(f);
    assert_int_equal(tx->drive.oldest_change, seq[3]);
    done(tx);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, ALIVE, 0), 0);
    tx = snapshot(f);
    assert_int_equal(tx->drive.oldest_change, seq[4]);
    done(tx);
}

static void a_time_leads_to_a_seq(void **state)
{
    struct fixture *f = *state;
    struct meta_tx *tx = snapshot(f);
    int64_t made = tx->drive.last_time;
    done(tx);
    change(f, 'm', "a", 10);
    uint64_t ten = change(f, 'm', "b", 0), sixty = change(f, 'm', "c", 50);
    assert_int_equal(CALL(f, changes_trim, &f->drive.id, ALIVE, 0), 0); /* it does not take the log */
    const struct {
        int64_t at;
        uint64_t seq;
    } want[] = {{made - 2 * SECOND, 0}, {made, UINT64_C(1) << 40}, {made + 8 * SECOND, UINT64_C(1) << 40}, {made + 10 * SECOND, ten},
                {made + 30 * SECOND, ten}, {made + 60 * SECOND, sixty}, {made + 600 * SECOND, sixty}};
    tx = snapshot(f);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        uint64_t seq = 77;
        assert_int_equal(IN(tx, seq_at, want[i].at, &seq), 0);
        assert_int_equal(seq, want[i].seq);
    }
    done(tx);
}

static void cursors_stay(void **state)
{
    struct fixture *f = *state;
    uint64_t seq = 77;
    assert_int_equal(CALL(f, cursor_get, &f->drive.id, "one", &seq), 0);
    assert_int_equal(seq, 0);
    assert_int_equal(CALL(f, cursor_put, &f->drive.id, "one", 5), 0);
    assert_int_equal(CALL(f, cursor_put, &f->drive.id, "two", UINT64_C(1) << 62), 0);
    assert_int_equal(CALL(f, cursor_put, &f->drive.id, "one", 6), 0);
    fixture_reopen(f);
    assert_int_equal(CALL(f, cursor_get, &f->drive.id, "one", &seq), 0);
    assert_int_equal(seq, 6);
    assert_int_equal(CALL(f, cursor_get, &f->drive.id, "two", &seq), 0);
    assert_int_equal(seq, UINT64_C(1) << 62);
    struct uuid other;
    uuid_new(&other);
    assert_int_equal(CALL(f, cursor_get, &other, "one", &seq), 0);
    assert_int_equal(seq, 0);
}

static void a_batch_is_applied_once(void **state)
{
    struct fixture *f = *state;
    struct uuid journal;
    struct hash digest = hash_of("batch"), got;
    CLEANUP_BUF struct buf answer = {0};
    uint64_t last;
    uuid_new(&journal);
    struct step s = step_begin(f, 0);
    assert_int_equal(IN(s.tx, applied_last, &journal, &last), 0);
    assert_int_equal(last, 0);
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(IN(s.tx, applied_put, &journal, n, &digest, "{}", 2), 0);
    step_end(&s);
    s = step_begin(f, 0);
    int err = IN(s.tx, applied_put, &journal, 3, &digest, "{}", 2); /* a store may send it with the rest, and hear of it when it commits */
    step_store(&s);
    if (!err)
        err = s.tx->meta->ops->commit(s.tx);
    else
        done(s.tx);
    assert_int_equal(err, -EEXIST);
    s = step_begin(f, 0);
    assert_int_equal(IN(s.tx, applied_get, &journal, 2, &got, &answer), 0);
    assert_true(hash_equal(&got, &digest));
    assert_string_equal(answer.data, "{}");
    assert_int_equal(IN(s.tx, applied_get, &journal, 4, &got, &answer), -ENOENT);
    assert_int_equal(IN(s.tx, applied_confirm, &journal, 2), 0);
    assert_int_equal(IN(s.tx, applied_get, &journal, 2, &got, &answer), -ENOENT);
    assert_int_equal(IN(s.tx, applied_confirm, &journal, 3), 0);
    assert_int_equal(IN(s.tx, applied_last, &journal, &last), 0); /* however much was confirmed: the next is 4 */
    assert_int_equal(last, 3);
    step_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(content_is_seen_as_it_was),
        TEST(a_chunk_map_ends_with_the_file),
        TEST(versions_are_listed_newest_first),
        TEST(a_version_is_quarantined),
        TEST(a_chunk_is_kept_once_and_moves_into_a_pack),
        TEST(a_commit_knows_which_chunks_are_there),
        TEST(an_object_is_pending_until_it_is_there),
        TEST(what_nobody_has_checked_is_not_given_to_others),
        TEST(the_right_bytes_replace_a_mere_word),
        TEST(an_upload_remembers_its_chunks),
        TEST(uploads_expire),
        TEST(changes_come_in_pages_and_are_trimmed),
        TEST(a_time_leads_to_a_seq),
        TEST(cursors_stay),
        TEST(a_batch_is_applied_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
