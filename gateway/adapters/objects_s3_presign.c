/* URLs by which clients reach objects without us.

   A URL to write must lead to the bytes that were signed, and to nothing else, whatever its holder sends along. Amazon refuses every x-amz-… header that was not signed, and so does versitygw. MinIO does not look:
   there "x-amz-checksum-algorithm: CRC32" makes it check another sum than the signed one, and "x-amz-copy-source: /BUCKET/KEY" makes the request a copy of an object of the sender's choice. So there are two forms, and
   the probe finds out which of them holds:
   - plain: the sum of SHA-256 is a signed header.
   - bound: the payload's hash is part of the signature as well, and so are the headers that must not be there, with the empty values that the query gives them (which is where MinIO looks for a signed header that is
     not sent; one that is sent no longer fits the signature). */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/adapters/objects_s3.h"

#include <errno.h>
#include <string.h>

#define GUARD_COPY "x-amz-copy-source"
#define GUARD_KEY "x-amz-server-side-encryption-customer-algorithm" /* it would lie there under a key of its writer's */

static void presign(const struct objects_s3 *s, const struct s3_origin *at, struct s3_sign *sign, const char *key, unsigned seconds, struct buf *ret_url)
{
    const struct s3_config *c = &s->config;
    CLEANUP_BUF struct buf path = {0};
    s3_http_path(c, key, &path);
    sign->access_key = c->access_key;
    sign->secret_key = c->secret_key;
    sign->region = c->region;
    sign->host = at->host;
    sign->path = path.data;
    sign->now_ns = clock_wall_ns();
    buf_append_str(ret_url, at->base);
    s3_sign_query(sign, seconds, ret_url);
}

void objects_s3_put_url(const struct objects_s3 *s, const struct s3_origin *at, enum s3_put_form form, const char *key, uint64_t len, const struct hash *sha256, unsigned seconds,
                        struct s3_put_url *ret)
{
    struct s3_sign sign = {.method = "PUT", .query = ""};
    *ret = (struct s3_put_url){.n = 2};
    objects_s3_sum(sha256, &ret->sum);
    snprintf(ret->length, sizeof ret->length, "%llu", (unsigned long long)len);
    hash_hex(sha256, ret->hex);
    ret->headers[0] = (struct s3_header){"content-length", ret->length};
    ret->headers[1] = (struct s3_header){"x-amz-checksum-sha256", ret->sum.data};
    if (form == S3_PUT_BOUND) {
        ret->headers[ret->n++] = (struct s3_header){"x-amz-content-sha256", ret->hex};
        sign.payload = sha256;
        sign.query = GUARD_COPY "=&" GUARD_KEY "=";
    }
    memcpy(sign.headers, ret->headers, ret->n * sizeof *ret->headers);
    sign.n_headers = ret->n;
    if (form == S3_PUT_BOUND) {
        sign.headers[sign.n_headers++] = (struct s3_header){GUARD_COPY, ""};
        sign.headers[sign.n_headers++] = (struct s3_header){GUARD_KEY, ""};
    }
    presign(s, at, &sign, key, seconds, &ret->url);
}

void s3_put_url_fini(struct s3_put_url *u)
{
    buf_fini(&u->sum);
    buf_fini(&u->url);
}

int objects_s3_presign_get(struct objects *o, const char *key, unsigned seconds, struct buf *ret_url)
{
    struct objects_s3 *s = (struct objects_s3 *)o;
    struct s3_sign sign = {.method = "GET", .query = ""};
    if (!s->config.public.base)
        return -ENOTSUP;
    if (!objects_key_valid(key))
        return -EINVAL;
    presign(s, &s->config.public, &sign, key, seconds, ret_url);
    return 0;
}

int objects_s3_presign_put(struct objects *o, const char *key, uint64_t len, const struct hash *sha256, unsigned seconds, struct buf *ret_url, struct buf *ret_headers_json)
{
    struct objects_s3 *s = (struct objects_s3 *)o;
    if (!s->config.public.base || objects_s3_probe(s) || s->put_form == S3_PUT_NONE)
        return -ENOTSUP;
    if (!objects_key_valid(key))
        return -EINVAL;
    CLEANUP(s3_put_url_fini) struct s3_put_url u;
    objects_s3_put_url(s, &s->config.public, s->put_form, key, len, sha256, seconds, &u);
    CLEANUP_JSON json_t *shown = json_object();
    for (size_t i = 0; i < u.n; i++)
        json_object_set_new(shown, u.headers[i].name, json_string(u.headers[i].value));
    jsonx_dump(shown, ret_headers_json);
    buf_append_str(ret_url, u.url.data);
    return 0;
}
