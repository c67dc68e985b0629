#include "gateway/config.h"
#include "common/mem.h"
#include "common/number.h"
#include "common/url.h"
#include "gateway/ports/cache.h"
#include "gateway/ports/events.h"
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"
#include "gateway/ports/scanner.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#define RATE_LIMIT_DEFAULT 5000 /* one mount that unpacks an archive makes a few thousand requests a second */
#define NEEDS_STORES (VERB_SERVE | VERB_WORKER | VERB_CONFIG_CHECK)
#define NEEDS_META (NEEDS_STORES | VERB_MIGRATE | VERB_ADMIN)

/* ---- values: each check returns NULL or what the value should be ---- */

static const char *take_text(void *field, const char *v)
{
    *(const char **)field = v;
    return v[0] ? NULL : "must not be empty";
}

static const char *take_meta(void *field, const char *v)
{
    *(const char **)field = v;
    return meta_url_wrong(v);
}

static const char *take_objects(void *field, const char *v)
{
    *(const char **)field = v;
    return objects_url_wrong(v);
}

static const char *take_cache(void *field, const char *v)
{
    *(const char **)field = v;
    return cache_url_wrong(v);
}

static const char *take_events(void *field, const char *v)
{
    *(const char **)field = v;
    return events_url_wrong(v);
}

static const char *take_scanner(void *field, const char *v)
{
    *(const char **)field = v;
    return scanner_url_wrong(v);
}

/* An origin; a '/' at its end does no harm. */
static const char *take_http_url(void *field, const char *v)
{
    static const char form[] = "must be http://HOST[:PORT] or https://HOST[:PORT], without a path";
    *(const char **)field = v;
    const char *host = strncmp(v, "http://", 7) == 0 ? v + 7 : strncmp(v, "https://", 8) == 0 ? v + 8 : "";
    if (!host[0])
        return form;
    for (const char *p = host; *p && strcmp(p, "/") != 0; p++)
        if (!isalnum((unsigned char)*p) && !strchr(".-:[]_", *p))
            return form;
    return NULL;
}

/* An address of this machine. */
static const char *take_advertise(void *field, const char *v)
{
    static const char form[] = "must be http://HOST:PORT, an address of this machine that the other gateways reach; port 0 picks a free one";
    const char *wrong = take_http_url(field, v), *colon = strrchr(v, ':');
    uint64_t port;
    return wrong || strncmp(v, "http://", 7) != 0 || strlen(v) > GATEWAY_URL_MAX - 5 || !number_parse(colon + 1, 0, 65535, &port) ? form : NULL;
}

static const char *take_listen(void *field, const char *v)
{
    static const char form[] = "must be ADDR:PORT, like 127.0.0.1:8080 or [::1]:8080; port 0 picks a free one";
    *(const char **)field = v;
    const char *colon = strrchr(v, ':');
    uint64_t port;
    if (!colon || colon == v || !number_parse(colon + 1, 0, 65535, &port))
        return form;
    size_t n = (size_t)(colon - v);
    if (v[0] == '[')
        return n > 2 && v[n - 1] == ']' ? NULL : form;
    return memchr(v, ':', n) ? form : NULL;
}

static const char *take_workers(void *field, const char *v)
{
    uint64_t n;
    if (!number_parse(v, 1, 256, &n))
        return "must be a number from 1 to 256";
    *(unsigned *)field = (unsigned)n;
    return NULL;
}

static const char *take_proxies(void *field, const char *v)
{
    uint64_t n;
    if (!number_parse(v, 0, 16, &n))
        return "must be a number from 0 to 16";
    *(unsigned *)field = (unsigned)n;
    return NULL;
}

static const char *take_queue(void *field, const char *v)
{
    uint64_t n;
    if (!number_parse(v, 1, 1000000, &n))
        return "must be a number from 1 to 1000000";
    *(unsigned *)field = (unsigned)n;
    return NULL;
}

static const char *take_days(void *field, const char *v)
{
    uint64_t n;
    if (!number_parse(v, 1, 3650, &n))
        return "must be a number of days from 1 to 3650";
    *(unsigned *)field = (unsigned)n;
    return NULL;
}

/* Into a pair: whether it was given, and what. */
static const char *take_keep(void *field, const char *v)
{
    struct config *c = (struct config *)((char *)field - offsetof(struct config, keep));
    c->keep_given = true;
    return number_parse(v, 0, INT64_MAX, &c->keep) ? NULL : "must be a number";
}

static const char *take_rate(void *field, const char *v)
{
    char *end;
    double r = strtod(v, &end);
    if (end == v || *end || !isfinite(r) || r < 0 || isspace((unsigned char)v[0]))
        return "must be a number of requests a second; 0 is no limit";
    *(double *)field = r;
    return NULL;
}

static const char *take_level(void *field, const char *v)
{
    return log_level_parse(v, field) ? "must be debug, info, warn or error" : NULL;
}

static const char *take_flag(void *field, const char *v)
{
    if (strcmp(v, "true") != 0 && strcmp(v, "1") != 0 && strcmp(v, "false") != 0 && strcmp(v, "0") != 0)
        return "must be true or false";
    *(bool *)field = v[0] == 't' || v[0] == '1';
    return NULL;
}

/* ---- the options ---- */

static const struct option {
    const char *name, *arg; /* arg NULL: a flag */
    size_t field;
    const char *(*take)(void *field, const char *value);
    unsigned verbs;
    bool no_env; /* belongs to one call, not to an installation */
    const char *help;
} options[] = {
#define FIELD(f) offsetof(struct config, f)
    {"embedded", "DIR", FIELD(embedded), take_text, NEEDS_META, false, "all in one process: short for --meta sqlite:DIR/meta.db --objects file:DIR/objects"},
    {"meta", "URL", FIELD(meta), take_meta, NEEDS_META, false, "metadata: sqlite:PATH or postgres://USER:PASSWORD@HOST[:PORT]/DATABASE"},
    {"objects", "URL", FIELD(objects), take_objects, NEEDS_STORES | VERB_ADMIN, false, "chunks: file:DIR or s3://BUCKET?endpoint=URL"},
    {"cache", "URL", FIELD(cache), take_cache, NEEDS_STORES, false, "shared cache: memory: (the default) or redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DB]"},
    {"events", "URL", FIELD(events), take_events, NEEDS_STORES, false, "messages: memory: (the default) or amqp://USER:PASSWORD@HOST[:PORT][,HOST[:PORT]...][/VHOST]"},
    {"scanner", "URL", FIELD(scanner), take_scanner, NEEDS_STORES, false, "virus scanner: clamd:unix:PATH, clamd://HOST[:PORT], or none (the default)"},
    {"listen", "ADDR:PORT", FIELD(listen), take_listen, VERB_SERVE | VERB_WORKER | VERB_CONFIG_CHECK, false, "where to listen; 127.0.0.1:8080 by default (a worker: nowhere), port 0 picks a free one"},
    {"workers", "N", FIELD(workers), take_workers, VERB_SERVE | VERB_CONFIG_CHECK, false, "processes on this port; 1 by default, and the most with SQLite"},
    {"threads", "N", FIELD(threads), take_workers, VERB_SERVE | VERB_CONFIG_CHECK, false, "threads in each process that run requests; 8 by default"},
    {"queue-max", "N", FIELD(queue_max), take_queue, VERB_SERVE | VERB_CONFIG_CHECK, false, "requests that may wait for a thread; over it 503; 10000 by default"},
    {"public-url", "URL", FIELD(public_url), take_http_url, VERB_SERVE | VERB_CONFIG_CHECK, false, "how clients reach the gateway, for the links that it makes"},
    {"advertise", "URL", FIELD(advertise), take_advertise, VERB_SERVE | VERB_CONFIG_CHECK, false, "where this gateway listens for the others: http://HOST:PORT"},
    {"rate-limit", "N", FIELD(rate_limit), take_rate, VERB_SERVE | VERB_CONFIG_CHECK, false, "requests a second for one user and for one address; 0 none, 5000 by default"},
    {"trusted-proxies", "N", FIELD(proxies), take_proxies, VERB_SERVE | VERB_CONFIG_CHECK, false, "proxies in front, one behind the other: a client's address is the Nth from the end of X-Forwarded-For; 0 by default"},
    {"spool", "DIR", FIELD(spool), take_text, VERB_SERVE | VERB_CONFIG_CHECK, false, "where large request bodies wait; DIR/spool when embedded, else $TMPDIR"},
    {"log-level", "LEVEL", FIELD(log_level), take_level, VERB_SERVE | VERB_WORKER | VERB_MIGRATE | VERB_CONFIG_CHECK, false, "debug, info (the default), warn or error"},
    {"owner", "USER", FIELD(owner), take_text, VERB_ADMIN, true, "whose drive"},
    {"admin", NULL, FIELD(admin), take_flag, VERB_ADMIN, true, "the new user is an operator"},
    {"password-stdin", NULL, FIELD(password_stdin), take_flag, VERB_ADMIN, true, "read the password from the first line of standard input"},
    {"days", "N", FIELD(days), take_days, VERB_ADMIN, true, "how long a token is good; 30 by default"},
    {"keep", "N", FIELD(keep), take_keep, VERB_ADMIN, true, "how many of the newest changes stay"},
    {"json", NULL, FIELD(json), take_flag, VERB_ADMIN, true, "print JSON"},
    {"help", NULL, FIELD(help), take_flag, ~0u, true, "this text"},
};
#define N_OPTIONS (sizeof options / sizeof *options)

static void env_name(const struct option *o, char ret[40])
{
    size_t n = (size_t)snprintf(ret, 40, "CAIRN_%s", o->name);
    for (size_t i = 6; i < n; i++)
        ret[i] = ret[i] == '-' ? '_' : (char)toupper((unsigned char)ret[i]);
}

static const struct option *find(enum verb verb, const char *name, size_t n)
{
    for (size_t i = 0; i < N_OPTIONS; i++)
        if (options[i].verbs & verb && strlen(options[i].name) == n && memcmp(options[i].name, name, n) == 0)
            return &options[i];
    return NULL;
}

static int take(struct config *c, const struct option *o, const char *what, const char *value, struct buf *ret_error)
{
    const char *wrong = o->take((char *)c + o->field, value);
    if (!wrong)
        return 0;
    CLEANUP_FREE char *shown = url_shown(value);
    buf_appendf(ret_error, "%s \"%s\": %s", what, shown, wrong);
    return -EINVAL;
}

static int from_environment(enum verb verb, struct config *c, struct buf *ret_error)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        char name[40], shown[48];
        env_name(&options[i], name);
        const char *value = getenv(name);
        if (!value || !value[0] || options[i].no_env || !(options[i].verbs & verb))
            continue;
        snprintf(shown, sizeof shown, "$%s", name);
        int err = take(c, &options[i], shown, value, ret_error);
        if (err)
            return err;
    }
    return 0;
}

/* argv[*i] is "--name", "--name=value" or "--name" "value". */
static int from_option(enum verb verb, int argc, char *const *argv, int *i, struct config *c, struct buf *ret_error)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *o = find(verb, name, n);
    char shown[48];
    if (!o) {
        buf_appendf(ret_error, "unknown option --%.*s", (int)n, name);
        return -EINVAL;
    }
    snprintf(shown, sizeof shown, "--%s", o->name);
    if (equals)
        return take(c, o, shown, equals + 1, ret_error);
    if (!o->arg)
        return take(c, o, shown, "true", ret_error);
    if (*i + 1 >= argc) {
        buf_appendf(ret_error, "--%s needs a value: %s", o->name, o->arg);
        return -EINVAL;
    }
    return take(c, o, shown, argv[++*i], ret_error);
}

static int from_command_line(enum verb verb, int argc, char *const *argv, struct config *c, struct buf *ret_error)
{
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
        } else if (!only_words && strcmp(argv[i], "-h") == 0) {
            c->help = true;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1]) {
            if (argv[i][1] != '-') {
                buf_appendf(ret_error, "unknown option %s", argv[i]);
                return -EINVAL;
            }
            int err = from_option(verb, argc, argv, &i, c, ret_error);
            if (err)
                return err;
        } else if (c->n_positional == CONFIG_POSITIONAL_MAX || verb != VERB_ADMIN) {
            buf_appendf(ret_error, "unexpected argument \"%s\"", argv[i]);
            return -EINVAL;
        } else {
            c->positional[c->n_positional++] = argv[i];
        }
    }
    return 0;
}

/* Of several processes, each advertises a port of its own, counted from the one that is given. */
static bool can_be_counted_from(const char *url, unsigned n)
{
    const char *colon = strrchr(url, ':');
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    return isdigit((unsigned char)colon[1]) && (!*end || strcmp(end, "/") == 0) && port + n - 1 <= 65535;
}

/* What only shows when all is known. */
static int complete(enum verb verb, struct config *c, struct buf *ret_error)
{
    if (c->embedded && !c->meta) {
        c->meta_of_embedded = mem_printf("sqlite:%s/meta.db", c->embedded);
        c->meta = c->meta_of_embedded;
    }
    if (c->embedded && !c->objects) {
        c->objects_of_embedded = mem_printf("file:%s/objects", c->embedded);
        c->objects = c->objects_of_embedded;
    }
    if (c->help)
        return 0;
    if (verb & NEEDS_META && !c->meta)
        buf_append_str(ret_error, "where the metadata is must be said: --embedded DIR, or --meta URL");
    else if (verb & NEEDS_STORES && !c->objects)
        buf_append_str(ret_error, "where the chunks are must be said: --embedded DIR, or --objects URL");
    else if (c->workers > 1 && strncmp(c->meta, "sqlite:", 7) == 0)
        buf_appendf(ret_error, "--workers %u: with SQLite a gateway is one process, whose memory holds the leases of its mounts; use 1", c->workers);
    else if (c->workers > 1 && c->advertise && !can_be_counted_from(c->advertise, c->workers))
        buf_appendf(ret_error, "--advertise \"%s\": with --workers %u it must end in a port, from which the processes count on, up to 65535", c->advertise, c->workers);
    else
        return 0;
    return -EINVAL;
}

int config_parse(enum verb verb, int argc, char *const *argv, struct config *ret, struct buf *ret_error)
{
    struct config c = {.workers = 1, .threads = 8, .queue_max = 10000, .rate_limit = RATE_LIMIT_DEFAULT, .log_level = LOG_LEVEL_INFO, .days = 30, .listen = verb == VERB_WORKER ? NULL : "127.0.0.1:8080"};
    int err = from_environment(verb, &c, ret_error);
    if (!err) {
        /* one way to say where things are replaces the other: --embedded does not mix with a $CAIRN_META of before */
        struct config env = c;
        c.embedded = c.meta = c.objects = NULL;
        err = from_command_line(verb, argc, argv, &c, ret_error);
        if (!c.embedded && !c.meta && !c.objects) {
            c.embedded = env.embedded;
            c.meta = env.meta;
            c.objects = env.objects;
        } else if (!c.embedded) {
            c.meta = c.meta ? c.meta : env.meta;
            c.objects = c.objects ? c.objects : env.objects;
        }
    }
    if (!err)
        err = complete(verb, &c, ret_error);
    if (err)
        config_fini(&c);
    else
        *ret = c;
    return err;
}

void config_fini(struct config *c)
{
    free(c->meta_of_embedded);
    free(c->objects_of_embedded);
    *c = (struct config){0};
}

void config_help(FILE *out, enum verb verb)
{
    for (size_t i = 0; i < N_OPTIONS; i++) {
        const struct option *o = &options[i];
        char left[48], env[40];
        if (!(o->verbs & verb))
            continue;
        snprintf(left, sizeof left, "--%s %s", o->name, o->arg ? o->arg : "");
        env_name(o, env);
        fprintf(out, "  %-22s %s%s%s%s\n", left, o->help, o->no_env ? "" : " [$", o->no_env ? "" : env, o->no_env ? "" : "]");
    }
}

void config_print(FILE *out, const struct config *c)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    const struct {
        const char *name, *value;
    } rows[] = {{"meta", c->meta},       {"objects", c->objects},       {"cache", c->cache ? c->cache : "memory:"}, {"events", c->events ? c->events : "memory:"},
                {"listen", c->listen},   {"public-url", c->public_url}, {"advertise", c->advertise},                {"spool", c->spool},
                {"scanner", c->scanner ? c->scanner : "none"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value) {
            CLEANUP_FREE char *shown = url_shown(rows[i].value);
            fprintf(out, "%s=%s\n", rows[i].name, shown);
        }
    fprintf(out, "workers=%u\nthreads=%u\nqueue-max=%u\nrate-limit=%g\ntrusted-proxies=%u\nlog-level=%s\n", c->workers, c->threads, c->queue_max, c->rate_limit, c->proxies,
            levels[c->log_level]);
}

int config_parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (*end) {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (!unit)
            return -EINVAL;
        shift = 10 * ((unsigned)(unit - units) + 1);
        end++;
        if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0)
            end += strlen(end);
    }
    if (errno || *end || v > (uint64_t)INT64_MAX >> shift)
        return -EINVAL;
    *ret = (uint64_t)v << shift;
    return 0;
}
