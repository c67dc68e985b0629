/* Scans of one version: what the scanner is shown is the content, byte for byte, and each way in which it may end comes out as what the caller does next. */
#include "../ports/meta_fixture.h"

#include "gateway/jobs/scan.h"

#define CS CHUNK_SIZE_MIN

/* ---- a scanner that keeps what it was shown ---- */

struct fake_scanner {
    struct scanner port; /* first */
    struct buf shown;
    enum scan_verdict verdict;
    int err;
};

static int fake_scan(struct scanner *s, const struct scan_source *source, const atomic_bool *stop, enum scan_verdict *ret, char signature[SCAN_SIGNATURE_MAX])
{
    struct fake_scanner *f = (struct fake_scanner *)s;
    const void *p;
    int64_t n;
    (void)stop;
    f->shown.len = 0;
    while ((n = source->next(source->ctx, &p)) > 0)
        buf_append(&f->shown, p, (size_t)n);
    strcpy(signature, f->verdict == SCAN_INFECTED ? "Test" : "");
    *ret = f->verdict;
    return n < 0 ? (int)n : f->err;
}

/* ---- objects that are away or gone; the tests' contents are in rows, but for one ---- */

static int objects_err;
static int fake_get(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret)
{
    (void)o;
    (void)key;
    (void)offset;
    (void)len;
    (void)ret;
    return objects_err;
}

struct world {
    struct fixture *f;
    struct fake_scanner scanner;
    struct objects objects;
    struct drive_queues *queues;
    struct scan_ctx ctx;
    unsigned told;
    int told_err; /* what it answers */
    enum scan_verdict verdict;
    char *path;
    uint64_t version;
};

static int told(void *ctx, const struct scan_report *r)
{
    struct world *w = ctx;
    w->told++;
    w->verdict = r->verdict;
    free(w->path);
    w->path = mem_strdup(r->path);
    CLEANUP_JSON json_t *o = scan_report_json(r);
    assert_string_equal(json_string_value(json_object_get(o, "kind")), r->verdict == SCAN_INFECTED ? "infected" : r->verdict == SCAN_CLEAN ? "clean" : "too-large");
    assert_int_equal(json_object_get(o, "signature") != NULL, r->verdict == SCAN_INFECTED);
    assert_true(uuid_equal(&r->owner, &w->f->user.id) && r->at > 0);
    return w->told_err;
}

static void run_here(void *pool, void (*fn)(void *), void *arg)
{
    (void)pool;
    fn(arg);
}

static int open_world(void **state)
{
    static const struct scanner_ops scanner_ops = {.scan = fake_scan};
    static const struct objects_ops objects_ops = {.get = fake_get};
    struct world *w = mem_alloc(sizeof *w);
    fixture_setup((void **)&w->f);
    w->scanner.port.ops = &scanner_ops;
    w->objects.ops = &objects_ops;
    w->queues = drive_queues_new(w->f->m, run_here, NULL, NULL);
    w->ctx = (struct scan_ctx){.meta = w->f->m, .objects = &w->objects, .scanner = &w->scanner.port, .queues = w->queues, .told = told, .ctx = w};
    *state = w;
    return 0;
}

static int close_world(void **state)
{
    struct world *w = *state;
    drive_queues_free(w->queues);
    fixture_teardown((void **)&w->f);
    buf_fini(&w->scanner.shown);
    free(w->path);
    free(w);
    return 0;
}

/* A chunk of `len` times `c`, in its row; or in an object. */
static struct chunk_change content(struct world *w, uint64_t n, char c, uint32_t len, bool in_object)
{
    CLEANUP_FREE char *bytes = mem_alloc(len);
    memset(bytes, c, len);
    struct chunk_row row = {.size = len, .stored_size = len, .bytes = in_object ? NULL : bytes};
    hash_bytes(bytes, len, &row.hash);
    if (in_object)
        strcpy(row.pack, "pack/1");
    assert_int_equal(CALL(w->f, chunks_add, &w->f->drive.id, &row, 1), 0);
    return (struct chunk_change){n, {row.hash, len}};
}

/* Puts a file of these chunks; what is not given is a hole. */
static void put(struct world *w, const char *name, uint64_t size, struct chunk_change *changes, size_t n)
{
    uint64_t ino;
    struct op_result result = {0};
    assert_int_equal(CALL(w->f, inodes_reserve, &w->f->drive.id, 1, &ino), 0);
    struct op op = {.kind = OP_PUT, .parent = 1, .name = (char *)name, .ino = ino, .mode = 0644, .size = size, .shrunk_to = size, .chunk_size = CS, .changes = changes, .n_changes = n, .whole = true};
    struct drive_work work = {.drive = w->f->drive.id, .ops = &op, .n_ops = 1, .results = &result};
    assert_int_equal(drive_queues_run(w->queues, &work), 0);
    assert_int_equal(result.error, 0);
    w->version = result.version;
    op_result_fini(&result);
}

static uint64_t ino_of(struct world *w, const char *name, bool *ret_quarantined)
{
    struct entry_row e;
    struct meta_tx *tx = snapshot(w->f);
    assert_int_equal(IN(tx, entry, 1, name, 0, &e), 0);
    done(tx);
    *ret_quarantined = e.attr.quarantined;
    return e.ino;
}

static int scan(struct world *w, const char *name)
{
    bool q;
    return scan_version(&w->ctx, &w->f->drive.id, ino_of(w, name, &q), w->version);
}

/* ---- tests ---- */

static void it_is_shown_byte_for_byte(void **state)
{
    struct world *w = *state;
    const uint64_t size = 600 * (uint64_t)CS + 1000; /* more chunks than are looked up at a time, most of them holes */
    struct chunk_change changes[] = {content(w, 0, 'a', CS, false), content(w, 3, 'b', 100, false), content(w, 256, 'c', CS, false), content(w, 600, 'd', 1000, false)};
    put(w, "f", size, changes, 4);
    assert_int_equal(scan(w, "f"), 0);
    CLEANUP_FREE char *expected = mem_alloc(size);
    memset(expected, 'a', CS);
    memset(expected + 3 * CS, 'b', 100); /* shorter than its extent: zeros follow */
    memset(expected + 256 * CS, 'c', CS);
    memset(expected + 600 * CS, 'd', 1000);
    assert_int_equal(w->scanner.shown.len, size);
    assert_memory_equal(w->scanner.shown.data, expected, size);
    assert_int_equal(w->told, 1);
    assert_int_equal(w->verdict, SCAN_CLEAN);
    assert_string_equal(w->path, "/f");
    put(w, "empty", 0, NULL, 0);
    assert_int_equal(scan(w, "empty"), 0);
    assert_int_equal(w->scanner.shown.len, 0);
}

static void what_is_infected_is_quarantined_once(void **state)
{
    struct world *w = *state;
    bool quarantined;
    struct chunk_change c = content(w, 0, 'x', 10, false);
    put(w, "f", 10, &c, 1);
    w->scanner.verdict = SCAN_INFECTED;
    assert_int_equal(scan(w, "f"), 0);
    ino_of(w, "f", &quarantined);
    assert_true(quarantined);
    struct meta_tx *tx = snapshot(w->f);
    uint64_t seq = tx->drive.seq;
    done(tx);
    assert_int_equal(scan(w, "f"), 0); /* a message comes twice */
    tx = snapshot(w->f);
    assert_int_equal(tx->drive.seq, seq);
    done(tx);
    w->scanner.verdict = SCAN_TOO_LARGE;
    put(w, "g", 10, &c, 1);
    assert_int_equal(scan(w, "g"), 0);
    ino_of(w, "g", &quarantined);
    assert_false(quarantined);
    assert_int_equal(w->told, 3);
}

static void what_goes_away_by_itself_is_tried_again(void **state)
{
    struct world *w = *state;
    struct chunk_change c = content(w, 0, 'x', CS, true);
    put(w, "f", CS, &c, 1);
    const struct {
        int objects, scanner, expected;
    } cases[] = {{-EHOSTUNREACH, 0, -EAGAIN}, {-EIO, 0, -EIO}, {-ENOENT, 0, -EIO}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        objects_err = cases[i].objects;
        assert_int_equal(scan(w, "f"), cases[i].expected);
    }
    c = content(w, 0, 'y', 10, false);
    put(w, "g", 10, &c, 1);
    const int errors[][2] = {{-EHOSTUNREACH, -EAGAIN}, {-ETIMEDOUT, -EAGAIN}, {-ECANCELED, -EAGAIN}, {-EIO, -EIO}};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        w->scanner.err = errors[i][0];
        assert_int_equal(scan(w, "g"), errors[i][1]);
    }
    assert_int_equal(w->told, 0); /* nothing was decided */
}

static void a_verdict_that_is_not_passed_on_is_found_again(void **state)
{
    struct world *w = *state;
    bool quarantined;
    struct chunk_change c = content(w, 0, 'x', 10, false);
    put(w, "f", 10, &c, 1);
    w->scanner.verdict = SCAN_INFECTED;
    w->told_err = -EHOSTUNREACH;
    assert_int_equal(scan(w, "f"), -EAGAIN);
    ino_of(w, "f", &quarantined);
    assert_true(quarantined);
    w->told_err = 0;
    assert_int_equal(scan(w, "f"), 0);
    assert_int_equal(w->told, 2);
    assert_int_equal(w->verdict, SCAN_INFECTED);
}

static void what_is_not_there_is_done(void **state)
{
    struct world *w = *state;
    struct uuid other;
    char id[UUID_TEXT], text[256];
    uuid_new(&other);
    assert_int_equal(scan_version(&w->ctx, &w->f->drive.id, 777, 777), 0);
    assert_int_equal(scan_version(&w->ctx, &other, 1, 1), 0);
    uuid_text(&w->f->drive.id, id);
    const char *wrong[] = {"[]", "{}", "{\"drive\":7,\"ino\":2,\"version\":3}", "{\"drive\":\"home\",\"ino\":2,\"version\":3}"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CLEANUP_JSON json_t *o = json_loads(wrong[i], 0, NULL);
        assert_int_equal(scan_handle(&w->ctx, o), -EINVAL);
    }
    struct chunk_change c = content(w, 0, 'x', 10, false);
    put(w, "f", 10, &c, 1);
    bool q;
    snprintf(text, sizeof text, "{\"drive\":\"%s\",\"ino\":%llu,\"version\":%llu,\"eventId\":\"e\"}", id, (unsigned long long)ino_of(w, "f", &q), (unsigned long long)w->version);
    CLEANUP_JSON json_t *o = json_loads(text, 0, NULL);
    assert_int_equal(scan_handle(&w->ctx, o), 0);
    assert_int_equal(w->told, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_shown_byte_for_byte, open_world, close_world),
        cmocka_unit_test_setup_teardown(what_is_infected_is_quarantined_once, open_world, close_world),
        cmocka_unit_test_setup_teardown(what_goes_away_by_itself_is_tried_again, open_world, close_world),
        cmocka_unit_test_setup_teardown(a_verdict_that_is_not_passed_on_is_found_again, open_world, close_world),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_done, open_world, close_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
