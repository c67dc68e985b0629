/* Within the files of the S3 adapter. */
#ifndef CAIRN_GATEWAY_ADAPTERS_OBJECTS_S3_H
#define CAIRN_GATEWAY_ADAPTERS_OBJECTS_S3_H
#include "gateway/adapters/s3_http.h"
#include "gateway/ports/objects.h"

#include <stdatomic.h>

enum s3_probed { S3_PROBE_NEEDED, S3_PROBE_RUNNING, S3_PROBED };

struct objects_s3 {
    struct objects base;
    struct s3_config config;
    struct s3_http *http;
    _Atomic enum s3_probed probed;
    /* What the probe found; written before `probed` says so. */
    bool checks_signed_sum; /* a presigned PUT of other bytes than were signed is refused */
    bool conditional;       /* If-None-Match: * is honoured */
};

/* Makes the bucket if it is missing and finds out what the store can do. 0: known now, or another thread is at it. -EHOSTUNREACH: later; -EACCES; -EIO. */
int objects_s3_probe(struct objects_s3 *s);

int objects_s3_list(struct objects *o, const char *prefix, int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns), void *ctx);
int objects_s3_remove_many(struct objects *o, const char *const *keys, size_t n);
/* x-amz-checksum-sha256: base64. Appends. */
void objects_s3_sum(const struct hash *sha256, struct buf *ret);
/* A URL for this request, good for so long, where `at` reaches the store: the host is part of the signature. Appends. */
void objects_s3_presign(const struct objects_s3 *s, const struct s3_origin *at, const char *method, const char *key, const struct s3_header *headers, size_t n_headers,
                        unsigned seconds, struct buf *ret_url);
#endif
