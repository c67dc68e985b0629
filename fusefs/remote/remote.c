#include "fusefs/remote/remote.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "common/url.h"
#include "fusefs/remote/http.h"

#include <errno.h>
#include <string.h>

#define STALL_MAX_S 10u /* longer than nginx's 5 s, so that it can ask another gateway first */

struct remote *remote_new(const char *url, const char *access, const char *refresh,
                          void (*on_tokens)(void *ctx, const char *access, const char *refresh), void *ctx)
{
    struct remote *r = mem_alloc(sizeof *r);
    r->base = mem_strdup(url);
    for (size_t n = strlen(r->base); n && r->base[n - 1] == '/'; n--)
        r->base[n - 1] = 0;
    curl_pool_init(&r->connections);
    direct_init(&r->direct);
    remote_set_timeout(r, STALL_MAX_S * 1000);
    r->loopback = url_is_loopback(r->base);
    r->access = mem_strdup(access);
    r->refresh = mem_strdup(refresh);
    struct uuid key;
    uuid_new(&key);
    uuid_text(&key, r->refresh_key);
    r->on_tokens = on_tokens;
    r->ctx = ctx;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->refreshed, NULL);
    return r;
}

void remote_free(struct remote *r)
{
    if (!r)
        return;
    curl_pool_fini(&r->connections);
    direct_fini(&r->direct);
    free(r->base);
    free(r->access);
    free(r->refresh);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->refreshed);
    free(r);
}

const char *remote_url(const struct remote *r)
{
    return r->base;
}

void remote_set_timeout(struct remote *r, unsigned timeout_ms)
{
    unsigned s = timeout_ms / 1000 + 1; /* at five seconds, too, nginx has asked another one before */
    r->stall_s = r->direct.stall_s = s < STALL_MAX_S ? s : STALL_MAX_S;
}

void remote_set_direct(struct remote *r, bool on)
{
    r->direct.unwanted = !on;
}

void remote_direct_figures(struct remote *r, struct remote_direct *ret)
{
    struct direct *d = &r->direct;
    *ret = (struct remote_direct){.fetched = atomic_load(&d->fetched), .sent = atomic_load(&d->sent)};
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    ret->state = d->unwanted ? "off" : d->offer == DIRECT_NOT_OFFERED ? "not offered" : d->again_ms ? "unreachable" : d->offer == DIRECT_OFFERED ? "on" : "unknown";
}

void remote_reconnected(struct remote *r)
{
    direct_new_gateway(&r->direct);
}

bool remote_may_bring(struct remote *r)
{
    return direct_may_bring(&r->direct);
}

bool remote_bring_to(struct remote *r, const char *url, const json_t *headers, const void *p, uint32_t n)
{
    return direct_put(&r->direct, url, headers, p, n, n);
}

int answer_object(const struct http_answer *a, json_t **ret)
{
    const char *why;
    json_t *o = a->body.len ? jsonx_parse(a->body.data, a->body.len, &why) : NULL;
    if (!json_is_object(o)) {
        json_decref(o);
        return problem_protocol("the answer is not a JSON object: is this a Cairn gateway?");
    }
    *ret = o;
    return 0;
}

int remote_json(struct remote *r, const char *method, const char *path, json_t *body, json_t **ret_json, long *ret_status)
{
    CLEANUP_BUF struct buf text = {0};
    if (body)
        jsonx_dump(body, &text);
    struct http_request req = {.method = method, .path = path, .content_type = "application/json", .body = body ? text.data : NULL,
                               .body_len = text.len, .compressed = strncmp(path, FS, strlen(FS)) != 0};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    int err = http_exchange(r, &req, &a);
    if (ret_status)
        *ret_status = a.status;
    if (err || !ret_json)
        return err;
    *ret_json = NULL;
    return a.body.len ? answer_object(&a, ret_json) : 0;
}

int remote_raw(struct remote *r, const char *method, const char *path, const char *const *headers, const void *body, size_t body_len,
               struct buf *ret_body, json_t **ret_headers, long *ret_status)
{
    struct http_request req = {.method = method, .path = path, .headers = headers, .body = body, .body_len = body_len,
                               .limit = CHUNK_ANSWER_MAX, .want_headers = ret_headers != NULL};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    int err = http_exchange(r, &req, &a);
    if (ret_status)
        *ret_status = a.status;
    if (ret_headers) {
        *ret_headers = a.headers;
        a.headers = NULL;
    }
    if (ret_body) {
        buf_fini(ret_body);
        *ret_body = a.body;
        a.body = (struct buf){0};
    }
    return err;
}

/* ---- below /fs/v1/ ---- */

void fs_path(struct remote *r, struct buf *ret, const char *name)
{
    buf_append_str(ret, FS);
    buf_append_str(ret, name);
    buf_append_str(ret, "?drive=");
    buf_append_str(ret, r->drive); /* set once, by remote_mount */
}

int fs_get(struct remote *r, const struct buf *path, json_t **ret)
{
    struct http_request req = {.method = "GET", .path = path->data};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    int err = http_exchange(r, &req, &a);
    return err ? err : answer_object(&a, ret);
}

static int post(struct remote *r, const char *name, const json_t *body, size_t limit, struct http_answer *a)
{
    CLEANUP_BUF struct buf text = {0};
    jsonx_dump(body, &text);
    CLEANUP_FREE char *path = mem_printf(FS "%s", name);
    struct http_request req = {.method = "POST", .path = path, .content_type = "application/json", .body = text.data, .body_len = text.len, .limit = limit};
    return http_exchange(r, &req, a);
}

int fs_post(struct remote *r, const char *name, const json_t *body, json_t **ret)
{
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    int err = post(r, name, body, 0, &a);
    return err ? err : answer_object(&a, ret);
}

int fs_post_framed(struct remote *r, const char *name, const json_t *body, json_t **ret_head, struct buf *ret_contents)
{
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    int err = post(r, name, body, CHUNK_ANSWER_MAX, &a);
    if (err)
        return err;
    /* An answer without contents may come as plain JSON. */
    size_t head_len = a.head == UINT64_MAX ? a.body.len : a.head;
    if (head_len > a.body.len)
        return problem_protocol("the answer's head is longer than the answer");
    const char *why;
    json_t *o = jsonx_parse(a.body.data, head_len, &why);
    if (!json_is_object(o)) {
        json_decref(o);
        return problem_protocol("the answer's head is not a JSON object");
    }
    if (a.body.len > head_len)
        buf_append(ret_contents, a.body.data + head_len, a.body.len - head_len);
    *ret_head = o;
    return 0;
}
