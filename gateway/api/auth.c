#include "gateway/api/auth.h"
#include "common/clock.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/attempts.h"
#include "gateway/api/sessions.h"
#include "gateway/api/token_cache.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define NS INT64_C(1000000000)
#define PASSWORD_THREADS 2 /* log-ins never hold more than two cores, nor a worker */

struct auth {
    struct token_cache *cache;
    struct attempts *attempts;
    struct pool *passwords;
};

struct auth *auth_new(struct app *app)
{
    struct auth *a = mem_alloc(sizeof *a);
    a->cache = token_cache_new();
    a->attempts = attempts_new(app->token_secret);
    a->passwords = pool_new(PASSWORD_THREADS, "password");
    return a;
}

void auth_free(struct auth *a)
{
    if (!a)
        return;
    pool_free(a->passwords);
    attempts_free(a->attempts);
    token_cache_free(a->cache);
    free(a);
}

void auth_forget(struct app *app, const struct uuid *user, const struct uuid *session)
{
    if (app->auth)
        token_cache_forget(app->auth->cache, user, session);
}

struct attempts *auth_attempts(struct app *app)
{
    return app->auth->attempts;
}

struct pool *auth_passwords(struct app *app)
{
    return app->auth->passwords;
}

char *auth_issue(struct app *app, const struct user_row *u, const char *device, const struct uuid *session, int64_t seconds)
{
    struct principal p = {.user = u->id, .session = *session, .admin = u->admin};
    memcpy(p.name, u->name, sizeof p.name);
    snprintf(p.device, sizeof p.device, "%s", device);
    int64_t now = clock_wall_ns() / NS;
    return token_make(app->token_secret, &p, now, now + seconds);
}

/* Signature and time, then the session. */
static int verify_anew(struct app *app, const char *token, int64_t now_ns, struct principal *ret, int64_t *ret_expires, const char **ret_code)
{
    int err = token_parse(app->token_secret, token, now_ns / NS, ret, ret_expires);
    if (err) {
        *ret_code = err == -EKEYEXPIRED ? "token-expired" : "token-invalid";
        return -EACCES;
    }
    err = session_check(app, ret, now_ns);
    if (err)
        *ret_code = err == -EACCES ? "token-invalid" : "unavailable";
    return err;
}

int auth_verify(struct app *app, const char *authorization, struct principal *ret, const char **ret_code)
{
    static const char scheme[] = "Bearer ";
    const char *token = authorization;
    if (!token || strncasecmp(token, scheme, sizeof scheme - 1) != 0) {
        *ret_code = "token-missing";
        return -EACCES;
    }
    token += sizeof scheme - 1;
    int64_t now_ns = clock_wall_ns(), now_ms = clock_boot_ms(), expires = 0;
    if (!app->auth)
        return verify_anew(app, token, now_ns, ret, &expires, ret_code);
    struct hash h;
    size_t n = strlen(token);
    if (n > TOKEN_LEN_MAX) {
        *ret_code = "token-invalid";
        return -EACCES;
    }
    hash_bytes(token, n, &h);
    enum token_state state = token_cache_get(app->auth->cache, &h, now_ms, now_ns / NS, ret);
    if (state == TOKEN_FRESH)
        return 0;
    struct principal stale = *ret;
    int err = verify_anew(app, token, now_ns, ret, &expires, ret_code);
    if (!err) {
        token_cache_put(app->auth->cache, &h, ret, expires, now_ms);
    } else if (err != -EACCES && state == TOKEN_STALE) {
        /* the metadata store is away: who was let in a moment ago is told so by what they ask for, not logged out */
        *ret = stale;
        return 0;
    }
    return err;
}

bool auth_authenticate(struct call *c)
{
    struct principal *p = mem_alloc(sizeof *p);
    const char *code = "";
    int err = auth_verify(app_of(c), call_header(c, "authorization"), p, &code);
    if (!err) {
        c->principal = p;
        c->principal_free = free;
        return true;
    }
    free(p);
    if (err != -EACCES) {
        call_add_header(c, "Retry-After", "1");
        call_problem(c, 503, "metadata-unavailable", "Whether this session still stands cannot be looked up now.");
    } else if (strcmp(code, "token-missing") == 0) {
        call_add_header(c, "WWW-Authenticate", "Bearer realm=\"cairn\"");
        call_problem(c, 401, code, "This needs a header \"Authorization: Bearer TOKEN\".");
    } else {
        bool expired = strcmp(code, "token-expired") == 0;
        call_add_header(c, "WWW-Authenticate", "Bearer realm=\"cairn\", error=\"invalid_token\"");
        call_problem(c, 401, code, expired ? "The access token's time is over: refresh it." : "The access token is not good, or its session has ended.");
    }
    return false;
}

const char *auth_user_key(struct call *c)
{
    return principal_of(c) ? principal_of(c)->name : "";
}
