/* The two verbs that stay: each runs until it is told to end, and returns the exit status. */
#ifndef CAIRN_GATEWAY_SERVE_H
#define CAIRN_GATEWAY_SERVE_H
#include "gateway/config.h"

/* Logs "listening on http://ADDR:PORT" once it answers, and writes the port to DIR/port when embedded. SIGTERM or SIGINT drains: readiness turns red, running
   requests end, then it returns 0; a second signal ends the process at once. */
int serve_run(const struct config *c);
int worker_run(const struct config *c);
#endif
