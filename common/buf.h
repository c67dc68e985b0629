/* A growable byte buffer that carries its length and is always NUL-terminated (the NUL not counted).
   A zeroed struct is an empty buffer. Not thread-safe. */
#ifndef CAIRN_COMMON_BUF_H
#define CAIRN_COMMON_BUF_H
#include "common/cleanup.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NULL while empty and nothing was reserved */
    size_t len;
    size_t cap;
};

void buf_fini(struct buf *b);                           /* frees; the buffer is empty and usable again */
void buf_reserve(struct buf *b, size_t more);           /* room for `more` further bytes */
void buf_append(struct buf *b, const void *p, size_t n);
void buf_append_str(struct buf *b, const char *s);
void buf_appendf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t n);              /* drops the first n bytes */
void buf_append_percent(struct buf *b, const void *p, size_t n); /* RFC 3986 unreserved kept, others %XX */
char *buf_detach(struct buf *b);                        /* the string, owned by the caller; never NULL */
#define CLEANUP_BUF CLEANUP(buf_fini)
#endif
