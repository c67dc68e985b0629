#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <string.h>

#define WAIT_S 15 /* below the time after which a silent gateway counts as away */

static void print_change(const json_t *c, bool json)
{
    if (json) {
        CLEANUP_BUF struct buf line = {0};
        jsonx_dump(c, &line);
        puts(line.data);
    } else {
        const char *from = cli_text(c, "from");
        printf("%.19s  %-10s %s%s%s  (%s, %s)\n", cli_text(c, "at"), cli_name(cli_text(c, "kind")), from[0] ? cli_name(from) : "", from[0] ? " → " : "",
               cli_name(cli_text(c, "path")), cli_name(cli_text(c, "user")), cli_name(cli_text(c, "device")));
    }
}

static int newest_seq(struct remote *r, const char *drive, uint64_t *ret)
{
    CLEANUP_JSON json_t *o = NULL;
    int err = remote_json(r, "GET", "/api/v1/drives", NULL, &o, NULL);
    const json_t *drives = json_object_get(o, "drives");
    for (size_t i = 0; !err && i < json_array_size(drives); i++) {
        const json_t *d = json_array_get(drives, i);
        if (strcmp(cli_text(d, "id"), drive) == 0 || strcmp(cli_text(d, "name"), drive) == 0) {
            *ret = cli_number(d, "seq");
            return cli_is_away(d) ? -EHOSTUNREACH : 0;
        }
    }
    return err ? err : -ENOENT;
}

static int poll_changes(struct remote *r, const char *drive, uint64_t *since, bool json)
{
    CLEANUP_BUF struct buf path = {0};
    buf_append_str(&path, "/api/v1/changes");
    cli_add_query(&path, "drive", drive);
    buf_appendf(&path, "&since=%llu&wait=%d", (unsigned long long)*since, WAIT_S);
    CLEANUP_JSON json_t *o = NULL;
    int err = remote_json(r, "GET", path.data, NULL, &o, NULL);
    if (err)
        return err;
    uint64_t next;
    if (jsonx_u64(o, "next", &next) || next < *since)
        return -EPROTO;
    const json_t *changes = json_object_get(o, "changes");
    for (size_t i = 0; i < json_array_size(changes); i++)
        print_change(json_array_get(changes, i), json);
    *since = next;
    return fflush(stdout) ? -EPIPE : 0;
}

static int watch(struct remote *r, const char *drive, bool has_since, uint64_t since, bool json)
{
    struct remote_wait w = {.timeout_ms = 60000};
    for (;;) { /* Ctrl-C ends the process */
        int err = has_since ? poll_changes(r, drive, &since, json) : newest_seq(r, drive, &since);
        if (!err) {
            has_since = true;
            w = (struct remote_wait){.timeout_ms = 60000};
        } else if (err == -EPIPE) {
            return CLI_FAILED;
        } else if (err == -ENOENT && !has_since) {
            return cli_fail("you have no drive \"%s\": \"cairn drives\" lists them.", cli_name(drive));
        } else if (err == -ESTALE) {
            cli_note("Changes before now are no longer kept; watching goes on from here.");
            has_since = false;
        } else if (!remote_wait(&w, err)) {
            return cli_fail_remote(r, err, "the changes of %s cannot be read", cli_name(drive));
        }
    }
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL, *since_text = NULL;
    bool json = false;
    uint64_t since = 0;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"json", 0, CLI_FLAG, &json}, {"since", 0, CLI_TEXT, &since_text}};
    int n = cli_parse(self, argc, argv, options, 3, 0, 1);
    if (n < 0)
        return CLI_USAGE;
    if (since_text && cli_parse_number(since_text, &since))
        return cli_usage(self, "--since takes a change's number, not \"%s\".", cli_name(since_text));
    CLEANUP_TARGET struct target t = {0};
    if (n && (strchr(argv[0], '/') || access(argv[0], F_OK) == 0) && target_find(self, argv[0], &t))
        return CLI_FAILED;
    struct remote *r = cli_connect(url ? url : t.url);
    if (!r)
        return CLI_FAILED;
    if (!t.drive)
        t.drive = cli_drive(r, n ? argv[0] : NULL);
    int status = t.drive ? watch(r, t.drive, since_text != NULL, since, json) : CLI_FAILED;
    remote_free(r);
    return status;
}

const struct verb verb_watch = {"watch", "[--json] [--since N] [--url URL] [DIR|DRIVE]", "Prints every change of a drive as it happens, until Ctrl-C",
                                "  --since N    begins behind change N\n  --json       one object a line, as GET /changes answers", run};
