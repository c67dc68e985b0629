/* Slows guessing of passwords: a failure adds one to a few leaky buckets (this address with this user, the address, the user); a full one refuses.
   The user's own is wide, so that nobody can lock somebody else out cheaply. Bounded memory; thread-safe. */
#ifndef CAIRN_GATEWAY_API_ATTEMPTS_H
#define CAIRN_GATEWAY_API_ATTEMPTS_H
#include "common/buf.h"
#include <stdint.h>

struct attempts;
/* secret: the same for all gateways, so that they mean the same buckets; nobody else can choose names that share one. */
struct attempts *attempts_new(const uint8_t secret[32]);
void attempts_free(struct attempts *a);
/* Counts an attempt before it is made, so that many at once count too. 0, or the seconds to wait (nothing is counted then). */
unsigned attempts_begin(struct attempts *a, const char *address, const char *user, int64_t now_ms);
void attempts_succeeded(struct attempts *a, const char *address, const char *user); /* takes that one back */

/* The same as limits_spent and limits_learn, for gateways that count together: every attempt is said. */
void attempts_spent(struct attempts *a, struct buf *ret);
void attempts_learn(struct attempts *a, const char *key, double room, int64_t now_ms);
#endif
