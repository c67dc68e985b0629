/* The endpoints below /auth. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/attempts.h"
#include "gateway/api/auth.h"
#include "gateway/api/password.h"
#include "gateway/api/sessions.h"

#include <errno.h>
#include <string.h>

#define NS INT64_C(1000000000)
#define PASSWORDS_WAITING_MAX 64 /* two seconds' worth */
#define CLEANUP_USER CLEANUP(user_row_fini)
#define CLEANUP_PAIR CLEANUP(token_pair_fini)

static void answer_pair(struct call *c, const struct token_pair *t)
{
    call_add_header(c, "Cache-Control", "no-store");
    call_json(c, 200, json_pack("{s:s,s:s,s:s,s:i}", "accessToken", t->access, "refreshToken", t->refresh, "tokenType", "Bearer", "expiresIn",
                                TOKEN_ACCESS_SECONDS));
}

static enum call_state answer_empty(struct call *c)
{
    c->status = 204;
    return CALL_DONE;
}

/* ---- checking passwords: on two threads of their own, so that a crowd at the door holds no worker ---- */

struct password_job {
    struct call *call;
    char *user, *password, *fresh; /* owned; fresh: the new password, NULL for a log-in */
    char device[129];
};

static void wipe(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}

static void password_job_free(struct password_job *j)
{
    free(j->user);
    wipe(j->password);
    wipe(j->fresh);
    free(j);
}

static void count(const char *result)
{
    char labels[64];
    snprintf(labels, sizeof labels, "result=\"%s\"", result);
    metric_add(metric_get(METRIC_COUNTER, "cairn_password_checks_total", labels, "Passwords that were given, by what came of them"), 1);
}

static void too_many(struct call *c, unsigned seconds)
{
    char text[16];
    snprintf(text, sizeof text, "%u", seconds);
    count("limited");
    call_add_header(c, "Retry-After", text);
    call_problem(c, 429, "too-many-attempts", "Too many failed attempts; the next one is possible in %u s.", seconds);
}

/* Whether j's password is its user's; else a problem was filled. */
static bool password_right(struct password_job *j, struct user_row *ret, int wrong_status)
{
    struct app *app = app_of(j->call);
    unsigned wait = attempts_begin(auth_attempts(app), j->call->peer, j->user, clock_boot_ms());
    if (wait) {
        too_many(j->call, wait);
        return false;
    }
    int err = app->meta->ops->user_by_name(app->meta, j->user, ret);
    if (err && err != -ENOENT) {
        attempts_succeeded(auth_attempts(app), j->call->peer, j->user);
        call_errno(j->call, err, "looking up the user");
        return false;
    }
    bool known = !err;
    /* the same work for a user that does not exist: the time must not tell */
    if (!password_matches(known ? ret->password_hash : NULL, j->password) || ret->disabled) {
        count("wrong");
        call_problem(j->call, wrong_status, "bad-credentials", "User name or password is wrong.");
        return false;
    }
    count("right");
    attempts_succeeded(auth_attempts(app), j->call->peer, j->user);
    return true;
}

static enum call_state begin_check(struct call *c, struct password_job *j, void (*fn)(void *))
{
    struct pool *pool = auth_passwords(app_of(c));
    if (pool_waiting(pool) >= PASSWORDS_WAITING_MAX) {
        password_job_free(j);
        call_add_header(c, "Retry-After", "2");
        return call_problem(c, 503, "busy", "Too many are logging in at once.");
    }
    pool_run(pool, fn, j);
    return CALL_PENDING;
}

static void login_check(void *arg)
{
    struct password_job *j = arg;
    struct call *c = j->call;
    CLEANUP_USER struct user_row u = {0};
    CLEANUP_PAIR struct token_pair pair = {0};
    if (password_right(j, &u, 401)) {
        int err = session_open(app_of(c), &u, j->device, clock_wall_ns(), &pair);
        if (err)
            call_errno(c, err, "opening a session");
        else
            answer_pair(c, &pair);
    }
    password_job_free(j);
    call_finish(c);
}

/* A device's name ends up in file names (conflicts, versions). */
static bool device_valid(const char *d)
{
    size_t n = strlen(d);
    if (n == 0 || n > 128)
        return false;
    for (size_t i = 0; i < n; i++)
        if (d[i] == '/' || (unsigned char)d[i] < 0x20 || d[i] == 0x7f)
            return false;
    return true;
}

static enum call_state login(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    const char *user, *password, *device = "unnamed";
    if (!body)
        return CALL_DONE;
    if (jsonx_str(body, "username", &user) || jsonx_str(body, "password", &password))
        return call_problem(c, 400, "bad-request", "\"username\" and \"password\" must be given, as strings.");
    int err = jsonx_str(body, "device", &device);
    if ((err && err != -ENOENT) || !device_valid(device))
        return call_problem(c, 400, "bad-device", "\"device\" must be a string of 1 to 128 bytes without '/' and control characters.");
    struct password_job *j = mem_alloc(sizeof *j);
    j->call = c;
    j->user = mem_strdup(user);
    j->password = mem_strdup(password);
    snprintf(j->device, sizeof j->device, "%s", device);
    return begin_check(c, j, login_check);
}

/* ---- refresh, logout ---- */

static enum call_state refresh(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    CLEANUP_PAIR struct token_pair pair = {0};
    const char *token, *key = call_header(c, "idempotency-key");
    if (!body)
        return CALL_DONE;
    if (jsonx_str(body, "refreshToken", &token))
        return call_problem(c, 400, "bad-request", "\"refreshToken\" must be given, as a string.");
    if (key && strlen(key) > 128)
        return call_problem(c, 400, "bad-idempotency-key", "An Idempotency-Key has at most 128 characters.");
    int err = session_rotate(app_of(c), token, key ? key : "", clock_wall_ns(), &pair);
    switch (err) {
    case 0:
        answer_pair(c, &pair);
        return CALL_DONE;
    case -EINVAL:
    case -ENOENT:
    case -EKEYREVOKED:
        return call_problem(c, 401, "refresh-invalid", "The refresh token is not good, or its session has ended: log in.");
    case -EKEYREJECTED:
        log_write(LOG_LEVEL_WARN, c->trace_id, "a refresh token was used twice: its session has been ended (from %s)", c->peer);
        return call_problem(c, 401, "refresh-reused", "This refresh token had been used before, so its session has ended: log in.");
    default:
        return call_errno(c, err, "refreshing the session");
    }
}

static enum call_state logout(struct call *c)
{
    const struct principal *p = principal_of(c);
    int err = uuid_is_zero(&p->session) ? 0 : session_end(app_of(c), &p->session);
    return err && err != -ENOENT ? call_errno(c, err, "ending the session") : answer_empty(c);
}

/* ---- password ---- */

static int change_password(struct app *app, struct user_row *u, const char *fresh, const struct uuid *session)
{
    char *phc;
    int err = auth_hash_password(fresh, &phc);
    if (err)
        return err;
    free(u->password_hash);
    u->password_hash = phc;
    err = app->meta->ops->user_update(app->meta, u);
    /* whoever knew the old one is out */
    return err ? err : session_end_all(app, &u->id, session);
}

static void password_check(void *arg)
{
    struct password_job *j = arg;
    struct call *c = j->call;
    CLEANUP_USER struct user_row u = {0};
    if (password_right(j, &u, 403)) {
        int err = change_password(app_of(c), &u, j->fresh, &principal_of(c)->session);
        if (err)
            call_errno(c, err, "setting the password");
        else
            answer_empty(c);
    }
    password_job_free(j);
    call_finish(c);
}

static enum call_state password(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    const char *old, *fresh;
    if (!body)
        return CALL_DONE;
    if (jsonx_str(body, "old", &old) || jsonx_str(body, "new", &fresh))
        return call_problem(c, 400, "bad-request", "\"old\" and \"new\" must be given, as strings.");
    if (strlen(fresh) < PASSWORD_LEN_CHOSEN_MIN || strlen(fresh) > PASSWORD_LEN_MAX)
        return call_problem(c, 422, "bad-password", "A password has %d to %d bytes.", PASSWORD_LEN_CHOSEN_MIN, PASSWORD_LEN_MAX);
    struct password_job *j = mem_alloc(sizeof *j);
    j->call = c;
    j->user = mem_strdup(principal_of(c)->name);
    j->password = mem_strdup(old);
    j->fresh = mem_strdup(fresh);
    return begin_check(c, j, password_check);
}

/* ---- sessions ---- */

struct listing {
    json_t *array;
    const struct principal *who;
    int64_t now;
};

static int list_session(void *ctx, const struct session_row *s)
{
    struct listing *l = ctx;
    char id[UUID_TEXT], created[CLOCK_TEXT], used[CLOCK_TEXT], expires[CLOCK_TEXT];
    if (s->revoked || s->expires <= l->now)
        return 0;
    uuid_text(&s->id, id);
    clock_format_rfc3339(s->created, created);
    clock_format_rfc3339(s->refreshed, used);
    clock_format_rfc3339(s->expires, expires);
    json_array_append_new(l->array, json_pack("{s:s,s:s,s:s,s:s,s:s,s:b}", "id", id, "device", s->device, "createdAt", created, "refreshedAt", used,
                                              "expiresAt", expires, "current", uuid_equal(&s->id, &l->who->session)));
    return 0;
}

static enum call_state sessions(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP_JSON json_t *array = json_array();
    struct listing l = {.array = array, .who = principal_of(c), .now = clock_wall_ns()};
    int err = app->meta->ops->session_list(app->meta, &l.who->user, list_session, &l);
    if (err)
        return call_errno(c, err, "listing the sessions");
    call_json(c, 200, json_pack("{s:O}", "sessions", array));
    return CALL_DONE;
}

/* Whether the session is the caller's own. 0, -ENOENT. */
static int own_session(struct app *app, const struct principal *p, const struct uuid *id)
{
    struct session_row s = {0};
    int err = app->meta->ops->session_by_id(app->meta, id, &s);
    return !err && !uuid_equal(&s.user, &p->user) ? -ENOENT : err;
}

static enum call_state sessions_end(struct call *c)
{
    struct app *app = app_of(c);
    const struct principal *p = principal_of(c);
    const char *text = call_query(c, "id", NULL);
    struct uuid id;
    int err;
    if (!text) {
        err = session_end_all(app, &p->user, NULL);
    } else if (uuid_parse(text, &id)) {
        return call_problem(c, 400, "bad-id", "\"id\" is the id of a session, as GET /auth/sessions tells it.");
    } else {
        err = own_session(app, p, &id);
        if (!err)
            err = session_end(app, &id);
    }
    if (err == -ENOENT)
        return call_problem(c, 404, "session-not-found", "You have no session of this id.");
    return err ? call_errno(c, err, "ending sessions") : answer_empty(c);
}

#define BODY_MAX (16u << 10)
const struct route auth_routes[] = {
    {HTTP_POST, "/api/v1/auth/login", login, ROUTE_OPEN, BODY_MAX},
    {HTTP_POST, "/api/v1/auth/refresh", refresh, ROUTE_OPEN, BODY_MAX},
    {HTTP_POST, "/api/v1/auth/logout", logout, 0, BODY_MAX},
    {HTTP_POST, "/api/v1/auth/password", password, 0, BODY_MAX},
    {HTTP_GET, "/api/v1/auth/sessions", sessions, 0, 0},
    {HTTP_DELETE, "/api/v1/auth/sessions", sessions_end, 0, 0},
};
const size_t auth_routes_n = sizeof auth_routes / sizeof *auth_routes;
