/* A store in a folder of its own, on the gateway of fake_gateway.h. */
#ifndef CAIRN_TESTS_CACHE_FIXTURE_H
#define CAIRN_TESTS_CACHE_FIXTURE_H
#include "common/mem.h"
#include "fake_gateway.h"
#include "fusefs/cache/content_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
/* cmocka wants these before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define K64 (64u << 10)
#define M4 (4u << 20)

static char dir[64];
static struct store *store;

static inline void open_store(uint64_t max_bytes, bool writeback)
{
    struct store_config cfg = {.dir = dir, .max_bytes = max_bytes, .writeback = writeback, .timeout_ms = 300};
    assert_int_equal(store_open(&cfg, &store), 0);
}

static inline int setup(void **state)
{
    (void)state;
    gw_reset();
    snprintf(dir, sizeof dir, "%s/cairn-cache-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm"); /* syncs cost nothing there */
    assert_non_null(mkdtemp(dir));
    struct uuid id;
    assert_int_equal(store_prepare(dir, &id), 0);
    open_store(UINT64_C(1) << 30, false);
    return 0;
}

static inline void remove_dir(const char *path)
{
    CLEANUP_FREE char *cmd = mem_printf("rm -rf '%s'", path);
    assert_int_equal(system(cmd), 0);
}

static inline int teardown(void **state)
{
    (void)state;
    store_close(store);
    store = NULL;
    umount2(dir, MNT_DETACH); /* of a test that ended before it did so itself */
    remove_dir(dir);
    gw_reset();
    return 0;
}

static inline void reopen(void)
{
    store_close(store);
    open_store(UINT64_C(1) << 30, false);
}

/* As after a crash: the folder as it is at this moment, opened by a new store. What the old one had in memory is lost to it. */
static inline void crash(void)
{
    char image[80];
    snprintf(image, sizeof image, "%s.image", dir);
    CLEANUP_FREE char *cmd = mem_printf("cp -a --sparse=always '%s' '%s'", dir, image);
    pthread_mutex_lock(&store->evicting); /* copying is no snapshot: nothing may move from one file to another meanwhile */
    assert_int_equal(system(cmd), 0);
    pthread_mutex_unlock(&store->evicting);
    gw_away = true;
    store_close(store);
    gw_away = false;
    remove_dir(dir);
    assert_int_equal(rename(image, dir), 0);
    open_store(UINT64_C(1) << 30, false);
}

static inline uint8_t *pattern(size_t n, unsigned salt)
{
    uint8_t *p = mem_alloc(n + 1);
    uint32_t x = salt * 2654435761u + 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24) | 1;
    }
    return p;
}

static inline void assert_reads(struct content *c, const void *want, uint64_t size)
{
    CLEANUP_FREE uint8_t *got = mem_alloc(size + 10);
    assert_int_equal(content_read(c, got, size + 10, 0), size);
    if (memcmp(got, want, size) != 0)
        for (uint64_t i = 0; i < size; i++)
            if (got[i] != ((const uint8_t *)want)[i])
                fail_msg("byte %llu of %llu differs: %02x, not %02x", (unsigned long long)i, (unsigned long long)size, got[i], ((const uint8_t *)want)[i]);
}

static inline void assert_at_gateway(uint64_t ino, const void *want, uint64_t size)
{
    uint64_t n;
    CLEANUP_FREE void *got = gw_content(ino, 0, &n);
    assert_int_equal(n, size);
    assert_memory_equal(got, want, size);
}

static inline void assert_wrote(struct content *c, const void *p, size_t n, uint64_t off)
{
    assert_int_equal(content_write(c, p, n, &off, false), n);
}

static inline void assert_appended(struct content *c, const char *text)
{
    uint64_t off = 0;
    assert_int_equal(content_write(c, text, strlen(text), &off, true), strlen(text));
}

static inline struct content *open_content(const struct attr *a)
{
    struct content *c = content_get(store, a);
    content_opened(c);
    return c;
}

static inline void close_content(struct content *c)
{
    content_closed(c);
    content_unref(c);
}
#endif
