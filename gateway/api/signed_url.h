/* Tokens of download URLs: they open one version of one file until they expire, and nothing else. */
#ifndef CAIRN_GATEWAY_API_SIGNED_URL_H
#define CAIRN_GATEWAY_API_SIGNED_URL_H
#include "common/buf.h"
#include "common/uuid.h"

struct signed_file {
    struct uuid drive;
    uint64_t ino, version;
    int64_t expires; /* seconds since 1970 */
};
/* Appends the token: URL-safe, of fixed length. The name that the file is to be saved under is signed too. */
void signed_url_make(const uint8_t secret[32], const struct signed_file *f, const char *name, struct buf *ret);
/* -EACCES: not ours, or changed; -ETIME: it was good once. */
int signed_url_open(const uint8_t secret[32], const char *token, const char *name, int64_t now_s, struct signed_file *ret);
#endif
