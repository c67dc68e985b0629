/* What a process works with, opened as its options say: metadata, objects, scanner, cache, messages. */
#ifndef CAIRN_GATEWAY_STORES_H
#define CAIRN_GATEWAY_STORES_H
#include "gateway/api/app.h"
#include "gateway/config.h"

/* Fills app's meta, objects, scanner, cache and events. 0 or a negative errno, logged; what was opened before it failed is left to be closed. */
int stores_open(const struct config *c, struct app *app);
/* Closes meta, objects, scanner and cache, those that are there. Messages end earlier: by events' own free, while what hears of them still stands. */
void stores_close(struct app *app);
#endif
