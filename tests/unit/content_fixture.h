/* A drive in memory with one file, and commits to it: for tests of what operations do to content. */
#ifndef CAIRN_TESTS_UNIT_CONTENT_FIXTURE_H
#define CAIRN_TESTS_UNIT_CONTENT_FIXTURE_H
#include "fake_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define CS CHUNK_SIZE_MIN
#define FILE_INO 100

static inline struct hash chunk(unsigned id)
{
    struct hash h = {{0}};
    if (id)
        hash_bytes(&id, sizeof id, &h);
    return h;
}

static inline struct chunk_change change(uint64_t n, unsigned id, uint32_t len)
{
    return (struct chunk_change){.n = n, .ref = {.hash = chunk(id), .len = id ? len : 0}};
}

static inline int setup(void **state)
{
    struct fake_world *w = mem_alloc(sizeof *w);
    world_open(w);
    for (unsigned id = 1; id < 100; id++)
        FAKE_PUSH(&w->store, chunks, chunk(id));
    world_do(w, &(struct op){.kind = OP_CREATE, .parent = 1, .name = (char *)"f.txt", .ino = FILE_INO, .mode = S_IFREG | 0640, .uid = 7});
    *state = w;
    return 0;
}
static inline int teardown(void **state)
{
    world_close(*state);
    free(*state);
    return 0;
}

static inline struct op commit(uint64_t base, uint64_t size, struct chunk_change *changes, size_t n)
{
    return (struct op){.kind = OP_COMMIT, .ino = FILE_INO, .has_base = true, .base = base, .size = size, .shrunk_to = size, .chunk_size = CS,
                       .changes = changes, .n_changes = n};
}
static inline int commit_chunk(struct fake_world *w, uint64_t base, uint64_t size, uint64_t n, unsigned id, uint32_t len)
{
    struct chunk_change c = change(n, id, len);
    struct op op = commit(base, size, &c, 1);
    return world_do(w, &op);
}
static inline struct chunk_ref ref_at(struct fake_world *w, uint64_t ino, uint64_t version, uint64_t n)
{
    struct segment_row g;
    fake_segment(&w->store, ino, n / SEGMENT_CHUNKS, version, &g);
    return g.chunks[n % SEGMENT_CHUNKS];
}
#define assert_chunk(w, ino, version, n, id, length)                                                                   \
    do {                                                                                                               \
        struct chunk_ref ref_ = ref_at(w, ino, version, n);                                                            \
        struct hash want_ = chunk(id);                                                                                 \
        assert_int_equal(ref_.len, length);                                                                            \
        assert_memory_equal(&ref_.hash, &want_, sizeof want_);                                                         \
    } while (0)
static inline const struct version_row *version_of(struct fake_world *w, uint64_t ino, uint64_t version)
{
    for (size_t i = 0; i < w->store.n_versions; i++)
        if (w->store.versions[i].ino == ino && w->store.versions[i].version == version)
            return &w->store.versions[i];
    return NULL;
}
static inline const struct attr *attr_of(struct fake_world *w, uint64_t ino)
{
    return &world_inode(w, ino)->attr;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#endif
