/* Objects in a bucket of an S3 store, by the subset that the stores have in common: PUT (with a checksum, If-None-Match), ranged GET, HEAD, DELETE, DeleteObjects,
   ListObjectsV2, presigned URLs. */
#include "gateway/adapters/objects_s3.h"
#include "common/base64.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>

static struct objects_s3 *s3_of(struct objects *o)
{
    return (struct objects_s3 *)o;
}

void objects_s3_sum(const struct hash *sha256, struct buf *ret)
{
    base64_append(ret, sha256->b, HASH_LEN, false);
}

/* Without it, what a call may rely on is not known. */
static int ready(struct objects_s3 *s)
{
    return objects_s3_probe(s);
}

static int done(const struct s3_request *r, int err, const struct s3_answer *a)
{
    return err ? err : a->status >= 200 && a->status < 300 ? 0 : s3_http_errno(r, a);
}

/* ---- reading ---- */

static int s3_size(struct objects_s3 *s, const char *key, uint64_t *ret)
{
    struct s3_request r = {.method = "HEAD", .key = key};
    struct s3_answer a;
    int err = s3_http_do(s->http, &r, &a);
    err = done(&r, err, &a);
    if (!err && a.length == UINT64_MAX)
        err = -EIO;
    *ret = a.length;
    return err;
}

static int s3_get(struct objects *o, const char *key, uint64_t offset, uint64_t len, struct buf *ret)
{
    struct objects_s3 *s = s3_of(o);
    char range[64];
    if (!objects_key_valid(key))
        return -EINVAL;
    if (len == 0 || len > UINT64_MAX - offset) { /* no range can say that */
        uint64_t size;
        int err = s3_size(s, key, &size);
        return err ? err : len || offset > size ? -ERANGE : 0;
    }
    snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)offset, (unsigned long long)(offset + len - 1));
    struct s3_request r = {.method = "GET", .key = key, .headers = {{"range", range}}, .n_headers = 1, .sink = ret, .sink_max = len};
    struct s3_answer a;
    size_t before = ret->len;
    int err = s3_http_do(s->http, &r, &a);
    err = done(&r, err, &a);
    if (!err && ret->len - before != len)
        err = -ERANGE;
    if (err) {
        ret->len = before;
        if (ret->data)
            ret->data[before] = 0;
    }
    return err;
}

/* ---- writing ---- */

/* "It is there already": were it we, in a try whose answer was lost? libcurl, too, sends again what a kept connection ended on, and does not tell. */
static int is_ours(struct objects_s3 *s, const char *key, size_t n, const struct hash *sha256)
{
    CLEANUP_BUF struct buf b = {0};
    struct hash there;
    int err = s3_get(&s->base, key, 0, n, &b);
    if (err)
        return err == -ERANGE ? -EEXIST : err;
    hash_bytes(b.data ? b.data : "", b.len, &there);
    return hash_equal(&there, sha256) ? 0 : -EEXIST;
}

static int s3_put(struct objects *o, const char *key, const void *p, size_t n, const struct hash *sha256)
{
    struct objects_s3 *s = s3_of(o);
    CLEANUP_BUF struct buf sum = {0};
    if (!objects_key_valid(key))
        return -EINVAL;
    int err = ready(s);
    if (err)
        return err;
    objects_s3_sum(sha256, &sum);
    struct s3_request r = {.method = "PUT", .key = key, .headers = {{"x-amz-checksum-sha256", sum.data}}, .n_headers = 1, .body = p, .body_len = n, .payload = sha256};
    struct s3_answer a;
    uint64_t size;
    if (s->conditional)
        r.headers[r.n_headers++] = (struct s3_header){"if-none-match", "*"};
    else if ((err = s3_size(s, key, &size)) != -ENOENT) /* keys are fresh: nobody else is writing it right now */
        return err ? err : -EEXIST;
    err = s3_http_do(s->http, &r, &a);
    err = done(&r, err, &a);
    return err == -EEXIST ? is_ours(s, key, n, sha256) : err;
}

static int s3_remove(struct objects *o, const char *key)
{
    struct s3_request r = {.method = "DELETE", .key = key};
    struct s3_answer a;
    if (!objects_key_valid(key))
        return -EINVAL;
    int err = s3_http_do(s3_of(o)->http, &r, &a);
    err = done(&r, err, &a);
    return err == -ENOENT ? 0 : err;
}

/* ---- the rest ---- */

static int s3_ping(struct objects *o)
{
    struct objects_s3 *s = s3_of(o);
    struct s3_request r = {.method = "HEAD", .once = true};
    struct s3_answer a;
    int err = s3_http_do(s->http, &r, &a);
    if (!err && a.status != 200)
        err = a.status == 403 ? -EACCES : -EIO;
    return err ? err : ready(s);
}

static void s3_free(struct objects *o)
{
    struct objects_s3 *s = s3_of(o);
    s3_http_free(s->http);
    s3_config_fini(&s->config);
    pthread_mutex_destroy(&s->probing);
    free(s);
}

static const struct objects_ops s3_ops = {
    .put = s3_put,
    .get = s3_get,
    .remove = s3_remove,
    .remove_many = objects_s3_remove_many,
    .list = objects_s3_list,
    .presign_get = objects_s3_presign_get,
    .presign_put = objects_s3_presign_put,
    .ping = s3_ping,
    .free = s3_free,
};

int objects_s3_open(const char *url, struct objects **ret)
{
    struct objects_s3 *s = mem_alloc(sizeof *s);
    int err = s3_url_parse(url, &s->config);
    if (err) {
        free(s);
        return err;
    }
    s->base.ops = &s3_ops;
    pthread_mutex_init(&s->probing, NULL);
    s->http = s3_http_new(&s->config);
    err = objects_s3_probe(s);
    if (err == -EHOSTUNREACH) { /* names and small files work without it; it is asked again when it is needed */
        log_warn("object store: %s cannot be reached yet", s->config.store.base);
        err = 0;
    }
    if (err)
        s3_free(&s->base);
    else
        *ret = &s->base;
    return err;
}
