/* The two verbs that stay: each runs until it is told to end, and returns the exit status. */
#ifndef CAIRN_GATEWAY_SERVE_H
#define CAIRN_GATEWAY_SERVE_H
#include "gateway/api/app.h"
#include "gateway/config.h"
#include "gateway/jobs/scan.h"

/* Logs "listening on http://ADDR:PORT" once it answers, and writes the port to DIR/port when embedded. SIGTERM or SIGINT drains: readiness turns red, running
   requests end, then it returns 0; a second signal ends the process at once. */
/* ready_fd: one byte is written there when it answers; -1: nobody waits for that. */
int serve_run(const struct config *c, int ready_fd);
/* config.workers of those, on one port, each a process (gateway/supervise.h). Process i of them advertises the port that is given there, plus i. */
int serve_workers(const struct config *c);
int worker_run(const struct config *c);
/* Starts the consumers of the durable queues: those of a worker, and of an embedded gateway, which is one as well. app and scan must outlive its events. */
void worker_consume(struct app *app, struct scan_ctx *scan);
#endif
