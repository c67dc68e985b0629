/* cairn-load: puts load on a gateway, bounded in count and time, and says how long each answer took. */
#include "load.h"

#include "common/mem.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PROCESSES_MAX 64
#define LINKS_OF_A_PROCESS 15000u

static const char help[] =
    "usage: cairn-load get|upload|subscribe --url http://HOST:PORT[,…] --token TOKEN [OPTION…]\n"
    "\n"
    "  get        requests for the paths of a file, with keep-alive; a body is checked where its line has a SHA-256\n"
    "  upload     uploads in flight at once: all begun, then all chunks, then all completed, then each read back and compared\n"
    "  subscribe  STOMP subscribers of /topic/file-changes, and files put into the first drive: how long until each is told\n"
    "\n"
    "  --url             several, joined by commas: connections are spread over them\n"
    "  --connections N   connections (get 64, subscribe 100)\n"
    "  --targets FILE    get: a line for each request: PATH [SHA256|- [TOKEN]]\n"
    "  --method M        get: another method than GET; with --size a body of so many bytes\n"
    "  --count N         get: requests (else --seconds, 5); upload: uploads at once (10)\n"
    "  --drive NAME      upload: where to; subscribe: one of them or several, joined by commas: subscribers are spread over them\n"
    "  --prefix PATH     upload: of each file's path (/load)\n"
    "  --size BYTES      upload: of each file (262144)    --chunk BYTES  of its chunks (262144)\n"
    "  --parallel N      upload: connections for each (1)\n"
    "  --events N        subscribe: how many (20)         --hold MS  at least so long between two (100)\n"
    "  --processes N     that share the work (one for each 15,000 connections)\n"
    "  --sources N       addresses of 127/8 to connect from (32)\n"
    "  --limit SECONDS   all ends then, and what has not ended is counted as failed (60)\n"
    "  --json            instead of a table\n"
    "\n"
    "Exit status: 0 all went well, 1 something failed, 2 usage.\n";

static const struct option long_options[] = {
    {"url", 1, NULL, 'u'},     {"token", 1, NULL, 't'},  {"connections", 1, NULL, 'c'}, {"targets", 1, NULL, 'f'}, {"method", 1, NULL, 'm'},
    {"count", 1, NULL, 'n'},   {"drive", 1, NULL, 'd'},  {"prefix", 1, NULL, 'x'},      {"size", 1, NULL, 's'},    {"chunk", 1, NULL, 'k'},
    {"parallel", 1, NULL, 'p'}, {"events", 1, NULL, 'e'}, {"hold", 1, NULL, 'w'},        {"processes", 1, NULL, 'P'}, {"sources", 1, NULL, 'S'},
    {"seconds", 1, NULL, 'T'}, {"limit", 1, NULL, 'L'},  {"json", 0, NULL, 'j'},        {"help", 0, NULL, 'h'},    {0}};

struct row *result_row(struct result *r, const char *name)
{
    for (unsigned i = 0; i < r->n_rows; i++)
        if (strcmp(r->rows[i].name, name) == 0)
            return &r->rows[i];
    if (r->n_rows == ROWS_MAX)
        abort();
    r->rows[r->n_rows].name = name;
    return &r->rows[r->n_rows++];
}

void result_failed(struct result *r, struct row *row, const char *why)
{
    row->failed++;
    if (!r->why[0])
        snprintf(r->why, sizeof r->why, "%s", why);
}

/* A number from `least` to `most`, or the program ends. */
static uint64_t number(const char *name, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || !*text || v < least || v > most) {
        fprintf(stderr, "cairn-load: --%s %s: must be a number from %llu to %llu\n", name, text, (unsigned long long)least, (unsigned long long)most);
        exit(2);
    }
    return v;
}

static void parse(int argc, char **argv, struct options *o)
{
    int c, at = 0;
    while ((c = getopt_long(argc, argv, "h", long_options, &at)) != -1) {
        const char *name = c != 'h' && c != '?' ? long_options[at].name : "";
        switch (c) {
        case 'u': o->url = optarg; break;
        case 't': o->token = optarg; break;
        case 'f': o->targets = optarg; break;
        case 'm': o->method = optarg; break;
        case 'd': o->drive = optarg; break;
        case 'x': o->prefix = optarg; break;
        case 'c': o->connections = (unsigned)number(name, optarg, 1, 1000000); break;
        case 'n': o->count = number(name, optarg, 1, 100000000); break;
        case 's': o->size = number(name, optarg, 1, UINT64_C(1) << 40); break;
        case 'k': o->chunk = number(name, optarg, 65536, 64u << 20); break;
        case 'p': o->parallel = (unsigned)number(name, optarg, 1, 256); break;
        case 'e': o->events = (unsigned)number(name, optarg, 1, 1000); break;
        case 'w': o->hold_ms = (unsigned)number(name, optarg, 0, 60000); break;
        case 'P': o->processes = (unsigned)number(name, optarg, 1, PROCESSES_MAX); break;
        case 'S': o->sources = (unsigned)number(name, optarg, 0, 250); break;
        case 'T': o->seconds = (double)number(name, optarg, 1, 600); break;
        case 'L': o->limit = (double)number(name, optarg, 1, 3600); break;
        case 'j': o->json = true; break;
        case 'h': fputs(help, stdout); exit(0);
        default: exit(2);
        }
    }
}

static void merge(struct result *all, const struct result *one)
{
    for (unsigned i = 0; i < one->n_rows; i++) {
        struct row *row = result_row(all, one->rows[i].name);
        histogram_merge(&row->times, &one->rows[i].times);
        row->failed += one->rows[i].failed;
    }
    all->bytes += one->bytes;
    all->left_out += one->left_out;
    all->ready += one->ready;
    all->seconds = one->seconds > all->seconds ? one->seconds : all->seconds;
    if (one->why[0] && !all->why[0])
        snprintf(all->why, sizeof all->why, "%s", one->why);
}

static const double percents[] = {50, 90, 99, 99.9};

static void print_table(const struct result *r)
{
    printf("%-12s%10s%10s%12s%12s%12s%12s%12s\n", "", "count", "failed", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms");
    for (unsigned i = 0; i < r->n_rows; i++) {
        const struct row *row = &r->rows[i];
        printf("%-12s%10llu%10llu", row->name, (unsigned long long)row->times.count, (unsigned long long)row->failed);
        for (unsigned k = 0; k < 4; k++)
            printf("%12.3f", (double)histogram_percentile(&row->times, percents[k]) / 1000);
        printf("%12.3f\n", (double)row->times.max / 1000);
    }
    printf("%.2f s, %.0f/s, %.1f MiB/s, %u connections, %llu not ended%s%s\n", r->seconds, r->n_rows ? (double)r->rows[0].times.count / r->seconds : 0,
           (double)r->bytes / r->seconds / (1 << 20), r->ready, (unsigned long long)r->left_out, r->why[0] ? ", first failure: " : "", r->why);
}

static void print_json(const struct result *r)
{
    json_t *rows = json_object();
    for (unsigned i = 0; i < r->n_rows; i++) {
        const struct row *row = &r->rows[i];
        json_object_set_new(rows, row->name,
                            json_pack("{sIsIsfsfsfsfsfsf}", "count", (json_int_t)row->times.count, "failed", (json_int_t)row->failed, "meanMs",
                                      row->times.count ? (double)row->times.sum / (double)row->times.count / 1000 : 0.0, "p50Ms",
                                      (double)histogram_percentile(&row->times, 50) / 1000, "p90Ms", (double)histogram_percentile(&row->times, 90) / 1000, "p99Ms",
                                      (double)histogram_percentile(&row->times, 99) / 1000, "p999Ms", (double)histogram_percentile(&row->times, 99.9) / 1000, "maxMs",
                                      (double)row->times.max / 1000));
    }
    json_t *all = json_pack("{sosfsIsIsIss}", "rows", rows, "seconds", r->seconds, "bytes", (json_int_t)r->bytes, "notEnded", (json_int_t)r->left_out, "connections",
                            (json_int_t)r->ready, "firstFailure", r->why);
    json_dumpf(all, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(all);
}

static int finish(const struct options *o, struct result *parts, unsigned n)
{
    struct result *all = mem_alloc(sizeof *all);
    bool bad = false;
    for (unsigned i = 0; i < n; i++)
        merge(all, &parts[i]);
    for (unsigned i = 0; i < all->n_rows; i++)
        bad |= all->rows[i].failed != 0;
    bad |= all->left_out != 0 || all->n_rows == 0;
    if (o->json)
        print_json(all);
    else
        print_table(all);
    free(all);
    return bad;
}

static void raise_files(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
}

static void run_part(const char *load, const struct options *o, struct board *b, unsigned part, struct result *ret)
{
    if (strcmp(load, "get") == 0)
        load_get(o, part, o->processes, ret);
    else if (strcmp(load, "upload") == 0)
        load_upload(o, part, o->processes, ret);
    else
        load_subscribe(o, b, part, o->processes, ret);
}

int main(int argc, char **argv)
{
    struct options o = {.connections = 64, .sources = 32, .seconds = 5, .limit = 60, .method = "GET", .prefix = "/load", .size = 256 << 10, .chunk = 256 << 10,
                        .parallel = 1, .events = 20, .hold_ms = 100};
    const char *load = argc > 1 ? argv[1] : "";
    bool get = strcmp(load, "get") == 0, upload = strcmp(load, "upload") == 0, subscribe = strcmp(load, "subscribe") == 0;
    signal(SIGPIPE, SIG_IGN);
    if (!get)
        o.connections = 100;
    if (upload)
        o.count = 10;
    if (get)
        o.size = 0;
    parse(argc - (get || upload || subscribe), argv + (get || upload || subscribe), &o);
    if (!(get || upload || subscribe) || !o.url || !o.token || (get && !o.targets) || (!get && !o.drive)) {
        fputs(help, stderr);
        return 2;
    }
    unsigned links = upload ? (unsigned)o.count * o.parallel : o.connections;
    if (!o.processes)
        o.processes = (links + LINKS_OF_A_PROCESS - 1) / LINKS_OF_A_PROCESS;
    raise_files();
    struct board *board = board_new(o.processes);
    struct result *parts = mmap(NULL, o.processes * sizeof *parts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!board || parts == MAP_FAILED)
        return 1;
    fflush(stdout);
    int broken = 0;
    for (unsigned i = 0; i < o.processes; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            run_part(load, &o, board, i, &parts[i]);
            _exit(0);
        }
        broken |= pid < 0;
    }
    for (int status; wait(&status) > 0;)
        broken |= status;
    return finish(&o, parts, o.processes) || broken;
}
