/* What becomes of notifications once their user's connections have heard of them. */
#ifndef CAIRN_GATEWAY_JOBS_NOTIFICATIONS_H
#define CAIRN_GATEWAY_JOBS_NOTIFICATIONS_H
#include "gateway/ports/events.h"

/* The events_handler of EVENTS_QUEUE_NOTIFICATION: takes note of it. One that is no JSON object with a kind and a user is given up. */
int notifications_message(void *ctx, const struct events_message *m, unsigned attempt);
#endif
