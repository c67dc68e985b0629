#include "common/mem.h"
#include "gateway/server/http.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Upper bounds in seconds; the last bucket, +Inf, is the count itself. */
static const double bounds[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};
#define N_BOUNDS (sizeof bounds / sizeof *bounds)

struct metric {
    char *labels;
    enum metric_kind kind;
    _Atomic double value; /* counter, gauge; histogram: the sum */
    atomic_uint_fast64_t count;
    atomic_uint_fast64_t *buckets; /* not cumulative; N_BOUNDS */
    struct metric *next;
};

struct family {
    char *name, *help;
    enum metric_kind kind;
    struct metric *metrics;
    struct family *next;
};

/* Guards the lists; metrics themselves are never freed, so what was returned stays valid. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct family *families;

static struct family *family_get(enum metric_kind kind, const char *name, const char *help)
{
    struct family **at = &families;
    for (; *at; at = &(*at)->next)
        if (strcmp((*at)->name, name) == 0)
            return *at;
    struct family *f = mem_alloc(sizeof *f);
    f->name = mem_strdup(name);
    f->help = mem_strdup(help ? help : name);
    f->kind = kind;
    *at = f;
    return f;
}

struct metric *metric_get(enum metric_kind kind, const char *name, const char *labels, const char *help)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    struct family *f = family_get(kind, name, help);
    struct metric **at = &f->metrics;
    for (; *at; at = &(*at)->next)
        if (strcmp((*at)->labels, labels) == 0)
            return *at;
    struct metric *m = mem_alloc(sizeof *m);
    m->labels = mem_strdup(labels);
    m->kind = f->kind;
    if (m->kind == METRIC_HISTOGRAM)
        m->buckets = mem_calloc(N_BOUNDS, sizeof *m->buckets);
    *at = m;
    return m;
}

void metric_add(struct metric *m, double v)
{
    double old = atomic_load_explicit(&m->value, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&m->value, &old, old + v, memory_order_relaxed, memory_order_relaxed))
        ;
}

void metric_set(struct metric *m, double v)
{
    atomic_store_explicit(&m->value, v, memory_order_relaxed);
}

void metric_observe(struct metric *m, double v)
{
    if (m->kind != METRIC_HISTOGRAM)
        return;
    for (size_t i = 0; i < N_BOUNDS; i++)
        if (v <= bounds[i]) {
            atomic_fetch_add_explicit(&m->buckets[i], 1, memory_order_relaxed);
            break;
        }
    metric_add(m, v);
    atomic_fetch_add_explicit(&m->count, 1, memory_order_relaxed);
}

static void render_value(struct buf *ret, double v)
{
    if (v == floor(v) && fabs(v) < 1e15)
        buf_appendf(ret, " %.0f\n", v);
    else
        buf_appendf(ret, " %.9g\n", v);
}

static void render_name(struct buf *ret, const struct family *f, const struct metric *m, const char *suffix)
{
    buf_appendf(ret, "%s%s", f->name, suffix);
    if (*m->labels)
        buf_appendf(ret, "{%s}", m->labels);
}

static void render_histogram(struct buf *ret, const struct family *f, struct metric *m)
{
    const char *comma = *m->labels ? "," : "";
    uint64_t sum = 0;
    for (size_t i = 0; i < N_BOUNDS; i++) {
        sum += atomic_load_explicit(&m->buckets[i], memory_order_relaxed);
        buf_appendf(ret, "%s_bucket{%s%sle=\"%g\"} %llu\n", f->name, m->labels, comma, bounds[i], (unsigned long long)sum);
    }
    /* Read after the buckets, so that no bucket exceeds it. */
    uint64_t count = atomic_load_explicit(&m->count, memory_order_relaxed);
    count = count < sum ? sum : count;
    buf_appendf(ret, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", f->name, m->labels, comma, (unsigned long long)count);
    render_name(ret, f, m, "_sum");
    render_value(ret, atomic_load_explicit(&m->value, memory_order_relaxed));
    render_name(ret, f, m, "_count");
    buf_appendf(ret, " %llu\n", (unsigned long long)count);
}

void metrics_render(struct buf *ret)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    for (const struct family *f = families; f; f = f->next) {
        buf_appendf(ret, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, kinds[f->kind]);
        for (struct metric *m = f->metrics; m; m = m->next) {
            if (f->kind == METRIC_HISTOGRAM) {
                render_histogram(ret, f, m);
                continue;
            }
            render_name(ret, f, m, "");
            render_value(ret, atomic_load_explicit(&m->value, memory_order_relaxed));
        }
    }
}
