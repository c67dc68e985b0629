#include "gateway/adapters/s3_sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SCOPE_END "/s3/aws4_request"

void s3_date(int64_t now_ns, char ret[S3_DATE_LEN])
{
    time_t t = (time_t)(now_ns / 1000000000);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(ret, S3_DATE_LEN, "%Y%m%dT%H%M%SZ", &tm);
}

void s3_encode(struct buf *ret, const char *text, bool path)
{
    while (path && *text) {
        size_t n = strcspn(text, "/");
        buf_append_percent(ret, text, n);
        text += n;
        if (*text)
            buf_append(ret, text++, 1);
    }
    buf_append_percent(ret, text, strlen(text));
}

static void hmac(const void *key, size_t key_len, const void *p, size_t n, struct hash *ret)
{
    unsigned len = HASH_LEN;
    if (!HMAC(EVP_sha256(), key, (int)key_len, p, n, ret->b, &len))
        abort(); /* out of memory, or a library without SHA-256 */
}

static void hmac_text(const struct hash *key, const char *text, struct hash *ret)
{
    hmac(key->b, HASH_LEN, text, strlen(text), ret);
}

/* "20130524/us-east-1/s3/aws4_request" */
static void scope(const struct s3_sign *s, const char date[S3_DATE_LEN], struct buf *ret)
{
    buf_appendf(ret, "%.8s/%s" SCOPE_END, date, s->region);
}

static void signature(const struct s3_sign *s, const char date[S3_DATE_LEN], const struct buf *canonical, char ret[HASH_HEX_LEN + 1])
{
    struct hash h, key;
    char hex[HASH_HEX_LEN + 1], day[9] = {0};
    CLEANUP_BUF struct buf to_sign = {0}, first = {0};
    hash_bytes(canonical->data, canonical->len, &h);
    hash_hex(&h, hex);
    buf_appendf(&to_sign, ALGORITHM "\n%s\n", date);
    scope(s, date, &to_sign);
    buf_appendf(&to_sign, "\n%s", hex);
    buf_appendf(&first, "AWS4%s", s->secret_key);
    memcpy(day, date, 8);
    hmac(first.data, first.len, day, 8, &key);
    hmac_text(&key, s->region, &h);
    hmac_text(&h, "s3", &key);
    hmac_text(&key, "aws4_request", &h);
    hmac(h.b, HASH_LEN, to_sign.data, to_sign.len, &key);
    hash_hex(&key, ret);
    explicit_bzero(first.data, first.len);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct s3_header *)a)->name, ((const struct s3_header *)b)->name);
}

/* host and whatever else is signed, sorted. Returns how many. */
static size_t sorted(const struct s3_sign *s, const struct s3_header *more, size_t n_more, struct s3_header ret[S3_SIGN_HEADERS_MAX + 3])
{
    size_t n = 0;
    ret[n++] = (struct s3_header){"host", s->host};
    for (size_t i = 0; i < s->n_headers; i++)
        ret[n++] = s->headers[i];
    for (size_t i = 0; i < n_more; i++)
        ret[n++] = more[i];
    qsort(ret, n, sizeof *ret, by_name);
    return n;
}

static void append_names(struct buf *ret, const struct s3_header *h, size_t n, const char *between)
{
    for (size_t i = 0; i < n; i++)
        buf_appendf(ret, "%s%s", i ? between : "", h[i].name);
}

static void canonical_request(const struct s3_sign *s, const char *query, const struct s3_header *h, size_t n, const char *payload, struct buf *ret)
{
    buf_appendf(ret, "%s\n%s\n%s\n", s->method, s->path, query);
    for (size_t i = 0; i < n; i++)
        buf_appendf(ret, "%s:%s\n", h[i].name, h[i].value);
    buf_append_str(ret, "\n");
    append_names(ret, h, n, ";");
    buf_appendf(ret, "\n%s", payload);
}

void s3_sign_header(const struct s3_sign *s, const struct hash *payload, struct buf *ret)
{
    char date[S3_DATE_LEN], hex[HASH_HEX_LEN + 1], sum[HASH_HEX_LEN + 1];
    struct s3_header all[S3_SIGN_HEADERS_MAX + 3];
    CLEANUP_BUF struct buf canonical = {0};
    s3_date(s->now_ns, date);
    hash_hex(payload, hex);
    const struct s3_header more[] = {{"x-amz-content-sha256", hex}, {"x-amz-date", date}};
    size_t n = sorted(s, more, 2, all);
    canonical_request(s, s->query, all, n, hex, &canonical);
    signature(s, date, &canonical, sum);
    buf_appendf(ret, ALGORITHM " Credential=%s/", s->access_key);
    scope(s, date, ret);
    buf_append_str(ret, ",SignedHeaders=");
    append_names(ret, all, n, ";");
    buf_appendf(ret, ",Signature=%s", sum);
}

/* "X-Amz-…" sorts before every lower-case name of a query, as strcmp does. */
void s3_sign_query(const struct s3_sign *s, unsigned seconds, struct buf *ret)
{
    char date[S3_DATE_LEN], sum[HASH_HEX_LEN + 1], payload[HASH_HEX_LEN + 1] = "UNSIGNED-PAYLOAD";
    struct s3_header all[S3_SIGN_HEADERS_MAX + 3];
    CLEANUP_BUF struct buf query = {0}, credential = {0}, canonical = {0};
    s3_date(s->now_ns, date);
    size_t n = sorted(s, NULL, 0, all);
    buf_appendf(&credential, "%s/", s->access_key);
    scope(s, date, &credential);
    buf_append_str(&query, "X-Amz-Algorithm=" ALGORITHM "&X-Amz-Credential=");
    s3_encode(&query, credential.data, false);
    buf_appendf(&query, "&X-Amz-Date=%s&X-Amz-Expires=%u&X-Amz-SignedHeaders=", date, seconds);
    append_names(&query, all, n, "%3B");
    if (s->query[0])
        buf_appendf(&query, "&%s", s->query);
    if (s->payload)
        hash_hex(s->payload, payload);
    canonical_request(s, query.data, all, n, payload, &canonical);
    signature(s, date, &canonical, sum);
    buf_appendf(ret, "%s?%s&X-Amz-Signature=%s", s->path, query.data, sum);
}
