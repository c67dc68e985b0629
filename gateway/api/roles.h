/* What role a user has in a drive, remembered for a moment: mounts ask thousands of times a second. A role that is taken away ends within
   ROLE_FRESH_MS. Thread-safe. */
#ifndef CAIRN_GATEWAY_API_ROLES_H
#define CAIRN_GATEWAY_API_ROLES_H
#include "gateway/api/app.h"

#define ROLE_FRESH_MS 1000

struct roles;
void roles_free(struct roles *r);
/* As meta's member_role. */
int roles_get(struct app *app, const struct uuid *drive, const struct uuid *user, enum role *ret);
/* As access_drive, where id and role are all that is wanted: only those are set in ret. A name, too, is remembered for a moment as that of the drive that it was found to be. */
bool roles_drive(struct call *c, const char *drive, enum role least, struct drive_row *ret);
#endif
