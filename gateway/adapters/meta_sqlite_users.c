/* Users, sessions, secrets. */
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define USER_COLUMNS "id, name, password_hash, admin, disabled, created"

static void get_user(struct query *q, struct user_row *ret)
{
    get_id(q, &ret->id);
    get_text(q, ret->name, sizeof ret->name);
    ret->password_hash = get_str(q);
    ret->admin = get_bool(q);
    ret->disabled = get_bool(q);
    ret->created = get_int(q);
}

int sqlite_user_add(struct meta *m, const struct user_row *u)
{
    WRITER(w, m);
    QUERY(q, w.c, "INSERT INTO user (" USER_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    put_id(&q, &u->id);
    put_text(&q, u->name);
    put_text(&q, u->password_hash);
    put_int(&q, u->admin);
    put_int(&q, u->disabled);
    put_int(&q, u->created);
    int err = query_run(&q);
    query_end(&q);
    return writer_commit(&w, err);
}

static int one_user(struct query *q, struct user_row *ret)
{
    int err = query_one(q);
    *ret = (struct user_row){0};
    if (!err)
        get_user(q, ret);
    return err;
}

int sqlite_user_by_name(struct meta *m, const char *name, struct user_row *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT " USER_COLUMNS " FROM user WHERE name = ?1");
    put_text(&q, name);
    return one_user(&q, ret);
}

int sqlite_user_by_id(struct meta *m, const struct uuid *id, struct user_row *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT " USER_COLUMNS " FROM user WHERE id = ?1");
    put_id(&q, id);
    return one_user(&q, ret);
}

int sqlite_user_update(struct meta *m, const struct user_row *u)
{
    WRITER(w, m);
    QUERY(q, w.c, "UPDATE user SET name = ?2, password_hash = ?3, admin = ?4, disabled = ?5 WHERE id = ?1");
    put_id(&q, &u->id);
    put_text(&q, u->name);
    put_text(&q, u->password_hash);
    put_int(&q, u->admin);
    put_int(&q, u->disabled);
    int err = query_run(&q);
    if (!err && query_changes(&q) == 0)
        err = -ENOENT;
    query_end(&q);
    return writer_commit(&w, err);
}

int sqlite_user_list(struct meta *m, int (*each)(void *ctx, const struct user_row *u), void *ctx)
{
    READER(c, m);
    QUERY(q, c, "SELECT " USER_COLUMNS " FROM user ORDER BY name");
    int err;
    while ((err = query_step(&q)) == 1) {
        CLEANUP(user_row_fini) struct user_row u = {0};
        get_user(&q, &u);
        if ((err = each(ctx, &u)) != 0)
            break;
    }
    return err;
}

/* ---- sessions ---- */

#define SESSION_COLUMNS "id, user, device, token, previous, idempotency_key, refreshed, created, expires, revoked"

static void get_session(struct query *q, struct session_row *ret)
{
    get_id(q, &ret->id);
    get_id(q, &ret->user);
    get_text(q, ret->device, sizeof ret->device);
    get_hash(q, &ret->token);
    get_hash(q, &ret->previous);
    get_text(q, ret->idempotency_key, sizeof ret->idempotency_key);
    ret->refreshed = get_int(q);
    ret->created = get_int(q);
    ret->expires = get_int(q);
    ret->revoked = get_bool(q);
}

static void put_session(struct query *q, const struct session_row *s)
{
    put_id(q, &s->id);
    put_id(q, &s->user);
    put_text(q, s->device);
    put_hash(q, &s->token);
    put_hash(q, &s->previous);
    put_text(q, s->idempotency_key);
    put_int(q, s->refreshed);
    put_int(q, s->created);
    put_int(q, s->expires);
    put_int(q, s->revoked);
}

int sqlite_session_add(struct meta *m, const struct session_row *s)
{
    WRITER(w, m);
    QUERY(q, w.c, "INSERT INTO session (" SESSION_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    put_session(&q, s);
    int err = query_run(&q);
    query_end(&q);
    return writer_commit(&w, err);
}

int sqlite_session_by_id(struct meta *m, const struct uuid *id, struct session_row *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT " SESSION_COLUMNS " FROM session WHERE id = ?1");
    put_id(&q, id);
    int err = query_one(&q);
    *ret = (struct session_row){0};
    if (!err)
        get_session(&q, ret);
    return err;
}

static int session_exists(struct conn *c, const struct uuid *id)
{
    QUERY(q, c, "SELECT 1 FROM session WHERE id = ?1");
    put_id(&q, id);
    return query_one(&q);
}

int sqlite_session_update(struct meta *m, const struct session_row *s, const struct hash *expected)
{
    WRITER(w, m);
    QUERY(q, w.c,
          "UPDATE session SET user = ?2, device = ?3, token = ?4, previous = ?5, idempotency_key = ?6, refreshed = ?7, created = ?8, "
          "expires = ?9, revoked = ?10 WHERE id = ?1 AND token = ?11");
    put_session(&q, s);
    put_hash(&q, expected);
    int err = query_run(&q);
    if (!err && query_changes(&q) == 0) {
        err = session_exists(w.c, &s->id);
        err = err ? err : -EAGAIN;
    }
    query_end(&q);
    return writer_commit(&w, err);
}

int sqlite_session_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct session_row *s), void *ctx)
{
    READER(c, m);
    QUERY(q, c, "SELECT " SESSION_COLUMNS " FROM session WHERE user = ?1 ORDER BY created");
    put_id(&q, user);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct session_row s = {0};
        get_session(&q, &s);
        if ((err = each(ctx, &s)) != 0)
            break;
    }
    return err;
}

/* ---- secrets ---- */

static int secret_read(struct conn *c, const char *name, uint8_t ret[32])
{
    QUERY(q, c, "SELECT value FROM secret WHERE name = ?1");
    put_text(&q, name);
    int err = query_one(&q);
    if (err)
        return err;
    size_t len;
    const void *p = get_blob(&q, &len);
    if (len != 32)
        return -EIO;
    memcpy(ret, p, 32);
    return 0;
}

int sqlite_secret(struct meta *m, const char *name, uint8_t ret[32])
{
    WRITER(w, m);
    int err = w.err ? w.err : secret_read(w.c, name, ret);
    if (err != -ENOENT)
        return writer_commit(&w, err);
    if (getrandom(ret, 32, 0) != 32)
        return -EIO;
    QUERY(q, w.c, "INSERT INTO secret (name, value) VALUES (?1, ?2)");
    put_text(&q, name);
    put_blob(&q, ret, 32);
    err = query_run(&q);
    query_end(&q);
    return writer_commit(&w, err);
}
