#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

static int list(struct remote *r, const struct target *t, bool json)
{
    CLEANUP_BUF struct buf path = {0};
    cli_path_query(&path, "files/versions", t);
    CLEANUP_JSON json_t *o = NULL;
    int err = remote_json(r, "GET", path.data, NULL, &o, NULL);
    if (err)
        return cli_fail_remote(r, err, "%s:%s", cli_name(t->drive), cli_name(t->path));
    if (json)
        return cli_print_json(o);
    const json_t *versions = json_object_get(o, "versions");
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const json_t *v = json_array_get(versions, i);
        char size[32];
        bool current = false, infected = false;
        jsonx_bool(v, "current", &current);
        jsonx_bool(v, "quarantined", &infected);
        printf("%8llu  %.19sZ %10s  %s, %s%s%s\n", (unsigned long long)cli_number(v, "version"), cli_text(v, "modifiedAt"),
               cli_size(cli_number(v, "size"), size), cli_name(cli_text(v, "user")), cli_name(cli_text(v, "device")), current ? "  (current)" : "",
               infected ? "  (infected)" : "");
    }
    return cli_finish_output();
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool json = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"json", 0, CLI_FLAG, &json}};
    if (cli_parse(self, argc, argv, options, 2, 1, 1) < 0)
        return CLI_USAGE;
    CLEANUP_TARGET struct target t = {0};
    struct remote *r;
    int status = target_open(self, argv[0], url, &t, &r);
    if (status)
        return status;
    status = list(r, &t, json);
    remote_free(r);
    return status;
}

const struct verb verb_versions = {"versions", "[--json] [--url URL] FILE", "Lists the versions of a file, the newest first",
                                   "FILE is a path in a mount, or DRIVE:/PATH. A deleted file's versions are listed by the path it had.", run};
