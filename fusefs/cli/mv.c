#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <string.h>

static int move(struct remote *r, struct target *from, struct target *to, bool keep)
{
    CLEANUP_JSON json_t *there = NULL;
    if (cli_stat(r, to, &there))
        return CLI_FAILED;
    if (there && cli_is_directory(there)) {
        char *inside = cli_join(to->path, strrchr(from->path, '/') + 1);
        free(to->path);
        to->path = inside;
    } else if (to->slash) {
        return cli_fail("%s:%s/ is no directory.", cli_name(to->drive), cli_name(to->path));
    }
    CLEANUP_JSON json_t *body = json_pack("{ss?ss?ss?sb}", "drive", from->drive, "from", from->path, "to", to->path, "replace", !keep);
    if (!body)
        return cli_fail("a path that is not valid UTF-8 can be moved in a mount only.");
    int err = remote_json(r, "POST", "/api/v1/files/move", body, NULL, NULL);
    return err ? cli_fail_remote(r, err, "%s:%s cannot be moved to %s", cli_name(from->drive), cli_name(from->path), cli_name(to->path)) : CLI_DONE;
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool keep = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"no-replace", 'n', CLI_FLAG, &keep}};
    if (cli_parse(self, argc, argv, options, 2, 2, 2) < 0)
        return CLI_USAGE;
    CLEANUP_TARGET struct target from = {0}, to = {0};
    int status = target_find(self, argv[0], &from);
    if (!status && argv[1][0] == '/' && !strchr(argv[1], ':') && !from.url) { /* "DRIVE:/a /b" */
        CLEANUP_FREE char *same = mem_printf(":%s", argv[1]);
        status = target_find(self, same, &to);
    } else if (!status) {
        status = target_find(self, argv[1], &to);
    }
    if (status)
        return status;
    struct remote *r = cli_connect(url ? url : from.url);
    if (!r)
        return CLI_FAILED;
    if (!from.drive)
        from.drive = cli_drive(r, to.drive);
    if (!to.drive)
        to.drive = mem_strdup(from.drive);
    if (!from.drive)
        status = CLI_FAILED;
    else if (strcmp(from.drive, to.drive) != 0)
        status = cli_fail("a file can be moved within one drive only: copy it by \"cairn get\" and \"cairn put\".");
    else
        status = move(r, &from, &to, keep);
    remote_free(r);
    return status;
}

const struct verb verb_mv = {"mv", "[-n] [--url URL] DRIVE:/FROM [DRIVE:]/TO", "Moves or renames a file or directory within a drive, with its history",
                             "  -n, --no-replace    fails if TO is there already\n\nIf TO is a directory, FROM goes into it.", run};
