/* Random calls on the content cache against plain buffers, with crashes, remounts, other mounts, faults and too small a cache; and several threads at once.
   `test_cache_random SEED [STEPS]` repeats a story; the seed is printed first. */
#include "cache_fixture.h"

#define FILES 3
#define SIZE_MAX_ (12u * K64)

static unsigned long seed;
static unsigned steps = 400;
static uint64_t rng;

static uint64_t rnd(uint64_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return below ? (rng >> 11) % below : 0;
}

struct model {
    uint64_t ino;
    struct content *c;
    uint8_t bytes[SIZE_MAX_ + 1];
    uint64_t size;
    bool dirty;
    bool unsure; /* a commit happened and nobody was told: written to again and lost to a crash, it would be a conflict */
};
static struct model files[FILES];
static uint64_t cache_size;

static int publish_content(struct content *c, bool last)
{
    return content_publish(c, NULL, 0, NULL, NULL, last);
}

static void check(struct model *m)
{
    uint64_t size;
    content_stat(m->c, &size, NULL, NULL);
    assert_int_equal(size, m->size);
    assert_reads(m->c, m->bytes, m->size);
}

static void open_model(struct model *m)
{
    struct attr a = gw_attr(m->ino);
    m->c = open_content(&a);
}

static void step_read(struct model *m)
{
    static uint8_t got[SIZE_MAX_];
    uint64_t off = rnd(m->size + 100), n = rnd(3 * K64) + 1, want = off < m->size ? (n < m->size - off ? n : m->size - off) : 0;
    assert_int_equal(content_read(m->c, got, n, off), want);
    assert_memory_equal(got, m->bytes + (off < m->size ? off : 0), want);
}

static void step_write(struct model *m)
{
    uint64_t off = rnd(4) ? rnd(m->size + 1) : rnd(SIZE_MAX_), n = rnd(3) ? rnd(5000) + 1 : rnd(2 * K64) + 1;
    if (rnd(3) == 0)
        off -= off % K64;
    if (rnd(3) == 0)
        n = (n / K64 + 1) * K64;
    if (off + n > SIZE_MAX_)
        return;
    CLEANUP_FREE uint8_t *p = pattern(n, (unsigned)rnd(1000000));
    if (rnd(6) == 0)
        memset(p, 0, n);
    assert_wrote(m->c, p, n, off);
    memcpy(m->bytes + off, p, n);
    if (off + n > m->size)
        m->size = off + n;
    m->dirty = true;
}

static void step_append(struct model *m)
{
    uint64_t n = rnd(20000) + 1, off = 0;
    if (m->size + n > SIZE_MAX_)
        return;
    CLEANUP_FREE uint8_t *p = pattern(n, (unsigned)rnd(1000000));
    assert_int_equal(content_write(m->c, p, n, &off, true), n);
    assert_int_equal(off, m->size);
    memcpy(m->bytes + m->size, p, n);
    m->size += n;
    m->dirty = true;
}

static void step_truncate(struct model *m)
{
    uint64_t size = rnd(3) ? rnd(m->size + 1) : rnd(SIZE_MAX_);
    if (rnd(4) == 0)
        size -= size % K64;
    m->dirty |= size != m->size;
    assert_int_equal(content_truncate(m->c, size), 0);
    if (size < m->size)
        memset(m->bytes + size, 0, m->size - size);
    m->size = size;
}

static void step_clear(struct model *m)
{
    uint64_t off = rnd(m->size + 1), n = rnd(4 * K64) + 1;
    if (off + n > SIZE_MAX_)
        return;
    bool punch = rnd(2);
    assert_int_equal(content_fallocate(m->c, punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE, off, n), 0);
    memset(m->bytes + off, 0, n);
    if (!punch && off + n > m->size)
        m->size = off + n;
    m->dirty = true;
}

static void step_seek(struct model *m)
{
    uint64_t off = rnd(m->size + 1);
    int64_t at = content_seek(m->c, off, SEEK_DATA);
    if (off == m->size) {
        assert_int_equal(at, -ENXIO);
        return;
    }
    uint64_t end = at == -ENXIO ? m->size : (uint64_t)at;
    assert_true(end >= off && end <= m->size);
    for (uint64_t i = off; i < end; i++)
        assert_int_equal(m->bytes[i], 0);
    at = content_seek(m->c, off, SEEK_HOLE);
    assert_true(at >= (int64_t)off && at <= (int64_t)m->size);
}

static void step_publish(struct model *m)
{
    bool away = rnd(8) == 0, lost = !away && m->dirty && rnd(8) == 0, refused = !away && !lost && m->dirty && rnd(8) == 0;
    gw_away = away;
    gw_lose_answer = lost;
    gw_refuse = refused ? -EDQUOT : 0;
    int err = publish_content(m->c, rnd(2));
    gw_away = false;
    if (gw_lose_answer || gw_refuse) { /* it was clean after all: everything had been cut off again, or a thread was faster */
        gw_lose_answer = false;
        gw_refuse = 0;
        assert_int_equal(err, 0);
    } else {
        assert_int_equal(err, refused ? -EDQUOT : lost || (away && m->dirty) ? -EIO : 0);
    }
    m->unsure = err && (m->unsure || lost);
    if (err)
        return;
    assert_at_gateway(m->ino, m->bytes, m->size);
    m->dirty = false;
}

/* Another mount changes it. */
static void step_remote(struct model *m)
{
    if (m->dirty)
        return;
    assert_int_equal(publish_content(m->c, true), 0);
    uint64_t before = m->size, size = rnd(3) ? before : rnd(SIZE_MAX_), from = rnd(size + 1), to = from + rnd(size - from + 1);
    if (size < before)
        memset(m->bytes + size, 0, before - size);
    CLEANUP_FREE uint8_t *p = pattern(to - from, (unsigned)rnd(1000000));
    memcpy(m->bytes + from, p, to - from);
    m->size = size;
    struct attr a = gw_write(m->ino, m->bytes, size, rnd(10) ? K64 : 2 * K64);
    if (size != before) {
        from = from < before ? from : before;
        from = from < size ? from : size;
        to = size > before ? size : before;
    }
    if (rnd(3) == 0)
        content_revalidate(m->c, &a, a.version);
    else if (gw_counts.conflicts % 2 == 0 && a.chunk_size == K64)
        content_remote_changed(m->c, &a, from, to);
    else
        content_remote_changed(m->c, &a, 0, size);
}

static void step_close(struct model *m)
{
    close_content(m->c);
    open_model(m);
}

static void everyone(void (*fn)(struct model *m))
{
    for (int i = 0; i < FILES; i++)
        fn(&files[i]);
}

static void step_close_for_good(struct model *m)
{
    close_content(m->c);
}

static void give_back(struct model *m)
{
    content_unref(m->c);
}

static void step_restart(bool dies)
{
    everyone(dies ? give_back : step_close_for_good);
    if (dies)
        crash();
    store_close(store); /* publishes */
    for (int i = 0; i < FILES; i++)
        files[i].dirty = files[i].unsure = false;
    open_store(cache_size, false);
    everyone(open_model);
    everyone(check);
}

static void test_random(void **state)
{
    (void)state;
    store_close(store);
    cache_size = rnd(2) ? UINT64_C(1) << 30 : 10 * K64;
    open_store(cache_size, false);
    for (int i = 0; i < FILES; i++) {
        struct model *m = &files[i];
        *m = (struct model){.ino = 7 + (uint64_t)i, .size = rnd(SIZE_MAX_)};
        CLEANUP_FREE uint8_t *p = pattern(m->size, (unsigned)i);
        memcpy(m->bytes, p, m->size);
        gw_write(m->ino, m->bytes, m->size, K64);
        open_model(m);
    }
    static void (*const kinds[])(struct model *) = {step_read, step_read, step_write, step_write, step_write, step_append, step_truncate, step_clear,
                                                    step_seek, step_publish, step_publish, step_remote, step_close};
    for (unsigned i = 0; i < steps; i++) {
        struct model *m = &files[rnd(FILES)];
        uint64_t k = rnd(sizeof kinds / sizeof *kinds * 12);
        if (k == 0 && (files[0].unsure || files[1].unsure || files[2].unsure))
            k = 1;
        if (getenv("TRACE"))
            fprintf(stderr, "%u: file %d step %d size %llx dirty %d version %llu\n", i, (int)(m - files), k < 2 ? (int)k - 2 : (int)(k / 12),
                    (unsigned long long)m->size, m->dirty, (unsigned long long)gw_attr(m->ino).version);
        if (k == 0 || k == 1)
            step_restart(k == 0);
        else
            kinds[k / 12](m);
        if (rnd(20) == 0)
            check(m);
    }
    everyone(check);
    for (int i = 0; i < FILES; i++) {
        assert_int_equal(publish_content(files[i].c, true), 0);
        assert_at_gateway(files[i].ino, files[i].bytes, files[i].size);
        close_content(files[i].c);
    }
    assert_int_equal(gw_counts.conflicts, 0);
}

/* ---- several threads ---- */

#define BIG (48u * K64)
#define CELL 512u

static struct content *shared;
static _Atomic bool stop;
static _Atomic unsigned failures;

/* Readers of a file that nobody changes, while what they read is evicted behind them. */
static void *reader(void *arg)
{
    const uint8_t *want = arg;
    uint64_t x = (uint64_t)(uintptr_t)&want | 1;
    CLEANUP_FREE uint8_t *got = mem_alloc(2 * K64);
    for (int i = 0; i < 300; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t off = (x >> 33) % (BIG - 2 * K64);
        if (content_read(shared, got, 2 * K64, off) != 2 * K64 || memcmp(got, want + off, 2 * K64) != 0)
            failures++;
    }
    return NULL;
}

static void test_readers_and_eviction(void **state)
{
    (void)state;
    store_close(store);
    open_store(8 * K64, false);
    CLEANUP_FREE uint8_t *p = pattern(BIG, 1);
    struct attr a = gw_write(7, p, BIG, K64);
    shared = open_content(&a);
    failures = 0;
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, reader, p);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(failures, 0);
    struct store_status st;
    store_status(store, &st);
    assert_true(st.cached_bytes <= 8 * K64 + 8 * K64);
    assert_true(gw_counts.gets + gw_counts.reads > 100); /* it was evicted */
    close_content(shared);
}

/* Each writer owns every fourth cell of a file, and counts in it; a publisher commits all the time. Every version is one in which no cell ever goes back. */
static void *counting_writer(void *arg)
{
    unsigned me = *(unsigned *)arg;
    uint8_t cell[CELL];
    for (unsigned i = 1; i < 200; i++) {
        memset(cell, (int)i, CELL);
        for (uint64_t off = me * CELL; off < 3 * K64; off += 4 * CELL * 16) {
            uint64_t at = off;
            if (content_write(shared, cell, CELL, &at, false) != CELL)
                failures++;
        }
    }
    return NULL;
}

static void *publisher(void *arg)
{
    (void)arg;
    while (!stop)
        if (publish_content(shared, false))
            failures++;
    return NULL;
}

static void *checking_reader(void *arg)
{
    (void)arg;
    uint8_t seen[3 * K64 / CELL] = {0}, cell[CELL];
    while (!stop)
        for (unsigned k = 0; k < 3 * K64 / CELL; k++) {
            if (content_read(shared, cell, 1, (uint64_t)k * CELL) != 1)
                continue;
            if (cell[0] < seen[k])
                failures++;
            seen[k] = cell[0];
        }
    return NULL;
}

static void test_writers_and_publisher(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *zeros = mem_alloc(3 * K64);
    struct attr a = gw_write(7, zeros, 3 * K64, K64);
    shared = open_content(&a);
    failures = 0;
    stop = false;
    pthread_t w[4], others[3];
    unsigned me[4] = {0, 1, 2, 3};
    pthread_create(&others[0], NULL, publisher, NULL);
    pthread_create(&others[1], NULL, publisher, NULL);
    pthread_create(&others[2], NULL, checking_reader, NULL);
    for (int i = 0; i < 4; i++)
        pthread_create(&w[i], NULL, counting_writer, &me[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(w[i], NULL);
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(others[i], NULL);
    assert_int_equal(failures, 0);
    assert_int_equal(gw_counts.conflicts, 0);
    assert_int_equal(publish_content(shared, true), 0);
    CLEANUP_FREE uint8_t *want = mem_alloc(3 * K64);
    for (unsigned m = 0; m < 4; m++)
        for (uint64_t off = m * CELL; off < 3 * K64; off += 4 * CELL * 16)
            memset(want + off, 199, CELL);
    assert_reads(shared, want, 3 * K64);
    assert_at_gateway(7, want, 3 * K64);
    close_content(shared);
}

/* A file that another mount fills with ever higher numbers: no reader sees a number go back, and after being told all see the last. */
static void *watching_reader(void *arg)
{
    (void)arg;
    uint8_t seen[2] = {0}, got;
    while (!stop)
        for (int k = 0; k < 2; k++) {
            if (content_read(shared, &got, 1, (uint64_t)k * M4 + 5) != 1 || got < seen[k])
                failures++;
            seen[k] = got;
        }
    return NULL;
}

static void test_readers_and_remote_changes(void **state)
{
    (void)state;
    CLEANUP_FREE uint8_t *p = mem_alloc(2 * M4);
    memset(p, 1, 2 * M4);
    struct attr a = gw_write(7, p, 2 * M4, M4);
    shared = open_content(&a);
    failures = 0;
    stop = false;
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, watching_reader, NULL);
    for (int i = 2; i < 40; i++) {
        memset(p + (i % 2) * M4, i, M4);
        a = gw_write(7, p, 2 * M4, M4);
        assert_true(content_remote_changed(shared, &a, (uint64_t)(i % 2) * M4, (uint64_t)(i % 2 + 1) * M4));
        uint8_t got;
        assert_int_equal(content_read(shared, &got, 1, (uint64_t)(i % 2) * M4 + 9), 1);
        assert_int_equal(got, i);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(failures, 0);
    assert_reads(shared, p, 2 * M4);
    close_content(shared);
}

/* Lines from several threads of this mount and from another mount: each is there once. */
static void *logger(void *arg)
{
    unsigned me = *(unsigned *)arg;
    for (unsigned i = 0; i < 40; i++) {
        char line[32];
        snprintf(line, sizeof line, "writer %u line %3u\n", me, i);
        uint64_t off = 0;
        if (content_write(shared, line, strlen(line), &off, true) != (ssize_t)strlen(line))
            failures++;
        if (i % 4 == 0 && publish_content(shared, false))
            failures++;
    }
    return NULL;
}

static void test_appends_from_two_mounts(void **state)
{
    (void)state;
    struct attr a = gw_write(7, "start\n", 6, K64);
    shared = open_content(&a);
    failures = 0;
    pthread_t t[3];
    unsigned me[3] = {0, 1, 2};
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, logger, &me[i]);
    for (int i = 0; i < 40; i++) {
        gw_append(7, "theirs\n", 7);
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(publish_content(shared, true), 0);
    assert_int_equal(failures, 0);
    assert_int_equal(gw_counts.conflicts, 0);
    uint64_t size;
    CLEANUP_FREE char *all = gw_content(7, 0, &size);
    assert_int_equal(size, 6 + 40 * 7 + 3 * 40 * strlen("writer 0 line   0\n"));
    for (unsigned m = 0; m < 3; m++)
        for (unsigned i = 0; i < 40; i++) {
            char line[32];
            snprintf(line, sizeof line, "writer %u line %3u\n", m, i);
            assert_non_null(strstr(all, line));
        }
    assert_reads(shared, all, size);
    close_content(shared);
}

int main(int argc, char **argv)
{
    seed = argc > 1 ? strtoul(argv[1], NULL, 0) : (unsigned long)time(NULL);
    if (argc > 2)
        steps = (unsigned)strtoul(argv[2], NULL, 0);
    rng = seed * 0x9E3779B97F4A7C15u + 1;
    printf("seed %lu\n", seed);
#define T(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
    const struct CMUnitTest tests[] = {T(random), T(readers_and_eviction), T(writers_and_publisher), T(readers_and_remote_changes),
                                       T(appends_from_two_mounts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
