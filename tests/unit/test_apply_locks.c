#include "fake_store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define END (UINT64_MAX >> 1)

static int lock_as(struct fake_world *w, uint8_t session, uint64_t owner, int type, uint64_t start, uint64_t end, bool whole, bool test)
{
    w->actor.session.b[0] = session;
    return world_do(w, &(struct op){.kind = OP_LOCK, .ino = 100, .lock_type = type, .lock_start = start, .lock_end = end, .lock_owner = owner,
                                    .lock_flock = whole, .lock_test = test, .uid = 40 + session});
}
static int lock(struct fake_world *w, uint8_t session, int type, uint64_t start, uint64_t end)
{
    return lock_as(w, session, 1, type, start, end, false, false);
}

/* "1r0-9 2w20-29" in order of start: session, type, range */
static const char *locks(struct fake_world *w)
{
    static char text[512];
    text[0] = '\0';
    for (uint64_t at = 0, found = 1; found;) {
        const struct lock_row *next = NULL;
        for (size_t i = 0; i < w->store.n_locks; i++) {
            const struct lock_row *l = &w->store.locks[i];
            if (l->start * 256 + l->session.b[0] >= at && (!next || l->start * 256 + l->session.b[0] < next->start * 256 + next->session.b[0]))
                next = l;
        }
        found = next != NULL;
        if (!next)
            break;
        at = next->start * 256 + next->session.b[0] + 1;
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, "%s%u%c%u-%u", len ? " " : "", next->session.b[0], next->type == F_WRLCK ? 'w' : 'r', (unsigned)next->start,
                 (unsigned)next->end);
    }
    return text;
}

static int setup(void **state)
{
    struct fake_world *w = mem_alloc(sizeof *w);
    world_open(w);
    world_do(w, &(struct op){.kind = OP_CREATE, .parent = 1, .name = (char *)"f", .ino = 100, .mode = S_IFREG | 0644});
    *state = w;
    return 0;
}
static int teardown(void **state)
{
    world_close(*state);
    free(*state);
    return 0;
}

static void conflicts_are_told(void **state)
{
    struct fake_world *w = *state;
    uint64_t seq = w->store.drive.seq;
    assert_int_equal(lock(w, 1, F_RDLCK, 0, 9), 0);
    assert_int_equal(w->res.seq, seq); /* a lock takes no number */
    assert_false(w->res.unlocked);
    assert_int_equal(lock(w, 2, F_RDLCK, 5, 14), 0);
    assert_int_equal(lock(w, 2, F_WRLCK, 9, 9), -EAGAIN);
    assert_int_equal(w->res.lock_type, F_RDLCK);
    assert_int_equal(w->res.lock_start, 0);
    assert_int_equal(w->res.lock_end, 9);
    assert_int_equal(w->res.lock_pid, 41);
    assert_int_equal(lock(w, 2, F_WRLCK, 10, 20), 0);
    assert_string_equal(locks(w), "1r0-9 2r5-9 2w10-20");
    assert_int_equal(lock(w, 1, F_RDLCK, 20, END), -EAGAIN);
    assert_int_equal(lock_as(w, 1, 1, F_WRLCK, 0, END, false, true), 0); /* F_GETLK */
    assert_int_equal(w->res.lock_type, F_RDLCK);
    assert_int_equal(lock_as(w, 1, 1, F_WRLCK, 21, END, false, true), 0);
    assert_int_equal(w->res.lock_type, F_UNLCK);
    assert_int_equal(lock_as(w, 1, 2, F_WRLCK, 0, 0, false, false), -EAGAIN); /* another owner of the same mount */
    assert_int_equal(world_do(w, &(struct op){.kind = OP_LOCK, .ino = 777, .lock_end = 1}), -ENOENT);
    assert_int_equal(lock(w, 1, F_RDLCK, 9, 8), -EINVAL);
    assert_int_equal(w->store.drive.seq, seq);
}

static void of_several_the_first_in_the_file_is_told(void **state)
{
    struct fake_world *w = *state;
    lock(w, 1, F_RDLCK, 20, 29);
    lock(w, 2, F_RDLCK, 0, 9);
    assert_int_equal(lock(w, 3, F_WRLCK, 0, END), -EAGAIN);
    assert_int_equal(w->res.lock_start, 0);
    assert_int_equal(w->res.lock_end, 9);
}

static void ranges_split_and_join(void **state)
{
    struct fake_world *w = *state;
    lock(w, 1, F_RDLCK, 0, 99);
    lock(w, 1, F_WRLCK, 40, 49);
    assert_string_equal(locks(w), "1r0-39 1w40-49 1r50-99");
    lock(w, 1, F_UNLCK, 20, 29);
    assert_true(w->res.unlocked);
    assert_string_equal(locks(w), "1r0-19 1r30-39 1w40-49 1r50-99");
    lock(w, 1, F_RDLCK, 20, 29); /* touches both */
    assert_string_equal(locks(w), "1r0-39 1w40-49 1r50-99");
    lock(w, 1, F_RDLCK, 45, 45); /* weaker */
    assert_true(w->res.unlocked);
    assert_string_equal(locks(w), "1r0-39 1w40-44 1r45-45 1w46-49 1r50-99");
    lock(w, 1, F_WRLCK, 0, END);
    assert_false(w->res.unlocked);
    assert_int_equal(w->store.n_locks, 1);
    lock(w, 1, F_UNLCK, 0, END);
    assert_true(w->res.unlocked);
    assert_string_equal(locks(w), "");
    lock(w, 1, F_UNLCK, 0, END); /* nothing to give up is no error */
    assert_false(w->res.unlocked);
}

static void flock_is_a_kind_of_its_own(void **state)
{
    struct fake_world *w = *state;
    assert_int_equal(lock(w, 1, F_WRLCK, 0, END), 0);
    assert_int_equal(lock_as(w, 2, 7, F_WRLCK, 0, END, true, false), 0);
    assert_int_equal(lock_as(w, 1, 8, F_RDLCK, 0, END, true, false), -EAGAIN);
    assert_int_equal(lock_as(w, 2, 7, F_RDLCK, 0, END, true, false), 0);
    assert_true(w->res.unlocked);
    assert_int_equal(lock_as(w, 1, 8, F_RDLCK, 0, END, true, false), 0);
    assert_int_equal(w->store.n_locks, 3);
}

static void a_session_that_ends_leaves_nothing(void **state)
{
    struct fake_world *w = *state;
    lock(w, 1, F_RDLCK, 0, 9);
    lock(w, 2, F_RDLCK, 0, 9);
    w->actor.session.b[0] = 1;
    assert_int_equal(world_do(w, &(struct op){.kind = OP_LOCK_RELEASE_ALL}), 0);
    assert_true(w->res.unlocked);
    assert_int_equal(w->res.ino, 0);
    assert_string_equal(locks(w), "2r0-9");
    assert_int_equal(lock(w, 2, F_WRLCK, 0, 9), 0);
}

/* Random calls of three owners against a table of bytes. */
static void random_against_bytes(void **state)
{
    struct fake_world *w = *state;
    const char *given = getenv("CAIRN_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    printf("seed %u\n", seed);
    enum { BYTES = 24 };
    int held[4][BYTES];
    for (int s = 0; s < 4; s++)
        for (int b = 0; b < BYTES; b++)
            held[s][b] = F_UNLCK;
    for (int round = 0; round < 4000; round++) {
        uint8_t me = (uint8_t)(1 + rand_r(&seed) % 3);
        unsigned from = (unsigned)rand_r(&seed) % BYTES, to = from + (unsigned)rand_r(&seed) % (BYTES - from);
        int type = (int[]){F_RDLCK, F_WRLCK, F_UNLCK}[rand_r(&seed) % 3];
        bool conflict = false;
        for (uint8_t other = 1; other < 4; other++)
            for (unsigned b = from; b <= to; b++)
                conflict |= other != me && type != F_UNLCK && held[other][b] != F_UNLCK && (type == F_WRLCK || held[other][b] == F_WRLCK);
        assert_int_equal(lock(w, me, type, from, to), conflict ? -EAGAIN : 0);
        for (unsigned b = from; b <= to && !conflict; b++)
            held[me][b] = type;
        for (uint8_t s = 1; s < 4; s++)
            for (unsigned b = 0; b < BYTES; b++) {
                int now = F_UNLCK, n = 0;
                for (size_t i = 0; i < w->store.n_locks; i++) {
                    const struct lock_row *l = &w->store.locks[i];
                    if (l->session.b[0] == s && l->start <= b && b <= l->end) {
                        now = l->type;
                        n++;
                    }
                }
                assert_int_equal(now, held[s][b]);
                assert_true(n <= 1);
            }
    }
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(conflicts_are_told), CASE(of_several_the_first_in_the_file_is_told),
        CASE(ranges_split_and_join),
        CASE(flock_is_a_kind_of_its_own),
        CASE(a_session_that_ends_leaves_nothing),
        CASE(random_against_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
