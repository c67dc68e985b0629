/* cairn-gateway: what its verbs are, and the exit status of each: 0 done, 1 failed, 2 usage. */
#include "common/log.h"
#include "gateway/admin.h"
#include "gateway/config.h"
#include "gateway/serve.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

static const struct program_verb {
    const char *name, *second; /* second: the next word, or NULL */
    enum verb verb;
    const char *help;
} verbs[] = {
    {"serve", NULL, VERB_SERVE, "answer clients"},
    {"worker", NULL, VERB_WORKER, "run the background jobs (an embedded gateway runs them itself)"},
    {"migrate", NULL, VERB_MIGRATE, "bring the database's schema up to date"},
    {"config", "check", VERB_CONFIG_CHECK, "check the options of serve, and print what is in effect"},
    {"admin", NULL, VERB_ADMIN, "users, drives and shards"},
};
#define N_VERBS (sizeof verbs / sizeof *verbs)

static void usage(FILE *out)
{
    fputs("usage: cairn-gateway VERB [OPTION…]\n\n", out);
    for (size_t i = 0; i < N_VERBS; i++)
        fprintf(out, "  %s%s%-*s %s\n", verbs[i].name, verbs[i].second ? " " : "", (int)(14 - strlen(verbs[i].name) - (verbs[i].second ? 1 : 0)),
                verbs[i].second ? verbs[i].second : "", verbs[i].help);
    fputs("\ncairn-gateway VERB --help shows a verb's options. Each option in [$…] can also be set in the environment.\n", out);
}

static void verb_usage(const struct program_verb *v)
{
    printf("usage: cairn-gateway %s%s%s %s[OPTION…]\n%s\n\n", v->name, v->second ? " " : "", v->second ? v->second : "", v->verb == VERB_ADMIN ? "… " : "", v->help);
    if (v->verb == VERB_ADMIN) {
        admin_help(stdout);
        putchar('\n');
    }
    config_help(stdout, v->verb);
}

static const struct program_verb *find(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < N_VERBS; i++)
        if (strcmp(argv[1], verbs[i].name) == 0 && (!verbs[i].second || (argc > 2 && strcmp(argv[2], verbs[i].second) == 0)))
            return &verbs[i];
    return NULL;
}

static int failed(const char *what, int err)
{
    fprintf(stderr, "cairn-gateway: %s: %s\n", what, strerror(-err));
    return 1;
}

static int run(const struct program_verb *v, const struct config *c)
{
    if (v->verb == VERB_CONFIG_CHECK) {
        config_print(stdout, c);
        return 0;
    }
    if (v->verb == VERB_ADMIN && !admin_known(c))
        return 2;
    /* what lies in the folder is for nobody else */
    umask(077);
    if (c->embedded && mkdir(c->embedded, 0700) != 0 && errno != EEXIST)
        return failed(c->embedded, -errno);
    if (v->verb == VERB_SERVE)
        return c->workers > 1 ? serve_workers(c) : serve_run(c, -1);
    if (v->verb == VERB_WORKER)
        return worker_run(c);
    struct meta *meta;
    int err = meta_open(c->meta, &meta); /* brings the schema up to date, too */
    if (err)
        return failed(c->meta, err);
    int status = v->verb == VERB_ADMIN ? admin_run(meta, c) : 0;
    meta->ops->free(meta);
    return status;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a client that is gone is an error of its write */
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)) {
        usage(stdout);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("cairn-gateway " CAIRN_VERSION);
        return 0;
    }
    const struct program_verb *v = find(argc, argv);
    if (!v) {
        if (argc > 1)
            fprintf(stderr, "cairn-gateway: unknown verb \"%s\"\n", argv[1]);
        usage(stderr);
        return 2;
    }
    int skip = v->second ? 3 : 2;
    struct config c;
    CLEANUP_BUF struct buf why = {0};
    if (config_parse(v->verb, argc - skip, argv + skip, &c, &why)) {
        fprintf(stderr, "cairn-gateway: %s\n", why.data);
        return 2;
    }
    if (c.help) {
        verb_usage(v);
        config_fini(&c);
        return 0;
    }
    log_init(v->verb != VERB_ADMIN, c.log_level);
    int status = run(v, &c);
    config_fini(&c);
    return status;
}
