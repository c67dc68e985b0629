/* What this store can do, found out rather than believed: some ignore a checksum that they do not know, or a condition. */
#include "common/base64.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "gateway/adapters/objects_s3.h"

#include <errno.h>
#include <string.h>

#define PROBE_SECONDS 60
static const char right[] = "cairn asks", wrong[] = "other text";

static int bucket_make(struct objects_s3 *s)
{
    const struct s3_config *c = &s->config;
    CLEANUP_FREE char *place = strcmp(c->region, "us-east-1") == 0 ? NULL :
        mem_printf("<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>", c->region);
    struct s3_request r = {.method = "PUT", .body = place, .body_len = place ? strlen(place) : 0};
    struct s3_answer a;
    int err = s3_http_do(s->http, &r, &a);
    if (err)
        return err;
    if (a.status != 200 && a.status != 409) /* 409: another gateway has just made it */
        return s3_http_errno(&r, &a);
    log_info("object store: made the bucket %s", c->bucket);
    return 0;
}

static int bucket_check(struct objects_s3 *s)
{
    struct s3_request r = {.method = "HEAD"};
    struct s3_answer a;
    int err = s3_http_do(s->http, &r, &a);
    if (err)
        return err;
    if (a.status == 404)
        return bucket_make(s);
    return a.status == 200 ? 0 : s3_http_errno(&r, &a);
}

/* PUT of `body` by a URL that is signed for the sum of `right`; sent where the gateway reaches the store. */
static int put_presigned(struct objects_s3 *s, const char *key, const char *body, struct s3_answer *ret)
{
    CLEANUP_BUF struct buf url = {0}, sum = {0};
    struct hash h;
    char length[24];
    size_t n = sizeof right - 1;
    hash_bytes(right, n, &h);
    objects_s3_sum(&h, &sum);
    snprintf(length, sizeof length, "%zu", n);
    const struct s3_header headers[] = {{"content-length", length}, {"x-amz-checksum-sha256", sum.data}};
    objects_s3_presign(s, &s->config.store, "PUT", key, headers, 2, PROBE_SECONDS, &url);
    return s3_http_put_url(s->http, url.data, headers, 2, body, n, ret);
}

/* Another content under a key that is taken. */
static int put_again(struct objects_s3 *s, const char *key, struct s3_answer *ret)
{
    struct s3_request r = {.method = "PUT", .key = key, .headers = {{"if-none-match", "*"}}, .n_headers = 1, .body = wrong, .body_len = sizeof wrong - 1};
    return s3_http_do(s->http, &r, ret);
}

static int ask(struct objects_s3 *s, const char *key, bool *ret_checks, bool *ret_conditional)
{
    struct s3_answer a;
    int err = put_presigned(s, key, wrong, &a);
    if (err)
        return err;
    if (a.status >= 500)
        return -EHOSTUNREACH;
    bool refused = a.status == 400;
    err = put_presigned(s, key, right, &a);
    if (err)
        return err;
    if (a.status == 403) {
        log_error("object store: %s does not let us write to %s: %s", s->config.store.base, s->config.bucket, a.code);
        return -EACCES;
    }
    *ret_checks = refused && a.status == 200;
    err = put_again(s, key, &a);
    *ret_conditional = !err && a.status == 412;
    return err;
}

static int probe(struct objects_s3 *s)
{
    struct uuid id;
    char text[UUID_TEXT], key[64];
    bool checks = false, conditional = false;
    uuid_new(&id);
    uuid_text(&id, text);
    snprintf(key, sizeof key, "probe/%s", text);
    int err = bucket_check(s);
    if (!err)
        err = ask(s, key, &checks, &conditional);
    if (!err)
        s->base.ops->remove(&s->base, key);
    if (err)
        return err;
    s->checks_signed_sum = checks;
    s->conditional = conditional;
    if (!checks)
        log_warn("object store: %s does not check a signed checksum: clients send what they write through the gateway", s->config.store.base);
    if (!conditional)
        log_info("object store: %s has no conditional writes", s->config.store.base);
    return 0;
}

int objects_s3_probe(struct objects_s3 *s)
{
    enum s3_probed needed = S3_PROBE_NEEDED;
    if (!atomic_compare_exchange_strong(&s->probed, &needed, S3_PROBE_RUNNING))
        return needed == S3_PROBED ? 0 : -EHOSTUNREACH; /* the one that asks has not heard yet */
    int err = probe(s);
    s->probed = err ? S3_PROBE_NEEDED : S3_PROBED;
    return err;
}
