/* Allocation that does not return on failure: a few bytes that cannot be had end the process with a
   message. Sizes that come from outside are bounded by the caller before they get here. */
#ifndef CAIRN_COMMON_MEM_H
#define CAIRN_COMMON_MEM_H
#include <stddef.h>

void *mem_alloc(size_t size);                 /* zeroed */
void *mem_alloc_raw(size_t size);             /* not zeroed: for buffers that are filled at once */
void *mem_calloc(size_t n, size_t size);      /* zeroed, overflow checked */
void *mem_realloc(void *p, size_t size);
char *mem_strdup(const char *s);              /* NULL gives NULL */
void *mem_dup(const void *p, size_t len);     /* a copy with a NUL behind it */
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#endif
