/* s3://[ACCESS:SECRET@]BUCKET?endpoint=http[s]://HOST[:PORT][&region=…][&path-style=0|1][&public-endpoint=URL|none]

   Parts are percent-encoded. Without keys in it: $CAIRN_S3_ACCESS_KEY_FILE and $CAIRN_S3_SECRET_KEY_FILE (files with one line), else $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY. */
#ifndef CAIRN_GATEWAY_ADAPTERS_S3_URL_H
#define CAIRN_GATEWAY_ADAPTERS_S3_URL_H
#include <stdbool.h>

struct s3_origin {
    char *base; /* "http://HOST[:PORT]" */
    char *host; /* what follows "//": the Host header (without the port that the scheme has by itself) */
};
struct s3_config {
    char *bucket, *region, *access_key, *secret_key;
    struct s3_origin store, public; /* as the gateway reaches it, and as clients do; with the bucket in the host unless path_style; public.base NULL: they do not */
    bool path_style;                /* the default: https://HOST/BUCKET/KEY */
};
/* What is wrong with the URL, as a static text; NULL if nothing is. Needs no credentials. */
const char *s3_url_wrong(const char *url);
/* -EINVAL, said in the log without any secret; -EACCES where there are no credentials. */
int s3_url_parse(const char *url, struct s3_config *ret);
void s3_config_fini(struct s3_config *c);
#endif
