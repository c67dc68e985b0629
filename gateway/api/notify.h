/* What one user is told, as messages for all gateways that have connections of that user, and for EVENTS_QUEUE_NOTIFICATION. */
#ifndef CAIRN_GATEWAY_API_NOTIFY_H
#define CAIRN_GATEWAY_API_NOTIFY_H
#include "gateway/api/app.h"

/* Publishes `message` with key notification.<user's name>, and with members `user` and `eventId`. Takes the reference. A worker thread: it looks the name up. */
void notify_publish(struct app *app, const struct uuid *user, json_t *message);
#endif
