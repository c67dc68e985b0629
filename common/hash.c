#include "common/hash.h"
#include "common/mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct hash_stream {
    EVP_MD_CTX *ctx;
};

static void must(int ok)
{
    if (ok != 1)
        abort(); /* SHA-256 is always there; only memory can fail */
}

void hash_bytes(const void *p, size_t n, struct hash *ret)
{
    must(EVP_Digest(p, n, ret->b, NULL, EVP_sha256(), NULL));
}

bool hash_equal(const struct hash *a, const struct hash *b)
{
    return memcmp(a->b, b->b, HASH_LEN) == 0;
}

bool hash_is_zero(const struct hash *h)
{
    static const struct hash zero;
    return hash_equal(h, &zero);
}

void hex_encode(const void *p, size_t n, char *ret)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *s = p;
    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = digits[s[i] >> 4];
        ret[2 * i + 1] = digits[s[i] & 15];
    }
    ret[2 * n] = 0;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int hex_decode(const char *hex, size_t n_bytes, void *ret)
{
    uint8_t *out = ret;
    if (strlen(hex) != 2 * n_bytes)
        return -EINVAL;
    for (size_t i = 0; i < n_bytes; i++) {
        int high = digit_value(hex[2 * i]), low = digit_value(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return -EINVAL;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return 0;
}

void hash_hex(const struct hash *h, char ret[HASH_HEX_LEN + 1])
{
    hex_encode(h->b, HASH_LEN, ret);
}

int hash_parse(const char *hex, struct hash *ret)
{
    struct hash h;
    int err = hex_decode(hex, HASH_LEN, h.b);
    if (err == 0)
        *ret = h;
    return err;
}

struct hash_stream *hash_stream_new(void)
{
    struct hash_stream *s = mem_alloc(sizeof *s);
    s->ctx = EVP_MD_CTX_new();
    must(s->ctx && EVP_DigestInit_ex(s->ctx, EVP_sha256(), NULL));
    return s;
}

void hash_stream_update(struct hash_stream *s, const void *p, size_t n)
{
    must(EVP_DigestUpdate(s->ctx, p, n));
}

void hash_stream_final(struct hash_stream *s, struct hash *ret)
{
    must(EVP_DigestFinal_ex(s->ctx, ret->b, NULL));
}

void hash_stream_free(struct hash_stream *s)
{
    if (!s)
        return;
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

uint64_t hash_xxh3(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}
