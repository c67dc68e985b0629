#include "common/codec.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <zstd.h>

#define SAMPLE (16u << 10)

const char *codec_name(enum codec c)
{
    return c == CODEC_ZSTD ? "zstd" : "raw";
}

int codec_parse(const char *name, enum codec *ret)
{
    if (!name || (strcmp(name, "raw") != 0 && strcmp(name, "zstd") != 0))
        return -EINVAL;
    *ret = name[0] == 'z' ? CODEC_ZSTD : CODEC_RAW;
    return 0;
}

/* One for each thread, freed when the thread ends. */
static pthread_key_t compressor_key;
static pthread_once_t compressor_once = PTHREAD_ONCE_INIT;

static void compressor_free(void *p)
{
    ZSTD_freeCCtx(p);
}

static void compressor_init(void)
{
    pthread_key_create(&compressor_key, compressor_free);
}

static size_t compress(void *to, size_t room, const void *p, size_t n)
{
    pthread_once(&compressor_once, compressor_init);
    ZSTD_CCtx *compressor = pthread_getspecific(compressor_key);
    if (!compressor) {
        compressor = ZSTD_createCCtx();
        pthread_setspecific(compressor_key, compressor);
    }
    if (!compressor)
        return n;
    size_t stored = ZSTD_compressCCtx(compressor, to, room, p, n, 1);
    return ZSTD_isError(stored) ? n : stored;
}

enum codec codec_encode(const void *p, size_t n, struct buf *ret)
{
    if (n >= 64) {
        if (n > 4 * SAMPLE) { /* a piece of the middle tells whether the whole is worth it */
            char sample[SAMPLE];
            if (compress(sample, SAMPLE - SAMPLE / 16, (const char *)p + n / 2, SAMPLE) >= SAMPLE)
                goto raw;
        }
        buf_reserve(ret, n);
        size_t stored = compress(ret->data + ret->len, n - n / 32 - 1, p, n);
        if (stored < n) {
            ret->len += stored;
            ret->data[ret->len] = 0;
            return CODEC_ZSTD;
        }
    }
raw:
    buf_append(ret, p, n);
    return CODEC_RAW;
}

int codec_decode(enum codec c, const void *stored, size_t stored_len, void *ret, size_t plain_len)
{
    if (c == CODEC_RAW) {
        if (stored_len != plain_len)
            return -EBADMSG;
        if (plain_len)
            memcpy(ret, stored, plain_len);
        return 0;
    }
    size_t n = ZSTD_decompress(ret, plain_len, stored, stored_len);
    return ZSTD_isError(n) || n != plain_len ? -EBADMSG : 0;
}
