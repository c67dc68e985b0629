/* Scans by the drives' own logs: for a gateway without a broker. How far each log was scanned is kept with the drive, so that nothing is missed by a restart, nor while the scanner is away. */
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/jobs/scan.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <uthash.h>

#define CURSOR "virus-scan"
#define PAGE 200
#define LOOK_MS 500
#define AWAY_MS 2000 /* the scanner or a store did not answer */
#define TRIES 3      /* of content that cannot be read or scanned */

struct drive { /* what is known of one: saves asking for its cursor again and again */
    struct uuid id;
    uint64_t seq, scanned;
    UT_hash_handle hh;
};
struct scan_loop {
    struct scan_ctx ctx;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* CLOCK_MONOTONIC */
    atomic_bool stop;
    struct drive *drives;
};

struct content {
    uint64_t ino, version;
};
struct page {
    struct content list[PAGE];
    uint64_t seqs[PAGE]; /* of the change that made it */
    size_t n, rows;
    uint64_t last;
};

static int collect(void *ctx, const struct change_row *c)
{
    struct page *p = ctx;
    p->rows++;
    p->last = c->seq;
    if (c->version) { /* new content, whatever else happened */
        p->seqs[p->n] = c->seq;
        p->list[p->n++] = (struct content){c->ino, c->version};
    }
    return 0;
}

static int read_page(struct scan_loop *l, const struct uuid *drive, uint64_t since, struct page *ret)
{
    struct meta *meta = l->ctx.meta;
    struct meta_tx *tx;
    ret->n = ret->rows = 0;
    int err = meta->ops->snapshot(meta, drive, &tx);
    if (err)
        return err;
    if (since < tx->drive.oldest_change)
        since = tx->drive.oldest_change; /* what came before is no longer kept */
    ret->last = since;
    err = meta->ops->changes(tx, since, PAGE, collect, ret);
    meta->ops->rollback(tx);
    return err < 0 ? err : 0;
}

static int scan_one(struct scan_loop *l, const struct uuid *drive, const struct content *c)
{
    int err = -EIO;
    for (int i = 0; i < TRIES && err == -EIO && !l->stop; i++)
        err = scan_version(&l->ctx, drive, c->ino, c->version);
    if (err == -EIO)
        log_error("inode %llu version %llu could not be scanned for viruses, and is left as it is", (unsigned long long)c->ino, (unsigned long long)c->version);
    return err == -EIO ? 0 : err;
}

/* Up to the drive's end as it is now. -EAGAIN: not all of it. */
static int scan_drive(struct scan_loop *l, struct drive *d)
{
    CLEANUP_FREE struct page *p = mem_alloc(sizeof *p);
    while (d->scanned < d->seq) {
        int err = read_page(l, &d->id, d->scanned, p);
        uint64_t upto = p->last;
        for (size_t i = 0; i < p->n && !err; i++) {
            err = scan_one(l, &d->id, &p->list[i]);
            if (err)
                upto = p->seqs[i] - 1;
        }
        if (p->rows < PAGE && !err && upto < d->seq)
            upto = d->seq; /* numbers may be skipped */
        if (upto > d->scanned && (p->rows || !err)) {
            int put = l->ctx.meta->ops->cursor_put(l->ctx.meta, &d->id, CURSOR, upto);
            if (put)
                return put;
            d->scanned = upto;
        }
        if (err)
            return err;
    }
    return 0;
}

static int note_drive(void *ctx, const struct drive_row *row)
{
    struct scan_loop *l = ctx;
    struct drive *d;
    HASH_FIND(hh, l->drives, &row->id, sizeof row->id, d);
    if (!d) {
        d = mem_alloc(sizeof *d);
        d->id = row->id;
        d->scanned = UINT64_MAX; /* to be asked for */
        HASH_ADD(hh, l->drives, id, sizeof d->id, d);
    }
    d->seq = row->seq;
    return 0;
}

/* 0, or why not all was scanned. */
static int scan_all(struct scan_loop *l)
{
    struct meta *meta = l->ctx.meta;
    struct drive *d, *next;
    int err = meta->ops->drives_each(meta, note_drive, l), first = err < 0 ? err : 0;
    HASH_ITER(hh, l->drives, d, next)
    {
        err = d->scanned == UINT64_MAX ? meta->ops->cursor_get(meta, &d->id, CURSOR, &d->scanned) : 0;
        if (!err && d->scanned < d->seq && !l->stop)
            err = scan_drive(l, d);
        if (err == -ENOENT) { /* the drive is gone */
            HASH_DEL(l->drives, d);
            free(d);
        } else if (err && !first) {
            first = err;
        }
    }
    return first;
}

static void *run(void *arg)
{
    struct scan_loop *l = arg;
    pthread_setname_np(pthread_self(), "virus-scan");
    while (!l->stop) {
        int wait_ms = scan_all(l) ? AWAY_MS : LOOK_MS;
        struct timespec until = cond_deadline(wait_ms);
        pthread_mutex_lock(&l->lock);
        while (!l->stop && pthread_cond_timedwait(&l->wake, &l->lock, &until) != ETIMEDOUT)
            ;
        pthread_mutex_unlock(&l->lock);
    }
    return NULL;
}

struct scan_loop *scan_loop_start(const struct scan_ctx *c)
{
    struct scan_loop *l = mem_alloc(sizeof *l);
    l->ctx = *c;
    l->ctx.stop = &l->stop;
    pthread_mutex_init(&l->lock, NULL);
    cond_init(&l->wake);
    if (pthread_create(&l->thread, NULL, run, l) != 0)
        abort();
    return l;
}

void scan_loop_stop(struct scan_loop *l)
{
    struct drive *d, *next;
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    HASH_ITER(hh, l->drives, d, next)
    {
        HASH_DEL(l->drives, d);
        free(d);
    }
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
