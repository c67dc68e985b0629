/* The forms of tokens, without any store: access tokens are JWTs (RFC 7519, HS256), refresh tokens are "SID.SECRET" in base64url. Thread-safe. */
#ifndef CAIRN_GATEWAY_API_TOKENS_H
#define CAIRN_GATEWAY_API_TOKENS_H
#include "gateway/api/app.h"

#define TOKEN_ACCESS_SECONDS 900
#define TOKEN_LEN_MAX 4096
#define REFRESH_TEXT 80 /* room for a refresh token with its NUL */

/* Claims: sub, name, sid, dev, adm, typ "access", iat, exp. Times in seconds. Caller frees. */
char *token_make(const uint8_t secret[32], const struct principal *who, int64_t issued, int64_t expires);
/* Checks signature, algorithm, type and time. 0; -EKEYEXPIRED; -EINVAL for all else. */
int token_parse(const uint8_t secret[32], const char *token, int64_t now, struct principal *ret, int64_t *ret_expires);

/* A refresh token carries its session's id, 16 bytes of `random`, and a MAC over both: so an old token of ours is known from one that somebody made up. */
void refresh_make(const uint8_t secret[32], const struct uuid *session, const uint8_t random[16], char ret[REFRESH_TEXT]);
int refresh_parse(const uint8_t secret[32], const char *token, struct uuid *ret_session); /* -EINVAL: not one of ours */
/* `random` of the token that follows `token` under an idempotency key: a repeat makes the same one, and no token needs to be stored. */
void refresh_derive(const uint8_t secret[32], const char *token, const char *key, uint8_t ret[16]);
#endif
