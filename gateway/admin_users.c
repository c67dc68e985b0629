#include "common/clock.h"
#include "common/mem.h"
#include "gateway/admin.h"
#include "gateway/api/password.h"
#include "gateway/api/sessions.h"

#include <errno.h>
#include <string.h>
#include <termios.h>

#define CLEANUP_USER CLEANUP(user_row_fini)

/* ---- passwords ---- */

/* Without its newline. false: end of file, or too long. */
static bool read_line(FILE *in, char *ret, size_t size)
{
    if (!fgets(ret, (int)size, in))
        return false;
    size_t n = strcspn(ret, "\n");
    if (ret[n] == 0 && n + 1 == size)
        return false;
    ret[n] = 0;
    if (n > 0 && ret[n - 1] == '\r')
        ret[n - 1] = 0;
    return true;
}

static bool ask(FILE *tty, const char *prompt, char *ret, size_t size)
{
    struct termios before, quiet;
    if (tcgetattr(fileno(tty), &before) != 0)
        return false;
    quiet = before;
    quiet.c_lflag &= (tcflag_t)~ECHO;
    fputs(prompt, tty);
    fflush(tty);
    tcsetattr(fileno(tty), TCSAFLUSH, &quiet);
    bool ok = read_line(tty, ret, size);
    tcsetattr(fileno(tty), TCSAFLUSH, &before);
    fputc('\n', tty);
    return ok;
}

/* 0, or an exit status. */
static int get_password(const struct admin *a, char ret[PASSWORD_LEN_MAX + 2])
{
    char again[PASSWORD_LEN_MAX + 2];
    const size_t size = sizeof again;
    if (a->c->password_stdin) {
        if (!read_line(stdin, ret, size))
            return admin_failed("no password on standard input, or one longer than %d bytes", PASSWORD_LEN_MAX);
    } else {
        CLEANUP_FILE FILE *tty = fopen("/dev/tty", "r+");
        if (!tty)
            return admin_failed("there is no terminal to ask for the password: use --password-stdin");
        if (!ask(tty, "Password: ", ret, size) || !ask(tty, "Again: ", again, size))
            return admin_failed("no password was given");
        bool same = strcmp(ret, again) == 0;
        explicit_bzero(again, sizeof again);
        if (!same)
            return admin_failed("the two passwords differ");
    }
    return ret[0] ? 0 : admin_failed("the password is empty");
}

static int set_password(const struct admin *a, struct user_row *u)
{
    char password[PASSWORD_LEN_MAX + 2], *phc = NULL;
    int status = get_password(a, password);
    if (status)
        return status;
    int err = auth_hash_password(password, &phc);
    explicit_bzero(password, sizeof password);
    if (err)
        return admin_errno(err, "hashing the password");
    free(u->password_hash);
    u->password_hash = phc;
    return 0;
}

/* ---- verbs ---- */

int admin_user_add(const struct admin *a)
{
    CLEANUP_USER struct user_row u = {.admin = a->c->admin, .created = clock_wall_ns()};
    const char *wrong = config_user_name_wrong(a->args[0]);
    if (wrong)
        return admin_failed("\"%s\": %s", a->args[0], wrong);
    snprintf(u.name, sizeof u.name, "%s", a->args[0]);
    uuid_new(&u.id);
    int status = set_password(a, &u);
    if (status)
        return status;
    int err = a->meta->ops->user_add(a->meta, &u);
    if (err == -EEXIST)
        return admin_failed("there is a user \"%s\" already", u.name);
    return err ? admin_errno(err, "adding the user") : 0;
}

static int list_user(void *ctx, const struct user_row *u)
{
    char id[UUID_TEXT], created[CLOCK_TEXT];
    uuid_text(&u->id, id);
    clock_format_rfc3339(u->created, created);
    json_array_append_new(ctx, json_pack("{s:s,s:s,s:b,s:b,s:s}", "id", id, "name", u->name, "admin", u->admin, "disabled", u->disabled, "createdAt", created));
    return 0;
}

int admin_user_list(const struct admin *a)
{
    CLEANUP_JSON json_t *users = json_array();
    size_t i;
    json_t *u;
    int err = a->meta->ops->user_list(a->meta, list_user, users);
    if (err)
        return admin_errno(err, "listing the users");
    if (a->c->json) {
        admin_print(json_pack("{s:O}", "users", users));
        return 0;
    }
    json_array_foreach(users, i, u)
    {
        bool admin = json_is_true(json_object_get(u, "admin")), disabled = json_is_true(json_object_get(u, "disabled"));
        printf("%s%s%s\n", json_string_value(json_object_get(u, "name")), admin ? "\tadmin" : "", disabled ? "\tdisabled" : "");
    }
    return 0;
}

/* Stores the user; then nothing that was good before is. */
static int update_and_end_sessions(const struct admin *a, const struct user_row *u)
{
    struct app app = {.meta = a->meta};
    int err = a->meta->ops->user_update(a->meta, u);
    if (!err)
        err = session_end_all(&app, &u->id, NULL);
    return err ? admin_errno(err, "changing the user") : 0;
}

static int set_disabled(const struct admin *a, bool disabled)
{
    CLEANUP_USER struct user_row u = {0};
    int status = admin_user(a, a->args[0], &u);
    if (status)
        return status;
    u.disabled = disabled;
    return update_and_end_sessions(a, &u);
}

int admin_user_disable(const struct admin *a)
{
    return set_disabled(a, true);
}

int admin_user_enable(const struct admin *a)
{
    return set_disabled(a, false);
}

int admin_user_passwd(const struct admin *a)
{
    CLEANUP_USER struct user_row u = {0};
    int status = admin_user(a, a->args[0], &u);
    if (!status)
        status = set_password(a, &u);
    return status ? status : update_and_end_sessions(a, &u);
}

int admin_user_token(const struct admin *a)
{
    CLEANUP_USER struct user_row u = {0};
    CLEANUP_FREE char *token = NULL;
    struct app app = {.meta = a->meta};
    int status = admin_user(a, a->args[0], &u);
    if (status)
        return status;
    if (u.disabled)
        return admin_failed("user \"%s\" is disabled", u.name);
    int err = a->meta->ops->secret(a->meta, "token", app.token_secret);
    if (!err)
        err = session_script(&app, &u, "script", clock_wall_ns(), (int64_t)a->c->days * 86400, &token);
    if (err)
        return admin_errno(err, "making the token");
    puts(token);
    return 0;
}
