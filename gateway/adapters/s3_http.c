#include "gateway/adapters/s3_http.h"
#include "common/clock.h"
#include "common/curl_pool.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/url.h"
#include "gateway/adapters/s3_xml.h"

#include <errno.h>
#include <openssl/rand.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define CONNECT_MS 2000L
#define STALL_S 10L
#define LOOK_STALL_S 2L /* of the one who looks whether it is back */
#define ONCE_MS 2000L
#define RETRY_MS 4000     /* no try begins later than this */
#define BACKOFF_MS 50     /* the first wait is up to this, each next up to twice as much */
#define BACKOFF_MAX_MS 800
#define AWAY_MS 1000      /* for so long after the store could not be reached, calls fail at once */
#define BUFFER_BYTES (256L << 10)
#define ERROR_BODY_MAX 4096

struct s3_http {
    const struct s3_config *config;
    bool loopback;
    struct curl_pool connections;
    _Atomic int64_t away_until; /* clock_boot_ms; 0: it is there */
    atomic_bool looking;        /* somebody looks whether it is back */
};

struct s3_http *s3_http_new(const struct s3_config *config)
{
    struct s3_http *h = mem_alloc(sizeof *h);
    h->config = config;
    h->loopback = url_is_loopback(config->store.base);
    curl_pool_init(&h->connections);
    return h;
}

void s3_http_free(struct s3_http *h)
{
    curl_pool_fini(&h->connections);
    free(h);
}

/* ---- one try ---- */

struct exchange {
    CURL *curl;
    const struct s3_request *request;
    struct buf error; /* the body of an answer that is not 2xx */
    size_t before;    /* what the sink held */
    bool overflow;
};

static size_t take_body(char *p, size_t size, size_t n, void *ctx)
{
    struct exchange *x = ctx;
    const struct s3_request *r = x->request;
    long status = 0;
    size *= n;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status > 299) {
        if (x->error.len + size <= ERROR_BODY_MAX)
            buf_append(&x->error, p, size);
        return size;
    }
    if (!r->sink)
        return size;
    if (size > r->sink_max - (r->sink->len - x->before)) {
        x->overflow = true;
        return 0;
    }
    buf_append(r->sink, p, size);
    return size;
}

static struct curl_slist *header(struct curl_slist *list, const char *name, const char *value)
{
    CLEANUP_FREE char *line = mem_printf("%s: %s", name, value);
    return curl_slist_append(list, line);
}

static struct curl_slist *own_headers(const struct s3_request *r)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    if (r->body)
        list = curl_slist_append(list, "Content-Type: application/octet-stream");
    for (size_t i = 0; i < r->n_headers; i++)
        if (strcmp(r->headers[i].name, "content-length") != 0) /* curl's own */
            list = header(list, r->headers[i].name, r->headers[i].value);
    return list;
}

static struct curl_slist *signed_headers(const struct s3_config *c, const struct s3_request *r, const char *path)
{
    struct s3_sign s = {.access_key = c->access_key, .secret_key = c->secret_key, .region = c->region, .method = r->method, .host = c->store.host, .path = path,
                        .query = r->query ? r->query : "", .now_ns = clock_wall_ns(), .n_headers = r->n_headers};
    memcpy(s.headers, r->headers, sizeof s.headers);
    struct hash payload;
    char hex[HASH_HEX_LEN + 1], date[S3_DATE_LEN];
    CLEANUP_BUF struct buf authorization = {0};
    if (r->payload)
        payload = *r->payload;
    else
        hash_bytes(r->body ? r->body : "", r->body_len, &payload);
    s3_sign_header(&s, &payload, &authorization);
    hash_hex(&payload, hex);
    s3_date(s.now_ns, date);
    struct curl_slist *list = own_headers(r);
    list = header(list, "Authorization", authorization.data);
    list = header(list, "x-amz-content-sha256", hex);
    return header(list, "x-amz-date", date);
}

static void set_transport(const struct s3_http *h, CURL *c, bool once, bool look)
{
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, look ? LOOK_STALL_S : STALL_S);
    if (once)
        curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, ONCE_MS);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "cairn-gateway/" CAIRN_VERSION);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    if (h->loopback)
        curl_easy_setopt(c, CURLOPT_PROXY, "");
}

static void set_method(CURL *c, const struct s3_request *r)
{
    if (strcmp(r->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else if (r->body || strcmp(r->method, "PUT") == 0 || strcmp(r->method, "POST") == 0) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body ? r->body : "");
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    } else {
        curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    }
}

/* 0 with an answer; -EHOSTUNREACH: no connection; -EIO: one that broke, or an answer that is too long. */
static int perform(struct s3_http *h, const struct s3_request *r, bool look, const char *url, struct curl_slist *headers, struct s3_answer *ret)
{
    struct exchange x = {.curl = curl_pool_take(&h->connections), .request = r, .before = r->sink ? r->sink->len : 0};
    char detail[CURL_ERROR_SIZE] = "";
    curl_off_t length = -1;
    set_transport(h, x.curl, r->once, look);
    set_method(x.curl, r);
    curl_easy_setopt(x.curl, CURLOPT_URL, url);
    curl_easy_setopt(x.curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(x.curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(x.curl, CURLOPT_WRITEDATA, &x);
    curl_easy_setopt(x.curl, CURLOPT_ERRORBUFFER, detail);
    CURLcode code = curl_easy_perform(x.curl);
    ret->status = 0;
    ret->code[0] = 0;
    if (code == CURLE_OK || x.overflow) {
        curl_easy_getinfo(x.curl, CURLINFO_RESPONSE_CODE, &ret->status);
        curl_easy_getinfo(x.curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        s3_xml_text(x.error.data ? x.error.data : "", "Code", ret->code, sizeof ret->code);
    }
    ret->length = length < 0 ? UINT64_MAX : (uint64_t)length;
    curl_easy_setopt(x.curl, CURLOPT_ERRORBUFFER, NULL);
    curl_pool_give(&h->connections, x.curl);
    buf_fini(&x.error);
    if ((code != CURLE_OK || ret->status < 200 || ret->status > 299) && r->sink)
        r->sink->len = x.before;
    if (code == CURLE_OK)
        return 0;
    log_debug("object store: %s: %s", r->method, detail[0] ? detail : curl_easy_strerror(code));
    return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_OPERATION_TIMEDOUT ? -EHOSTUNREACH : -EIO;
}

void s3_http_path(const struct s3_config *c, const char *key, struct buf *ret)
{
    buf_append_str(ret, "/");
    if (c->path_style)
        s3_encode(ret, c->bucket, false);
    if (c->path_style && key)
        buf_append_str(ret, "/");
    if (key)
        s3_encode(ret, key, true);
}

static int try_once(struct s3_http *h, const struct s3_request *r, bool look, struct s3_answer *ret)
{
    const struct s3_config *c = h->config;
    CLEANUP_BUF struct buf path = {0};
    s3_http_path(c, r->key, &path);
    CLEANUP_FREE char *url = mem_printf("%s%s%s%s", c->store.base, path.data, r->query ? "?" : "", r->query ? r->query : "");
    struct curl_slist *headers = signed_headers(c, r, path.data);
    int err = perform(h, r, look, url, headers, ret);
    curl_slist_free_all(headers);
    return err;
}

/* ---- again ---- */

/* Whether the answer says "not now". 409 is what S3 says of two conditional writes at once; RequestTimeout is a 400. */
static bool passing(const struct s3_answer *a)
{
    return (a->status >= 500 && a->status != 507) || a->status == 429 || strcmp(a->code, "RequestTimeout") == 0 || strcmp(a->code, "ConditionalRequestConflict") == 0 ||
           strcmp(a->code, "OperationAborted") == 0;
}

static void sleep_jittered(unsigned most_ms)
{
    uint32_t random = 0;
    RAND_bytes((unsigned char *)&random, sizeof random);
    uint64_t us = (uint64_t)random % ((uint64_t)most_ms * 1000) + 1;
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&t, NULL);
}

/* Of the callers while the store is away one looks, once and not for long, and the next a second after that: a store that is frozen keeps one thread, not all. */
static bool away(struct s3_http *h, bool *ret_look)
{
    int64_t until = h->away_until;
    *ret_look = until != 0 && clock_boot_ms() >= until && !atomic_exchange(&h->looking, true);
    return until != 0 && !*ret_look;
}

static int out_of_tries(struct s3_http *h, const struct s3_request *r, const struct s3_answer *a, int err)
{
    if (err == -EHOSTUNREACH && atomic_exchange(&h->away_until, clock_boot_ms() + AWAY_MS) == 0)
        log_warn("object store: %s cannot be reached", h->config->store.base);
    else if (err != -EHOSTUNREACH)
        log_warn("object store: %s %s fails: %ld %s", r->method, r->key ? r->key : "the bucket", a->status, a->code);
    return err ? err : -EIO;
}

static int do_again(struct s3_http *h, const struct s3_request *r, bool look, struct s3_answer *ret)
{
    int64_t began = clock_boot_ms();
    unsigned backoff = BACKOFF_MS;
    for (;;) {
        int err = try_once(h, r, look, ret);
        if (err != -EHOSTUNREACH && atomic_exchange(&h->away_until, 0) != 0)
            log_info("object store: %s is back", h->config->store.base);
        if (r->once || (err == 0 && !passing(ret)))
            return err;
        if (look || clock_boot_ms() - began + backoff > RETRY_MS || (err == -EIO && ret->status))
            return out_of_tries(h, r, ret, err);
        sleep_jittered(backoff);
        backoff = backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff * 2;
    }
}

int s3_http_do(struct s3_http *h, const struct s3_request *r, struct s3_answer *ret)
{
    bool look = false;
    *ret = (struct s3_answer){0};
    if (!r->once && away(h, &look))
        return -EHOSTUNREACH;
    int err = do_again(h, r, look, ret);
    if (look)
        h->looking = false;
    return err;
}

int s3_http_put_url(struct s3_http *h, const char *url, const struct s3_header *headers, size_t n_headers, const void *body, size_t n, struct s3_answer *ret)
{
    struct s3_request r = {.method = "PUT", .body = body, .body_len = n, .n_headers = n_headers, .once = true};
    memcpy(r.headers, headers, n_headers * sizeof *headers);
    *ret = (struct s3_answer){0};
    struct curl_slist *list = own_headers(&r);
    int err = perform(h, &r, false, url, list, ret);
    curl_slist_free_all(list);
    return err;
}

int s3_http_errno(const struct s3_request *r, const struct s3_answer *a)
{
    int err;
    bool no_object = !a->code[0] || strcmp(a->code, "NoSuchKey") == 0; /* HEAD has no body, so no code */
    switch (a->status) {
    case 404: err = no_object ? -ENOENT : strcmp(a->code, "NoSuchBucket") == 0 ? -EIO : -EACCES; break; /* versitygw: no such user */
    case 412: err = -EEXIST; break;
    case 416: err = -ERANGE; break;
    case 401:
    case 403: err = strstr(a->code, "Quota") ? -ENOSPC : -EACCES; break;
    case 507: err = -ENOSPC; break;
    default: err = strstr(a->code, "Quota") || strstr(a->code, "StorageFull") ? -ENOSPC : a->status == 503 ? -EHOSTUNREACH : -EIO; break;
    }
    if (err != -ENOENT && err != -EEXIST && err != -ERANGE)
        log_error("object store: %s %s: %ld %s", r->method, r->key ? r->key : "the bucket", a->status, a->code);
    return err;
}
