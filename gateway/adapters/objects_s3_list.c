/* Many objects at once: listing, and removing. */
#include "common/base64.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/objects_s3.h"
#include "gateway/adapters/s3_xml.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE 1000 /* the most that S3 takes */
#define ANSWER_MAX (4u << 20)
#define TOKEN_MAX 4096

struct listing {
    int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns);
    void *ctx;
};

static int each_object(const char *xml, const struct listing *l)
{
    char *object;
    while ((object = s3_xml_next(&xml, "Contents"))) {
        char key[OBJECTS_KEY_MAX + 2], size[24], modified[CLOCK_TEXT];
        int64_t at = 0;
        bool ok = s3_xml_text(object, "Key", key, sizeof key) && s3_xml_text(object, "Size", size, sizeof size) && s3_xml_text(object, "LastModified", modified, sizeof modified);
        free(object);
        if (!ok || clock_parse_rfc3339(modified, &at))
            return -EIO;
        if (!objects_key_valid(key))
            continue; /* not ours */
        int err = l->each(l->ctx, key, strtoull(size, NULL, 10), at);
        if (err)
            return err;
    }
    return 0;
}

/* One page. ret_token: where the next begins, "" after the last. */
static int page(struct objects_s3 *s, const char *prefix, const char *token, struct buf *ret)
{
    CLEANUP_BUF struct buf query = {0};
    if (token[0]) {
        buf_append_str(&query, "continuation-token=");
        s3_encode(&query, token, false);
        buf_append_str(&query, "&");
    }
    buf_append_str(&query, "list-type=2&prefix=");
    s3_encode(&query, prefix, false);
    struct s3_request r = {.method = "GET", .query = query.data, .sink = ret, .sink_max = ANSWER_MAX};
    struct s3_answer a;
    int err = s3_http_do(s->http, &r, &a);
    return err ? err : a.status == 200 ? 0 : s3_http_errno(&r, &a);
}

int objects_s3_list(struct objects *o, const char *prefix, int (*each)(void *ctx, const char *key, uint64_t size, int64_t modified_ns), void *ctx)
{
    struct listing l = {each, ctx};
    CLEANUP_FREE char *token = mem_alloc(TOKEN_MAX);
    do {
        CLEANUP_BUF struct buf xml = {0};
        char truncated[8];
        int err = page((struct objects_s3 *)o, prefix, token, &xml);
        if (!err)
            err = each_object(xml.data ? xml.data : "", &l);
        if (err)
            return err;
        token[0] = 0;
        if (s3_xml_text(xml.data ? xml.data : "", "IsTruncated", truncated, sizeof truncated) && strcmp(truncated, "true") == 0 &&
            !s3_xml_text(xml.data, "NextContinuationToken", token, TOKEN_MAX))
            return -EIO;
    } while (token[0]);
    return 0;
}

/* What was not removed, though the answer as a whole is 200. */
static int not_removed(const char *xml)
{
    char *error;
    int err = 0;
    while ((error = s3_xml_next(&xml, "Error"))) {
        char key[OBJECTS_KEY_MAX + 2], code[48];
        s3_xml_text(error, "Key", key, sizeof key);
        s3_xml_text(error, "Code", code, sizeof code);
        free(error);
        if (strcmp(code, "NoSuchKey") == 0)
            continue;
        log_error("object store: %s is not removed: %s", key, code);
        err = strcmp(code, "AccessDenied") == 0 ? -EACCES : -EIO;
    }
    return err;
}

static int remove_some(struct objects_s3 *s, const char *const *keys, size_t n)
{
    CLEANUP_BUF struct buf body = {0}, sum = {0}, md5 = {0}, answer = {0};
    struct hash h;
    uint8_t digest[16];
    buf_append_str(&body, "<Delete><Quiet>true</Quiet>");
    for (size_t i = 0; i < n; i++)
        buf_appendf(&body, "<Object><Key>%s</Key></Object>", keys[i]); /* no character of a key needs escaping */
    buf_append_str(&body, "</Delete>");
    hash_bytes(body.data, body.len, &h);
    objects_s3_sum(&h, &sum);
    if (!EVP_Digest(body.data, body.len, digest, NULL, EVP_md5(), NULL))
        return -EIO;
    base64_append(&md5, digest, sizeof digest, false);
    /* older stores want the one, newer ones the other */
    struct s3_request r = {.method = "POST", .query = "delete=", .headers = {{"content-md5", md5.data}, {"x-amz-checksum-sha256", sum.data}}, .n_headers = 2, .body = body.data,
                           .body_len = body.len, .payload = &h, .sink = &answer, .sink_max = ANSWER_MAX};
    struct s3_answer a;
    int err = s3_http_do(s->http, &r, &a);
    if (err)
        return err;
    return a.status == 200 ? not_removed(answer.data ? answer.data : "") : s3_http_errno(&r, &a);
}

int objects_s3_remove_many(struct objects *o, const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!objects_key_valid(keys[i]))
            return -EINVAL;
    for (size_t i = 0; i < n; i += AT_ONCE) {
        int err = remove_some((struct objects_s3 *)o, keys + i, n - i < AT_ONCE ? n - i : AT_ONCE);
        if (err)
            return err;
    }
    return 0;
}
