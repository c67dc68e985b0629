/* SHA-256 (FIPS 180-4, by OpenSSL) and XXH3-64. Thread-safe. */
#ifndef CAIRN_COMMON_HASH_H
#define CAIRN_COMMON_HASH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HASH_LEN 32
#define HASH_HEX_LEN 64

struct hash {
    uint8_t b[HASH_LEN];
};

void hash_bytes(const void *p, size_t n, struct hash *ret);
bool hash_equal(const struct hash *a, const struct hash *b);
bool hash_is_zero(const struct hash *h); /* all zero bytes: used for "none" */
void hash_hex(const struct hash *h, char ret[HASH_HEX_LEN + 1]);
int hash_parse(const char *hex, struct hash *ret); /* 64 hex digits in either case; else -EINVAL */

struct hash_stream; /* incremental SHA-256 */
struct hash_stream *hash_stream_new(void);
void hash_stream_update(struct hash_stream *s, const void *p, size_t n);
void hash_stream_final(struct hash_stream *s, struct hash *ret); /* ends it; _free is still needed */
void hash_stream_free(struct hash_stream *s);

uint64_t hash_xxh3(const void *p, size_t n);

void hex_encode(const void *p, size_t n, char *ret);            /* 2n+1 bytes */
int hex_decode(const char *hex, size_t n_bytes, void *ret);     /* exactly 2n digits; else -EINVAL */
#endif
