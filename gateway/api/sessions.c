#include "gateway/api/sessions.h"
#include "common/uuid_list.h"
#include "gateway/api/auth.h"

#include <errno.h>
#include <openssl/rand.h>
#include <string.h>

#define NS INT64_C(1000000000)
#define TRIES 8 /* of a compare-and-set: each failure means that another one went through */

#define CLEANUP_USER CLEANUP(user_row_fini)

void token_pair_fini(struct token_pair *t)
{
    free(t->access);
    *t = (struct token_pair){0};
}

static int make_pair(struct app *app, const struct user_row *u, const struct session_row *s, const uint8_t random[16], struct token_pair *ret)
{
    struct principal p = {.user = u->id, .session = s->id, .admin = u->admin};
    memcpy(p.name, u->name, sizeof p.name);
    memcpy(p.device, s->device, sizeof p.device);
    ret->access = token_make(app->token_secret, &p, s->refreshed / NS, s->refreshed / NS + TOKEN_ACCESS_SECONDS);
    refresh_make(app->token_secret, &s->id, random, ret->refresh);
    return ret->access ? 0 : -ENOMEM;
}

static void hash_token(const char *token, struct hash *ret)
{
    hash_bytes(token, strlen(token), ret);
}

static struct session_row new_session(const struct user_row *u, const char *device, int64_t now, int64_t seconds)
{
    struct session_row s = {.user = u->id, .created = now, .refreshed = now, .expires = now + seconds * NS};
    uuid_new(&s.id);
    snprintf(s.device, sizeof s.device, "%s", device);
    return s;
}

int session_open(struct app *app, const struct user_row *u, const char *device, int64_t now, struct token_pair *ret)
{
    uint8_t random[16];
    struct session_row s = new_session(u, device, now, SESSION_SECONDS);
    if (RAND_bytes(random, sizeof random) != 1)
        return -EIO;
    int err = make_pair(app, u, &s, random, ret);
    if (err)
        return err;
    hash_token(ret->refresh, &s.token);
    err = app->meta->ops->session_add(app->meta, &s);
    if (err)
        token_pair_fini(ret);
    return err;
}

int session_script(struct app *app, const struct user_row *u, const char *device, int64_t now, int64_t seconds, char **ret)
{
    struct session_row s = new_session(u, device, now, seconds);
    /* the hash of nothing: no refresh token fits it */
    if (RAND_bytes(s.token.b, sizeof s.token.b) != 1)
        return -EIO;
    char *token = auth_issue(app, u, device, &s.id, seconds);
    if (!token)
        return -ENOMEM;
    int err = app->meta->ops->session_add(app->meta, &s);
    if (err)
        free(token);
    else
        *ret = token;
    return err;
}

/* What a token that is good, or was, is to its session now. */
enum standing { NEWEST, REPEATED, USED };

static enum standing standing_of(const struct session_row *s, const struct hash *token, const char *key, int64_t now)
{
    if (hash_equal(&s->token, token))
        return NEWEST;
    if (key[0] && strcmp(key, s->idempotency_key) == 0 && hash_equal(&s->previous, token) && now - s->refreshed <= SESSION_REPEAT_SECONDS * NS)
        return REPEATED;
    return USED;
}

/* One try. -EAGAIN: somebody else was quicker. */
static int rotate_once(struct app *app, const struct uuid *id, const char *token, const char *key, int64_t now, struct token_pair *ret)
{
    const struct meta_ops *ops = app->meta->ops;
    struct session_row s = {0};
    CLEANUP_USER struct user_row u = {0};
    struct hash given, expected;
    uint8_t random[16];
    int err = ops->session_by_id(app->meta, id, &s);
    if (!err && (s.revoked || s.expires <= now))
        err = -EKEYREVOKED;
    if (!err)
        err = ops->user_by_id(app->meta, &s.user, &u);
    if (err == -ENOENT || (!err && u.disabled))
        err = -EKEYREVOKED;
    if (err)
        return err;
    hash_token(token, &given);
    enum standing standing = standing_of(&s, &given, key, now);
    if (standing == USED) {
        err = session_end(app, id);
        return err ? err : -EKEYREJECTED;
    }
    if (key[0])
        refresh_derive(app->token_secret, token, key, random);
    else if (RAND_bytes(random, sizeof random) != 1)
        return -EIO;
    if (standing == REPEATED)
        return make_pair(app, &u, &s, random, ret);
    expected = s.token;
    s.previous = s.token;
    s.refreshed = now;
    s.expires = now + SESSION_SECONDS * NS;
    snprintf(s.idempotency_key, sizeof s.idempotency_key, "%s", key);
    err = make_pair(app, &u, &s, random, ret);
    if (err)
        return err;
    hash_token(ret->refresh, &s.token);
    err = ops->session_update(app->meta, &s, &expected);
    if (err)
        token_pair_fini(ret);
    return err;
}

int session_rotate(struct app *app, const char *token, const char *key, int64_t now, struct token_pair *ret)
{
    struct uuid id;
    int err = refresh_parse(app->token_secret, token, &id);
    if (err)
        return err;
    for (int i = 0; i < TRIES; i++) {
        err = rotate_once(app, &id, token, key, now, ret);
        if (err != -EAGAIN)
            break;
    }
    return err;
}

int session_end(struct app *app, const struct uuid *id)
{
    int err = -EAGAIN;
    for (int i = 0; i < TRIES && err == -EAGAIN; i++) {
        struct session_row s = {0};
        err = app->meta->ops->session_by_id(app->meta, id, &s);
        if (err)
            return err;
        if (!s.revoked) {
            /* with another token: a refresh that has read the row before this does not write it back as it was */
            struct hash expected = s.token;
            s.revoked = true;
            if (RAND_bytes(s.token.b, sizeof s.token.b) != 1)
                return -EIO;
            err = app->meta->ops->session_update(app->meta, &s, &expected);
        }
        if (!err)
            auth_forget(app, &s.user, id);
    }
    return err;
}

static int collect(void *ctx, const struct session_row *s)
{
    if (!s->revoked)
        uuid_list_add(ctx, &s->id);
    return 0;
}

int session_end_all(struct app *app, const struct uuid *user, const struct uuid *except)
{
    CLEANUP(uuid_list_fini) struct uuid_list open = {0};
    int err = app->meta->ops->session_list(app->meta, user, collect, &open);
    for (size_t i = 0; i < open.n && !err; i++)
        if (!except || !uuid_equal(&open.ids[i], except))
            err = session_end(app, &open.ids[i]);
    return err;
}

int session_check(struct app *app, struct principal *p, int64_t now)
{
    CLEANUP_USER struct user_row u = {0};
    int err = app->meta->ops->user_by_id(app->meta, &p->user, &u);
    if (err == -ENOENT || (!err && u.disabled))
        return -EACCES;
    if (err)
        return err;
    if (!uuid_is_zero(&p->session)) {
        struct session_row s = {0};
        err = app->meta->ops->session_by_id(app->meta, &p->session, &s);
        if (err == -ENOENT || (!err && (s.revoked || s.expires <= now || !uuid_equal(&s.user, &p->user))))
            return -EACCES;
        if (err)
            return err;
    }
    memcpy(p->name, u.name, sizeof p->name);
    p->admin = u.admin;
    return 0;
}
