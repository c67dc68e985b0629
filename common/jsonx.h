/* Strict, short access to parsed JSON (jansson). A getter returns 0, -ENOENT where the key is missing
   (or null), -EINVAL where it has another type or is out of range; *ret is untouched then. */
#ifndef CAIRN_COMMON_JSONX_H
#define CAIRN_COMMON_JSONX_H
#include "common/buf.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSONX_DEPTH_MAX 64
/* Parses exactly one value; refuses duplicate keys, depth over JSONX_DEPTH_MAX, bad UTF-8. NULL: ret_why
   (if given) points to a static or thread-local text. Caller owns the reference. */
json_t *jsonx_parse(const char *p, size_t n, const char **ret_why);
int jsonx_str(const json_t *o, const char *key, const char **ret);            /* borrowed from o */
int jsonx_u64(const json_t *o, const char *key, uint64_t *ret);               /* 0 … INT64_MAX */
int jsonx_i64(const json_t *o, const char *key, int64_t *ret);
int jsonx_u32(const json_t *o, const char *key, uint32_t *ret);
int jsonx_bool(const json_t *o, const char *key, bool *ret);
int jsonx_arr(const json_t *o, const char *key, json_t **ret);                /* borrowed */
int jsonx_obj(const json_t *o, const char *key, json_t **ret);                /* borrowed */
/* Bytes that need not be UTF-8 (names, symlink targets, xattr values): KEY holds them where they are valid
   UTF-8 without NUL, else KEY64 holds base64. The result is malloc'd, NUL-terminated; ret_len may be NULL. */
int jsonx_bytes(const json_t *o, const char *key, char **ret, size_t *ret_len);
void jsonx_set_bytes(json_t *o, const char *key, const void *p, size_t n);
void jsonx_set_u64(json_t *o, const char *key, uint64_t v); /* below 2^63 */
void jsonx_dump(const json_t *v, struct buf *ret);                            /* appends, compact */
#endif
