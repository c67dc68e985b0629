#include "gateway/jobs/scan.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/core/chunk_read.h"
#include "gateway/core/paths.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define MAP_CHUNKS 256        /* of the version's map that are read at a time: a snapshot is held only as long */
#define ZEROS (256u << 10)    /* a hole goes by in pieces of this */
#define LL(v) ((unsigned long long)(v))

static const char zeros[ZEROS];

/* ---- content, piece by piece ---- */

/* One version's bytes. At any time one chunk of them is in memory. */
struct reading {
    const struct scan_ctx *c;
    const struct uuid *drive;
    struct version_row v;
    struct chunk_ref map[MAP_CHUNKS];
    uint64_t chunk, n_chunks; /* the next one */
    uint64_t gap;             /* zeros to give before it */
    struct buf bytes;
    int error;                /* why `next` failed */
};

static int read_map(struct reading *r)
{
    struct meta *meta = r->c->meta;
    struct meta_tx *tx;
    uint64_t left = r->n_chunks - r->chunk;
    int err = meta->ops->snapshot(meta, r->drive, &tx);
    if (err)
        return err;
    err = meta->ops->chunk_map(tx, r->v.ino, r->v.version, r->chunk, left < MAP_CHUNKS ? (size_t)left : MAP_CHUNKS, r->map);
    meta->ops->rollback(tx);
    return err;
}

static char *room(void *ctx, size_t n)
{
    struct buf *b = ctx;
    b->len = 0;
    buf_reserve(b, n);
    b->len = n;
    return b->data;
}

static int64_t give_zeros(struct reading *r, const void **ret)
{
    uint64_t n = r->gap < ZEROS ? r->gap : ZEROS;
    r->gap -= n;
    *ret = zeros;
    return (int64_t)n;
}

static int64_t fail(struct reading *r, int err)
{
    r->error = err;
    return err;
}

static int64_t next_piece(void *ctx, const void **ret)
{
    struct reading *r = ctx;
    while (!r->gap && r->chunk < r->n_chunks) {
        int err = r->chunk % MAP_CHUNKS == 0 ? read_map(r) : 0;
        if (err)
            return fail(r, err);
        const struct chunk_ref *ref = &r->map[r->chunk % MAP_CHUNKS];
        uint64_t extent = chunk_length(r->v.size, r->v.chunk_size, r->chunk);
        r->chunk++;
        if (hash_is_zero(&ref->hash)) {
            r->gap = extent;
            continue;
        }
        err = chunk_read(r->c->meta, r->c->objects, r->drive, &ref->hash, room, &r->bytes);
        if (err)
            return fail(r, err == -ENOENT ? -EIO : err); /* the version names it: it must be there */
        uint64_t n = ref->len < r->bytes.len ? ref->len : r->bytes.len;
        n = n < extent ? n : extent;
        r->gap = extent - n;
        *ret = r->bytes.data;
        if (n)
            return (int64_t)n;
    }
    return r->gap ? give_zeros(r, ret) : 0;
}

/* ---- what is to be scanned ---- */

/* 1: nothing any more: it is gone, or was only a step of one open file on its way to the version that replaced it. */
static int find_version(const struct scan_ctx *c, const struct uuid *drive, uint64_t ino, uint64_t version, struct scan_report *report, struct version_row *ret)
{
    struct meta_tx *tx;
    struct attr a;
    int err = c->meta->ops->snapshot(c->meta, drive, &tx);
    if (err)
        return err == -ENOENT ? 1 : err;
    report->owner = tx->drive.owner;
    err = c->meta->ops->version(tx, ino, version, ret);
    if (!err && !ret->listed)
        err = c->meta->ops->inode(tx, ino, 0, &a);
    if (!err && !ret->listed && a.version != version)
        err = 1;
    c->meta->ops->rollback(tx);
    return err == -ENOENT ? 1 : err;
}

static int ask_scanner(const struct scan_ctx *c, const struct uuid *drive, const struct version_row *v, struct scan_report *report)
{
    struct reading *r = mem_alloc(sizeof *r);
    r->c = c;
    r->drive = drive;
    r->v = *v;
    r->n_chunks = v->chunk_size ? chunk_count(v->size, v->chunk_size) : 0;
    int err = c->scanner->ops->scan(c->scanner, &(struct scan_source){next_piece, r}, c->stop, &report->verdict, report->signature);
    if (err && err != r->error)
        log_warn("the virus scanner cannot scan inode %llu version %llu: %s", LL(v->ino), LL(v->version), strerror(-err));
    else if (err)
        log_warn("inode %llu version %llu cannot be read for its virus scan: %s", LL(v->ino), LL(v->version), strerror(-err));
    buf_fini(&r->bytes);
    free(r);
    return err;
}

/* ---- what becomes of it ---- */

/* The operation that quarantines. It is waited for, but not when the process is ending: the event loop, which tells the mounts, may have ended before it. Who is last frees it. */
struct quarantine {
    struct drive_work work;
    struct op op;
    struct op_result result;
    pthread_mutex_t lock; /* guards the two below */
    pthread_cond_t changed;
    bool done, abandoned;
};

static void quarantine_free(struct quarantine *q)
{
    op_result_fini(&q->result);
    pthread_cond_destroy(&q->changed);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

static void quarantine_done(struct drive_work *w)
{
    struct quarantine *q = w->ctx;
    pthread_mutex_lock(&q->lock);
    q->done = true;
    bool abandoned = q->abandoned;
    pthread_cond_signal(&q->changed);
    pthread_mutex_unlock(&q->lock);
    if (abandoned)
        quarantine_free(q);
}

/* Whether it is done; false: it was given up, and is no longer ours. */
static bool quarantine_wait(struct quarantine *q, const atomic_bool *stop)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&q->lock);
    while (!q->done && !(stop && *stop)) {
        struct timespec until = cond_deadline(1000);
        pthread_cond_timedwait(&q->changed, &q->lock, &until);
    }
    q->abandoned = !q->done;
    return q->done;
}

static int quarantine(const struct scan_ctx *c, struct scan_report *report)
{
    struct quarantine *q = mem_alloc(sizeof *q);
    pthread_mutex_init(&q->lock, NULL);
    cond_init(&q->changed);
    q->op = (struct op){.kind = OP_QUARANTINE, .ino = report->ino, .version = report->version};
    q->work = (struct drive_work){.drive = report->drive, .ops = &q->op, .n_ops = 1, .results = &q->result, .done = quarantine_done, .ctx = q};
    strcpy(q->work.actor.device, "virus-scan");
    drive_queues_submit(c->queues, &q->work);
    if (!quarantine_wait(q, c->stop))
        return -EAGAIN;
    int err = q->work.error ? q->work.error : q->result.error;
    report->at = q->work.at;
    quarantine_free(q);
    return err;
}

static int tell(const struct scan_ctx *c, struct scan_report *report)
{
    CLEANUP_BUF struct buf path = {0};
    struct meta_tx *tx;
    if (c->meta->ops->snapshot(c->meta, &report->drive, &tx) == 0) {
        if (path_of_inode(tx, report->ino, &path) == 0)
            report->path = path.data;
        c->meta->ops->rollback(tx);
    }
    if (report->verdict != SCAN_CLEAN)
        log_warn("virus scan: inode %llu version %llu (%s): %s", LL(report->ino), LL(report->version), report->path ? report->path : "it has no name",
                 report->verdict == SCAN_INFECTED ? report->signature : "too large for the scanner, not scanned");
    int err = c->told ? c->told(c->ctx, report) : 0;
    report->path = NULL;
    return err;
}

/* What goes away by itself, and what does not. */
static int in_scan_terms(int err)
{
    return err == 0 || err == -EIO ? err : -EAGAIN;
}

int scan_version(const struct scan_ctx *c, const struct uuid *drive, uint64_t ino, uint64_t version)
{
    struct version_row v;
    struct scan_report report = {.drive = *drive, .ino = ino, .version = version};
    int err = find_version(c, drive, ino, version, &report, &v);
    if (err)
        return err == 1 ? 0 : in_scan_terms(err);
    report.writer = v.user;
    report.size = v.size;
    err = ask_scanner(c, drive, &v, &report);
    if (err)
        return in_scan_terms(err);
    report.at = clock_wall_ns();
    if (report.verdict == SCAN_INFECTED)
        err = quarantine(c, &report);
    if (err)
        return err == -ENOENT ? 0 : in_scan_terms(err); /* it went meanwhile */
    return in_scan_terms(tell(c, &report));
}

int scan_handle(const struct scan_ctx *c, const json_t *body)
{
    const char *text;
    struct uuid drive;
    uint64_t ino, version;
    if (!json_is_object(body) || jsonx_str(body, "drive", &text) || uuid_parse(text, &drive) || jsonx_u64(body, "ino", &ino) || jsonx_u64(body, "version", &version))
        return -EINVAL;
    return scan_version(c, &drive, ino, version);
}

json_t *scan_report_json(const struct scan_report *r)
{
    static const char *const kinds[] = {[SCAN_CLEAN] = "clean", [SCAN_INFECTED] = "infected", [SCAN_TOO_LARGE] = "too-large"};
    char id[UUID_TEXT], at[CLOCK_TEXT];
    uuid_text(&r->drive, id);
    clock_format_rfc3339(r->at, at);
    json_t *o = json_pack("{ssssss}", "kind", kinds[r->verdict], "drive", id, "at", at);
    if (r->path)
        jsonx_set_bytes(o, "path", r->path, strlen(r->path));
    else
        json_object_set_new_nocheck(o, "path", json_null());
    jsonx_set_u64(o, "ino", r->ino);
    jsonx_set_u64(o, "version", r->version);
    jsonx_set_u64(o, "size", r->size);
    if (r->verdict == SCAN_INFECTED)
        jsonx_set_bytes(o, "signature", r->signature, strlen(r->signature));
    return o;
}
