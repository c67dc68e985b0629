#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <string.h>

/* All pages, as one answer. */
static int fetch(struct remote *r, const char *drive, json_t **ret)
{
    json_t *entries = json_array();
    *ret = json_pack("{so}", "entries", entries);
    for (uint64_t before = 0;;) {
        CLEANUP_BUF struct buf path = {0};
        buf_append_str(&path, "/api/v1/trash");
        cli_add_query(&path, "drive", drive);
        if (before)
            buf_appendf(&path, "&before=%llu", (unsigned long long)before);
        CLEANUP_JSON json_t *page = NULL;
        int err = remote_json(r, "GET", path.data, NULL, &page, NULL);
        if (err)
            return err;
        json_array_extend(entries, json_object_get(page, "entries"));
        uint64_t next = cli_number(page, "next");
        if (next == 0 || (before && next >= before))
            return 0;
        before = next;
    }
}

static int list(struct remote *r, const char *drive, bool json)
{
    CLEANUP_JSON json_t *o = NULL;
    int err = fetch(r, drive, &o);
    if (err)
        return cli_fail_remote(r, err, "the trash of %s cannot be listed", cli_name(drive));
    if (json)
        return cli_print_json(o);
    const json_t *entries = json_object_get(o, "entries");
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *e = json_array_get(entries, i);
        char size[32];
        printf("%.19sZ %10s  %s%s  (%s, %s)\n", cli_text(e, "deletedAt"), cli_is_directory(e) ? "-" : cli_size(cli_number(e, "size"), size),
               cli_name(cli_text(e, "path")), cli_is_directory(e) ? "/" : "", cli_name(cli_text(e, "user")), cli_name(cli_text(e, "device")));
    }
    if (json_array_size(entries) == 0)
        puts("The trash is empty.");
    return cli_finish_output();
}

static int restore(struct remote *r, const struct target *t)
{
    CLEANUP_JSON json_t *body = json_pack("{ss?ss?}", "drive", t->drive, "path", t->path);
    if (!body)
        return cli_fail("a path that is not valid UTF-8 can be copied back from .versions in a mount.");
    int err = remote_json(r, "POST", "/api/v1/trash/restore", body, NULL, NULL);
    if (err)
        return cli_fail_remote(r, err, "%s:%s cannot be brought back", cli_name(t->drive), cli_name(t->path));
    printf("%s:%s is back.\n", cli_name(t->drive), cli_name(t->path));
    return cli_finish_output();
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool json = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"json", 0, CLI_FLAG, &json}};
    int n = cli_parse(self, argc, argv, options, 2, 0, 2);
    if (n < 0)
        return CLI_USAGE;
    bool back = n && strcmp(argv[0], "restore") == 0;
    if (back != (n == 2))
        return cli_usage(self, back ? "say which: \"cairn trash restore DRIVE:/PATH\"." : "\"%s\" is one too many.", n ? cli_name(argv[n - 1]) : "");
    CLEANUP_TARGET struct target t = {0};
    bool plain = n == 1 && !strpbrk(argv[0], ":/"); /* "cairn trash DRIVE" */
    int status = plain || n == 0 ? 0 : target_find(self, argv[n - 1], &t);
    if (status)
        return status;
    struct remote *r;
    status = target_connect(&t, url, plain ? argv[0] : NULL, &r);
    if (status)
        return status;
    status = back ? restore(r, &t) : list(r, t.drive, json);
    remote_free(r);
    return status;
}

const struct verb verb_trash = {"trash", "[--json] [--url URL] [DRIVE|DIR] | trash restore FILE", "Lists what was deleted, and brings it back",
                                "FILE is DRIVE:/PATH, or the path in a mount, that it had. A directory comes back with what was in it.", run};
