#include "gateway/api/signed_url.h"
#include "common/base64.h"
#include "common/hash.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#define FIELDS (16 + 3 * 8)
#define TOKEN (FIELDS + HASH_LEN)
#define PURPOSE "cairn download 1" /* one secret signs nothing that could be taken for something else */

static void put_u64(uint8_t *p, uint64_t v)
{
    v = htobe64(v);
    memcpy(p, &v, sizeof v);
}

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return be64toh(v);
}

static void sign(const uint8_t secret[32], const uint8_t fields[FIELDS], const char *name, uint8_t ret[HASH_LEN])
{
    CLEANUP_BUF struct buf text = {0};
    unsigned len = HASH_LEN;
    buf_append_str(&text, PURPOSE);
    buf_append(&text, fields, FIELDS);
    buf_append_str(&text, name); /* last: nothing behind it could be moved into it */
    if (!HMAC(EVP_sha256(), secret, 32, (const uint8_t *)text.data, text.len, ret, &len))
        abort(); /* only memory can fail */
}

void signed_url_make(const uint8_t secret[32], const struct signed_file *f, const char *name, struct buf *ret)
{
    uint8_t token[TOKEN];
    memcpy(token, f->drive.b, 16);
    put_u64(token + 16, f->ino);
    put_u64(token + 24, f->version);
    put_u64(token + 32, (uint64_t)f->expires);
    sign(secret, token, name, token + FIELDS);
    base64_append(ret, token, TOKEN, true);
}

int signed_url_open(const uint8_t secret[32], const char *token, const char *name, int64_t now_s, struct signed_file *ret)
{
    CLEANUP_BUF struct buf raw = {0};
    uint8_t mac[HASH_LEN];
    if (base64_decode(token, strlen(token), true, &raw) || raw.len != TOKEN)
        return -EACCES;
    const uint8_t *p = (const uint8_t *)raw.data;
    sign(secret, p, name, mac);
    if (CRYPTO_memcmp(mac, p + FIELDS, HASH_LEN) != 0)
        return -EACCES;
    memcpy(ret->drive.b, p, 16);
    ret->ino = get_u64(p + 16);
    ret->version = get_u64(p + 24);
    ret->expires = (int64_t)get_u64(p + 32);
    return now_s < ret->expires ? 0 : -ETIME;
}
