/* Renewing the access token: by one thread at a time, and by one program at a time where several share the refresh token. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/remote/http.h"

#include <errno.h>
#include <string.h>

char *remote_token(struct remote *r)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    return mem_strdup(r->access ? r->access : "");
}

void remote_share_tokens(struct remote *r, const struct remote_token_store *store)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    r->store = *store;
}

static void set_tokens(struct remote *r, const char *access, const char *refresh)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    free(r->access);
    r->access = mem_strdup(access);
    if (!refresh)
        return;
    free(r->refresh);
    r->refresh = mem_strdup(refresh);
    struct uuid key;
    uuid_new(&key);
    uuid_text(&key, r->refresh_key);
}

/* A repeat after a lost answer carries the same key, and gets the same tokens: they are not burnt. */
static int ask_for_tokens(struct remote *r)
{
    CLEANUP_JSON json_t *body = json_object();
    CLEANUP_FREE char *key = NULL;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
        json_object_set_new(body, "refreshToken", json_string(r->refresh));
        key = mem_printf("Idempotency-Key: %s", r->refresh_key);
    }
    CLEANUP_BUF struct buf text = {0};
    jsonx_dump(body, &text);
    const char *headers[] = {key, NULL};
    struct http_request req = {.method = "POST", .path = API "/auth/refresh", .headers = headers, .content_type = "application/json",
                               .body = text.data, .body_len = text.len, .open = true};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    int err = http_exchange(r, &req, &a);
    if (err)
        return err == -EHOSTUNREACH ? err : -EACCES;
    CLEANUP_JSON json_t *o = NULL;
    const char *access, *refresh;
    if (answer_object(&a, &o) || jsonx_str(o, "accessToken", &access) || jsonx_str(o, "refreshToken", &refresh))
        return problem_protocol("the answer to a refresh has no tokens");
    set_tokens(r, access, refresh);
    if (r->on_tokens)
        r->on_tokens(r->ctx, access, refresh);
    return 0;
}

/* Called by the one thread that renews: `refreshing` is set, so that r->store and the refresh token do not change meanwhile. */
static int renew_shared(struct remote *r, const char *stale)
{
    if (!r->store.lock)
        return r->refresh ? ask_for_tokens(r) : -EACCES;
    CLEANUP_FREE char *access = NULL;
    CLEANUP_FREE char *refresh = NULL;
    r->store.lock(r->store.ctx, &access, &refresh);
    int err = 0;
    if (access && (!stale || strcmp(access, stale) != 0)) {
        set_tokens(r, access, refresh); /* another program was first */
    } else {
        if (refresh && (!r->refresh || strcmp(refresh, r->refresh) != 0))
            set_tokens(r, access ? access : stale, refresh);
        err = r->refresh ? ask_for_tokens(r) : -EACCES;
    }
    r->store.unlock(r->store.ctx);
    return err;
}

int tokens_renew(struct remote *r, const char *stale)
{
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
        while (r->refreshing)
            pthread_cond_wait(&r->refreshed, &r->lock);
        if (r->access && (!stale || strcmp(r->access, stale) != 0))
            return 0; /* another thread has done it */
        r->refreshing = true;
    }
    int err = renew_shared(r, stale);
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    r->refreshing = false;
    pthread_cond_broadcast(&r->refreshed);
    return err;
}

int remote_login(const char *url, const char *user, const char *password, const char *device, char **ret_access, char **ret_refresh)
{
    struct remote *r = remote_new(url, NULL, NULL, NULL, NULL);
    CLEANUP_JSON json_t *body = json_pack("{ss?ss?ss?}", "username", user, "password", password, "device", device);
    CLEANUP_BUF struct buf text = {0};
    int err = -EINVAL; /* not valid UTF-8 */
    if (body) {
        jsonx_dump(body, &text);
        struct http_request req = {.method = "POST", .path = API "/auth/login", .content_type = "application/json", .body = text.data,
                                   .body_len = text.len, .open = true};
        CLEANUP(http_answer_fini) struct http_answer a = {0};
        CLEANUP_JSON json_t *o = NULL;
        const char *access, *refresh;
        err = http_exchange(r, &req, &a);
        if (!err && (answer_object(&a, &o) || jsonx_str(o, "accessToken", &access) || jsonx_str(o, "refreshToken", &refresh)))
            err = problem_protocol("the answer to a login has no tokens");
        if (!err) {
            *ret_access = mem_strdup(access);
            *ret_refresh = mem_strdup(refresh);
        }
    }
    if (text.data)
        explicit_bzero(text.data, text.len);
    remote_free(r);
    return err;
}
