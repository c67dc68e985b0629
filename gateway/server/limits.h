/* Token buckets by key: so many requests a second, with a burst of two seconds' worth. Thread-safe.

   They decide by themselves, at once. Where others let requests of the same keys through, each says now and then what it spent, and learns what is left for all. */
#ifndef CAIRN_GATEWAY_SERVER_LIMITS_H
#define CAIRN_GATEWAY_SERVER_LIMITS_H
#include "common/buf.h"
#include <stdint.h>

#define LIMITS_KEY_MAX 80
struct limits_spent {
    char key[LIMITS_KEY_MAX];
    double per_second, burst, n;
};

struct limits;
struct limits *limits_new(double per_second); /* 0: no limit */
void limits_free(struct limits *l);
/* Takes one token of `kind` + `key` (a user and an address may share a name). 0, or the seconds (≥ 1) after which it is worth trying again. */
unsigned limits_take(struct limits *l, char kind, const char *key, int64_t now_ms);
/* Appends to ret, as struct limits_spent, what was spent since it was last said. A key is said when it is new here and when a twentieth of a second's worth was spent: so
   twenty gateways may each let as much through unsaid, and one who never comes near the limit costs nothing. */
void limits_spent(struct limits *l, struct buf *ret);
/* What is left of the key for all, after what limits_spent said; below 0 where too much was let through. It only ever lowers what is left here. */
void limits_learn(struct limits *l, const char *key, double room, int64_t now_ms);
#endif
