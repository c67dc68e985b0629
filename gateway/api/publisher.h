/* Changes as messages: each committed change is published, at least once, in the order of its drive; off the path of requests.

   What a gateway commits it publishes right away; the row in the outbox, written by the same transaction, goes once the broker has confirmed. What a gateway that died, or a broker
   that was away, left in the outbox, a relay publishes later. */
#ifndef CAIRN_GATEWAY_API_PUBLISHER_H
#define CAIRN_GATEWAY_API_PUBLISHER_H
#include "gateway/api/app.h"
#include "gateway/core/drive_queue.h"

struct publisher;
/* One thread. app: its meta and events are used. relay: also publishes what others left. */
struct publisher *publisher_new(struct app *app, bool relay);
/* Any thread; never blocks. p may be NULL. What it has no room for is left to the relay. */
void publisher_committed(struct publisher *p, const struct uuid *drive, uint64_t first, uint64_t last);
/* The same for a group of works; those that failed or changed nothing are left out. */
void publisher_works(struct publisher *p, const struct uuid *drive, const struct drive_work *works);
/* Publishes no more; a moment for what is under way to be confirmed. NULL is none. Before events is freed. */
void publisher_stop(struct publisher *p);
/* After events is freed: nothing calls back any more. */
void publisher_free(struct publisher *p);
/* The id of a change's event: the same whenever and by whomever it is published. */
void publisher_event_id(const struct uuid *drive, uint64_t seq, char ret[UUID_TEXT]);
#endif
