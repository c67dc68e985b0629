/* Base64 (RFC 4648 section 4, with padding; url: section 5, without). */
#ifndef CAIRN_COMMON_BASE64_H
#define CAIRN_COMMON_BASE64_H
#include "common/buf.h"
#include <stdbool.h>
void base64_append(struct buf *ret, const void *p, size_t n, bool url);
int base64_decode(const char *text, size_t n, bool url, struct buf *ret); /* appends; -EINVAL */
#endif
