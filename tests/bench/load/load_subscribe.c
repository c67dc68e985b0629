/* STOMP subscribers, by several processes since one has not descriptors enough, and events that part 0 makes: a small file is put into the first drive. How long
   from before that request is sent until each subscriber has been told. */
#include "common/mem.h"
#include "load.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CONNECTING_MAX 128 /* at a time */
#define EVENTS_MAX 1024

struct board { /* shared by the parts; each process has its own descriptors, so only figures lie here */
    unsigned parts;
    _Atomic unsigned prepared, stopped; /* parts whose connections are there; whose events have come */
    _Atomic uint64_t expected, heard;   /* by all of them, of the present event */
    _Atomic uint64_t told_us[EVENTS_MAX];
    _Atomic unsigned over;
};

struct run;
struct listener {
    struct link link; /* first */
    struct run *run;
    unsigned drive;
    bool connected, subscribed;
};
struct run {
    const struct options *o;
    struct board *board;
    struct client client;
    struct result *result;
    struct row *subscribe, *events;
    char drives[128][80];
    unsigned n_drives;
    unsigned n, begun, ready, ended;
    char run_id[24];
};

struct board *board_new(unsigned parts)
{
    struct board *b = mmap(NULL, sizeof *b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (b == MAP_FAILED)
        return NULL;
    b->parts = parts;
    return b;
}

static void on_answer(struct link *link, int status)
{
    struct listener *l = (struct listener *)link;
    CLEANUP_BUF struct buf b = {0};
    char why[40];
    if (status != 101) {
        snprintf(why, sizeof why, "upgrade: status %d", status);
        l->run->ended++;
        link_close(link);
        result_failed(l->run->result, l->run->subscribe, why);
        return;
    }
    buf_appendf(&b, "CONNECT\naccept-version:1.2\nhost:cairn\nheart-beat:0,0\nAuthorization:Bearer %s\n\n", l->run->client.token);
    link_send(link, b.data, b.len + 1); /* with the NUL */
}

static void on_event(struct listener *l, const char *p, size_t n)
{
    struct run *r = l->run;
    const char *at = memmem(p, n, r->run_id, strlen(r->run_id));
    unsigned number = at ? (unsigned)strtoul(at + strlen(r->run_id), NULL, 10) : EVENTS_MAX;
    if (number >= EVENTS_MAX)
        return;
    histogram_add(&r->events->times, now_us() - r->board->told_us[number]);
    r->board->heard++;
}

static void on_message(struct link *link, const char *p, size_t n)
{
    struct listener *l = (struct listener *)link;
    struct run *r = l->run;
    CLEANUP_BUF struct buf b = {0};
    if (n > 7 && memcmp(p, "MESSAGE", 7) == 0) {
        on_event(l, p, n);
    } else if (n > 9 && memcmp(p, "CONNECTED", 9) == 0) {
        buf_append_str(&b, "SUBSCRIBE\nid:0\ndestination:/topic/file-changes\nreceipt:0\n");
        if (r->n_drives > 1)
            buf_appendf(&b, "drive:%s\n", r->drives[l->drive]);
        buf_append_str(&b, "\n");
        link_send(link, b.data, b.len + 1);
    } else if (n > 7 && memcmp(p, "RECEIPT", 7) == 0 && !l->subscribed) {
        l->subscribed = true;
        r->ready++;
        histogram_add(&r->subscribe->times, now_us() - link->began_us);
        if (l->drive == 0)
            r->board->expected++;
    } else if (n > 5 && memcmp(p, "ERROR", 5) == 0) {
        result_failed(r->result, r->subscribe, "STOMP error");
    }
}

static void on_failure(struct link *link, const char *why)
{
    struct listener *l = (struct listener *)link;
    l->run->ended++;
    result_failed(l->run->result, l->run->subscribe, why);
}

/* ---- the one who makes the events ---- */

struct publisher {
    struct link link; /* first */
    struct run *run;
    bool waiting;
};

static void published(struct link *link, int status)
{
    struct publisher *p = (struct publisher *)link;
    struct row *row = result_row(p->run->result, "put");
    p->waiting = false;
    if (status / 100 == 2)
        histogram_add(&row->times, now_us() - link->began_us);
    else
        result_failed(p->run->result, row, "a put was refused");
}

static void not_published(struct link *link, const char *why)
{
    struct publisher *p = (struct publisher *)link;
    p->waiting = false;
    result_failed(p->run->result, result_row(p->run->result, "put"), why);
}

static bool wait_until(struct run *r, const struct publisher *p, uint64_t until)
{
    bool in_time = true;
    while (in_time && (p->waiting || r->board->heard < r->board->expected || now_us() < until) && (until == 0 || now_us() < until + 30000000))
        in_time = client_step(&r->client, 5);
    return in_time;
}

static void publish(struct run *r)
{
    struct publisher p = {.run = r, .link = {.client = &r->client, .on_answer = published, .on_failure = not_published}};
    bool in_time = true;
    uint64_t each = r->board->expected;
    for (unsigned i = 0; in_time && i < r->o->events; i++) {
        char path[300];
        snprintf(path, sizeof path, "/api/v1/files/content?drive=%s&path=/%s%u", r->drives[0], r->run_id, i);
        p.waiting = true;
        r->board->heard = 0;
        r->board->told_us[i] = now_us();
        link_request(&p.link, "PUT", path, NULL, "event", 5);
        in_time = wait_until(r, &p, r->board->told_us[i] + r->o->hold_ms * UINT64_C(1000));
        if (r->board->heard < each)
            r->result->left_out += each - r->board->heard;
    }
    link_close(&p.link);
    r->board->over = 1;
}

/* ---- */

static void split_drives(struct run *r)
{
    for (const char *at = r->o->drive; *at && r->n_drives < 128; at += strcspn(at, ",") + (strchr(at, ',') != NULL)) {
        size_t n = strcspn(at, ",");
        n = n < sizeof *r->drives ? n : sizeof *r->drives - 1;
        memcpy(r->drives[r->n_drives++], at, n);
        if (!at[n])
            break;
    }
}

static void connect_all(struct run *r, struct listener *all)
{
    bool in_time = true;
    while (in_time && r->ready + r->ended < r->n) {
        while (r->begun < r->n && r->begun - r->ready - r->ended < CONNECTING_MAX)
            link_upgrade(&all[r->begun++].link, "/ws", "v12.stomp");
        in_time = client_step(&r->client, 100);
    }
    r->result->ready = r->ready;
    r->board->prepared++;
    while (in_time && r->board->prepared < r->board->parts)
        in_time = client_step(&r->client, 20);
}

void load_subscribe(const struct options *o, struct board *b, unsigned part, unsigned parts, struct result *ret)
{
    struct run r = {.o = o, .board = b, .result = ret, .n = o->connections / parts + (part < o->connections % parts)};
    r.subscribe = result_row(ret, "subscribe");
    r.events = result_row(ret, "event");
    snprintf(r.run_id, sizeof r.run_id, "load%d-", (int)getppid());
    if (client_init(&r.client, o->url, o->token, o->sources, o->limit) != 0)
        return;
    split_drives(&r);
    struct listener *all = mem_calloc(r.n, sizeof *all);
    for (unsigned i = 0; i < r.n; i++)
        all[i] = (struct listener){.run = &r,
                                   .drive = (part + i * parts) % r.n_drives,
                                   .link = {.client = &r.client, .on_answer = on_answer, .on_message = on_message, .on_failure = on_failure}};
    uint64_t begin = now_us();
    connect_all(&r, all);
    ret->seconds = (double)(now_us() - begin) / 1e6;
    if (part == 0 && r.board->expected)
        publish(&r);
    else if (part == 0)
        b->over = 1;
    while (!b->over && client_step(&r.client, 5))
        ;
    for (unsigned i = 0; i < r.n; i++)
        link_close(&all[i].link);
    free(all);
    client_fini(&r.client);
}
