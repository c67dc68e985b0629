#include "common/mem.h"
#include "fusefs/cli/cli.h"
#include "fusefs/cli/credentials.h"

#include <string.h>

static int forget(const char *url)
{
    int lock = credentials_lock();
    CLEANUP_JSON json_t *all = credentials_load();
    json_t *servers = json_object_get(all, "servers");
    json_object_del(servers, url);
    if (strcmp(cli_text(all, "default"), url) == 0) {
        const char *another = json_object_iter_key(json_object_iter(servers));
        json_object_del(all, "default");
        if (another)
            json_object_set_new(all, "default", json_string(another));
    }
    int err = credentials_save(all);
    if (lock >= 0)
        close(lock);
    return err;
}

static int run(const struct verb *self, int argc, char **argv)
{
    int n = cli_parse(self, argc, argv, NULL, 0, 0, 1);
    if (n < 0)
        return CLI_USAGE;
    CLEANUP_JSON json_t *all = credentials_load();
    char url[CLI_URL_MAX];
    const char *which = n ? argv[0] : cli_text(all, "default");
    if (cli_normal_url(which, url) || !credentials_server(all, url))
        return cli_fail(n ? "you are not signed in at %s." : "you are not signed in anywhere%s.", n ? cli_name(which) : "");
    const json_t *server = credentials_server(all, url);
    const char *refresh = json_string_value(json_object_get(server, "refreshToken"));
    struct remote *r = remote_new(url, cli_text(server, "accessToken"), refresh, cli_save_tokens, NULL);
    remote_share_tokens(r, cli_token_store(url));
    CLEANUP_JSON json_t *body = json_object();
    if (remote_json(r, "POST", "/api/v1/auth/logout", body, NULL, NULL) && remote_problem()->status != 401)
        cli_note("The gateway at %s could not be told; its side of the sign-in runs out by itself.", url);
    remote_free(r);
    int err = forget(url);
    if (err)
        return cli_fail("the kept sign-in cannot be removed: %s.", strerror(-err));
    printf("Signed out at %s.\n", url);
    return cli_finish_output();
}

const struct verb verb_logout = {"logout", "[URL]", "Ends the sign-in at a gateway", "Without URL: the last one. Mounts that use this sign-in cannot go on with it.", run};
