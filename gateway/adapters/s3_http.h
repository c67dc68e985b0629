/* One signed exchange with an S3 store, tried again where that can help. Thread-safe: connections are kept and shared, one thread at a time uses each. */
#ifndef CAIRN_GATEWAY_ADAPTERS_S3_HTTP_H
#define CAIRN_GATEWAY_ADAPTERS_S3_HTTP_H
#include "common/buf.h"
#include "common/hash.h"
#include "gateway/adapters/s3_sign.h"
#include "gateway/adapters/s3_url.h"

#include <stdbool.h>
#include <stdint.h>

struct s3_http;
struct s3_http *s3_http_new(const struct s3_config *config); /* keeps config, which must outlive it */
void s3_http_free(struct s3_http *h);                        /* no exchange may be running */

struct s3_request {
    const char *method, *key; /* key NULL: the bucket itself */
    const char *query;        /* as in struct s3_sign, NULL none */
    struct s3_header headers[S3_SIGN_HEADERS_MAX]; /* signed */
    size_t n_headers;
    const void *body; /* NULL none */
    size_t body_len;
    const struct hash *payload; /* SHA-256 of the body, NULL: computed here */
    struct buf *sink;           /* where an answer of 2xx goes (appended); NULL: dropped */
    uint64_t sink_max;          /* a longer one is -EIO */
    bool once;                  /* no second try, and 2 s at most: for a look at whether it is there */
};
struct s3_answer {
    long status;
    uint64_t length;  /* Content-Length, UINT64_MAX unknown */
    char code[48];    /* S3's word for what went wrong, "" none */
};
/* 0 where an answer came that another try would not change, whatever its status (5xx and 429 only with `once`); -EHOSTUNREACH where the store could not be reached, -EIO where it went on failing, within
   about 4 s of tries (a transfer that goes on is let go on, up to 10 s without a byte). While the store is away, most calls fail at once. */
int s3_http_do(struct s3_http *h, const struct s3_request *r, struct s3_answer *ret);
/* Unsigned, once, to a URL made by presigning: for the probe. */
int s3_http_put_url(struct s3_http *h, const char *url, const struct s3_header *headers, size_t n_headers, const void *body, size_t n, struct s3_answer *ret);
/* "/BUCKET/KEY" or "/KEY", encoded. Appends. */
void s3_http_path(const struct s3_config *c, const char *key, struct buf *ret);
/* What a status that is not 2xx means: -ENOENT, -EACCES, -EEXIST, -ERANGE, -ENOSPC, -EIO; logged where an operator should hear of it. */
int s3_http_errno(const struct s3_request *r, const struct s3_answer *a);
#endif
