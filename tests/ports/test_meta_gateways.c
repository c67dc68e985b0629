/* What gateways that share a metadata store know of each other. */
#include "meta_fixture.h"

static const char url[] = "http://10.0.0.1:9090", moved[] = "http://10.0.0.2:9090";

static int shared_setup(void **state)
{
    fixture_setup(state);
    ((struct fixture *)*state)->m->shared = true;
    return 0;
}
#define SHARED(fn) cmocka_unit_test_setup_teardown(fn, shared_setup, fixture_teardown)

static struct uuid fresh(void)
{
    struct uuid id;
    uuid_new(&id);
    return id;
}

static struct meta_tx *begin(struct fixture *f)
{
    struct meta_tx *tx;
    assert_int_equal(CALL(f, begin, &f->drive.id, &tx), 0);
    return tx;
}

static void commit(struct meta_tx *tx)
{
    assert_int_equal(tx->meta->ops->commit(tx), 0);
}

static void tidy(struct fixture *f)
{
    assert_int_equal(f->m->ops->gateways_tidy(f->m), 0);
}

static void put(struct fixture *f, const struct uuid *gateway, unsigned ms)
{
    struct meta_tx *tx = begin(f);
    assert_int_equal(IN(tx, interest_put, gateway, url, ms), 0);
    commit(tx);
}

/* The gateway's row as a writer sees it; until 0: there is none. */
static struct interest_row seen(struct fixture *f, const struct uuid *gateway)
{
    struct meta_tx *tx = begin(f);
    struct interest_row found = {0};
    for (size_t i = 0; i < tx->n_interests; i++)
        if (uuid_equal(&tx->interests[i].gateway, gateway))
            found = tx->interests[i];
    done(tx);
    return found;
}

static void a_writer_sees_the_interests_of_its_drive(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh(), b = fresh(), other = fresh();
    put(f, &a, 3000);
    put(f, &b, 3000);
    struct drive_row second = {.id = other, .owner = f->user.id, .name = "second"};
    assert_int_equal(CALL(f, drive_add, &second), 0);
    struct meta_tx *tx = begin(f);
    assert_int_equal(tx->n_interests, 2);
    assert_string_equal(tx->interests[0].url, url);
    done(tx);
    assert_int_equal(CALL(f, begin, &other, &tx), 0);
    assert_int_equal(tx->n_interests, 0);
    done(tx);
    tx = snapshot(f);
    assert_int_equal(tx->n_interests, 0);
    done(tx);
}

static void one_that_is_rolled_back_was_never_there(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh();
    struct meta_tx *tx = begin(f);
    assert_int_equal(IN(tx, interest_put, &a, url, 3000), 0);
    done(tx);
    assert_int_equal(seen(f, &a).until, 0);
}

static void one_that_is_out_is_seen_until_no_clock_can_be_that_wrong(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh();
    put(f, &a, 0);
    assert_int_not_equal(seen(f, &a).until, 0);
    tidy(f);
    assert_int_not_equal(seen(f, &a).until, 0);
}

static void renewing_changes_until_and_tells_the_seq(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh(), none = fresh(), drives[] = {f->drive.id, none};
    uint64_t seqs[2];
    put(f, &a, 3000);
    int64_t before = seen(f, &a).until;
    struct step s = step_begin(f, 0);
    uint64_t seq = step_end(&s);
    assert_int_equal(CALL(f, interests_renew, &a, moved, 3000, drives, 2, seqs), 0);
    assert_int_equal(seqs[0], seq);
    assert_true(seqs[1] == UINT64_MAX);
    struct interest_row now = seen(f, &a);
    assert_int_not_equal(now.until, before);
    assert_string_equal(now.url, moved);
    /* one that was forgotten comes again */
    assert_int_equal(CALL(f, interests_drop_all, &a), 0);
    assert_int_equal(seen(f, &a).until, 0);
    assert_int_equal(CALL(f, interests_renew, &a, url, 3000, drives, 1, seqs), 0);
    assert_int_not_equal(seen(f, &a).until, 0);
}

static void only_the_row_that_was_seen_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh(), b = fresh();
    uint64_t seq;
    put(f, &a, 3000);
    put(f, &b, 3000);
    struct interest_row old = seen(f, &a);
    assert_int_equal(CALL(f, interests_renew, &a, url, 3000, &f->drive.id, 1, &seq), 0);
    assert_int_equal(CALL(f, interest_drop, &f->drive.id, &a, old.until), 0);
    struct interest_row now = seen(f, &a);
    assert_int_not_equal(now.until, 0);
    assert_int_equal(CALL(f, interest_drop, &f->drive.id, &a, now.until), 0);
    assert_int_equal(seen(f, &a).until, 0);
    assert_int_not_equal(seen(f, &b).until, 0);
}

static void who_is_shunned_gets_no_interest(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh();
    uint64_t seq;
    assert_int_equal(CALL(f, gateway_heard, &a), 0);
    assert_int_equal(CALL(f, gateway_shun, &a, 60000), 0);
    assert_int_equal(CALL(f, gateway_heard, &a), 0);
    struct meta_tx *tx = begin(f);
    assert_int_equal(IN(tx, interest_put, &a, url, 3000), -EACCES);
    commit(tx);
    assert_int_equal(CALL(f, interests_renew, &a, url, 3000, &f->drive.id, 1, &seq), 0);
    assert_true(seq == UINT64_MAX);
    assert_int_equal(seen(f, &a).until, 0);
    tidy(f);
    assert_int_equal(CALL(f, interests_renew, &a, url, 3000, &f->drive.id, 1, &seq), 0);
    assert_true(seq == UINT64_MAX);
    assert_int_equal(CALL(f, gateway_shun, &a, 0), 0);
    assert_int_equal(CALL(f, interests_renew, &a, url, 3000, &f->drive.id, 1, &seq), 0);
    assert_true(seq != UINT64_MAX);
}

/* ---- mounts ---- */

static struct mount_row mount_of(struct fixture *f, const struct uuid *gateway)
{
    return (struct mount_row){.drive = f->drive.id, .session = fresh(), .user = f->user.id, .gateway = *gateway};
}

static void a_mount_moves_from_gateway_to_gateway(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh(), b = fresh();
    struct mount_row m = mount_of(f, &a), found;
    assert_int_equal(CALL(f, mount_get, &m.drive, &m.session, &found), -ENOENT);
    assert_int_equal(CALL(f, mount_put, &m), 0);
    m.gateway = b;
    struct meta_tx *tx = begin(f);
    assert_int_equal(CALL(f, mount_get, &m.drive, &m.session, &found), 0);
    assert_true(uuid_equal(&found.gateway, &a));
    assert_int_equal(CALL(f, mount_put, &m), 0);
    assert_int_equal(CALL(f, mount_get, &m.drive, &m.session, &found), 0);
    assert_true(uuid_equal(&found.gateway, &b));
    done(tx);
    assert_int_equal(CALL(f, mount_get, &m.drive, &m.session, &found), 0);
    assert_true(uuid_equal(&found.gateway, &a));
    assert_true(uuid_equal(&found.user, &f->user.id));
    assert_int_equal(CALL(f, mount_drop, &m.drive, &m.session), 0);
    assert_int_equal(CALL(f, mount_drop, &m.drive, &m.session), -ENOENT);
    assert_int_equal(CALL(f, mount_get, &m.drive, &m.session, &found), -ENOENT);
}

struct orphans {
    struct uuid session;
    unsigned found, all;
};

static int note_orphan(void *ctx, const struct mount_row *r)
{
    struct orphans *o = ctx;
    o->all++;
    o->found += uuid_equal(&r->session, &o->session);
    return 0;
}

static struct orphans orphans(struct fixture *f, const struct mount_row *m, unsigned ms)
{
    struct orphans o = {.session = m->session};
    assert_int_equal(CALL(f, mounts_orphaned, ms, 100000, note_orphan, &o), 0);
    return o;
}

static void a_mount_is_an_orphan_when_its_gateway_is_silent(void **state)
{
    struct fixture *f = *state;
    struct uuid a = fresh();
    struct uuid nobody = {{0}};
    struct mount_row m = mount_of(f, &a), lost = mount_of(f, &nobody), found;
    assert_int_equal(CALL(f, mount_put, &lost), 0);
    assert_int_equal(orphans(f, &lost, 60000).found, 1);
    assert_int_equal(CALL(f, mount_get, &lost.drive, &lost.session, &found), 0);
    assert_true(found.silent == INT64_MAX);
    assert_int_equal(CALL(f, mount_drop, &lost.drive, &lost.session), 0);
    assert_int_equal(CALL(f, mount_put, &m), 0);
    assert_int_equal(orphans(f, &m, 60000).found, 0); /* it is heard with the mount, though it said nothing yet */
    assert_int_equal(CALL(f, gateway_heard, &a), 0);
    assert_int_equal(orphans(f, &m, 60000).found, 0);
    assert_int_equal(CALL(f, mount_get, &m.drive, &m.session, &found), 0);
    assert_true(found.silent >= 0 && found.silent < 60 * SECOND);
    struct timespec moment = {.tv_nsec = 5000000};
    nanosleep(&moment, NULL);
    assert_int_equal(orphans(f, &m, 1).found, 1);
    tidy(f);
    assert_int_equal(orphans(f, &m, 60000).found, 0);
    struct orphans first = {0};
    assert_int_equal(CALL(f, mounts_orphaned, 1, 1, note_orphan, &first), 0);
    assert_int_equal(first.all, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARED(a_writer_sees_the_interests_of_its_drive),
        SHARED(one_that_is_rolled_back_was_never_there),
        SHARED(one_that_is_out_is_seen_until_no_clock_can_be_that_wrong),
        SHARED(renewing_changes_until_and_tells_the_seq),
        SHARED(only_the_row_that_was_seen_is_dropped),
        SHARED(who_is_shunned_gets_no_interest),
        SHARED(a_mount_moves_from_gateway_to_gateway),
        SHARED(a_mount_is_an_orphan_when_its_gateway_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
