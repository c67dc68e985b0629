/* The worker: consumes the durable queues, publishes what others left in the outbox, and does the jobs. Any number of them may run. */
#include "common/log.h"
#include "common/pool.h"
#include "gateway/api/app.h"
#include "gateway/api/publisher.h"
#include "gateway/jobs/jobs.h"
#include "gateway/jobs/notifications.h"
#include "gateway/scanning.h"
#include "gateway/serve.h"
#include "gateway/stores.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define THREADS 4
#define SCANS_AT_ONCE 2
#define DRAIN_MS 10000

struct worker {
    const struct config *config;
    struct app app;
    struct drive_listener listener; /* of its own commits */
    struct pool *pool;
    struct jobs *jobs;
    struct scan_ctx scan;
    atomic_bool ending;
    pthread_t server; /* the loop, where it listens */
};

void worker_consume(struct app *app, struct scan_ctx *scan)
{
    for (unsigned i = 0; i < SCANS_AT_ONCE; i++)
        app->events->ops->consume(app->events, EVENTS_QUEUE_SCAN, scanning_message, scan);
    app->events->ops->consume(app->events, EVENTS_QUEUE_NOTIFICATION, notifications_message, NULL);
}

/* ---- its own changes: quarantines ---- */

static void run_on_pool(void *pool, void (*fn)(void *), void *arg)
{
    pool_run(pool, fn, arg);
}

/* Gateways learn of it when they renew their interest: nobody waits for what a worker does. */
static void committed(struct drive_listener *l, const struct uuid *drive, struct drive_work *works, const struct drive_others *others)
{
    (void)others;
    struct worker *w = (struct worker *)((char *)l - offsetof(struct worker, listener));
    publisher_works(w->app.publisher, drive, works);
    for (struct drive_work *next; works; works = next) {
        next = works->next; /* done may free it */
        drive_work_finish(works);
    }
}

/* ---- health ---- */

static void *run_server(void *arg)
{
    struct worker *w = arg;
    http_server_run(w->app.server);
    return NULL;
}

static int start_server(struct worker *w)
{
    const char *tmp = getenv("TMPDIR");
    const struct http_config http = {.listen = w->config->listen, .workers_threads = 2, .spool_dir = tmp ? tmp : "/tmp", .body_memory_max = 1 << 20, .app = &w->app,
                                     .authenticate = auth_authenticate, .user_key = auth_user_key};
    w->app.server = http_server_new(&http, actuator_routes, actuator_routes_n, NULL, 0);
    if (!w->app.server || pthread_create(&w->server, NULL, run_server, w) != 0) {
        log_error("cannot listen on %s", w->config->listen);
        return -EADDRINUSE;
    }
    log_info("health on http://%.*s:%d", (int)(strrchr(w->config->listen, ':') - w->config->listen), w->config->listen, http_server_port(w->app.server));
    return 0;
}

/* ---- life ---- */

static int start(struct worker *w)
{
    struct app *app = &w->app;
    int err = stores_open(w->config, app);
    if (!err && w->config->listen)
        err = start_server(w);
    if (err)
        return err;
    w->pool = pool_new(THREADS, "worker");
    w->listener.committed = committed;
    app->queues = drive_queues_new(app->meta, run_on_pool, w->pool, &w->listener);
    w->jobs = jobs_start(app->meta, app->objects);
    if (!app->events->ops->shared)
        return 0;
    app->publisher = publisher_new(app, true);
    w->scan = scanning_ctx(app);
    w->scan.stop = &w->ending;
    worker_consume(app, &w->scan);
    return 0;
}

static void stop(struct worker *w)
{
    struct app *app = &w->app;
    w->ending = true;
    if (app->server)
        http_server_stop(app->server, DRAIN_MS); /* readiness is red from here on */
    jobs_stop(w->jobs);
    if (app->events)
        app->events->ops->drain(app->events);
    if (app->queues)
        drive_queues_drain(app->queues);
    publisher_stop(app->publisher);
    if (app->server) {
        pthread_join(w->server, NULL);
        http_server_free(app->server);
    }
    if (app->events)
        app->events->ops->free(app->events);
    publisher_free(app->publisher);
    if (app->queues)
        drive_queues_free(app->queues);
    pool_free(w->pool);
    stores_close(app);
}

int worker_run(const struct config *c)
{
    struct worker w = {.config = c};
    sigset_t end;
    int sig = 0;
    /* before any thread is there, so that none of them gets it */
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigaddset(&end, SIGINT);
    pthread_sigmask(SIG_BLOCK, &end, NULL);
    int err = start(&w);
    if (!err) {
        log_info("working");
        sigwait(&end, &sig);
        log_info("draining, ending");
    }
    stop(&w);
    return err ? 1 : 0;
}
