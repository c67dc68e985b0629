/* What the files of authentication share among themselves; others use app.h. */
#ifndef CAIRN_GATEWAY_API_AUTH_H
#define CAIRN_GATEWAY_API_AUTH_H
#include "gateway/api/app.h"

struct pool;
/* Verified tokens of this session (NULL: of the user) are looked up again at their next use. */
void auth_forget(struct app *app, const struct uuid *user, const struct uuid *session);
struct attempts *auth_attempts(struct app *app);
struct pool *auth_passwords(struct app *app); /* the two threads on which passwords are checked */
#endif
