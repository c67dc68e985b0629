/* Users, sessions, drives and their members. */
#include "tests/ports/meta_fixture.h"

#include <time.h>

static void a_user_is_found_and_changed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(user_row_fini) struct user_row u = {0};
    assert_int_equal(CALL(f, user_by_name, f->user.name, &u), 0);
    assert_memory_equal(&u.id, &f->user.id, sizeof u.id);
    assert_string_equal(u.password_hash, "$argon2id$");
    u.admin = u.disabled = true;
    assert_int_equal(CALL(f, user_update, &u), 0);
    user_row_fini(&u);
    assert_int_equal(CALL(f, user_by_id, &f->user.id, &u), 0);
    assert_true(u.admin && u.disabled);
    struct user_row other = {.name = "nobody"};
    uuid_new(&other.id);
    assert_int_equal(CALL(f, user_update, &other), -ENOENT);
    assert_int_equal(CALL(f, user_by_name, "nobody at all", &other), -ENOENT);
    strcpy(other.name, f->user.name);
    assert_int_equal(CALL(f, user_add, &other), -EEXIST);
}

static int count_users(void *ctx, const struct user_row *u)
{
    (void)u;
    ++*(int *)ctx;
    return 7;
}

static void a_listing_stops_where_it_is_told_to(void **state)
{
    struct fixture *f = *state;
    int n = 0;
    assert_int_equal(CALL(f, user_list, count_users, &n), 7);
    assert_int_equal(n, 1);
}

static void one_refresh_of_a_session_wins(void **state)
{
    struct fixture *f = *state;
    struct session_row s = {.user = f->user.id, .device = "laptop", .created = 5, .expires = 6};
    uuid_new(&s.id);
    struct hash first = hash_of("first"), second = hash_of("second");
    s.token = first;
    assert_int_equal(CALL(f, session_add, &s), 0);
    s.previous = first;
    s.token = second;
    strcpy(s.idempotency_key, "k");
    assert_int_equal(CALL(f, session_update, &s, &first), 0);
    assert_int_equal(CALL(f, session_update, &s, &first), -EAGAIN);
    assert_int_equal(CALL(f, session_by_id, &s.id, &s), 0);
    assert_true(hash_equal(&s.token, &second) && hash_equal(&s.previous, &first) && !s.revoked);
    assert_string_equal(s.idempotency_key, "k");
    assert_string_equal(s.device, "laptop");
    uuid_new(&s.id);
    assert_int_equal(CALL(f, session_update, &s, &first), -ENOENT);
}

static int session_seen(void *ctx, const struct session_row *s)
{
    return memcmp(ctx, &s->id, sizeof s->id) == 0;
}

static void a_user_has_sessions_of_their_own(void **state)
{
    struct fixture *f = *state;
    struct session_row s = {.user = f->user.id};
    uuid_new(&s.id);
    assert_int_equal(CALL(f, session_add, &s), 0);
    assert_int_equal(CALL(f, session_list, &f->user.id, session_seen, &s.id), 1);
    struct uuid other;
    uuid_new(&other);
    assert_int_equal(CALL(f, session_list, &other, session_seen, &s.id), 0);
}

static void a_secret_is_made_once(void **state)
{
    struct fixture *f = *state;
    uint8_t a[32], b[32], other[32];
    assert_int_equal(CALL(f, secret, "token", a), 0);
    assert_int_equal(CALL(f, secret, "url", other), 0);
    fixture_reopen(f);
    assert_int_equal(CALL(f, secret, "token", b), 0);
    assert_memory_equal(a, b, 32);
    assert_memory_not_equal(a, other, 32);
}

static void a_new_drive_has_a_root(void **state)
{
    struct fixture *f = *state;
    struct meta_tx *tx = snapshot(f);
    struct attr root;
    assert_int_equal(tx->drive.root, 1);
    assert_int_equal(tx->drive.seq, UINT64_C(1) << 40);
    assert_int_equal(tx->drive.next_ino, 2);
    assert_int_equal(IN(tx, inode, 1, 0, &root), 0);
    assert_int_equal(root.mode, S_IFDIR | 0755);
    assert_int_equal(root.nlink, 2);
    done(tx);
    struct drive_row again = f->drive;
    assert_int_equal(CALL(f, drive_add, &again), -EEXIST);
    uuid_new(&again.id);
    assert_int_equal(CALL(f, drive_add, &again), -EEXIST); /* the owner has one of that name */
    strcpy(again.name, "work");
    assert_int_equal(CALL(f, drive_add, &again), 0);
    assert_int_equal(CALL(f, drive_rename, &again.id, "home"), -EEXIST);
    assert_int_equal(CALL(f, drive_rename, &again.id, "office"), 0);
    assert_int_equal(CALL(f, drive_quota, &again.id, 77), 0);
    assert_int_equal(CALL(f, drive_by_id, &again.id, &again), 0);
    assert_string_equal(again.name, "office");
    assert_int_equal(again.quota, 77);
    uuid_new(&again.id);
    assert_int_equal(CALL(f, snapshot, &again.id, &tx), -ENOENT);
    assert_int_equal(CALL(f, begin, &again.id, &tx), -ENOENT);
    assert_int_equal(CALL(f, begin, &f->drive.id, &tx), 0); /* nothing was left locked */
    done(tx);
}

static int last_drive(void *ctx, const struct drive_row *d)
{
    *(struct drive_row *)ctx = *d;
    return 0;
}

struct members {
    struct uuid users[4];
    enum role roles[4];
    size_t n;
    int stop;
};

static int note_member(void *ctx, const struct uuid *user, enum role role)
{
    struct members *l = ctx;
    l->users[l->n] = *user;
    l->roles[l->n++] = role;
    return l->stop;
}

static void members_of_a_drive_are_listed(void **state)
{
    struct fixture *f = *state;
    struct members l = {0}, stopped = {.stop = 7};
    struct uuid guest;
    uuid_new(&guest);
    assert_int_equal(CALL(f, member_set, &f->drive.id, &guest, ROLE_VIEWER), 0);
    assert_int_equal(CALL(f, member_list, &f->drive.id, note_member, &l), 0);
    assert_int_equal(l.n, 2);
    size_t of_guest = uuid_equal(&l.users[1], &guest);
    assert_true(uuid_equal(&l.users[of_guest], &guest));
    assert_int_equal(l.roles[of_guest], ROLE_VIEWER);
    assert_true(uuid_equal(&l.users[!of_guest], &f->user.id));
    assert_int_equal(l.roles[!of_guest], ROLE_OWNER);
    assert_int_equal(CALL(f, member_list, &f->drive.id, note_member, &stopped), 7);
    assert_int_equal(stopped.n, 1);
    assert_int_equal(CALL(f, member_list, &guest, note_member, &l), 0);
    assert_int_equal(l.n, 2);
}

static void members_see_the_drive_in_their_role(void **state)
{
    struct fixture *f = *state;
    struct user_row guest = {.password_hash = "x"};
    uuid_new(&guest.id);
    uuid_text(&guest.id, guest.name);
    assert_int_equal(CALL(f, user_add, &guest), 0);
    enum role role;
    assert_int_equal(CALL(f, member_role, &f->drive.id, &f->user.id, &role), 0);
    assert_int_equal(role, ROLE_OWNER);
    assert_int_equal(CALL(f, member_role, &f->drive.id, &guest.id, &role), 0);
    assert_int_equal(role, ROLE_NONE);
    assert_int_equal(CALL(f, member_set, &f->drive.id, &guest.id, ROLE_VIEWER), 0);
    assert_int_equal(CALL(f, member_set, &f->drive.id, &guest.id, ROLE_EDITOR), 0);
    struct drive_row seen = {0};
    assert_int_equal(CALL(f, drive_list, &guest.id, last_drive, &seen), 0);
    assert_int_equal(seen.role, ROLE_EDITOR);
    assert_memory_equal(&seen.id, &f->drive.id, sizeof seen.id);
    assert_int_equal(CALL(f, member_set, &f->drive.id, &guest.id, ROLE_NONE), 0);
    assert_int_equal(CALL(f, member_role, &f->drive.id, &guest.id, &role), 0);
    assert_int_equal(role, ROLE_NONE);
}

static void inode_numbers_are_handed_out_once(void **state)
{
    struct fixture *f = *state;
    uint64_t first, second;
    assert_int_equal(CALL(f, inodes_reserve, &f->drive.id, 100, &first), 0);
    struct step s = step_begin(f, 0); /* a transaction that knows an older row does not give them back */
    step_end(&s);
    assert_int_equal(CALL(f, inodes_reserve, &f->drive.id, 1, &second), 0);
    assert_int_equal(first, 2);
    assert_int_equal(second, 102);
    assert_int_equal(CALL(f, inodes_reserve, &f->drive.id, UINT64_MAX, &second), -EOVERFLOW);
    struct uuid none;
    uuid_new(&none);
    assert_int_equal(CALL(f, inodes_reserve, &none, 1, &second), -ENOENT);
}

static void a_turn_is_one_holders_until_it_is_out(void **state)
{
    struct fixture *f = *state;
    struct uuid a, b;
    uuid_new(&a);
    uuid_new(&b);
    assert_int_equal(CALL(f, turn_take, "pack", &a, 60000), 0);
    assert_int_equal(CALL(f, turn_take, "pack", &b, 60000), -EAGAIN);
    assert_int_equal(CALL(f, turn_take, "trim", &b, 60000), 0);
    assert_int_equal(CALL(f, turn_take, "pack", &a, 0), 0); /* the holder may always go on */
    struct timespec moment = {.tv_nsec = 5000000};
    nanosleep(&moment, NULL);
    assert_int_equal(CALL(f, turn_take, "pack", &b, 60000), 0);
    assert_int_equal(CALL(f, turn_take, "pack", &a, 60000), -EAGAIN);
}

static void an_unknown_scheme_is_refused(void **state)
{
    (void)state;
    struct meta *m;
    assert_int_equal(meta_open("carrier-pigeon:home", &m), -ENOTSUP);
    assert_int_equal(meta_open("sqlite:", &m), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_user_is_found_and_changed),
        TEST(a_listing_stops_where_it_is_told_to),
        TEST(one_refresh_of_a_session_wins),
        TEST(a_user_has_sessions_of_their_own),
        TEST(a_secret_is_made_once),
        TEST(a_new_drive_has_a_root),
        TEST(members_see_the_drive_in_their_role),
        TEST(members_of_a_drive_are_listed),
        TEST(inode_numbers_are_handed_out_once),
        TEST(a_turn_is_one_holders_until_it_is_out),
        cmocka_unit_test(an_unknown_scheme_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
