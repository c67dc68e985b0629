#include "fusefs/cli/cli.h"

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL, *direct = "auto";
    uint64_t version = 0;
    bool on;
    const struct cli_option options[] = {{"direct", 0, CLI_TEXT, &direct}, {"url", 0, CLI_TEXT, &url}, {"version", 0, CLI_NUMBER, &version}};
    int n = cli_parse(self, argc, argv, options, 3, 1, 2);
    if (n < 0 || cli_parse_direct(self, direct, &on))
        return CLI_USAGE;
    CLEANUP_TARGET struct target from = {0};
    struct remote *r;
    int status = target_open(self, argv[0], url, &from, &r);
    if (status)
        return status;
    remote_set_direct(r, on);
    cli_catch_interrupts();
    struct download how = {.version = version, .file = n == 2 && argv[1][0] ? argv[1] : NULL};
    status = download_file(r, &from, &how);
    remote_free(r);
    return status;
}

const struct verb verb_get = {"get", "[--version N] [--direct auto|off] [--url URL] DRIVE:/PATH [FILE]", "Gets a file from a drive; goes on where an earlier try stopped",
                              "  --version N         that version, not the newest\n"
                              "  --direct auto|off   chunks straight from the object store where it can be reached (auto), or all through the gateway\n\n"
                              "FILE is \"-\" for standard output; without it the name stays. Until it is whole and verified it is called FILE.part.",
                              run};
