/* Who shares a drive with a user. */
#ifndef CAIRN_GATEWAY_API_SHARERS_H
#define CAIRN_GATEWAY_API_SHARERS_H
#include "common/uuid_list.h"
#include "gateway/api/app.h"

/* The user, and everyone who is a member of one of the user's drives, each once, added to the empty list *ret. Worker. 0 or a negative errno, with those that were found before. */
int sharers_of(struct app *app, const struct uuid *user, struct uuid_list *ret);
#endif
