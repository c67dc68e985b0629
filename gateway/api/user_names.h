/* Names of users by id, looked up once for an answer that names them again and again. One thread. */
#ifndef CAIRN_GATEWAY_API_USER_NAMES_H
#define CAIRN_GATEWAY_API_USER_NAMES_H
#include "gateway/api/app.h"

struct user_names { /* zeroed: empty */
    struct known_user {
        struct uuid id;
        char name[65];
    } *known;
    size_t n;
};
/* "?" for one that does not exist any more. Valid until the next call. */
const char *user_names_get(struct user_names *u, struct app *app, const struct uuid *id);
void user_names_fini(struct user_names *u);
#endif
