/* Within the files of the S3 adapter. */
#ifndef CAIRN_GATEWAY_ADAPTERS_OBJECTS_S3_H
#define CAIRN_GATEWAY_ADAPTERS_OBJECTS_S3_H
#include "gateway/adapters/s3_http.h"
#include "gateway/ports/objects.h"

#include <pthread.h>
#include <stdatomic.h>

enum s3_put_form { S3_PUT_NONE, S3_PUT_PLAIN, S3_PUT_BOUND }; /* objects_s3_presign.c */

struct objects_s3 {
    struct objects base;
    struct s3_config config;
    struct s3_http *http;
    atomic_bool probed;
    pthread_mutex_t probing; /* held by who finds out */
    int64_t probe_after;     /* boot ms, under `probing`: the last one failed */
    /* What the probe found; written before `probed` says so. */
    enum s3_put_form put_form; /* by which of them clients can bring what was signed, and nothing else */
    bool conditional;       /* If-None-Match: * is honoured */
};

/* Makes the bucket if it is missing and finds out what the store can do. 0: known now. Waits, not for long, for another thread that is at it. -EHOSTUNREACH: later; -EACCES; -EIO. */
int objects_s3_probe(struct objects_s3 *s);

int objects_s3_list(struct objects *o, const char *prefix, int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns), void *ctx);
int objects_s3_remove_many(struct objects *o, const char *const *keys, size_t n);
/* x-amz-checksum-sha256: base64. Appends. */
void objects_s3_sum(const struct hash *sha256, struct buf *ret);
/* objects_s3_presign.c */
struct s3_put_url { /* good where `at` reaches the store: the host is part of the signature */
    struct buf url;
    struct s3_header headers[3]; /* to be sent; they point into what follows */
    size_t n;
    char length[24], hex[HASH_HEX_LEN + 1];
    struct buf sum;
};
void objects_s3_put_url(const struct objects_s3 *s, const struct s3_origin *at, enum s3_put_form form, const char *key, uint64_t len, const struct hash *sha256, unsigned seconds,
                        struct s3_put_url *ret);
void s3_put_url_fini(struct s3_put_url *u);
int objects_s3_presign_get(struct objects *o, const char *key, unsigned seconds, struct buf *ret_url);
int objects_s3_presign_put(struct objects *o, const char *key, uint64_t len, const struct hash *sha256, unsigned seconds, struct buf *ret_url, struct buf *ret_headers_json);
#endif
