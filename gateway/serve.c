#include "gateway/serve.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/app.h"
#include "gateway/api/peers.h"
#include "gateway/api/publisher.h"
#include "gateway/api/shared.h"
#include "gateway/jobs/jobs.h"
#include "gateway/scanning.h"
#include "gateway/stores.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define DRAIN_MS 30000
#define CLOSE_OVER_MS 3000 /* mounts and watchers are sent to other gateways within this time */
#define BODY_MEMORY_MAX (UINT64_C(256) << 20)
#define CONTENT_CACHE_BYTES (64u << 20)
#define ANSWERS_BYTES (16u << 20)

/* What a running gateway consists of, in the order in which it is built; ended in reverse. */
struct gateway {
    const struct config *config;
    struct app app;
    int lock; /* on the folder of the database, -1 none */
    char *spool, *port_file;
    struct jobs *jobs;
    struct scan_loop *scans; /* where there are no messages that ask for scans */
    struct scan_ctx scan;
    atomic_bool ending;
};

/* ---- signals ---- */

static struct http_server *volatile serving;
static volatile sig_atomic_t told_to_end, told_by_supervisor;
static pid_t supervisor; /* 0: none */

/* The second one ends it at once. A terminal and systemd tell every process, and so does the supervisor, which was told as well: that is no second one. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    bool by_supervisor = supervisor && info->si_pid == supervisor;
    if (told_to_end && by_supervisor == told_by_supervisor)
        _exit(1);
    if (told_to_end)
        return;
    told_to_end = 1;
    told_by_supervisor = by_supervisor;
    if (serving)
        http_server_stop(serving, DRAIN_MS);
}

static void handle_signals(int ready_fd)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    supervisor = ready_fd >= 0 ? getppid() : 0;
    sigemptyset(&sa.sa_mask);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
}

/* ---- the folder ---- */

/* Two gateways on one SQLite database would not know of each other's mounts: their caches would lie. Returns the descriptor that holds the lock, or LOCK_NOT_NEEDED. */
#define LOCK_NOT_NEEDED INT_MAX
static int lock_database(const char *meta_url)
{
    static const char scheme[] = "sqlite:";
    if (strncmp(meta_url, scheme, strlen(scheme)) != 0)
        return LOCK_NOT_NEEDED;
    const char *path = meta_url + strlen(scheme);
    CLEANUP_FREE char *file = mem_printf("%s.lock", path);
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        int err = -errno;
        log_error("%s: %s", file, strerror(-err));
        return err;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        log_error("another gateway is running on %s: with SQLite there can be only one", path);
        return -EBUSY;
    }
    return fd;
}

static int make_folder(const char *path)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    int err = -errno;
    log_error("%s: %s", path, strerror(-err));
    return err;
}

static int write_port(const char *path, int port)
{
    CLEANUP_FREE char *fresh = mem_printf("%s.new", path);
    FILE *f = fopen(fresh, "we");
    if (!f)
        return -errno;
    fprintf(f, "%d\n", port);
    /* whole or not there: others wait for this file */
    if (fclose(f) != 0 || rename(fresh, path) != 0)
        return -errno;
    return 0;
}

/* ---- building ---- */

static int open_stores(struct gateway *g)
{
    struct app *app = &g->app;
    int lock = lock_database(g->config->meta);
    if (lock < 0)
        return lock;
    g->lock = lock == LOCK_NOT_NEEDED ? -1 : lock;
    int err = stores_open(g->config, app);
    if (err)
        return err;
    err = app->meta->ops->secret(app->meta, "token", app->token_secret);
    if (!err)
        err = app->meta->ops->secret(app->meta, "url", app->url_secret);
    if (!err)
        err = app->meta->ops->secret(app->meta, "peer", app->peer_secret);
    if (err)
        log_error("reading the secrets: %s", strerror(-err));
    return err;
}

static void run_on_pool(void *pool, void (*fn)(void *), void *arg)
{
    pool_run(pool, fn, arg);
}

struct route_table {
    const struct route *routes;
    const size_t *n;
};
static const struct route_table tables[] = {
    {auth_routes, &auth_routes_n}, {drive_routes, &drive_routes_n},     {upload_routes, &upload_routes_n}, {file_routes, &file_routes_n},
    {fs_routes, &fs_routes_n},     {version_routes, &version_routes_n}, {change_routes, &change_routes_n}, {presence_routes, &presence_routes_n}, {actuator_routes, &actuator_routes_n},
};

/* What still runs has nobody to answer to. */
static void ended(void *ctx)
{
    struct app *app = ctx;
    drive_queues_close(app->queues);
    streams_over(app->streams);
}

static bool may_end(void *app)
{
    return streams_may_end(((struct app *)app)->streams);
}

/* Without --advertise only gateways of this machine reach this one. */
static const char *advertised(const struct gateway *g)
{
    return g->config->advertise ? g->config->advertise : "http://127.0.0.1:0";
}

/* With the port that it got, where any would do. */
static void note_advertised(struct gateway *g)
{
    const char *url = advertised(g);
    struct app *app = &g->app;
    snprintf(app->advertised, sizeof app->advertised, "%.*s:%d", (int)(strrchr(url, ':') - url), url, http_server_internal_port(app->server));
    if (!g->config->advertise)
        log_info("no --advertise: only gateways of this machine reach this one");
}

static struct http_server *make_server(struct gateway *g)
{
    struct buf routes = {0};
    const struct ws_protocol protocols[] = {fs_stream_protocol, stomp_protocols[0], stomp_protocols[1], stomp_protocols[2], peers_protocol};
    bool shared = g->app.meta->shared;
    const struct http_config http = {
        .listen = g->config->listen,
        .internal = shared ? strstr(advertised(g), "://") + 3 : NULL,
        .close_over_ms = shared ? CLOSE_OVER_MS : 0,
        .ended = ended,
        .may_end = may_end,
        .workers_threads = g->config->threads,
        .spool_dir = g->spool,
        .body_memory_max = BODY_MEMORY_MAX,
        .queue_max = g->config->queue_max,
        .reuse_port = g->config->workers > 1,
        .rate_limit = g->config->rate_limit,
        .proxies = g->config->proxies,
        .app = &g->app,
        .authenticate = auth_authenticate,
        .user_key = auth_user_key,
    };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        buf_append(&routes, tables[i].routes, *tables[i].n * sizeof(struct route));
    struct http_server *s = http_server_new(&http, (const struct route *)(const void *)routes.data, routes.len / sizeof(struct route), protocols,
                                            sizeof protocols / sizeof *protocols);
    buf_fini(&routes);
    if (!s)
        log_error("cannot listen on %s", g->config->listen);
    return s;
}

static int build(struct gateway *g)
{
    struct app *app = &g->app;
    int err = open_stores(g);
    if (err)
        return err;
    const char *tmp = getenv("TMPDIR");
    g->spool = g->config->spool ? mem_strdup(g->config->spool) : g->config->embedded ? mem_printf("%s/spool", g->config->embedded) : mem_strdup(tmp ? tmp : "/tmp");
    err = make_folder(g->spool);
    if (err)
        return err;
    app->embedded = g->config->embedded != NULL;
    app->public_url = g->config->public_url;
    app->content = content_cache_new(CONTENT_CACHE_BYTES);
    app->answers = cache_memory_new(ANSWERS_BYTES);
    app->auth = auth_new(app);
    uuid_new(&app->gateway);
    app->server = make_server(g);
    if (!app->server)
        return -EADDRINUSE;
    if (app->meta->shared)
        note_advertised(g);
    if (app->events->ops->shared)
        app->publisher = publisher_new(app, g->config->embedded != NULL);
    app->hub = hub_new(app);
    app->shared = shared_new(app);
    app->streams = streams_new(app);
    app->queues = drive_queues_new(app->meta, run_on_pool, http_server_pool(app->server), streams_listener(app->streams));
    streams_start(app->streams);
    if (!app->meta->shared) /* else the workers do them */
        g->jobs = jobs_start(app->meta, app->objects);
    g->scan = scanning_ctx(app);
    g->scan.stop = &g->ending;
    if (app->scanner && !app->events->ops->shared)
        g->scans = scan_loop_start(&g->scan);
    else if (app->events->ops->shared && g->config->embedded)
        worker_consume(app, &g->scan);
    return 0;
}

static void tear_down(struct gateway *g)
{
    struct app *app = &g->app;
    g->ending = true;
    if (g->port_file && g->config->workers == 1) /* else others are still there */
        unlink(g->port_file);
    if (g->jobs)
        jobs_stop(g->jobs);
    scan_loop_stop(g->scans);
    if (app->events)
        app->events->ops->drain(app->events);
    if (app->queues)
        drive_queues_drain(app->queues);
    publisher_stop(app->publisher);
    shared_stop(app->shared);
    hub_stop(app->hub);
    serving = NULL;
    if (app->server)
        http_server_free(app->server);
    if (app->events)
        app->events->ops->free(app->events);
    publisher_free(app->publisher);
    if (app->queues)
        drive_queues_free(app->queues);
    if (app->streams)
        streams_free(app->streams);
    if (app->hub)
        hub_free(app->hub);
    shared_free(app->shared);
    auth_free(app->auth);
    content_cache_free(app->content);
    if (app->answers)
        app->answers->ops->free(app->answers);
    access_free(app);
    stores_close(app);
    free(g->spool);
    free(g->port_file);
    if (g->lock >= 0)
        close(g->lock);
}

static void announce(struct gateway *g, int ready_fd)
{
    const char *listen = g->config->listen;
    int host = (int)(strrchr(listen, ':') - listen), port = http_server_port(g->app.server);
    if (g->config->embedded) {
        g->port_file = mem_printf("%s/port", g->config->embedded);
        int err = write_port(g->port_file, port);
        if (err)
            log_warn("%s: %s", g->port_file, strerror(-err));
    }
    log_info("listening on http://%.*s:%d", host, listen, port);
    if (ready_fd >= 0 && write(ready_fd, "", 1) != 1)
        log_warn("nobody waits for this process any more");
}

int serve_run(const struct config *c, int ready_fd)
{
    struct gateway g = {.config = c, .lock = -1};
    int status = 1;
    handle_signals(ready_fd);
    if (build(&g) == 0) {
        serving = g.app.server;
        announce(&g, ready_fd);
        if (told_to_end)
            http_server_stop(g.app.server, DRAIN_MS); /* it came before there was a server to tell */
        status = http_server_run(g.app.server) == 0 ? 0 : 1;
        log_info("drained, ending");
    }
    tear_down(&g);
    return status;
}
