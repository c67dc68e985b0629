/* JSON written straight into a buffer, for answers with many rows: no tree is built. Commas come by themselves; what is
   written must nest properly. key NULL: an element of an array. */
#ifndef CAIRN_GATEWAY_API_JSON_OUT_H
#define CAIRN_GATEWAY_API_JSON_OUT_H
#include "common/buf.h"
#include "common/hash.h"
#include "common/uuid.h"

void jout_open(struct buf *b, const char *key, char bracket); /* '{' or '[' */
void jout_close(struct buf *b, char bracket);                 /* '}' or ']' */
void jout_u64(struct buf *b, const char *key, uint64_t v);
void jout_i64(struct buf *b, const char *key, int64_t v);
void jout_bool(struct buf *b, const char *key, bool v);
void jout_null(struct buf *b, const char *key);
void jout_str(struct buf *b, const char *key, const char *utf8);
/* Bytes that need not be UTF-8: as jsonx_set_bytes. */
void jout_bytes(struct buf *b, const char *key, const void *p, size_t n);
void jout_time(struct buf *b, const char *key, int64_t ns);           /* RFC 3339 */
void jout_hash(struct buf *b, const char *key, const struct hash *h); /* null where it is zero */
void jout_uuid(struct buf *b, const char *key, const struct uuid *u);
#endif
