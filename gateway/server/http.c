/* The server's life: what it is made of, its loop, and how it ends. */
#include "gateway/server/http.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/server/server.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>

#define EVENTS_BATCH 256
#define TICK_MS 1000
#define SETTLE_MS 20
#define DRAIN_LOOK_MS 20
/* libwebsockets has a table of this many entries, and "unlimited" may be a milliard. */
#define FILES_MAX 262144

/* ---- jobs for the loop ---- */

static void wake(struct http_server *s)
{
    uint64_t one = 1;
    if (write(s->event_fd, &one, sizeof one) < 0) {
        /* EAGAIN: it is awake enough */
    }
}

bool server_push(struct http_server *s, struct job *j)
{
    j->next = NULL;
    pthread_mutex_lock(&s->lock);
    bool open = !s->closed, first = !s->jobs;
    if (open) {
        *s->jobs_last = j;
        s->jobs_last = &j->next;
    }
    pthread_mutex_unlock(&s->lock);
    if (open && first)
        wake(s);
    return open;
}

static void run_jobs(struct http_server *s)
{
    pthread_mutex_lock(&s->lock);
    struct job *j = s->jobs;
    s->jobs = NULL;
    s->jobs_last = &s->jobs;
    pthread_mutex_unlock(&s->lock);
    for (struct job *next; j; j = next) {
        next = j->next; /* j is gone once it has run */
        j->fn(j->arg);
    }
}

struct post {
    struct job job; /* first */
    void (*fn)(void *);
    void *arg;
};

static void run_post(void *arg)
{
    struct post *p = arg;
    p->fn(p->arg);
    free(p);
}

void http_server_post(struct http_server *s, void (*fn)(void *), void *arg)
{
    struct post *p = mem_alloc(sizeof *p);
    *p = (struct post){{run_post, p, NULL}, fn, arg};
    if (!server_push(s, &p->job))
        free(p);
}

/* ---- timers ---- */

static void arm(struct http_server *s)
{
    int64_t at = timers_next(s->timers);
    if (at == s->clock_set_ms)
        return;
    s->clock_set_ms = at;
    struct itimerspec when = {0};
    if (at >= 0)
        when.it_value = clock_timespec((at > 0 ? at : 1) * 1000000);
    timerfd_settime(s->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

uint64_t http_server_timer(struct http_server *s, unsigned ms, void (*fn)(void *), void *arg)
{
    uint64_t id = timers_add(s->timers, clock_boot_ms() + ms, fn, arg);
    arm(s);
    return id;
}

void http_server_timer_cancel(struct http_server *s, uint64_t id)
{
    timers_cancel(s->timers, id); /* the clock may ring once in vain */
}

static void tick(void *arg)
{
    struct http_server *s = arg;
    conn_sweep(s);
    ws_sweep(s);
    metric_set(s->m_queue, (double)pool_waiting(s->pool));
    http_server_timer(s, TICK_MS, tick, s);
}

/* ---- drain ---- */

void http_server_stop(struct http_server *s, unsigned ms)
{
    int none = -1, limit = ms > INT32_MAX ? INT32_MAX : (int)ms;
    atomic_compare_exchange_strong(&s->stop_ms, &none, limit);
    wake(s);
}

bool http_server_draining(struct http_server *s)
{
    return atomic_load(&s->draining) || atomic_load(&s->stop_ms) >= 0;
}

/* Nobody tells when the last request is freed on a worker: the loop looks whenever it wakes. */
static void look_again(void *arg)
{
    struct http_server *s = arg;
    http_server_timer(s, DRAIN_LOOK_MS, look_again, s);
}

static void drain(struct http_server *s)
{
    int ms = atomic_load(&s->stop_ms);
    if (ms < 0)
        return;
    if (!atomic_load(&s->draining)) {
        atomic_store(&s->draining, true);
        s->drain_from_ms = s->now_ms;
        s->drain_until_ms = s->now_ms + ms;
        s->drain_sockets = s->n_sockets;
        look_again(s);
        listener_stop(&s->public);
        conn_close_all(s, true);
    }
    int64_t now = clock_boot_ms(), since = now - s->drain_from_ms;
    ws_close_some(s, since < s->cfg.close_over_ms ? (unsigned)(1 + s->drain_sockets * since / s->cfg.close_over_ms) : UINT32_MAX);
    bool idle = s->n_conns == 0 && s->n_sockets == 0 && atomic_load(&s->refs) == 1;
    s->ended = (idle && (!s->cfg.may_end || s->cfg.may_end(s->cfg.app))) || now >= s->drain_until_ms;
}

/* ---- the loop ---- */

static void waker_ready(struct source *src, uint32_t events)
{
    (void)events;
    struct http_server *s = (struct http_server *)((char *)src - offsetof(struct http_server, waker));
    uint64_t n;
    if (read(s->event_fd, &n, sizeof n) == (ssize_t)sizeof n)
        run_jobs(s);
}

static void clock_ready(struct source *src, uint32_t events)
{
    (void)events;
    struct http_server *s = (struct http_server *)((char *)src - offsetof(struct http_server, clock));
    uint64_t n;
    if (read(s->timer_fd, &n, sizeof n) != (ssize_t)sizeof n)
        return;
    s->clock_set_ms = -1;
    timers_run(s->timers, s->now_ms);
    arm(s);
}

void server_poll(struct http_server *s)
{
    struct epoll_event events[EVENTS_BATCH];
    int n = epoll_wait(s->epoll_fd, events, EVENTS_BATCH, 0);
    s->now_ms = clock_boot_ms();
    for (int i = 0; i < n; i++) {
        struct source *src = events[i].data.ptr;
        src->ready(src, events[i].events);
    }
    conn_bury(s);
}

/* Work that goes to and fro between loop and workers comes to its end, and frees what it carries: nothing new begins any more. A worker may wait for what another has posted here. */
static void settle(struct http_server *s)
{
    bool more = true;
    while (more) {
        while (!pool_drain_for(s->pool, SETTLE_MS))
            run_jobs(s);
        pthread_mutex_lock(&s->lock);
        more = s->jobs != NULL;
        pthread_mutex_unlock(&s->lock);
        run_jobs(s);
    }
}

int http_server_run(struct http_server *s)
{
    s->now_ms = clock_boot_ms();
    http_server_timer(s, TICK_MS, tick, s);
    bool runs = true;
    while (!s->ended && runs) {
        runs = ws_service_run(s);
        drain(s);
    }
    atomic_store(&s->draining, true);
    listener_stop(&s->public);
    listener_stop(&s->internal);
    conn_close_all(s, false);
    ws_service_stop(s);
    if (s->cfg.ended)
        s->cfg.ended(s->cfg.app);
    settle(s);
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
    run_jobs(s); /* what came before; calls among them find their client gone */
    conn_bury(s);
    return runs || s->ended ? 0 : -EIO;
}

/* ---- begin and end ---- */

/* As many descriptors as we may have; returns how many. */
static unsigned raise_files(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0)
        return 1024;
    r.rlim_cur = r.rlim_max < FILES_MAX ? r.rlim_max : FILES_MAX;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0 && getrlimit(RLIMIT_NOFILE, &r) != 0)
        return 1024;
    return (unsigned)r.rlim_cur;
}

static void configure(struct http_server *s, const struct http_config *cfg)
{
    s->cfg = *cfg;
    s->cfg.listen = mem_strdup(cfg->listen);
    s->cfg.internal = cfg->internal ? mem_strdup(cfg->internal) : NULL;
    s->cfg.spool_dir = mem_strdup(cfg->spool_dir ? cfg->spool_dir : "/tmp");
    if (!s->cfg.workers_threads)
        s->cfg.workers_threads = 8;
    if (!s->cfg.queue_max)
        s->cfg.queue_max = 10000;
    if (!s->cfg.ws_silence_ms)
        s->cfg.ws_silence_ms = 30000;
    if (!s->cfg.ws_backlog_max)
        s->cfg.ws_backlog_max = 1u << 20;
    unsigned files = raise_files(), most = files - files / 8 - (files > 256 ? 64 : 0); /* the rest is for backends and spooled bodies */
    if (!s->cfg.connections_max || s->cfg.connections_max > most)
        s->cfg.connections_max = most;
}

static int watch(struct http_server *s, int fd, struct source *src, void (*ready)(struct source *, uint32_t))
{
    src->ready = ready;
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = src};
    return fd >= 0 && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

static int start(struct http_server *s)
{
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->timer_fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (s->epoll_fd < 0)
        return -errno;
    int err = watch(s, s->event_fd, &s->waker, waker_ready);
    if (!err)
        err = watch(s, s->timer_fd, &s->clock, clock_ready);
    if (!err)
        err = listener_start(s, &s->public, s->cfg.listen);
    if (!err && s->cfg.internal)
        err = listener_start(s, &s->internal, s->cfg.internal);
    return err ? err : ws_service_start(s);
}

static void start_metrics(struct http_server *s)
{
    s->m_connections = metric_get(METRIC_GAUGE, "cairn_http_connections", "", "Open HTTP connections.");
    s->m_refused = metric_get(METRIC_COUNTER, "cairn_http_connections_refused_total", "", "Connections over the limit.");
    s->m_sockets = metric_get(METRIC_GAUGE, "cairn_ws_connections", "", "Open WebSockets.");
    s->m_shed = metric_get(METRIC_COUNTER, "cairn_http_shed_total", "", "Requests answered 503 since too many waited.");
    s->m_received = metric_get(METRIC_COUNTER, "cairn_http_received_bytes_total", "", "Bytes of requests, heads and bodies.");
    s->m_sent = metric_get(METRIC_COUNTER, "cairn_http_sent_bytes_total", "", "Bytes of answers, heads and bodies.");
    s->m_queue = metric_get(METRIC_GAUGE, "cairn_http_queue_length", "", "Jobs that wait for a worker.");
}

struct http_server *http_server_new(const struct http_config *cfg, const struct route *routes, size_t n_routes,
                                    const struct ws_protocol *protocols, size_t n_protocols)
{
    struct http_server *s = mem_alloc(sizeof *s);
    s->epoll_fd = s->event_fd = s->timer_fd = s->public.fd = s->internal.fd = s->spare_fd = -1;
    s->internal.internal = true;
    s->clock_set_ms = -1;
    s->now_ms = clock_boot_ms();
    pthread_mutex_init(&s->lock, NULL);
    s->jobs_last = &s->jobs;
    atomic_init(&s->refs, 1);
    atomic_init(&s->stop_ms, -1);
    configure(s, cfg);
    start_metrics(s);
    s->protocols = mem_dup(protocols, n_protocols * sizeof *protocols);
    s->n_protocols = n_protocols;
    s->timers = timers_new();
    s->limits = limits_new(cfg->rate_limit);
    s->router = router_new(routes, n_routes);
    s->pool = pool_new(s->cfg.workers_threads, "worker");
    int err = s->router ? start(s) : -EINVAL;
    if (!err)
        return s;
    http_server_free(s);
    errno = -err;
    return NULL;
}

void server_unref(struct http_server *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
    pool_free(s->pool); /* what runs on workers ends first */
    run_jobs(s);
    listener_stop(&s->public);
    listener_stop(&s->internal);
    conn_close_all(s, false);
    ws_service_stop(s);
    conn_bury(s);
    timers_free(s->timers);
    router_free(s->router);
    limits_free(s->limits);
    for (int *fd = (int[]){s->epoll_adopted ? -1 : s->epoll_fd, s->event_fd, s->timer_fd, -2}; *fd != -2; fd++)
        if (*fd >= 0)
            close(*fd);
    free((void *)(uintptr_t)s->cfg.listen);
    free((void *)(uintptr_t)s->cfg.internal);
    free((void *)(uintptr_t)s->cfg.spool_dir);
    free((void *)(uintptr_t)s->protocols);
    server_unref(s); /* calls that are still pending keep the rest alive */
}

int http_server_port(struct http_server *s)
{
    return s->public.port;
}

int http_server_internal_port(struct http_server *s)
{
    return s->internal.port;
}

struct limits *http_server_limits(struct http_server *s)
{
    return s->limits;
}

struct pool *http_server_pool(struct http_server *s)
{
    return s->pool;
}

void *http_server_app(struct http_server *s)
{
    return s->cfg.app;
}
