/* What the tests of the metadata port share: a store with one user and one drive, and steps, each one transaction that takes one seq.

   The store is a fresh one for each test (fresh_meta.h). The suite is of the port: it asks for nothing that only one adapter does. */
#ifndef CAIRN_TESTS_META_FIXTURE_H
#define CAIRN_TESTS_META_FIXTURE_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/mem.h"
#include "gateway/core/rows.h"
#include "gateway/ports/meta.h"
#include "tests/ports/fresh_meta.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define SECOND INT64_C(1000000000)
#define CALL(f, fn, ...) ((f)->m->ops->fn((f)->m, __VA_ARGS__))
#define IN(tx, fn, ...) ((tx)->meta->ops->fn((tx), __VA_ARGS__))

struct fixture {
    struct fresh_meta store;
    const char *url, *dir; /* the store's */
    struct meta *m;
    struct user_row user;
    struct drive_row drive;
};

static inline void fixture_open(struct fixture *f)
{
    assert_int_equal(meta_open(f->url, &f->m), 0);
}

static inline void fixture_reopen(struct fixture *f)
{
    f->m->ops->free(f->m);
    fixture_open(f);
}

static inline int fixture_setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    fresh_meta_init(&f->store);
    f->url = f->store.url;
    f->dir = f->store.dir;
    fixture_open(f);
    uuid_new(&f->user.id);
    uuid_text(&f->user.id, f->user.name);
    f->user.password_hash = mem_strdup("$argon2id$");
    assert_int_equal(CALL(f, user_add, &f->user), 0);
    uuid_new(&f->drive.id);
    f->drive.owner = f->user.id;
    strcpy(f->drive.name, "home");
    assert_int_equal(CALL(f, drive_add, &f->drive), 0);
    *state = f;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    f->m->ops->free(f->m);
    fresh_meta_fini(&f->store);
    user_row_fini(&f->user);
    free(f);
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, fixture_setup, fixture_teardown)

/* ---- steps ---- */

struct step {
    struct meta_tx *tx;
    struct rows *rows;
    uint64_t seq;
};

/* A transaction whose time is `seconds` after the last one's. */
static inline struct step step_begin(struct fixture *f, int seconds)
{
    struct step s;
    assert_int_equal(CALL(f, begin, &f->drive.id, &s.tx), 0);
    s.rows = rows_new(&s.tx->drive, s.tx->drive.last_time + seconds * SECOND);
    s.seq = ++s.rows->drive.seq;
    s.rows->drive.last_time = s.rows->now;
    return s;
}

static inline void step_store(struct step *s)
{
    assert_int_equal(IN(s->tx, store, s->rows), 0);
    rows_free(s->rows);
}

static inline uint64_t step_end(struct step *s)
{
    step_store(s);
    assert_int_equal(s->tx->meta->ops->commit(s->tx), 0);
    return s->seq;
}

/* The result of a getter of rows, loading what it wants. */
#define LOADED(s, getter)                                                                                                          \
    __extension__({                                                                                                                \
        int loaded_;                                                                                                               \
        while ((loaded_ = (getter)) == -EAGAIN)                                                                                    \
            assert_int_equal(IN((s)->tx, load, (s)->rows), 0);                                                                     \
        loaded_;                                                                                                                   \
    })

static inline void name_set(struct step *s, uint64_t parent, const char *name, uint64_t ino)
{
    struct dentry_row *d;
    assert_int_equal(LOADED(s, rows_dentry(s->rows, parent, name, &d)), 0);
    rows_dentry_set(s->rows, d, ino, s->seq);
}

static inline struct inode_row *make(struct step *s, uint64_t parent, const char *name, uint64_t ino, uint32_t mode)
{
    struct attr a = {.ino = ino, .mode = mode, .nlink = 1, .uid = 1000, .gid = 1000, .atime = s->rows->now, .mtime = s->rows->now};
    a.ctime = a.btime = s->rows->now;
    struct inode_row *i = rows_inode_add(s->rows, &a, s->seq);
    name_set(s, parent, name, ino);
    return i;
}

static inline struct inode_row *inode_of(struct step *s, uint64_t ino)
{
    struct inode_row *i;
    assert_int_equal(LOADED(s, rows_inode(s->rows, ino, &i)), 0);
    return i;
}

static inline struct meta_tx *snapshot(struct fixture *f)
{
    struct meta_tx *tx;
    assert_int_equal(CALL(f, snapshot, &f->drive.id, &tx), 0);
    return tx;
}

static inline void done(struct meta_tx *tx)
{
    tx->meta->ops->rollback(tx);
}

static inline struct hash hash_of(const char *text)
{
    struct hash h;
    hash_bytes(text, strlen(text), &h);
    return h;
}

static inline struct chunk_row inline_chunk(const char *text)
{
    return (struct chunk_row){.hash = hash_of(text), .size = 99, .stored_size = (uint32_t)strlen(text), .codec = CODEC_ZSTD, .bytes = (char *)text};
}

/* Names of entries, "a b c". */
static inline int add_name(void *ctx, const struct entry_row *e)
{
    struct buf *b = ctx;
    if (b->len)
        buf_append_str(b, " ");
    buf_append_str(b, e->name);
    return 0;
}
static inline const char *text_of(const struct buf *b)
{
    return b->data ? b->data : "";
}
#endif
