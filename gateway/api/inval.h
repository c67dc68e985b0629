/* An invalidation as one gateway tells another (docs/protocol.md "Between gateways"). */
#ifndef CAIRN_GATEWAY_API_INVAL_H
#define CAIRN_GATEWAY_API_INVAL_H
#include "common/buf.h"
#include "common/uuid.h"
#include <jansson.h>

struct inval_work { /* what one session did */
    struct uuid session;
    uint64_t seq;  /* the last that it was given */
    char *touches; /* JSON objects, comma separated; owned. NULL: a repeated batch, which only waits for what was told up to seq */
};
struct inval {
    uint64_t id; /* the sender's, by which it is acknowledged; given once */
    struct uuid drive;
    uint64_t first, last; /* the numbers that it covers; first 0: none, it waits for all up to last */
    size_t n;
    struct inval_work *works;
};
void inval_write(const struct inval *v, struct buf *ret); /* {t:"inval", …} */
int inval_read(const json_t *o, struct inval *ret);       /* -EINVAL: *ret is empty */
void inval_fini(struct inval *v);
#endif
