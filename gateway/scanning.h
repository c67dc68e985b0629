/* Virus scans of this process: the scanner, what asks for scans, and who hears of what they found. */
#ifndef CAIRN_GATEWAY_SCANNING_H
#define CAIRN_GATEWAY_SCANNING_H
#include "gateway/api/app.h"
#include "gateway/jobs/scan.h"

/* A context for app's stores, scanner and queues, which tells users by app's hub. app must outlive it. */
struct scan_ctx scanning_ctx(struct app *app);
/* The events_handler of EVENTS_QUEUE_SCAN; ctx: a scan_ctx, whose scanner may be NULL: nothing is done then. */
int scanning_message(void *ctx, const struct events_message *m, unsigned attempt);
#endif
