#include "gateway/scanning.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "gateway/api/notify.h"
#include "gateway/api/publisher.h"

#include <errno.h>
#include <string.h>

#define CONFIRM_S 10

static struct metric *counter(enum scan_verdict v)
{
    static const char *const labels[] = {[SCAN_CLEAN] = "verdict=\"clean\"", [SCAN_INFECTED] = "verdict=\"infected\"", [SCAN_TOO_LARGE] = "verdict=\"too-large\""};
    return metric_get(METRIC_COUNTER, "cairn_virus_scans_total", labels[v], "Versions scanned for viruses");
}

/* Consumers hear of it, before what asked for the scan is acknowledged: if that fails, it is scanned and told again. */
static int publish_verdict(struct app *app, const struct scan_report *r)
{
    CLEANUP_BUF struct buf body = {0};
    CLEANUP_JSON json_t *message = scan_report_json(r);
    char id[UUID_TEXT];
    publisher_event_id(&r->drive, r->version, id);
    json_object_set_new(message, "eventId", json_string(id));
    jsonx_dump(message, &body);
    const struct events_message m = {.key = r->verdict == SCAN_INFECTED ? "virus-scan.infected" : "virus-scan.clean", .id = id, .body = body.data, .len = body.len, .persistent = true};
    return events_publish_confirmed(app->events, &m, CONFIRM_S);
}

static void tell_user(struct app *app, const struct uuid *user, const struct scan_report *r)
{
    if (app->hub)
        hub_notify_user(app->hub, user, scan_report_json(r));
    else
        notify_publish(app, user, scan_report_json(r));
}

/* The one who wrote it and the drive's owner hear of an infection: on /user/queue/sync, and in their mounts. */
static int told(void *ctx, const struct scan_report *r)
{
    struct app *app = ctx;
    if (app->events->ops->shared && r->verdict != SCAN_TOO_LARGE) {
        int err = publish_verdict(app, r);
        if (err) {
            log_warn("the verdict on a version could not be published: %s", strerror(-err));
            return err;
        }
    }
    metric_add(counter(r->verdict), 1);
    if (r->verdict != SCAN_INFECTED)
        return 0;
    if (!uuid_is_zero(&r->writer) && !uuid_equal(&r->writer, &r->owner))
        tell_user(app, &r->writer, r);
    tell_user(app, &r->owner, r);
    return 0;
}

int scanning_message(void *ctx, const struct events_message *m, unsigned attempt)
{
    const struct scan_ctx *c = ctx;
    if (!c->scanner)
        return 0; /* nobody scans here: the queue is not to grow */
    CLEANUP_JSON json_t *body = jsonx_parse(m->body, m->len, NULL);
    (void)attempt;
    int err = body ? scan_handle(c, body) : -EINVAL;
    return err == -EAGAIN && c->stop && *c->stop ? -ECANCELED : err;
}

struct scan_ctx scanning_ctx(struct app *app)
{
    return (struct scan_ctx){.meta = app->meta, .objects = app->objects, .scanner = app->scanner, .queues = app->queues, .told = told, .ctx = app};
}
