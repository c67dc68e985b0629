/* Users, sessions, secrets: the catalogue. */
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define PAGE 1000 /* rows of a long list that are in memory at a time */

#define USER_COLUMNS "id, name, password_hash, admin, disabled, created"

static void get_user(struct pg_query *q, struct user_row *ret)
{
    pg_id(q, &ret->id);
    pg_text(q, ret->name, sizeof ret->name);
    ret->password_hash = pg_str(q);
    ret->admin = pg_bool(q);
    ret->disabled = pg_bool(q);
    ret->created = pg_int(q);
}

int postgres_user_add(struct meta *m, const struct user_row *u)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "INSERT INTO users (" USER_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING");
    pg_put_id(&q, &u->id);
    pg_put_text(&q, u->name);
    pg_put_text(&q, u->password_hash);
    pg_put_bool(&q, u->admin);
    pg_put_bool(&q, u->disabled);
    pg_put_int(&q, u->created);
    return pg_run_once(&q);
}

static int one_user(struct pg_query *q, struct user_row *ret)
{
    int err = pg_one(q);
    *ret = (struct user_row){0};
    if (!err)
        get_user(q, ret);
    return err;
}

int postgres_user_by_name(struct meta *m, const char *name, struct user_row *ret)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT " USER_COLUMNS " FROM users WHERE name = $1");
    pg_put_text(&q, name);
    return one_user(&q, ret);
}

int postgres_user_by_id(struct meta *m, const struct uuid *id, struct user_row *ret)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT " USER_COLUMNS " FROM users WHERE id = $1");
    pg_put_id(&q, id);
    return one_user(&q, ret);
}

int postgres_user_update(struct meta *m, const struct user_row *u)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "UPDATE users SET name = $2, password_hash = $3, admin = $4, disabled = $5 WHERE id = $1");
    pg_put_id(&q, &u->id);
    pg_put_text(&q, u->name);
    pg_put_text(&q, u->password_hash);
    pg_put_bool(&q, u->admin);
    pg_put_bool(&q, u->disabled);
    int err = pg_run(&q);
    return err ? err : pg_changes(&q) == 0 ? -ENOENT : 0;
}

static int user_page(struct meta *m, char after[65], int (*each)(void *ctx, const struct user_row *u), void *ctx, unsigned *ret_n)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT " USER_COLUMNS " FROM users WHERE name > $1 ORDER BY name LIMIT $2");
    pg_put_text(&q, after);
    pg_put_int(&q, PAGE);
    int err;
    for (*ret_n = 0; (err = pg_step(&q)) == 1; ++*ret_n) {
        CLEANUP(user_row_fini) struct user_row u = {0};
        get_user(&q, &u);
        memcpy(after, u.name, sizeof u.name);
        if ((err = each(ctx, &u)) != 0)
            break;
    }
    return err;
}

int postgres_user_list(struct meta *m, int (*each)(void *ctx, const struct user_row *u), void *ctx)
{
    char after[65] = "";
    unsigned n = PAGE;
    int err = 0;
    while (!err && n == PAGE)
        err = user_page(m, after, each, ctx, &n);
    return err;
}

/* ---- sessions ---- */

#define SESSION_COLUMNS "id, user_id, device, token, previous, idempotency_key, refreshed, created, expires, revoked"

static void get_session(struct pg_query *q, struct session_row *ret)
{
    pg_id(q, &ret->id);
    pg_id(q, &ret->user);
    pg_text(q, ret->device, sizeof ret->device);
    pg_hash(q, &ret->token);
    pg_hash(q, &ret->previous);
    pg_text(q, ret->idempotency_key, sizeof ret->idempotency_key);
    ret->refreshed = pg_int(q);
    ret->created = pg_int(q);
    ret->expires = pg_int(q);
    ret->revoked = pg_bool(q);
}

static void put_session(struct pg_query *q, const struct session_row *s)
{
    pg_put_id(q, &s->id);
    pg_put_id(q, &s->user);
    pg_put_text(q, s->device);
    pg_put_hash(q, &s->token);
    pg_put_hash(q, &s->previous);
    pg_put_text(q, s->idempotency_key);
    pg_put_int(q, s->refreshed);
    pg_put_int(q, s->created);
    pg_put_int(q, s->expires);
    pg_put_bool(q, s->revoked);
}

int postgres_session_add(struct meta *m, const struct session_row *s)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "INSERT INTO session (" SESSION_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING");
    put_session(&q, s);
    return pg_run_once(&q);
}

int postgres_session_by_id(struct meta *m, const struct uuid *id, struct session_row *ret)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT " SESSION_COLUMNS " FROM session WHERE id = $1");
    pg_put_id(&q, id);
    int err = pg_one(&q);
    *ret = (struct session_row){0};
    if (!err)
        get_session(&q, ret);
    return err;
}

int postgres_session_update(struct meta *m, const struct session_row *s, const struct hash *expected)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c,
             "WITH done AS (UPDATE session SET user_id = $2, device = $3, token = $4, previous = $5, idempotency_key = $6, refreshed = $7, created = $8, "
             "expires = $9, revoked = $10 WHERE id = $1 AND token = $11 RETURNING 1) "
             "SELECT EXISTS (SELECT 1 FROM done), token = $4 FROM session WHERE id = $1");
    put_session(&q, s);
    pg_put_hash(&q, expected);
    int err = pg_one(&q);
    if (err)
        return err;
    bool updated = pg_bool(&q), already = pg_bool(&q) && q.tries;
    return updated || already ? 0 : -EAGAIN;
}

int postgres_session_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct session_row *s), void *ctx)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT " SESSION_COLUMNS " FROM session WHERE user_id = $1 ORDER BY created");
    pg_put_id(&q, user);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct session_row s = {0};
        get_session(&q, &s);
        if ((err = each(ctx, &s)) != 0)
            break;
    }
    return err;
}

/* ---- secrets ---- */

int postgres_secret(struct meta *m, const char *name, uint8_t ret[32])
{
    uint8_t fresh[32];
    if (getrandom(fresh, sizeof fresh, 0) != sizeof fresh)
        return -EIO;
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "INSERT INTO secret (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = secret.value RETURNING value");
    pg_put_text(&q, name);
    pg_put_blob(&q, fresh, sizeof fresh);
    int err = pg_one(&q);
    if (err)
        return err;
    size_t len;
    const void *p = pg_blob(&q, &len);
    if (len != 32)
        return -EIO;
    memcpy(ret, p, 32);
    return 0;
}
