/* A catalogue with shards, and one that is away. */
#include "tests/ports/shards_fixture.h"

#include <libpq-fe.h>
#include <unistd.h>

static void an_owners_drives_stay_together(void **state)
{
    struct two t;
    struct fixture *f = *state;
    CLEANUP_BUF struct buf b = {0};
    int n = 0;
    two_init(&t, f);
    assert_int_equal(CALL(f, shard_add, "two", t.second.url), -EEXIST);
    assert_int_equal(CALL(f, shard_add, "main", t.second.url), -EEXIST);
    assert_string_equal(shards_of(f, &b), "main:1 two:0 ");
    struct user_row other = f->user;
    uuid_new(&other.id);
    strcpy(other.name, "other");
    assert_int_equal(CALL(f, user_add, &other), 0);
    add_drive(f, &other.id, "one"); /* where there are fewest */
    add_drive(f, &other.id, "more");
    add_drive(f, &f->user.id, "work");
    assert_string_equal(shards_of(f, &b), "main:2 two:2 ");
    assert_int_equal(CALL(f, drives_each, count, &n), 0);
    assert_int_equal(n, 4);
    n = 0;
    assert_int_equal(CALL(f, drive_list, &other.id, count, &n), 0);
    assert_int_equal(n, 2);
    fixture_reopen(f);
    n = 0;
    assert_int_equal(CALL(f, drive_list, &other.id, count, &n), 0);
    assert_int_equal(n, 2);
    two_fini(&t);
}

static int last_name(void *ctx, const struct drive_row *d)
{
    *(struct drive_row *)ctx = *d;
    return 0;
}

static void what_a_broken_move_left_is_not_seen(void **state)
{
    struct two t;
    struct fixture *f = *state;
    struct drive_row d;
    int n = 0;
    two_init(&t, f);
    assert_int_equal(CALL(f, drives_each, count, &n), 0);
    PGconn *c = PQconnectdb(t.second.url);
    char id[UUID_TEXT];
    uuid_text(&f->drive.id, id);
    CLEANUP_FREE char *sql = mem_printf("INSERT INTO drive SELECT '%s', '%s', 'old', 1, 7, 0, 0, 1, 2, 0, 0, '', 0, 0", id, id);
    PGresult *res = PQexec(c, sql);
    assert_int_equal(PQresultStatus(res), PGRES_COMMAND_OK);
    PQclear(res);
    PQfinish(c);
    n = 0;
    assert_int_equal(CALL(f, drives_each, count, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(CALL(f, drive_list, &f->user.id, last_name, &d), 0);
    assert_int_equal(d.seq, UINT64_C(1) << 40);
    assert_string_equal(d.name, "home");
    assert_int_equal(CALL(f, drive_move, &f->drive.id, "two"), 0); /* and it is in nobody's way */
    two_fini(&t);
}

/* ---- one that is away ---- */

static void take_away(const struct fixture *f, const struct fresh_meta *shard)
{
    const char *name = strrchr(shard->url, '/') + 1;
    CLEANUP_FREE char *refuse = mem_printf("ALTER DATABASE %s ALLOW_CONNECTIONS false", name);
    CLEANUP_FREE char *end = mem_printf("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '%s'", name);
    fresh_meta_sql(f->url, refuse);
    fresh_meta_sql(f->url, end);
}

static int count_ids(void *ctx, const struct uuid *drive)
{
    (void)drive;
    ++*(int *)ctx;
    return 0;
}

static int count_mounts(void *ctx, const struct mount_row *r)
{
    (void)r;
    ++*(int *)ctx;
    return 0;
}

/* Drives in main, in "two", which goes away, and in "three". */
struct three {
    struct two t;
    struct fresh_meta third;
    struct drive_row in_two, in_three;
};

static void three_init(struct three *t, struct fixture *f)
{
    two_init(&t->t, f);
    t->in_two = add_elsewhere(f, "b");
    fresh_meta_init(&t->third);
    assert_int_equal(CALL(f, shard_add, "three", t->third.url), 0);
    t->in_three = add_elsewhere(f, "c");
    CLEANUP_BUF struct buf b = {0};
    assert_string_equal(shards_of(f, &b), "main:1 three:1 two:1 ");
}

static void three_fini(struct three *t)
{
    two_fini(&t->t);
    fresh_meta_fini(&t->third);
}

static void one_that_is_away_keeps_the_others_from_nothing(void **state)
{
    struct three t;
    struct fixture *f = *state;
    struct uuid gateway;
    uint64_t seqs[3];
    int n = 0;
    unsigned found;
    struct pending_row over;
    three_init(&t, f);
    struct pending_row p = {.drive = t.in_three.id, .user = f->user.id, .chunk = {.hash = hash_of("x"), .size = 1, .stored_size = 1, .pack = "pack/x"}, .expires = 1};
    struct chunk_row c = {.hash = hash_of("y"), .size = 1, .stored_size = 1, .bytes = "y"};
    assert_int_equal(CALL(f, pendings_add, &p, 1), 0);
    assert_int_equal(CALL(f, chunks_add, &t.in_three.id, &c, 1), 0);
    take_away(f, &t.t.second);
    uuid_new(&gateway);
    assert_int_equal(CALL(f, gateway_heard, &gateway), 0);
    const struct uuid drives[] = {t.in_two.id, f->drive.id, t.in_three.id};
    assert_int_equal(CALL(f, interests_renew, &gateway, "http://a:1", 3000, drives, 3, seqs), 0);
    assert_true(seqs[0] == UINT64_MAX);
    assert_true(seqs[1] != UINT64_MAX && seqs[2] != UINT64_MAX);
    assert_int_equal(CALL(f, drives_each, count, &n), -EHOSTUNREACH); /* in the order of their ids */
    assert_int_equal(n, 2);
    assert_int_equal(CALL(f, pendings_over, 2, 10, &over, &found), 0);
    assert_int_equal(found, 1);
    n = 0;
    assert_int_equal(CALL(f, inline_drives, 0, count_ids, &n), -EHOSTUNREACH);
    assert_int_equal(n, 1);
    three_fini(&t);
}

struct listed {
    struct uuid id;
    bool away;
    enum role role;
    int n; /* which one it is of the list, from 1; 0: it is not there */
    int all;
};

static int look_for(void *ctx, const struct drive_row *d)
{
    struct listed *l = ctx;
    l->all++;
    if (!uuid_equal(&d->id, &l->id))
        return 0;
    l->n = l->all;
    l->away = d->away;
    l->role = d->role;
    assert_string_equal(d->name, "theirs");
    return 0;
}

static void one_that_is_away_is_listed_as_such(void **state)
{
    struct three t;
    struct fixture *f = *state;
    three_init(&t, f);
    assert_int_equal(CALL(f, member_set, &t.in_two.id, &f->user.id, ROLE_EDITOR), 0);
    assert_int_equal(CALL(f, member_set, &t.in_three.id, &f->user.id, ROLE_VIEWER), 0);
    take_away(f, &t.t.second);
    struct listed two = {.id = t.in_two.id}, three = {.id = t.in_three.id};
    assert_int_equal(CALL(f, drive_list, &f->user.id, look_for, &two), 0);
    assert_int_equal(CALL(f, drive_list, &f->user.id, look_for, &three), 0);
    assert_true(two.n && two.all == 3 && two.away && two.role == ROLE_EDITOR);
    assert_true(three.n && three.all == 3 && !three.away && three.role == ROLE_VIEWER);
    three_fini(&t);
}

static void rows_of_drives_everywhere_are_removed_at_once(void **state)
{
    struct two t;
    struct fixture *f = *state;
    struct pending_row p[2] = {{.user = f->user.id, .chunk = {.hash = hash_of("x"), .size = 1, .stored_size = 1, .pack = "pack/x"}, .expires = 1}}, over[2];
    unsigned n;
    two_init(&t, f);
    p[1] = p[0];
    p[0].drive = add_elsewhere(f, "b").id;
    p[1].drive = f->drive.id;
    assert_int_equal(CALL(f, pendings_add, &p[0], 1), 0);
    assert_int_equal(CALL(f, pendings_add, &p[1], 1), 0);
    assert_int_equal(CALL(f, pendings_forget, p, 2), 0);
    assert_int_equal(CALL(f, pendings_over, 2, 2, over, &n), 0);
    assert_int_equal(n, 0);
    two_fini(&t);
}

static void an_upload_is_found_in_a_shard_that_is_new(void **state)
{
    struct three t;
    struct fixture *f = *state;
    struct meta *other; /* another gateway, which has met no shard yet */
    assert_int_equal(meta_open(f->url, &other), 0);
    three_init(&t, f);
    struct upload_row u = {.user = f->user.id, .drive = t.in_three.id, .parent = 1, .name = "a", .chunk_size = 1, .state = 'a', .expires = 100}, found;
    uuid_new(&u.id);
    assert_int_equal(CALL(f, upload_add, &u), 0);
    sleep(1); /* the shards were read just now */
    assert_int_equal(other->ops->upload_get(other, &u.id, &found), 0);
    upload_row_fini(&found);
    take_away(f, &t.t.second);
    assert_int_equal(other->ops->upload_get(other, &u.id, &found), 0);
    upload_row_fini(&found);
    uuid_new(&u.id);
    assert_int_equal(other->ops->upload_get(other, &u.id, &found), -EHOSTUNREACH); /* who knows */
    other->ops->free(other);
    three_fini(&t);
}

static void who_could_not_be_heard_is_not_taken_for_dead(void **state)
{
    struct fixture *f = *state;
    struct mount_row r = {.drive = f->drive.id, .user = f->user.id};
    struct uuid gateway;
    int n = 0;
    uuid_new(&r.session);
    uuid_new(&r.gateway);
    uuid_new(&gateway);
    assert_int_equal(CALL(f, mount_put, &r), 0);
    fresh_meta_sql(f->url, "UPDATE gateway SET heard = 1");
    assert_int_equal(CALL(f, mounts_orphaned, 1000, 10, count_mounts, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(CALL(f, gateway_heard, &gateway), 0); /* the database is there (again) since just now */
    assert_int_equal(CALL(f, mounts_orphaned, 1000, 10, count_mounts, &n), 0);
    assert_int_equal(n, 1);
    sleep(1);
    assert_int_equal(CALL(f, mounts_orphaned, 1000, 10, count_mounts, &n), 0);
    assert_int_equal(n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_owners_drives_stay_together),
        TEST(what_a_broken_move_left_is_not_seen),
        TEST(one_that_is_away_keeps_the_others_from_nothing),
        TEST(one_that_is_away_is_listed_as_such),
        TEST(rows_of_drives_everywhere_are_removed_at_once),
        TEST(an_upload_is_found_in_a_shard_that_is_new),
        TEST(who_could_not_be_heard_is_not_taken_for_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
