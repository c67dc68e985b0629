#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <string.h>

static int remove_one(const struct verb *self, const char *url, const char *text, bool recursive)
{
    CLEANUP_TARGET struct target t = {0};
    struct remote *r;
    int status = target_open(self, text, url, &t, &r);
    if (status)
        return status;
    CLEANUP_BUF struct buf path = {0};
    cli_path_query(&path, "files", &t);
    if (recursive)
        buf_append_str(&path, "&recursive=true");
    int err = remote_json(r, "DELETE", path.data, NULL, NULL, NULL);
    if (err == -ENOTEMPTY || (err && strcmp(remote_problem()->code, "directory-not-empty") == 0))
        status = cli_fail("%s is a directory that is not empty: use -r to remove it with all that is in it.", cli_name(text));
    else if (err)
        status = cli_fail_remote(r, err, "%s cannot be removed", cli_name(text));
    remote_free(r);
    return status;
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool recursive = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"recursive", 'r', CLI_FLAG, &recursive}};
    int n = cli_parse(self, argc, argv, options, 2, 1, -1), status = CLI_DONE;
    if (n < 0)
        return CLI_USAGE;
    for (int i = 0; i < n; i++) {
        int one = remove_one(self, url, argv[i], recursive);
        status = one ? one : status;
    }
    return status;
}

const struct verb verb_rm = {"rm", "[-r] [--url URL] DRIVE:/PATH…", "Removes files or directories of a drive; their versions stay",
                             "  -r, --recursive    directories with all that is in them", run};
