#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <string.h>

/* `listed`: among all others, where those of other users are none of ours. */
static int add_mount(json_t *all, bool listed, const char *dir)
{
    json_t *s = NULL;
    int err = cli_mount_status(dir, &s);
    if (err == -EACCES && listed)
        return CLI_DONE;
    if (err)
        return cli_fail("%s does not say how it is: %s.", cli_name(dir), strerror(-err));
    json_object_set_new(s, "mountpoint", json_string(dir));
    json_array_append_new(all, s);
    return CLI_DONE;
}

/* Every figure that the mount tells, whichever they are. */
static void print_figures(json_t *s)
{
    const char *key;
    json_t *v;
    printf("%s\n", cli_name(cli_text(s, "mountpoint")));
    json_object_foreach(s, key, v) {
        char size[32];
        size_t len = strlen(key);
        if (!json_is_number(v))
            continue;
        if (len > 5 && strcmp(key + len - 5, "Bytes") == 0)
            printf("  %-24s %s\n", cli_name(key), cli_size(cli_number(s, key), size));
        else
            printf("  %-24s %.15g\n", cli_name(key), json_number_value(v));
    }
}

static int run(const struct verb *self, int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"json", 0, CLI_FLAG, &json}};
    int n = cli_parse(self, argc, argv, options, 1, 0, 1), status = CLI_DONE;
    if (n < 0)
        return CLI_USAGE;
    CLEANUP_JSON json_t *all = json_array();
    if (n) {
        CLEANUP_FREE char *dir = NULL, *rel = NULL;
        if (cli_mount_of(argv[0], &dir, &rel))
            return cli_fail("%s is not in a mounted drive.", cli_name(argv[0]));
        status = add_mount(all, false, dir);
    } else {
        struct cli_mount *m;
        size_t n_mounts = cli_mounts(&m);
        for (size_t i = 0; i < n_mounts; i++)
            status = add_mount(all, true, m[i].dir) ? CLI_FAILED : status;
        cli_mounts_free(m, n_mounts);
        if (n_mounts == 0 && !json)
            puts("No drive is mounted.");
    }
    for (size_t i = 0; !json && i < json_array_size(all); i++)
        print_figures(json_array_get(all, i));
    int printed = json ? cli_print_json(all) : cli_finish_output();
    return status ? status : printed;
}

const struct verb verb_stats = {"stats", "[--json] [DIR]", "Prints the figures of a mount: cache, transfers, what waits", "Without DIR: of every mount on this machine that you may use.", run};
