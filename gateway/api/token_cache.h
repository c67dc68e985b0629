/* Access tokens that were verified a moment ago, by the SHA-256 of their text: a request pays neither for HMAC and JSON nor for a look-up of its session.
   Bounded; only tokens that were good get in. Thread-safe. */
#ifndef CAIRN_GATEWAY_API_TOKEN_CACHE_H
#define CAIRN_GATEWAY_API_TOKEN_CACHE_H
#include "gateway/api/app.h"

#define TOKEN_FRESH_MS 3000 /* after this an entry's session is looked up again: a session ended by another process ends here within 5 s */

enum token_state { TOKEN_UNKNOWN, TOKEN_STALE, TOKEN_FRESH };
struct token_cache;
struct token_cache *token_cache_new(void);
void token_cache_free(struct token_cache *c);
/* now_ms: clock_boot_ms; now_s: seconds since 1970. Never answers a token whose time is over. STALE: ret is filled too. */
enum token_state token_cache_get(struct token_cache *c, const struct hash *token, int64_t now_ms, int64_t now_s, struct principal *ret);
void token_cache_put(struct token_cache *c, const struct hash *token, const struct principal *p, int64_t expires_s, int64_t now_ms);
/* Forgets what belongs to this user and (not NULL) this session. */
void token_cache_forget(struct token_cache *c, const struct uuid *user, const struct uuid *session);
#endif
