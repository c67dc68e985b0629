#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <string.h>

static void print_waiting(const json_t *s)
{
    char bytes[32];
    uint64_t dirty = cli_number(s, "dirtyBytes"), files = cli_number(s, "dirtyFiles"), ops = cli_number(s, "pendingOperations");
    if (dirty || files || ops)
        printf("  not yet sent: %s in %llu files, %llu operations\n", cli_size(dirty, bytes), (unsigned long long)files, (unsigned long long)ops);
    else
        puts("  everything is sent");
}

static void print_notices(const json_t *s)
{
    const json_t *notices = json_object_get(s, "notices");
    for (size_t i = 0; i < json_array_size(notices); i++) {
        const json_t *n = json_array_get(notices, i);
        printf("  notice: %s %s %.19s\n", cli_name(cli_text(n, "kind")), cli_name(cli_text(n, "path")), cli_text(n, "at"));
    }
}

static void print_direct(const json_t *s)
{
    char fetched[32], brought[32];
    const char *state = cli_text(s, "direct");
    if (strcmp(state, "unreachable") == 0)
        puts("  the object store cannot be reached from here: content goes through the gateway");
    else if (strcmp(state, "on") == 0)
        printf("  straight with the object store: fetched %s, brought %s\n", cli_size(cli_number(s, "directFetchedBytes"), fetched),
               cli_size(cli_number(s, "directSentBytes"), brought));
}

static void print_status(const char *dir, const json_t *s)
{
    char cached[32];
    bool online = false, lease = false, writeback = false, read_only = false;
    jsonx_bool(s, "online", &online);
    writeback = jsonx_bool(s, "writeback", &writeback) == 0 && writeback;
    read_only = jsonx_bool(s, "readOnly", &read_only) == 0 && read_only;
    if (jsonx_bool(s, "lease", &lease))
        lease = cli_number(s, "lease") > 0;
    printf("%s: drive %s at %s\n", cli_name(dir), cli_name(cli_text(s, "drive")), cli_name(cli_text(s, "url")));
    printf("  %s%s%s\n", !online ? "cut off: goes on from what it has cached" : lease ? "connected, coherent" : "connected, asks at each open and look-up",
           writeback ? ", write-back" : "", read_only ? ", read-only" : "");
    print_waiting(s);
    printf("  cached: %s\n", cli_size(cli_number(s, "cachedBytes"), cached));
    print_direct(s);
    print_notices(s);
}

/* `listed`: among all others, where those of other users are none of ours. */
static int show(const char *dir, bool listed, json_t *all)
{
    CLEANUP_JSON json_t *s = NULL;
    int err = cli_mount_status(dir, &s);
    if (err == -EACCES && listed)
        return CLI_DONE;
    if (err == -ENOTCONN)
        return cli_fail("%s: its driver is gone: \"cairn unmount %s\" clears it away.", cli_name(dir), cli_name(dir));
    if (err)
        return cli_fail("%s does not say how it is: %s.", cli_name(dir), strerror(-err));
    if (all) {
        json_object_set_new(s, "mountpoint", json_string(dir));
        json_array_append(all, s);
    } else {
        print_status(dir, s);
    }
    return CLI_DONE;
}

static int show_all(json_t *all)
{
    struct cli_mount *m;
    size_t n = cli_mounts(&m);
    int status = CLI_DONE;
    for (size_t i = 0; i < n; i++)
        if (show(m[i].dir, true, all))
            status = CLI_FAILED;
    if (n == 0 && !all)
        puts("No drive is mounted: \"cairn mount DIR\" mounts one.");
    cli_mounts_free(m, n);
    return status;
}

static int run(const struct verb *self, int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"json", 0, CLI_FLAG, &json}};
    int n = cli_parse(self, argc, argv, options, 1, 0, 1), status;
    if (n < 0)
        return CLI_USAGE;
    CLEANUP_JSON json_t *all = json ? json_array() : NULL;
    if (n) {
        CLEANUP_FREE char *dir = NULL, *rel = NULL;
        if (cli_mount_of(argv[0], &dir, &rel))
            return cli_fail("%s is not in a mounted drive.", cli_name(argv[0]));
        status = show(dir, false, all);
    } else {
        status = show_all(all);
    }
    if (json) {
        int printed = cli_print_json(n ? json_array_get(all, 0) : all);
        return status ? status : printed;
    }
    return status ? status : cli_finish_output();
}

const struct verb verb_status = {"status", "[--json] [DIR]", "Says how a mount is: connected, coherent, what is not yet sent",
                                 "Without DIR: every mount on this machine that you may use. --json prints one object for DIR, else an array.", run};
