#include "gateway/scanning.h"

static struct metric *counter(enum scan_verdict v)
{
    static const char *const labels[] = {[SCAN_CLEAN] = "verdict=\"clean\"", [SCAN_INFECTED] = "verdict=\"infected\"", [SCAN_TOO_LARGE] = "verdict=\"too-large\""};
    return metric_get(METRIC_COUNTER, "cairn_virus_scans_total", labels[v], "Versions scanned for viruses");
}

/* The one who wrote it and the drive's owner hear of an infection: on /user/queue/sync, and in their mounts. */
static void told(void *ctx, const struct scan_report *r)
{
    struct app *app = ctx;
    metric_add(counter(r->verdict), 1);
    if (r->verdict != SCAN_INFECTED)
        return;
    if (!uuid_is_zero(&r->writer) && !uuid_equal(&r->writer, &r->owner))
        hub_notify_user(app->hub, &r->writer, scan_report_json(r));
    hub_notify_user(app->hub, &r->owner, scan_report_json(r));
}

struct scan_ctx scanning_ctx(struct app *app)
{
    return (struct scan_ctx){.meta = app->meta, .objects = app->objects, .scanner = app->scanner, .queues = app->queues, .told = told, .ctx = app};
}
