#include "common/uuid.h"
#include "common/clock.h"
#include "common/hash.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

void uuid_new(struct uuid *ret)
{
    uint64_t ms = (uint64_t)clock_wall_ns() / 1000000;
    if (RAND_bytes(ret->b, sizeof ret->b) != 1)
        abort(); /* no randomness: nothing can be named safely */
    for (int i = 0; i < 6; i++)
        ret->b[i] = (uint8_t)(ms >> (40 - 8 * i));
    ret->b[6] = (uint8_t)(0x70 | (ret->b[6] & 0x0f));
    ret->b[8] = (uint8_t)(0x80 | (ret->b[8] & 0x3f));
}

void uuid_text(const struct uuid *u, char ret[UUID_TEXT])
{
    char hex[33];
    hex_encode(u->b, 16, hex);
    static const int lengths[] = {8, 4, 4, 4, 12};
    char *out = ret;
    for (int i = 0, at = 0; i < 5; at += lengths[i++]) {
        if (i)
            *out++ = '-';
        memcpy(out, hex + at, (size_t)lengths[i]);
        out += lengths[i];
    }
    *out = 0;
}

int uuid_parse(const char *text, struct uuid *ret)
{
    char hex[33];
    size_t n = 0;
    if (!text || strlen(text) != UUID_TEXT - 1)
        return -EINVAL;
    for (int i = 0; i < UUID_TEXT - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash != (text[i] == '-'))
            return -EINVAL;
        if (!dash)
            hex[n++] = text[i];
    }
    hex[n] = 0;
    struct uuid u;
    int err = hex_decode(hex, 16, u.b);
    if (err == 0)
        *ret = u;
    return err;
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, 16) == 0;
}

bool uuid_is_zero(const struct uuid *u)
{
    static const struct uuid zero;
    return uuid_equal(u, &zero);
}
