/* What a token that is too old, a gateway that is frozen and too many requests lead to. */
#include "remote_fixture.h"

#include "common/clock.h"

static void *ask(void *arg)
{
    struct fixture *f = arg;
    struct attr a;
    uint64_t seq;
    return (void *)(intptr_t)remote_inode(f->r, 7, 0, &seq, &a);
}

static void a_token_is_renewed_once_for_all_threads(void **state)
{
    struct fixture *f = *state;
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    strcpy(f->g.good, "another");
    pthread_t t[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, ask, f);
    for (int i = 0; i < 8; i++) {
        void *err;
        pthread_join(t[i], &err);
        assert_null(err);
    }
    assert_int_equal(f->g.renewals, 1);
    assert_int_equal(f->saved, 1);
    CLEANUP_FREE char *token = remote_token(f->r);
    assert_string_equal(token, "token-1");
}

static void a_repeated_renewal_carries_the_same_key(void **state)
{
    struct fixture *f = *state;
    struct attr a;
    uint64_t seq;
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    strcpy(f->g.good, "another");
    f->g.lost_renewals = 1;
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), -EHOSTUNREACH);
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_false(f->g.keys_differ);
    strcpy(f->g.good, "a third");
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_true(f->g.keys_differ);
}

static int locked, unlocked;
static void store_lock(void *ctx, char **ret_access, char **ret_refresh)
{
    locked++;
    *ret_access = mem_strdup(ctx);
    *ret_refresh = mem_strdup("refresh-x");
}
static void store_unlock(void *ctx)
{
    (void)ctx;
    unlocked++;
}

static void a_token_that_another_program_renewed_is_taken(void **state)
{
    struct fixture *f = *state;
    struct attr a;
    uint64_t seq;
    char newer[] = "newer";
    struct remote_token_store store = {store_lock, store_unlock, newer};
    remote_share_tokens(f->r, &store);
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    strcpy(f->g.good, newer);
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_int_equal(f->g.renewals, 0);
    strcpy(f->g.good, "another"); /* nothing newer is kept: it renews */
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_int_equal(f->g.renewals, 1);
    assert_int_equal(locked, 2);
    assert_int_equal(unlocked, 2);
}

static int times_asked(struct fixture *f)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->g.lock);
    return f->g.asked;
}

enum question { CHUNK, NAME, LISTING, QUESTIONS };

static int put_question(struct remote *r, enum question q)
{
    static const struct hash h = {{7}};
    CLEANUP_FREE char *bytes = mem_alloc(2 * CHUNK_INLINE_MAX);
    struct remote_page page;
    struct attr a;
    uint64_t seq;
    bool found;
    switch (q) {
    case CHUNK: /* where it is, first */
        return remote_chunk_get(r, &h, bytes, 2 * CHUNK_INLINE_MAX);
    case NAME:
        return remote_lookup(r, 1, "x", 0, &seq, &found, &a);
    default:
        return remote_directory(r, 1, 0, "", 10, &page);
    }
}

/* Who waits a second for a gateway that is away waits a second for one that says nothing, once more in case that there is another, and no longer. */
static void one_that_is_frozen_is_not_waited_for_longer_than_one_that_is_away(void **state)
{
    struct fixture *f = *state;
    for (enum question q = CHUNK; q < QUESTIONS; q++) {
        connect_anew(f);
        remote_set_timeout(f->r, 900);
        freeze(f, true);
        int64_t begin = clock_boot_ms();
        assert_int_equal(put_question(f->r, q), -EHOSTUNREACH);
        assert_int_equal(times_asked(f), 1);
        assert_in_range(clock_boot_ms() - begin, 900, 8000); /* 10 s are usual */
        struct remote_wait w = {.timeout_ms = 900};
        int err, tries = 0;
        begin = clock_boot_ms();
        do {
            err = put_question(f->r, q);
            tries++;
        } while (remote_wait(&w, err));
        assert_int_equal(tries, 2);
        assert_in_range(clock_boot_ms() - begin, 1800, 16000);
        freeze(f, false);
    }
}

static void who_asks_too_often_waits(void **state)
{
    struct fixture *f = *state;
    struct attr a;
    uint64_t seq;
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    f->g.too_many = 2;
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_token_is_renewed_once_for_all_threads),
        TEST(a_repeated_renewal_carries_the_same_key),
        TEST(a_token_that_another_program_renewed_is_taken),
        TEST(one_that_is_frozen_is_not_waited_for_longer_than_one_that_is_away),
        TEST(who_asks_too_often_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
