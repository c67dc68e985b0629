/* Slows guessing of passwords: a failure adds one to a few leaky buckets (this address with this user, the address, the user); a full one refuses.
   The user's own is wide, so that nobody can lock somebody else out cheaply. Bounded memory; thread-safe. */
#ifndef CAIRN_GATEWAY_API_ATTEMPTS_H
#define CAIRN_GATEWAY_API_ATTEMPTS_H
#include <stdint.h>

struct attempts;
struct attempts *attempts_new(void);
void attempts_free(struct attempts *a);
/* Counts an attempt before it is made, so that many at once count too. 0, or the seconds to wait (nothing is counted then). */
unsigned attempts_begin(struct attempts *a, const char *address, const char *user, int64_t now_ms);
void attempts_succeeded(struct attempts *a, const char *address, const char *user); /* takes that one back */
#endif
