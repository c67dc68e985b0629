#include "fusefs/cli/cli.h"

#include <string.h>

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool json = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"json", 0, CLI_FLAG, &json}};
    if (cli_parse(self, argc, argv, options, 2, 0, 0) < 0)
        return CLI_USAGE;
    struct remote *r = cli_connect(url);
    if (!r)
        return CLI_FAILED;
    CLEANUP_JSON json_t *o = NULL;
    int err = remote_json(r, "GET", "/api/v1/drives", NULL, &o, NULL), status;
    if (err) {
        status = cli_fail_remote(r, err, "your drives cannot be listed");
    } else if (json) {
        status = cli_print_json(o);
    } else {
        const json_t *drives = json_object_get(o, "drives");
        for (size_t i = 0; i < json_array_size(drives); i++) {
            const json_t *d = json_array_get(drives, i);
            char used[32], quota[32];
            bool limited = cli_number(d, "quota") > 0;
            printf("%-24s %-7s %10s%s%s\n", cli_name(cli_text(d, "name")), cli_name(cli_text(d, "role")), cli_is_away(d) ? "away" : cli_size(cli_number(d, "used"), used),
                   limited ? " of " : "", limited ? cli_size(cli_number(d, "quota"), quota) : "");
        }
        status = cli_finish_output();
    }
    remote_free(r);
    return status;
}

const struct verb verb_drives = {"drives", "[--url URL] [--json]", "Lists the drives that you may use", NULL, run};
