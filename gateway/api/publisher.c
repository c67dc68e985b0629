#include "gateway/api/publisher.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/api/change_rows.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

#define PENDING_MAX 10000     /* ranges that wait: beyond, the relay has them */
#define RANGE_MAX 1000        /* seqs that are joined into one */
#define OUTSTANDING_MAX 5000  /* messages not yet confirmed */
#define PAGE 200
#define CONFIRMED_MAX 200     /* ranges that are removed in one transaction */
#define CLAIM 100
#define CLAIMED_NS (INT64_C(60) * 1000000000)
#define RELAY_MS 1000
#define LAST_WORDS_MS 3000

struct range {
    struct outbox_row row;
    struct range *prev, *next;
};

struct batch { /* the messages of one range */
    struct publisher *p;
    struct outbox_row row;
    unsigned left; /* under lock */
    bool failed;
};

struct publisher {
    struct app *app;
    bool relay;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t wake;  /* CLOCK_MONOTONIC */
    struct range *pending;
    size_t n_pending, outstanding;
    struct outbox_row confirmed[CONFIRMED_MAX];
    size_t n_confirmed;
    bool ending, stopped;
};

/* ---- confirms: on the adapter's thread ---- */

/* messages: how many of the broker's answers this is, 0 or 1. */
static void batch_down(struct batch *b, int err, unsigned messages)
{
    struct publisher *p = b->p;
    pthread_mutex_lock(&p->lock);
    p->outstanding -= messages;
    b->failed |= err != 0;
    bool over = --b->left == 0;
    /* one that finds no room here stays in the outbox, and is published twice */
    if (over && !b->failed && p->n_confirmed < CONFIRMED_MAX)
        p->confirmed[p->n_confirmed++] = b->row;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    if (over)
        free(b);
}

static void message_done(void *ctx, int err)
{
    batch_down(ctx, err, 1);
}

/* ---- messages ---- */

void publisher_event_id(const struct uuid *drive, uint64_t seq, char ret[UUID_TEXT])
{
    uint8_t bytes[24];
    struct hash h;
    struct uuid id;
    memcpy(bytes, drive->b, 16);
    for (unsigned i = 0; i < 8; i++)
        bytes[16 + i] = (uint8_t)(seq >> (8 * (7 - i)));
    hash_bytes(bytes, sizeof bytes, &h);
    memcpy(id.b, &h, sizeof id.b);
    id.b[6] = (uint8_t)((id.b[6] & 0x0f) | 0x80); /* version 8, of one's own making: RFC 9562, 5.8 */
    id.b[8] = (uint8_t)((id.b[8] & 0x3f) | 0x80);
    uuid_text(&id, ret);
}

static const char *file_key(char kind)
{
    switch (kind) {
    case 'c':
        return "file.uploaded";
    case 'd':
        return "file.deleted";
    case 'v':
        return "file.moved";
    case 'r':
        return "file.restored";
    default:
        return "file.modified";
    }
}

static int say(struct batch *b, const char *key, const char *id, const struct buf *body)
{
    struct events *e = b->p->app->events;
    pthread_mutex_lock(&b->p->lock);
    b->left++;
    b->p->outstanding++;
    pthread_mutex_unlock(&b->p->lock);
    int err = e->ops->publish(e, &(struct events_message){.key = key, .id = id, .body = body->data, .len = body->len, .persistent = true}, message_done, b);
    if (err)
        message_done(b, err);
    return err;
}

static int say_change(struct batch *b, struct change_rows *w, const struct change_row *row)
{
    CLEANUP_BUF struct buf body = {0};
    char id[UUID_TEXT], sync[64];
    int err = change_rows_put(w, row, &body);
    if (err)
        return err < 0 ? err : 0; /* of a file without a name: nobody can be told which */
    publisher_event_id(&b->row.drive, row->seq, id);
    body.len--; /* the closing brace */
    buf_appendf(&body, ",\"eventId\":\"%s\"}", id);
    snprintf(sync, sizeof sync, "sync.%s", w->drive);
    err = say(b, file_key(row->kind), id, &body);
    if (!err)
        err = say(b, sync, id, &body);
    if (!err && row->version && strchr("cmr", row->kind))
        err = say(b, "virus-scan.requested", id, &body);
    return err;
}

struct reading {
    struct batch *batch;
    struct change_rows *rows;
    uint64_t last;
    unsigned n;
    bool over;
    int err;
};

static int each_row(void *ctx, const struct change_row *row)
{
    struct reading *r = ctx;
    if (row->seq > r->batch->row.last) {
        r->over = true;
        return 1;
    }
    r->n++;
    r->last = row->seq;
    r->err = say_change(r->batch, r->rows, row);
    return r->err;
}

static int say_range(struct batch *b, struct meta_tx *tx)
{
    char drive[UUID_TEXT];
    uuid_text(&b->row.drive, drive);
    CLEANUP(change_rows_fini) struct change_rows w = {.app = b->p->app, .tx = tx, .drive = drive};
    struct reading r = {.batch = b, .rows = &w, .last = b->row.first - 1};
    do {
        r.n = 0;
        int err = tx->meta->ops->changes(tx, r.last, PAGE, each_row, &r);
        if (r.err || err < 0)
            return r.err ? r.err : err;
    } while (!r.over && r.n == PAGE);
    return 0;
}

/* Publishes one range. -ENOENT: its drive is gone, and so is what there was to say. */
static int publish_range(struct publisher *p, const struct outbox_row *row)
{
    struct meta *meta = p->app->meta;
    struct meta_tx *tx;
    struct batch *b = mem_alloc(sizeof *b);
    *b = (struct batch){.p = p, .row = *row, .left = 1};
    int err = meta->ops->snapshot(meta, &row->drive, &tx);
    if (!err) {
        err = say_range(b, tx);
        meta->ops->rollback(tx);
    }
    batch_down(b, err == -ENOENT ? 0 : err, 0);
    return err;
}

/* ---- the thread ---- */

static void wait_until(struct publisher *p, int64_t ms) /* from now; under lock */
{
    struct timespec until = cond_deadline(ms);
    pthread_cond_timedwait(&p->wake, &p->lock, &until);
}

/* Under lock: waits until the broker has caught up. False: it is ending. */
static bool room(struct publisher *p)
{
    while (p->outstanding >= OUTSTANDING_MAX && !p->ending && p->n_confirmed < CONFIRMED_MAX / 2)
        wait_until(p, RELAY_MS);
    return !p->ending;
}

static void remove_confirmed(struct publisher *p)
{
    struct outbox_row rows[CONFIRMED_MAX];
    struct meta *meta = p->app->meta;
    pthread_mutex_lock(&p->lock);
    size_t n = p->n_confirmed;
    memcpy(rows, p->confirmed, n * sizeof *rows);
    p->n_confirmed = 0;
    pthread_mutex_unlock(&p->lock);
    int err = n ? meta->ops->outbox_remove(meta, rows, n) : 0;
    if (err)
        log_warn("%zu published groups of changes could not be taken out of the outbox, and will be published again: %s", n, strerror(-err));
}

static bool take_pending(struct publisher *p, struct outbox_row *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    struct range *r = p->pending;
    if (!r || !room(p))
        return false;
    DL_DELETE(p->pending, r);
    p->n_pending--;
    *ret = r->row;
    free(r);
    return true;
}

static void publish_pending(struct publisher *p)
{
    struct outbox_row row;
    while (take_pending(p, &row)) {
        int err = publish_range(p, &row);
        if (err && err != -ENOENT)
            log_debug("changes are left to the relay: %s", strerror(-err));
        pthread_mutex_lock(&p->lock);
        bool many = p->n_confirmed >= CONFIRMED_MAX / 2;
        pthread_mutex_unlock(&p->lock);
        if (many)
            remove_confirmed(p);
    }
}

static void relay(struct publisher *p)
{
    struct meta *meta = p->app->meta;
    struct outbox_row rows[CLAIM];
    unsigned n = CLAIM;
    while (n == CLAIM && p->app->events->ops->status(p->app->events) == 0) {
        pthread_mutex_lock(&p->lock);
        bool go_on = room(p);
        pthread_mutex_unlock(&p->lock);
        int64_t now = clock_wall_ns();
        int err = go_on ? meta->ops->outbox_claim(meta, now, now + CLAIMED_NS, CLAIM, rows, &n) : -ECANCELED;
        if (err)
            return;
        for (unsigned i = 0; i < n; i++)
            publish_range(p, &rows[i]);
        if (n)
            log_info("%u groups of changes were published late", n);
        remove_confirmed(p);
    }
}

static void *run(void *arg)
{
    struct publisher *p = arg;
    int64_t relayed = clock_boot_ms();
    pthread_setname_np(pthread_self(), "publisher");
    for (bool ending = false; !ending;) {
        publish_pending(p);
        remove_confirmed(p);
        if (p->relay && clock_boot_ms() - relayed >= RELAY_MS) {
            relay(p);
            relayed = clock_boot_ms();
        }
        pthread_mutex_lock(&p->lock);
        if (!p->ending && !p->pending && !p->n_confirmed)
            wait_until(p, RELAY_MS);
        ending = p->ending;
        pthread_mutex_unlock(&p->lock);
    }
    return NULL;
}

/* ---- for others ---- */

void publisher_committed(struct publisher *p, const struct uuid *drive, uint64_t first, uint64_t last)
{
    if (!p)
        return;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    struct range *tail = p->pending ? p->pending->prev : NULL;
    if (tail && uuid_equal(&tail->row.drive, drive) && tail->row.last + 1 == first && last - tail->row.first < RANGE_MAX) {
        tail->row.last = last;
        return;
    }
    if (p->ending || p->n_pending == PENDING_MAX)
        return;
    struct range *r = mem_alloc(sizeof *r);
    r->row = (struct outbox_row){*drive, first, last};
    DL_APPEND(p->pending, r);
    p->n_pending++;
    pthread_cond_signal(&p->wake);
}

void publisher_works(struct publisher *p, const struct uuid *drive, const struct drive_work *works)
{
    uint64_t first, last = drive_works_range(works, &first);
    if (last)
        publisher_committed(p, drive, first, last);
}

struct publisher *publisher_new(struct app *app, bool relay_too)
{
    struct publisher *p = mem_alloc(sizeof *p);
    p->app = app;
    p->relay = relay_too;
    pthread_mutex_init(&p->lock, NULL);
    cond_init(&p->wake);
    if (pthread_create(&p->thread, NULL, run, p) != 0)
        abort();
    return p;
}

/* What is published in vain costs little: it stays in the outbox. */
void publisher_stop(struct publisher *p)
{
    if (!p || p->stopped)
        return;
    int64_t until = clock_boot_ms() + (p->app->events->ops->status(p->app->events) == 0 ? LAST_WORDS_MS : 0);
    pthread_mutex_lock(&p->lock);
    while ((p->pending || p->outstanding) && clock_boot_ms() < until)
        wait_until(p, 20);
    p->ending = p->stopped = true;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    remove_confirmed(p);
}

void publisher_free(struct publisher *p)
{
    struct range *r, *next;
    if (!p)
        return;
    DL_FOREACH_SAFE(p->pending, r, next)
        free(r);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
