/* Links between gateways: two servers in one process, each with its own loop, and one metadata store. */
#include "http_fixture.h"

#include "common/clock.h"
#include "gateway/api/app.h"
#include "gateway/api/peers.h"
#include "gateway/core/order.h"

#include <semaphore.h>
#include <stdatomic.h>

struct side {
    struct fixture f;
    struct app app;
    struct uuid id;
    struct interest_row row; /* as the others know it */
    sem_t heard, settled, unlocked;
    char said[1024]; /* what was heard last */
    struct uuid from;
    struct uuid drive;
    uint64_t last;
    bool silent; /* acknowledges nothing */
    atomic_int n_settled;
};

static struct side a, b;
static char dir[32];
static struct meta *meta;
static const struct uuid drive = {.b = {7}}, session = {.b = {5}};

static void on_heard(void *ctx, const struct uuid *gateway, struct inval *v)
{
    struct side *s = ctx;
    s->from = *gateway;
    s->drive = v->drive;
    s->last = v->last;
    snprintf(s->said, sizeof s->said, "%d-%d:", (int)v->first, (int)v->last);
    for (size_t i = 0; i < v->n; i++) {
        size_t len = strlen(s->said);
        snprintf(s->said + len, sizeof s->said - len, " %d %d %s", v->works[i].session.b[0], (int)v->works[i].seq, v->works[i].touches ? v->works[i].touches : "none");
    }
    if (!s->silent)
        peers_ack(s->app.peers, gateway, v->id);
    sem_post(&s->heard);
}

static void on_unlocked(void *ctx, const struct uuid *d, uint64_t ino)
{
    struct side *s = ctx;
    assert_true(uuid_equal(d, &drive));
    assert_int_equal(ino, 99);
    sem_post(&s->unlocked);
}

static void on_settled(void *ctx, void *waiter)
{
    struct side *s = ctx;
    assert_ptr_equal(waiter, &a);
    atomic_fetch_add(&s->n_settled, 1);
    sem_post(&s->settled);
}

static const uint8_t secret[32] = "known to both", guess[32] = "not known to both";

static void begin(struct side *s, const uint8_t key[32])
{
    memset(s, 0, sizeof *s);
    sem_init(&s->heard, 0, 0);
    sem_init(&s->settled, 0, 0);
    sem_init(&s->unlocked, 0, 0);
    uuid_new(&s->id);
    fixture_start(&s->f, (struct http_config){.internal = "127.0.0.1:0", .app = &s->app}, NULL, 0, &peers_protocol, 1);
    s->app.server = s->f.server;
    s->app.meta = meta;
    s->app.peers = peers_new(s->app.server, meta, &s->id, key, &(struct peers_io){on_heard, on_unlocked, on_settled, s});
    s->row = (struct interest_row){.gateway = s->id, .until = 1};
    snprintf(s->row.url, sizeof s->row.url, "http://127.0.0.1:%d", http_server_internal_port(s->f.server));
}

static void end(struct side *s)
{
    if (!s->f.server)
        return;
    fixture_stop(&s->f);
    peers_free(s->app.peers);
    s->f.server = NULL;
}

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/cairn-peers-XXXXXX");
    assert_non_null(mkdtemp(dir));
    CLEANUP_FREE char *path = mem_printf("%s/meta.db", dir);
    assert_int_equal(meta_sqlite_open(path, &meta), 0);
    begin(&a, secret);
    begin(&b, secret);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    end(&a);
    end(&b);
    meta->ops->free(meta);
    CLEANUP_FREE char *command = mem_printf("rm -rf %s", dir);
    assert_int_equal(system(command), 0);
    return 0;
}

/* ---- steps on a loop ---- */

struct step {
    void (*fn)(struct step *);
    struct side *side;
    const struct interest_row *to;
    uint64_t seq;
    int64_t read_at, now;
    bool told;
    sem_t done;
};

static void run_step(void *arg)
{
    struct step *s = arg;
    s->fn(s);
    sem_post(&s->done);
}

static bool on_loop(struct step s)
{
    sem_init(&s.done, 0, 0);
    http_server_post(s.side->f.server, run_step, &s);
    sem_wait(&s.done);
    return s.told;
}

static void do_tell(struct step *s)
{
    struct inval_work work = {session, s->seq, (char *)(uintptr_t)"{\"seq\":1},{\"seq\":2}"};
    struct inval v = {.drive = drive, .first = s->seq, .last = s->seq, .n = 1, .works = &work};
    struct peer_text *t = peer_text_new(s->side->app.peers, &v);
    s->told = peers_tell(s->side->app.peers, s->to, &drive, s->read_at, t, &a, s->now);
    peer_text_unref(t);
}

static void do_tick(struct step *s)
{
    peers_tick(s->side->app.peers, s->now);
}

static void do_unlock(struct step *s)
{
    peers_tell_unlocked(s->side->app.peers, s->to, &drive, 99);
}

static void do_bye(struct step *s)
{
    peers_bye(s->side->app.peers);
}

static bool tell(const struct interest_row *to, uint64_t seq)
{
    int64_t now = clock_boot_ms();
    return on_loop((struct step){.fn = do_tell, .side = &a, .to = to, .seq = seq, .read_at = now, .now = now});
}

static void tick(int64_t now)
{
    on_loop((struct step){.fn = do_tick, .side = &a, .now = now});
}

/* ---- stories ---- */

static void what_is_told_is_heard_and_acknowledged(void **state)
{
    (void)state;
    for (uint64_t seq = 1; seq <= 3; seq++) {
        assert_true(tell(&b.row, seq));
        sem_wait(&b.heard);
        sem_wait(&a.settled);
        assert_true(uuid_equal(&b.from, &a.id));
        assert_true(uuid_equal(&b.drive, &drive));
    }
    assert_string_equal(b.said, "3-3: 5 3 {\"seq\":1},{\"seq\":2}");
    on_loop((struct step){.fn = do_unlock, .side = &a, .to = &b.row});
    sem_wait(&b.unlocked);
}

static void unlocked_reaches_one_that_is_not_connected_yet(void **state)
{
    (void)state;
    on_loop((struct step){.fn = do_unlock, .side = &a, .to = &b.row});
    sem_wait(&b.unlocked);
}

static void who_does_not_know_the_secret_hears_nothing(void **state)
{
    (void)state;
    end(&b);
    begin(&b, guess);
    assert_true(tell(&b.row, 1));
    usleep(300000); /* it is dialled several times meanwhile */
    assert_int_equal(sem_trywait(&b.heard), -1);
    assert_int_equal(atomic_load(&a.n_settled), 0);
    tick(clock_boot_ms() + INTEREST_MS); /* its row is out */
    assert_int_equal(atomic_load(&a.n_settled), 1);
}

static void another_gateway_at_the_address_hears_nothing(void **state)
{
    (void)state;
    struct interest_row gone = b.row;
    uuid_new(&gone.gateway);
    assert_true(tell(&gone, 1));
    usleep(200000);
    assert_int_equal(sem_trywait(&b.heard), -1);
    assert_int_equal(atomic_load(&a.n_settled), 0);
}

static void what_was_not_acknowledged_is_told_again(void **state)
{
    (void)state;
    b.silent = true;
    assert_true(tell(&b.row, 1));
    sem_wait(&b.heard);
    /* the link breaks: here, since the other gateway is started anew under the same id, and address */
    struct uuid id = b.id;
    CLEANUP_FREE char *address = mem_strdup(b.row.url + strlen("http://"));
    fixture_stop(&b.f);
    peers_free(b.app.peers);
    struct http_config cfg = {.listen = "127.0.0.1:0", .internal = address, .workers_threads = 3, .app = &b.app};
    b.app.peers = NULL;
    b.silent = false;
    b.f.server = b.app.server = http_server_new(&cfg, NULL, 0, &peers_protocol, 1);
    assert_non_null(b.f.server);
    b.app.peers = peers_new(b.app.server, meta, &id, secret, &(struct peers_io){on_heard, on_unlocked, on_settled, &b});
    assert_int_equal(pthread_create(&b.f.thread, NULL, fixture_run, &b.f), 0);
    sem_wait(&b.heard);
    sem_wait(&a.settled);
}

static void one_that_says_bye_is_not_waited_for(void **state)
{
    (void)state;
    b.silent = true;
    assert_true(tell(&b.row, 1));
    sem_wait(&b.heard);
    on_loop((struct step){.fn = do_bye, .side = &b});
    sem_wait(&a.settled);
    assert_false(tell(&b.row, 2));
}

static void one_whose_row_is_out_is_not_told(void **state)
{
    (void)state;
    int64_t now = clock_boot_ms();
    struct meta_tx *tx;
    struct drive_row d = {.id = drive, .name = "home"};
    meta->shared = true;
    assert_int_equal(meta->ops->drive_add(meta, &d), 0);
    assert_int_equal(meta->ops->begin(meta, &drive, &tx), 0);
    assert_int_equal(meta->ops->interest_put(tx, &b.id, b.row.url, 3000), 0);
    assert_int_equal(meta->ops->commit(tx), 0);
    assert_int_equal(meta->ops->begin(meta, &drive, &tx), 0);
    assert_int_equal(tx->n_interests, 1);
    struct interest_row row = tx->interests[0];
    meta->ops->rollback(tx);
    assert_true(on_loop((struct step){.fn = do_tell, .side = &a, .to = &row, .seq = 1, .read_at = now, .now = now}));
    sem_wait(&a.settled);
    assert_false(on_loop((struct step){.fn = do_tell, .side = &a, .to = &row, .seq = 2, .read_at = now + INTEREST_MS, .now = now + INTEREST_MS}));
    size_t left = 1;
    while (left) { /* and the row is removed */
        assert_int_equal(meta->ops->begin(meta, &drive, &tx), 0);
        left = tx->n_interests;
        meta->ops->rollback(tx);
    }
}

static void late_thrice_is_shunned(void **state)
{
    (void)state;
    uint64_t seq;
    struct drive_row d = {.id = drive, .name = "home"};
    assert_int_equal(meta->ops->drive_add(meta, &d), 0);
    b.silent = true;
    int64_t now = clock_boot_ms();
    for (int i = 0; i < 3; i++, now += INTEREST_MS + 1) {
        struct interest_row row = b.row;
        row.until += i;
        for (int k = 0; k < 5; k++) /* many that wait at once are late once */
            on_loop((struct step){.fn = do_tell, .side = &a, .to = &row, .seq = (uint64_t)(10 * i + k + 1), .read_at = now, .now = now});
        assert_int_equal(meta->ops->interests_renew(meta, &b.id, row.url, 3000, &drive, 1, &seq), 0);
        assert_true(seq != UINT64_MAX);
        tick(now + INTEREST_MS);
        assert_int_equal(atomic_load(&a.n_settled), 5 * (i + 1));
    }
    do
        assert_int_equal(meta->ops->interests_renew(meta, &b.id, b.row.url, 3000, &drive, 1, &seq), 0);
    while (seq != UINT64_MAX);
}

#define PAIR(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR(what_is_told_is_heard_and_acknowledged),
        PAIR(unlocked_reaches_one_that_is_not_connected_yet),
        PAIR(who_does_not_know_the_secret_hears_nothing),
        PAIR(another_gateway_at_the_address_hears_nothing),
        PAIR(what_was_not_acknowledged_is_told_again),
        PAIR(one_that_says_bye_is_not_waited_for),
        PAIR(one_whose_row_is_out_is_not_told),
        PAIR(late_thrice_is_shunned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
