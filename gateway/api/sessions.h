/* Sessions: one log-in of one device, a family of refresh tokens of which only the newest is good. All functions ask the metadata store and may block;
   its errors (-EHOSTUNREACH, -EIO) pass through. Times are nanoseconds since 1970. */
#ifndef CAIRN_GATEWAY_API_SESSIONS_H
#define CAIRN_GATEWAY_API_SESSIONS_H
#include "gateway/api/tokens.h"

#define SESSION_SECONDS (30 * 86400)  /* after its last refresh */
#define SESSION_REPEAT_SECONDS 60     /* in which a refresh may be repeated under its Idempotency-Key */

struct token_pair {
    char *access; /* owned */
    char refresh[REFRESH_TEXT];
};
void token_pair_fini(struct token_pair *t);

int session_open(struct app *app, const struct user_row *u, const char *device, int64_t now, struct token_pair *ret);
/* A new pair for a refresh token. key: the request's Idempotency-Key or "".
   -EINVAL: none of ours. -EKEYREVOKED: its session has ended, or its user is gone. -EKEYREJECTED: it had served before; the whole family has ended now. */
int session_rotate(struct app *app, const char *token, const char *key, int64_t now, struct token_pair *ret);
/* Nothing of the session is good from here on; for other processes within 5 s. One that has ended already is no error. -ENOENT. */
int session_end(struct app *app, const struct uuid *id);
/* All of a user's, but `except` (may be NULL). */
int session_end_all(struct app *app, const struct uuid *user, const struct uuid *except);
/* A session without refresh tokens, for scripts: its access token lasts as long as it does. *ret is the caller's. */
int session_script(struct app *app, const struct user_row *u, const char *device, int64_t now, int64_t seconds, char **ret);
/* Whether what the token says still stands; brings name and admin up to date. -EACCES where it does not. */
int session_check(struct app *app, struct principal *p, int64_t now);
#endif
