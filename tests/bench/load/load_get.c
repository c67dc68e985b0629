/* Requests for a list of targets, by a number of connections, each with one at a time: queries, look-ups, links, downloads. A line of the file is
   PATH [SHA256|- [TOKEN]]; with a hash the body is checked; with a token the request is that user's. */
#include "common/hash.h"
#include "common/mem.h"
#include "load.h"

#include <string.h>

struct target {
    char *path, *token;
    bool checked;
    struct hash sha256;
};

struct run;
struct getter {
    struct link link; /* first */
    struct run *run;
    const struct target *target;
    struct hash_stream *hash;
};

struct run {
    const struct options *o;
    struct client client;
    struct target *targets;
    size_t n_targets, next;
    uint64_t begun, ended, most, stop_us;
    struct result *result;
    struct row *row;
    char *body;
};

static int read_targets(struct run *r)
{
    CLEANUP_FILE FILE *f = fopen(r->o->targets, "re");
    char line[12000], path[8192], hex[HASH_HEX_LEN + 1], token[2048];
    if (!f) {
        perror(r->o->targets);
        return -1;
    }
    while (fgets(line, sizeof line, f)) {
        int n = sscanf(line, "%8191s %64s %2047s", path, hex, token);
        if (n < 1)
            continue;
        if ((r->n_targets & (r->n_targets - 1)) == 0)
            r->targets = mem_realloc(r->targets, (r->n_targets ? 2 * r->n_targets : 1) * sizeof *r->targets);
        struct target *t = &r->targets[r->n_targets++];
        *t = (struct target){.path = mem_strdup(path), .token = n == 3 ? mem_strdup(token) : NULL, .checked = n >= 2 && strcmp(hex, "-") != 0};
        if (t->checked && hash_parse(hex, &t->sha256) != 0)
            return -1;
    }
    return r->n_targets ? 0 : -1;
}

static bool more(const struct run *r)
{
    return r->begun < r->most && now_us() < r->stop_us;
}

static void next(struct getter *g)
{
    struct run *r = g->run;
    if (!more(r)) {
        link_close(&g->link);
        return;
    }
    r->begun++;
    g->target = &r->targets[r->next++ % r->n_targets];
    hash_stream_free(g->hash);
    g->hash = g->target->checked ? hash_stream_new() : NULL;
    g->link.token = g->target->token;
    link_request(&g->link, r->o->method, g->target->path, NULL, r->body, r->body ? r->o->size : 0);
}

static void on_body(struct link *l, const char *p, size_t n)
{
    struct getter *g = (struct getter *)l;
    g->run->result->bytes += n;
    if (g->hash)
        hash_stream_update(g->hash, p, n);
}

static void on_answer(struct link *l, int status)
{
    struct getter *g = (struct getter *)l;
    struct run *r = g->run;
    struct hash got;
    char why[80];
    r->ended++;
    if (g->hash)
        hash_stream_final(g->hash, &got);
    if (status / 100 != 2) {
        snprintf(why, sizeof why, "status %d", status);
        result_failed(r->result, r->row, why);
    } else if (g->hash && !hash_equal(&got, &g->target->sha256)) {
        result_failed(r->result, r->row, "the content is not what it should be");
    } else {
        histogram_add(&r->row->times, now_us() - l->began_us);
    }
    next(g);
}

static void on_failure(struct link *l, const char *why)
{
    struct getter *g = (struct getter *)l;
    g->run->ended++;
    result_failed(g->run->result, g->run->row, why);
    if (g->run->row->failed < g->run->o->connections) /* else: nobody is there */
        next(g);
}

void load_get(const struct options *o, unsigned part, unsigned parts, struct result *ret)
{
    struct run r = {.o = o, .result = ret, .row = result_row(ret, o->method), .most = o->count ? o->count / parts + (part < o->count % parts) : UINT64_MAX};
    unsigned n = o->connections / parts + (part < o->connections % parts);
    if (client_init(&r.client, o->url, o->token, o->sources, o->limit) != 0 || read_targets(&r) != 0) {
        result_failed(ret, r.row, "the targets cannot be read");
        return;
    }
    r.next = r.n_targets * part / parts;
    if (o->size && strcmp(o->method, "GET") != 0)
        r.body = mem_alloc(o->size);
    uint64_t begin = now_us();
    r.stop_us = o->count ? r.client.end_us : begin + (uint64_t)(o->seconds * 1e6);
    struct getter *all = mem_calloc(n, sizeof *all);
    for (unsigned i = 0; i < n; i++) {
        all[i] = (struct getter){.run = &r, .link = {.client = &r.client, .on_body = on_body, .on_answer = on_answer, .on_failure = on_failure}};
        if (more(&r))
            next(&all[i]);
    }
    while (r.ended < r.begun && client_step(&r.client, 100))
        ret->ready = r.client.open > ret->ready ? r.client.open : ret->ready;
    ret->seconds = (double)(now_us() - begin) / 1e6;
    ret->left_out = r.begun - r.ended;
    for (unsigned i = 0; i < n; i++) {
        link_close(&all[i].link);
        hash_stream_free(all[i].hash);
    }
    for (size_t i = 0; i < r.n_targets; i++) {
        free(r.targets[i].path);
        free(r.targets[i].token);
    }
    free(all);
    free(r.targets);
    free(r.body);
    client_fini(&r.client);
}
