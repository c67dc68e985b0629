/* What this store can do, found out rather than believed: some ignore a checksum that they do not know, or a condition. */
#include "common/base64.h"
#include "common/clock.h"
#include "common/cond.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/uuid.h"
#include "gateway/adapters/objects_s3.h"

#include <errno.h>
#include <string.h>

#define PROBE_SECONDS 60
#define PROBE_WAIT_MS 3000
#define PROBE_PAUSE_MS 500
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

/* An object to copy from, of other content than what is signed; it tells whether we may write at all. */
static int put_source(struct objects_s3 *s, const char *key)
{
    struct s3_request r = {.method = "PUT", .key = key, .body = wrong, .body_len = sizeof wrong - 1};
    struct s3_answer a;
    int err = s3_http_do(s->http, &r, &a);
    if (err)
        return err;
    if (a.status == 403) {
        log_error("object store: %s does not let us write to %s: %s", s->config.store.base, s->config.bucket, a.code);
        return -EACCES;
    }
    return a.status == 200 ? 0 : s3_http_errno(&r, &a);
}

/* Another content under a key that is taken. */
static int put_again(struct objects_s3 *s, const char *key, struct s3_answer *ret)
{
    struct s3_request r = {.method = "PUT", .key = key, .headers = {{"if-none-match", "*"}}, .n_headers = 1, .body = right, .body_len = sizeof right - 1};
    return s3_http_do(s->http, &r, ret);
}

/* PUT of `body` by a URL that is signed for the sum of `right`, with headers that were not; sent where the gateway reaches the store. *ret: whether it was taken. */
static int put_presigned(struct objects_s3 *s, enum s3_put_form form, const char *key, const char *body, const struct s3_header *more, size_t n_more, bool *ret)
{
    CLEANUP(s3_put_url_fini) struct s3_put_url u;
    struct s3_header headers[8];
    struct s3_answer a;
    struct hash h;
    hash_bytes(right, sizeof right - 1, &h);
    objects_s3_put_url(s, &s->config.store, form, key, sizeof right - 1, &h, PROBE_SECONDS, &u);
    memcpy(headers, u.headers, u.n * sizeof *headers);
    for (size_t i = 0; i < n_more; i++)
        headers[u.n + i] = more[i];
    int err = s3_http_put_url(s->http, u.url.data, headers, u.n + n_more, body, sizeof right - 1, &a);
    *ret = a.status >= 200 && a.status < 300;
    return err ? err : a.status >= 500 ? -EHOSTUNREACH : 0;
}

/* Whether a URL of this form leads to what was signed, and to nothing else. */
static int form_holds(struct objects_s3 *s, enum s3_put_form form, const char *key, const char *source, bool *ret)
{
    CLEANUP_FREE char *from = mem_printf("/%s/%s", s->config.bucket, source);
    const struct s3_header another_sum[] = {{"x-amz-checksum-algorithm", "CRC32"}, {"x-amz-checksum-crc32", "KU2GCw=="}}; /* that of `wrong` */
    const struct s3_header a_copy[] = {{"x-amz-copy-source", from}};
    const struct {
        const char *body;
        const struct s3_header *more;
        size_t n;
        bool taken;
    } tries[] = {{wrong, NULL, 0, false}, {wrong, another_sum, 2, false}, {right, a_copy, 1, false}, {right, NULL, 0, true}};
    *ret = true;
    for (size_t i = 0; i < sizeof tries / sizeof *tries && *ret; i++) {
        bool taken;
        int err = put_presigned(s, form, key, tries[i].body, tries[i].more, tries[i].n, &taken);
        if (err)
            return err;
        *ret = taken == tries[i].taken;
    }
    return 0;
}

static int ask(struct objects_s3 *s, const char *key, const char *source, enum s3_put_form *ret_form, bool *ret_conditional)
{
    static const enum s3_put_form forms[] = {S3_PUT_PLAIN, S3_PUT_BOUND};
    struct s3_answer a;
    int err = put_source(s, source);
    *ret_form = S3_PUT_NONE;
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !err && *ret_form == S3_PUT_NONE; i++) {
        bool holds;
        err = form_holds(s, forms[i], key, source, &holds);
        if (!err && holds)
            *ret_form = forms[i];
    }
    if (err)
        return err;
    err = put_again(s, source, &a);
    *ret_conditional = !err && a.status == 412;
    return err;
}

static int probe(struct objects_s3 *s)
{
    struct uuid id;
    char text[UUID_TEXT], key[64], source[64];
    enum s3_put_form form = S3_PUT_NONE;
    bool conditional = false;
    uuid_new(&id);
    uuid_text(&id, text);
    snprintf(key, sizeof key, "probe/%s", text);
    snprintf(source, sizeof source, "probe/%s-source", text);
    int err = bucket_check(s);
    if (!err)
        err = ask(s, key, source, &form, &conditional);
    if (err)
        return err;
    s->base.ops->remove(&s->base, key);
    s->base.ops->remove(&s->base, source);
    s->put_form = form;
    s->conditional = conditional;
    if (form == S3_PUT_NONE)
        log_warn("object store: %s takes other bytes than were signed: clients send what they write through the gateway", s->config.store.base);
    if (!conditional)
        log_info("object store: %s has no conditional writes", s->config.store.base);
    return 0;
}

int objects_s3_probe(struct objects_s3 *s)
{
    if (s->probed)
        return 0;
    if (!mutex_lock_within(&s->probing, PROBE_WAIT_MS))
        return -EHOSTUNREACH;
    int err = s->probed ? 0 : clock_boot_ms() < s->probe_after ? -EHOSTUNREACH : probe(s);
    if (err && clock_boot_ms() >= s->probe_after)
        s->probe_after = clock_boot_ms() + PROBE_PAUSE_MS;
    s->probed = !err;
    pthread_mutex_unlock(&s->probing);
    return err;
}
