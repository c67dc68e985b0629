/* One process that keeps a number of others running: starts them, starts again what ends by itself, passes on that all is to end. It knows nothing of what they do. */
#ifndef CAIRN_GATEWAY_SUPERVISE_H
#define CAIRN_GATEWAY_SUPERVISE_H

struct supervision {
    unsigned n; /* how many processes */
    /* The life of process `index` (0 … n-1), in that process, with the signals as they were before; returns its exit status. It writes one byte to ready_fd when it does its work. */
    int (*run)(unsigned index, int ready_fd, void *ctx);
    void *ctx;
    unsigned delay_min_ms, delay_max_ms; /* until one that ended by itself is started again; doubled each time that it ends before it was ready */
};
/* Until SIGTERM or SIGINT, which are passed on as SIGTERM (a second one, too), and all have ended: 0, or 1 where one did not end with 0. SIGHUP replaces the processes, one after another: each
   gets SIGTERM, and the next only when its successor is ready. Where one of the first ends before any has ever been ready, nothing helps: it ends the others, and returns 1. Processes whose supervisor dies
   get SIGTERM. To be called before the program has threads. */
int supervise_run(const struct supervision *s);
#endif
