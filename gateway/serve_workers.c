/* serve --workers N: so many gateways on one port, between which the kernel shares out the connections. */
#include "common/cleanup.h"
#include "common/mem.h"
#include "gateway/serve.h"
#include "gateway/server/http.h"
#include "gateway/supervise.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RESTART_MIN_MS 100
#define RESTART_MAX_MS 10000

/* "http://host:9090", 2 → "http://host:9092"; port 0 is a free one for each. */
static char *advertised(const char *url, unsigned index)
{
    const char *colon = strrchr(url, ':');
    unsigned long port = strtoul(colon + 1, NULL, 10);
    return mem_printf("%.*s:%lu", (int)(colon - url), url, port ? port + index : 0);
}

static int run_one(unsigned index, int ready_fd, void *ctx)
{
    struct config c = *(const struct config *)ctx;
    CLEANUP_FREE char *advertise = c.advertise ? advertised(c.advertise, index) : NULL;
    c.advertise = advertise;
    return serve_run(&c, ready_fd);
}

int serve_workers(const struct config *c)
{
    int port;
    CLEANUP_CLOSE int reserved = http_reserve_address(c->listen, &port);
    if (reserved < 0)
        return 1;
    struct config each = *c;
    CLEANUP_FREE char *listen = mem_printf("%.*s:%d", (int)(strrchr(c->listen, ':') - c->listen), c->listen, port); /* the same port for all, where a free one was asked for */
    each.listen = listen;
    int status = supervise_run(&(struct supervision){.n = c->workers, .run = run_one, .ctx = &each, .delay_min_ms = RESTART_MIN_MS, .delay_max_ms = RESTART_MAX_MS});
    if (c->embedded) {
        CLEANUP_FREE char *port_file = mem_printf("%s/port", c->embedded);
        unlink(port_file);
    }
    return status;
}
