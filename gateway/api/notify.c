#include "gateway/api/notify.h"
#include "common/jsonx.h"
#include "common/log.h"

#include <errno.h>
#include <string.h>

void notify_publish(struct app *app, const struct uuid *user, json_t *message)
{
    CLEANUP_BUF struct buf body = {0};
    struct user_row row = {0};
    struct uuid id;
    char id_text[UUID_TEXT], key[80];
    int err = app->meta->ops->user_by_id(app->meta, user, &row);
    if (!err) {
        uuid_new(&id);
        uuid_text(&id, id_text);
        json_object_set_new(message, "user", json_string(row.name));
        json_object_set_new(message, "eventId", json_string(id_text));
        jsonx_dump(message, &body);
        snprintf(key, sizeof key, "notification.%s", row.name);
        user_row_fini(&row);
        err = app->events->ops->publish(app->events, &(struct events_message){.key = key, .id = id_text, .body = body.data, .len = body.len, .persistent = true}, NULL, NULL);
    }
    json_decref(message);
    if (err)
        log_warn("a notification could not be published: %s", strerror(-err));
}
