/* cairn-load: what its loads share. */
#ifndef CAIRN_BENCH_LOAD_H
#define CAIRN_BENCH_LOAD_H
#include "client.h"
#include "histogram.h"
#include <stdio.h>

struct options {
    const char *url, *token, *targets, *drive, *method, *prefix;
    unsigned connections, processes, sources, events, parallel, hold_ms;
    uint64_t count, size, chunk;
    double seconds, limit;
    bool json;
};

#define ROWS_MAX 8
struct row { /* one kind of request, or of event */
    const char *name;
    struct histogram times;
    uint64_t failed;
};
struct result { /* lies in memory that the processes of a load share: each writes its own */
    struct row rows[ROWS_MAX];
    unsigned n_rows;
    uint64_t bytes, left_out; /* left_out: not begun, or not ended in time */
    unsigned ready;           /* connections that were there at once */
    double seconds;
    char why[160];            /* of the first failure */
};
struct row *result_row(struct result *r, const char *name); /* made when first asked for */
void result_failed(struct result *r, struct row *row, const char *why);

/* Each runs one process's share of its load; the shares differ by `part` of `parts`. */
void load_get(const struct options *o, unsigned part, unsigned parts, struct result *ret);
void load_upload(const struct options *o, unsigned part, unsigned parts, struct result *ret);
struct board;
struct board *board_new(unsigned parts); /* before the processes are made: what the parts of `subscribe` tell each other */
void load_subscribe(const struct options *o, struct board *b, unsigned part, unsigned parts, struct result *ret);
#endif
