#include "fusefs/cli/credentials.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <string.h>

static int save(const char *url, const char *user, const char *access, const char *refresh)
{
    int lock = credentials_lock();
    CLEANUP_JSON json_t *all = credentials_load();
    credentials_set(all, url, user, access, refresh);
    json_object_set_new(all, "default", json_string(url));
    int err = credentials_save(all);
    if (lock >= 0)
        close(lock);
    return err;
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *user = NULL;
    bool from_stdin = false;
    const struct cli_option options[] = {{"user", 'u', CLI_TEXT, &user}, {"password-stdin", 0, CLI_FLAG, &from_stdin}};
    if (cli_parse(self, argc, argv, options, 2, 1, 1) < 0)
        return CLI_USAGE;
    char url[CLI_URL_MAX], device[129];
    if (cli_normal_url(argv[0], url))
        return cli_usage(self, "\"%s\" is no gateway's URL: write http://HOST:PORT or https://HOST.", cli_name(argv[0]));
    if (!user || !user[0])
        return cli_usage(self, "say who you are: --user NAME.");
    char *password = cli_read_password(user, from_stdin);
    if (!password)
        return CLI_FAILED;
    cli_device(device);
    CLEANUP_FREE char *access = NULL, *refresh = NULL;
    int err = remote_login(url, user, password, device, &access, &refresh);
    explicit_bzero(password, strlen(password));
    free(password);
    if (err) {
        const struct remote_problem *p = remote_problem();
        if (p->status == 401)
            return cli_fail("%s does not know this user and password.", url);
        struct remote *r = remote_new(url, NULL, NULL, NULL, NULL);
        cli_fail_remote(r, err, "you cannot be signed in as %s", cli_name(user));
        remote_free(r);
        return CLI_FAILED;
    }
    err = save(url, user, access, refresh);
    if (err)
        return cli_fail("the sign-in cannot be kept: %s.", strerror(-err));
    printf("Signed in at %s as %s.\n", url, cli_name(user));
    return cli_finish_output();
}

const struct verb verb_login = {"login", "URL --user NAME [--password-stdin]", "Signs in at a gateway and keeps the sign-in for later commands",
                                "  -u, --user NAME     who you are\n"
                                "  --password-stdin    the password is the first line of standard input; else it is asked for\n\n"
                                "The sign-in is kept in $XDG_CONFIG_HOME/cairn/credentials.json, which only you can read. There can be one for each\n"
                                "gateway; the last one is used where no URL is given.",
                                run};
