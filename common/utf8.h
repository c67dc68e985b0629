#ifndef CAIRN_COMMON_UTF8_H
#define CAIRN_COMMON_UTF8_H
#include <stdbool.h>
#include <stddef.h>
bool utf8_valid(const char *p, size_t n); /* RFC 3629: no surrogates, no overlong forms, ≤ U+10FFFF */
#endif
