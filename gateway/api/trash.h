/* The trash is what the change log says was deleted, and where nothing has come since. Restoring brings a file back under its own
   inode, with its history; a directory is made anew, with what was deleted in the minutes before it: that is what went with it. */
#ifndef CAIRN_GATEWAY_API_TRASH_H
#define CAIRN_GATEWAY_API_TRASH_H
#include "gateway/api/app.h"

enum call_state trash_get(struct call *c);     /* GET /trash?drive=[&before=&limit=] */
enum call_state trash_restore(struct call *c); /* POST /trash/restore {drive, path} */
#endif
