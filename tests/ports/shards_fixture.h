/* A catalogue with a second shard. On a real PostgreSQL ($CAIRN_TEST_META). */
#ifndef CAIRN_TESTS_SHARDS_FIXTURE_H
#define CAIRN_TESTS_SHARDS_FIXTURE_H
#include "tests/ports/meta_fixture.h"

struct two { /* stores: the fixture's, and a second database */
    struct fixture *f;
    struct fresh_meta second;
};

static inline void two_init(struct two *t, struct fixture *f)
{
    t->f = f;
    fresh_meta_init(&t->second);
    assert_int_equal(CALL(f, shard_add, "two", t->second.url), 0);
}

/* The stores' connections end before their databases go. */
static inline void two_fini(struct two *t)
{
    fixture_reopen(t->f);
    fresh_meta_fini(&t->second);
}

static inline int count_drives(void *ctx, const char *name, const char *url, uint64_t drives)
{
    CLEANUP_FREE char *line = mem_printf("%s:%llu%s ", name, (unsigned long long)drives, strstr(url, "postgres") ? "" : "?");
    buf_append_str(ctx, line);
    return 0;
}

static inline const char *shards_of(struct fixture *f, struct buf *ret)
{
    buf_fini(ret);
    assert_int_equal(CALL(f, shard_list, count_drives, ret), 0);
    return text_of(ret);
}

static inline struct drive_row add_drive(struct fixture *f, const struct uuid *owner, const char *name)
{
    struct drive_row d = {.owner = *owner};
    uuid_new(&d.id);
    strcpy(d.name, name);
    assert_int_equal(CALL(f, drive_add, &d), 0);
    return d;
}

static inline int count(void *ctx, const struct drive_row *d)
{
    (void)d;
    ++*(int *)ctx;
    return 0;
}

static inline struct drive_row add_elsewhere(struct fixture *f, const char *owner)
{
    struct user_row u = f->user;
    uuid_new(&u.id);
    strcpy(u.name, owner);
    assert_int_equal(CALL(f, user_add, &u), 0);
    return add_drive(f, &u.id, "theirs");
}
#endif
