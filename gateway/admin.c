#include "gateway/admin.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const struct admin_verb {
    const char *noun, *verb; /* verb NULL: the one word is enough */
    size_t n_args;
    int (*run)(const struct admin *a);
    const char *usage, *help;
} verbs[] = {
    {"user", "add", 1, admin_user_add, "NAME [--password-stdin] [--admin]", "add a user; asks for the password"},
    {"user", "list", 0, admin_user_list, "[--json]", "all users"},
    {"user", "disable", 1, admin_user_disable, "NAME", "end all sessions of a user, and let no new one begin"},
    {"user", "enable", 1, admin_user_enable, "NAME", "undo that"},
    {"user", "passwd", 1, admin_user_passwd, "NAME [--password-stdin]", "set a user's password; ends all their sessions"},
    {"user", "token", 1, admin_user_token, "NAME [--days N]", "print a bearer token for scripts"},
    {"drive", "create", 1, admin_drive_create, "NAME --owner USER", "make a drive"},
    {"drive", "list", 0, admin_drive_list, "[--json]", "all drives"},
    {"drive", "quota", 2, admin_drive_quota, "NAME SIZE [--owner USER]", "limit what a drive holds (10G; none)"},
    {"drive", "rename", 2, admin_drive_rename, "NAME NEW [--owner USER]", "rename a drive"},
    {"drive", "move", 2, admin_drive_move, "NAME SHARD [--owner USER]", "move a drive to another shard while it is in use"},
    {"shard", "add", 2, admin_shard_add, "NAME URL", "make another PostgreSQL database a shard, for new drives and those that are moved there"},
    {"shard", "list", 0, admin_shard_list, "[--json]", "all shards, and how many drives are in each"},
    {"changes", "trim", 1, admin_changes_trim, "DRIVE --keep N [--owner USER]", "forget all but the newest N changes: mounts that missed more start afresh"},
    {"fsck", NULL, 0, admin_fsck, "", "check every drive's names, counts, versions and chunks against each other; exit 1 if anything is wrong"},
    {"scrub", NULL, 0, admin_scrub, "", "the same, and read every chunk and check its hash"},
};
#define N_VERBS (sizeof verbs / sizeof *verbs)

static size_t n_words(const struct admin_verb *v)
{
    return v->verb ? 2 : 1;
}

static const struct admin_verb *find(const struct config *c)
{
    for (size_t i = 0; i < N_VERBS; i++)
        if (c->n_positional >= n_words(&verbs[i]) && strcmp(verbs[i].noun, c->positional[0]) == 0 &&
            (!verbs[i].verb || strcmp(verbs[i].verb, c->positional[1]) == 0))
            return &verbs[i];
    return NULL;
}

static void verb_line(FILE *out, const struct admin_verb *v, const char *lead)
{
    fprintf(out, "%sadmin %s%s%s%s%s\n", lead, v->noun, v->verb ? " " : "", v->verb ? v->verb : "", *v->usage ? " " : "", v->usage);
}

void admin_help(FILE *out)
{
    for (size_t i = 0; i < N_VERBS; i++) {
        verb_line(out, &verbs[i], "  ");
        fprintf(out, "      %s\n", verbs[i].help);
    }
}

bool admin_known(const struct config *c)
{
    const struct admin_verb *v = find(c);
    if (v && c->n_positional == v->n_args + n_words(v))
        return true;
    if (v) {
        verb_line(stderr, v, "cairn-gateway: usage: cairn-gateway ");
    } else {
        fprintf(stderr, "cairn-gateway: unknown: admin%s%s%s%s; there are:\n", c->n_positional ? " " : "", c->n_positional ? c->positional[0] : "",
                c->n_positional > 1 ? " " : "", c->n_positional > 1 ? c->positional[1] : "");
        admin_help(stderr);
    }
    return false;
}

int admin_run(struct meta *meta, const struct config *c)
{
    const struct admin_verb *v = find(c);
    const struct admin a = {.meta = meta, .c = c, .args = c->positional + n_words(v)};
    return v->run(&a);
}

int admin_failed(const char *fmt, ...)
{
    va_list args;
    fputs("cairn-gateway: ", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    return 1;
}

int admin_errno(int err, const char *what)
{
    return admin_failed("%s: %s", what, strerror(-err));
}

int admin_user(const struct admin *a, const char *name, struct user_row *ret)
{
    int err = a->meta->ops->user_by_name(a->meta, name, ret);
    if (err == -ENOENT)
        return admin_failed("there is no user \"%s\"", name);
    return err ? admin_errno(err, "looking up the user") : 0;
}

void admin_print(json_t *v)
{
    json_dumpf(v, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(v);
}
