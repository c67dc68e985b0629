/* What is told to many costs the metadata store as much as what is told to one. */
#include "http_fixture.h"

#include "gateway/api/app.h"
#include "gateway/api/hub.h"

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#define USERS 1000

static const struct uuid drive = {.b = {7}};

static struct {
    struct meta meta;
    uint64_t seq;
    atomic_uint snapshots, pages, members, lists, others;
    atomic_bool away;
} store;
static struct {
    struct fixture f;
    struct app app;
    struct conn conns[USERS];
} g;

/* ---- a store of one drive, whose members are all users, and which counts who asks ---- */

static struct uuid user(unsigned i)
{
    return (struct uuid){.b = {9, (uint8_t)(i >> 8), (uint8_t)i}};
}

static struct drive_row the_drive(void)
{
    return (struct drive_row){.id = drive, .root = DRIVE_ROOT, .seq = store.seq, .role = ROLE_VIEWER};
}

static int snapshot(struct meta *m, const struct uuid *id, struct meta_tx **ret)
{
    (void)id;
    store.snapshots++;
    if (store.away)
        return -EIO;
    *ret = mem_alloc(sizeof **ret);
    **ret = (struct meta_tx){.meta = m, .drive = the_drive()};
    return 0;
}

static void rollback(struct meta_tx *tx)
{
    free(tx);
}

static int changes(struct meta_tx *tx, uint64_t since, unsigned limit, int (*each)(void *ctx, const struct change_row *c), void *ctx)
{
    store.pages++;
    int err = 0;
    for (uint64_t seq = since + 1; seq <= tx->drive.seq && limit-- && !err; seq++) {
        struct change_row row = {.seq = seq, .kind = 'c', .ino = 2, .parent = DRIVE_ROOT, .name = "a"};
        err = each(ctx, &row);
    }
    return err;
}

static int member_list(struct meta *m, const struct uuid *id, int (*each)(void *ctx, const struct uuid *user, enum role role), void *ctx)
{
    (void)m, (void)id;
    store.members++;
    int err = 0;
    for (unsigned i = 0; i < USERS && !err; i++) {
        struct uuid one = user(i);
        err = each(ctx, &one, ROLE_VIEWER);
    }
    return err;
}

static int drive_list(struct meta *m, const struct uuid *id, int (*each)(void *ctx, const struct drive_row *d), void *ctx)
{
    (void)m, (void)id;
    struct drive_row d = the_drive();
    store.lists++;
    return each(ctx, &d);
}

static int drive_by_id(struct meta *m, const struct uuid *id, struct drive_row *ret)
{
    (void)m, (void)id;
    *ret = the_drive();
    return 0;
}

static int member_role(struct meta *m, const struct uuid *id, const struct uuid *who, enum role *ret)
{
    (void)m, (void)id, (void)who;
    store.others++;
    *ret = ROLE_VIEWER;
    return 0;
}

static int user_by_id(struct meta *m, const struct uuid *id, struct user_row *ret)
{
    (void)m, (void)id, (void)ret;
    store.others++;
    return -ENOENT;
}

static const struct meta_ops ops = {.snapshot = snapshot, .rollback = rollback, .changes = changes, .member_list = member_list, .member_role = member_role, .drive_list = drive_list, .drive_by_id = drive_by_id, .user_by_id = user_by_id};

/* ---- a hub with many listeners ---- */

struct step { /* on the loop */
    void (*fn)(const void *arg);
    const void *arg;
    sem_t done;
};

static void run_step(void *arg)
{
    struct step *s = arg;
    s->fn(s->arg);
    sem_post(&s->done);
}

static void on_loop(void (*fn)(const void *arg), const void *arg)
{
    struct step s = {.fn = fn, .arg = arg};
    sem_init(&s.done, 0, 0);
    http_server_post(g.f.server, run_step, &s);
    sem_wait(&s.done);
    sem_destroy(&s.done);
}

static void subscribe_all(const void *topic)
{
    for (unsigned i = 0; i < USERS; i++) {
        struct conn *c = &g.conns[i];
        *c = (struct conn){.hub = g.app.hub, .who.user = user(i), .n_subs = 1, .subs = mem_alloc(sizeof *c->subs)};
        c->subs[0] = (struct subscription){.destination = mem_strdup("x"), .topic = *(const enum topic *)topic};
        hub_subscribed(g.app.hub, c, c->subs, true);
    }
}

static void unsubscribe_all(const void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < USERS; i++) {
        struct conn *c = &g.conns[i];
        hub_subscribed(g.app.hub, c, c->subs, false);
        free(c->subs[0].destination);
        free(c->subs);
    }
}

static void all_listen(enum topic topic)
{
    on_loop(subscribe_all, &topic);
}

static unsigned expected = 1;
static void count_told(const void *ret)
{
    unsigned *told = *(unsigned *const *)ret;
    for (unsigned i = 0; i < USERS; i++)
        *told += g.conns[i].messages == expected;
}

/* Until each has had the messages that are expected. */
static void wait_for_all(void)
{
    for (unsigned told = 0, *at = &told; told < USERS;) {
        told = 0;
        on_loop(count_told, &at);
    }
}

static int setup(void **state)
{
    (void)state;
    store.meta = (struct meta){.ops = &ops};
    store.seq = 100;
    store.snapshots = store.pages = store.members = store.lists = store.others = 0;
    g.app = (struct app){.meta = &store.meta};
    assert_int_equal(events_memory_open("hub", &g.app.events), 0);
    fixture_start(&g.f, (struct http_config){.app = &g.app}, NULL, 0, NULL, 0);
    g.app.server = g.f.server;
    g.app.hub = hub_new(&g.app);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_stop(&g.f);
    hub_free(g.app.hub);
    g.app.events->ops->free(g.app.events);
    return 0;
}

static void commit(void)
{
    struct drive_work work = {.drive = drive, .first_seq = store.seq + 1, .last_seq = store.seq + 1};
    store.seq++;
    hub_committed(g.app.hub, &drive, &work);
}

static void a_change_is_looked_up_once_however_many_listen(void **state)
{
    (void)state;
    all_listen(TOPIC_FILE_CHANGES);
    commit();
    wait_for_all();
    assert_int_equal(store.snapshots, 1);
    assert_int_equal(store.pages, 1);
    assert_int_equal(store.members, 1);
    assert_true(store.others <= 1); /* the name of who did it */
    on_loop(unsubscribe_all, NULL);
}

static void what_could_not_be_read_is_told_with_the_next_change(void **state)
{
    (void)state;
    expected = 2;
    all_listen(TOPIC_FILE_CHANGES);
    store.away = true;
    commit();
    while (store.snapshots == 0)
        sched_yield();
    usleep(10000); /* it is over with it, most likely */
    store.away = false;
    commit();
    wait_for_all();
    on_loop(unsubscribe_all, NULL);
    expected = 1;
}

static void who_hears_of_a_device_is_looked_up_once(void **state)
{
    (void)state;
    struct presence p = {.user = user(1), .name = "ann", .device = "desk"};
    all_listen(TOPIC_PRESENCE);
    hub_announce(g.app.hub, &p, true, false);
    wait_for_all();
    assert_int_equal(store.lists, 1);
    assert_int_equal(store.members, 1);
    assert_int_equal(store.others, 0);
    on_loop(unsubscribe_all, NULL);
}

/* ---- long-polls ---- */

static struct {
    struct waiter all[USERS + 2];
    atomic_uint calls, n;
    sem_t over; /* a list was handed back */
} polls;

static void handed_back(struct waiter *all)
{
    polls.calls++;
    for (struct waiter *w = all; w; w = w->next) {
        assert_int_equal(w->since, all->since);
        assert_true(uuid_equal(&w->drive, &all->drive));
        polls.n++;
    }
    sem_post(&polls.over);
}

static void poll_from(unsigned i, const struct uuid *of, uint64_t since, unsigned ms)
{
    polls.all[i] = (struct waiter){.drive = *of, .since = since, .fn = handed_back};
    hub_wait(g.app.hub, &polls.all[i], ms);
}

static void those_who_wait_for_the_same_are_told_together(void **state)
{
    (void)state;
    static const struct uuid other = {.b = {8}};
    polls.calls = polls.n = 0;
    sem_init(&polls.over, 0, 0);
    for (unsigned i = 0; i < USERS; i++)
        poll_from(i, &drive, store.seq, 600000);
    poll_from(USERS, &drive, store.seq + 1, 600000);
    poll_from(USERS + 1, &other, store.seq, 600000);
    commit();
    sem_wait(&polls.over);
    assert_int_equal(polls.calls, 1);
    assert_int_equal(polls.n, USERS);
    commit();
    sem_wait(&polls.over);
    assert_int_equal(polls.calls, 2); /* the one from the newer place */
    assert_int_equal(polls.n, USERS + 1);
    poll_from(0, &drive, store.seq, 0); /* its time is over at once */
    sem_wait(&polls.over);
    assert_int_equal(polls.n, USERS + 2);
    assert_int_equal(g.app.hub->n_waits, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_change_is_looked_up_once_however_many_listen, setup, teardown),
        cmocka_unit_test_setup_teardown(those_who_wait_for_the_same_are_told_together, setup, teardown),
        cmocka_unit_test_setup_teardown(what_could_not_be_read_is_told_with_the_next_change, setup, teardown),
        cmocka_unit_test_setup_teardown(who_hears_of_a_device_is_looked_up_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
