/* UUIDs: version 7 (RFC 9562), time-ordered; text form is 36 characters, lower case. Thread-safe. */
#ifndef CAIRN_COMMON_UUID_H
#define CAIRN_COMMON_UUID_H
#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT 37 /* with the NUL */

struct uuid {
    uint8_t b[16];
};
void uuid_new(struct uuid *ret);
void uuid_text(const struct uuid *u, char ret[UUID_TEXT]);
int uuid_parse(const char *text, struct uuid *ret); /* -EINVAL where it is none */
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_zero(const struct uuid *u);
#endif
