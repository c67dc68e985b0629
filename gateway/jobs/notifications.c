#include "gateway/jobs/notifications.h"
#include "common/jsonx.h"
#include "common/log.h"

#include <errno.h>

int notifications_message(void *ctx, const struct events_message *m, unsigned attempt)
{
    CLEANUP_JSON json_t *body = jsonx_parse(m->body, m->len, NULL);
    const char *kind, *user;
    (void)ctx;
    (void)attempt;
    if (!body || jsonx_str(body, "kind", &kind) || jsonx_str(body, "user", &user))
        return -EINVAL;
    log_info("notification for %s: %s", user, kind);
    return 0;
}
