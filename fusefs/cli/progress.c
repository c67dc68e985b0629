#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define REDRAW_MS 200
#define BAR 24

struct progress {
    pthread_mutex_t lock;
    const char *label;
    uint64_t done, total, at_start;
    int64_t started_ms, drawn_ms;
    bool terminal, drawn;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

struct progress *progress_new(const char *label, uint64_t total)
{
    struct progress *p = mem_alloc(sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    p->label = label;
    p->total = total;
    p->started_ms = p->drawn_ms = now_ms();
    p->terminal = isatty(STDERR_FILENO);
    return p;
}

static unsigned columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

static void draw(struct progress *p, int64_t now)
{
    char done[32], total[32], rate[32], bar[BAR + 1], line[256];
    double seconds = (double)(now - p->started_ms) / 1000, share = p->total ? (double)p->done / (double)p->total : 0;
    double per_second = seconds > 0 ? (double)(p->done - p->at_start) / seconds : 0;
    int filled = (int)(share * BAR);
    memset(bar, ' ', BAR);
    memset(bar, '=', (size_t)(filled > BAR ? BAR : filled));
    bar[BAR] = 0;
    int n = snprintf(line, sizeof line, "%-9s [%s] %3d%%  %s of %s  %s/s", p->label, bar, (int)(share * 100), cli_size(p->done, done),
                     cli_size(p->total, total), cli_size((uint64_t)per_second, rate));
    if (per_second > 0 && p->done < p->total) {
        uint64_t left = (uint64_t)((double)(p->total - p->done) / per_second);
        snprintf(line + n, sizeof line - (size_t)n, "  %llu:%02llu left", (unsigned long long)(left / 60), (unsigned long long)(left % 60));
    }
    fprintf(stderr, "\r%.*s\033[K", (int)columns() - 1, line);
    p->drawn = true;
    p->drawn_ms = now;
}

static void redraw(struct progress *p)
{
    int64_t now = now_ms();
    if (p->terminal && now - p->drawn_ms >= REDRAW_MS)
        draw(p, now);
}

void progress_add(struct progress *p, uint64_t bytes)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    p->done += bytes;
    redraw(p);
}

void progress_set(struct progress *p, uint64_t done, uint64_t total)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&p->lock);
    if (done < p->done || p->done == 0)
        p->at_start = done;
    p->done = done;
    p->total = total;
    redraw(p);
}

void progress_free(struct progress *p)
{
    if (!p)
        return;
    if (p->drawn)
        fputs("\r\033[K", stderr);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static atomic_bool interrupted; /* lock-free: a handler may set it */

static void on_interrupt(int sig)
{
    (void)sig;
    atomic_store(&interrupted, true);
}

void cli_catch_interrupts(void)
{
    struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool cli_interrupted(void)
{
    return atomic_load(&interrupted);
}
