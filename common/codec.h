/* How a chunk's bytes are stored: raw, or zstd where that is smaller. Thread-safe. */
#ifndef CAIRN_COMMON_CODEC_H
#define CAIRN_COMMON_CODEC_H
#include "common/buf.h"

enum codec { CODEC_RAW = 0, CODEC_ZSTD = 1 };
const char *codec_name(enum codec c);                /* "raw", "zstd" */
int codec_parse(const char *name, enum codec *ret);  /* -EINVAL */
/* Appends the stored form of p[0..n) to ret and tells its codec. zstd level 1; incompressible input is
   recognised early from a sample and kept raw. */
enum codec codec_encode(const void *p, size_t n, struct buf *ret);
/* The plain bytes into ret[0..plain_len). -EBADMSG if they do not decode to exactly plain_len bytes. */
int codec_decode(enum codec c, const void *stored, size_t stored_len, void *ret, size_t plain_len);
#endif
