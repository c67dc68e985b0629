/* Token buckets by key: so many requests a second, with a burst of two seconds' worth. Thread-safe. */
#ifndef CAIRN_GATEWAY_SERVER_LIMITS_H
#define CAIRN_GATEWAY_SERVER_LIMITS_H
#include <stdint.h>

struct limits;
struct limits *limits_new(double per_second); /* 0: no limit */
void limits_free(struct limits *l);
/* Takes one token of `kind` + `key` (a user and an address may share a name). 0, or the seconds (≥ 1) after which it is worth trying again. */
unsigned limits_take(struct limits *l, char kind, const char *key, int64_t now_ms);
#endif
