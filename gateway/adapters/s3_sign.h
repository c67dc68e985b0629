/* AWS Signature Version 4 for S3 (Amazon S3 API Reference, "Authenticating Requests"): of a request's headers, or in the query of a URL. Pure: no I/O, no clock. */
#ifndef CAIRN_GATEWAY_ADAPTERS_S3_SIGN_H
#define CAIRN_GATEWAY_ADAPTERS_S3_SIGN_H
#include "common/buf.h"
#include "common/hash.h"

#define S3_SIGN_HEADERS_MAX 8

struct s3_header {
    const char *name, *value; /* the name in lower case, the value without spaces around it */
};

struct s3_sign {
    const char *access_key, *secret_key, *region;
    const char *method;
    const char *host;  /* as in the Host header */
    const char *path;  /* percent-encoded already, begins with '/' */
    const char *query; /* "name=value&…", encoded already and in the order of the encoded names; "" none */
    const struct hash *payload; /* s3_sign_query: the body's SHA-256, which is part of the signature then; NULL: any body */
    int64_t now_ns;    /* CLOCK_REALTIME; to the second */
    /* Signed beside host, in the order of their names. */
    struct s3_header headers[S3_SIGN_HEADERS_MAX];
    size_t n_headers;
};

#define S3_DATE_LEN 17 /* "20130524T000000Z" and NUL */
void s3_date(int64_t now_ns, char ret[S3_DATE_LEN]);
/* Percent-encodes as the signature wants it: all but RFC 3986's unreserved characters; '/' stays where `path`. Appends. */
void s3_encode(struct buf *ret, const char *text, bool path);
/* The value of the Authorization header. Signs x-amz-content-sha256 (payload) and x-amz-date too, which the caller sends as well: neither is among s->headers. Appends. */
void s3_sign_header(const struct s3_sign *s, const struct hash *payload, struct buf *ret);
/* Appends "path?query" that is good for `seconds` (at most a week). s->headers must be sent as they are here, with x-amz-content-sha256 among them where the body is signed. */
void s3_sign_query(const struct s3_sign *s, unsigned seconds, struct buf *ret);
#endif
