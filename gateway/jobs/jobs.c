/* One thread that does one job after the other, each at its own pace. */
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/uuid_list.h"
#include "gateway/jobs/jobs_internal.h"
#include "gateway/jobs/pending.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define DAY_NS (INT64_C(86400) * 1000000000)
#define CHANGES_KEPT_NS (30 * DAY_NS)
#define VERIFY_EVERY_S 2 /* until then what was brought compressed is brought again by whoever has the same content */
#define PACK_LEAST (4u << 20) /* less than this stays in rows, where it is quickest to read */
#define PACK_OVERLAP_NS (INT64_C(300) * 1000000000) /* a commit may have waited so long, and clocks differ */

struct jobs {
    struct meta *meta;
    struct objects *objects;
    struct uuid id; /* who takes turns */
    int64_t packed; /* all drives that got small chunks before were looked at */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* CLOCK_MONOTONIC */
    atomic_bool ending;
};

static void expire_uploads(struct jobs *j)
{
    unsigned n = 0;
    int err = j->meta->ops->uploads_expire(j->meta, clock_wall_ns(), &n);
    if (err)
        log_warn("upload sessions could not be expired: %s", strerror(-err));
    else if (n)
        log_info("%u upload sessions expired", n);
}

/* ---- jobs that go through drives ---- */

static int collect_id(void *ctx, const struct uuid *drive)
{
    uuid_list_add(ctx, drive);
    return 0;
}

static int collect(void *ctx, const struct drive_row *d)
{
    return collect_id(ctx, &d->id);
}

/* err: of making the list; it is of those that could be reached, then. What is wrong with one drive is not with the others. Returns the first error. */
static int64_t each_drive(struct jobs *j, const char *what, const struct uuid_list *drives, int err, int64_t (*job)(struct jobs *j, const struct uuid *drive))
{
    int64_t first = err;
    for (size_t i = 0; i < drives->n && !j->ending; i++) {
        int64_t n = job(j, &drives->ids[i]);
        if (n < 0 && n != -ENOENT && first == 0) /* -ENOENT: it is gone */
            first = n;
        if (n == -EHOSTUNREACH)
            break;
    }
    if (first < 0)
        log_warn("%s: %s", what, strerror((int)-first));
    return first;
}

static int64_t pack(struct jobs *j, const struct uuid *drive)
{
    return pack_drive(j->meta, j->objects, drive, PACK_LEAST, &j->ending);
}

/* What is left over in a drive is less than a pack until more comes. */
static void pack_some(struct jobs *j)
{
    CLEANUP(uuid_list_fini) struct uuid_list l = {0};
    int64_t now = clock_wall_ns();
    int err = j->meta->ops->inline_drives(j->meta, j->packed, collect_id, &l);
    if (each_drive(j, "packing", &l, err, pack) >= 0)
        j->packed = now - PACK_OVERLAP_NS;
}

static int64_t trim(struct jobs *j, const struct uuid *drive)
{
    return j->meta->ops->changes_trim(j->meta, drive, clock_wall_ns() - CHANGES_KEPT_NS, 0);
}

static void trim_all(struct jobs *j)
{
    CLEANUP(uuid_list_fini) struct uuid_list l = {0};
    int err = j->meta->ops->drives_each(j->meta, collect, &l);
    each_drive(j, "trimming changes", &l, err, trim);
}

/* ---- what clients bring ---- */

static void verify(struct jobs *j)
{
    int64_t n = job_verify(j->meta, j->objects, &j->ending);
    if (n < 0)
        log_warn("chunks that clients brought could not be verified: %s", strerror((int)-n));
}

static void pending(struct jobs *j)
{
    int64_t n = job_pending(j->meta, j->objects, clock_wall_ns(), &j->ending);
    if (n < 0)
        log_warn("objects that clients left behind could not be removed: %s", strerror((int)-n));
    else if (n)
        log_info("%lld objects that clients left behind were removed", (long long)n);
}

/* ---- the thread ---- */

static const struct {
    const char *name;
    unsigned every_s;
    void (*run)(struct jobs *j);
} table[] = {{"expire", 60, expire_uploads}, {"pack", 60, pack_some}, {"trim", 3600, trim_all}, {"verify", VERIFY_EVERY_S, verify}, {"pending", 600, pending}};
#define N_JOBS (sizeof table / sizeof *table)
#define TURN_MS 30000 /* beyond the next round: who has a turn and ends is followed by another */

/* Of several workers one does a job: two would pack the same chunks. */
static void run_one(struct jobs *j, size_t i)
{
    int err = j->meta->ops->turn_take(j->meta, table[i].name, &j->id, table[i].every_s * 1000 + TURN_MS);
    if (!err)
        table[i].run(j);
    else if (err != -EAGAIN)
        log_warn("whose turn the job \"%s\" is: %s", table[i].name, strerror(-err));
}

static void *run(void *arg)
{
    struct jobs *j = arg;
    struct timespec until;
    time_t due[N_JOBS];
    pthread_setname_np(pthread_self(), "jobs");
    clock_gettime(CLOCK_MONOTONIC, &until);
    for (size_t i = 0; i < N_JOBS; i++)
        due[i] = until.tv_sec + table[i].every_s;
    while (!j->ending) {
        time_t next = due[0];
        for (size_t i = 1; i < N_JOBS; i++)
            next = due[i] < next ? due[i] : next;
        until.tv_sec = next;
        pthread_mutex_lock(&j->lock);
        while (!j->ending && pthread_cond_timedwait(&j->wake, &j->lock, &until) != ETIMEDOUT)
            ;
        pthread_mutex_unlock(&j->lock);
        for (size_t i = 0; i < N_JOBS && !j->ending; i++)
            if (due[i] <= next) {
                run_one(j, i);
                due[i] = next + table[i].every_s;
            }
    }
    return NULL;
}

struct jobs *jobs_start(struct meta *meta, struct objects *objects)
{
    struct jobs *j = mem_alloc(sizeof *j);
    j->meta = meta;
    j->objects = objects;
    uuid_new(&j->id);
    pthread_mutex_init(&j->lock, NULL);
    cond_init(&j->wake);
    if (pthread_create(&j->thread, NULL, run, j) != 0)
        abort();
    return j;
}

void jobs_stop(struct jobs *j)
{
    if (!j)
        return;
    pthread_mutex_lock(&j->lock);
    j->ending = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->lock);
    free(j);
}
