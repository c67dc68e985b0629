#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <string.h>

struct list {
    bool with_details;
    json_t *all; /* with --json */
};

static void print_entry(const json_t *e, const char *name, bool with_details)
{
    const char *kind = cli_text(e, "kind");
    const char *mark = strcmp(kind, "directory") == 0 ? "/" : strcmp(kind, "symlink") == 0 ? "@" : "";
    if (with_details) {
        char size[32];
        unsigned mode = (unsigned)cli_number(e, "mode");
        bool file = strcmp(kind, "file") == 0;
        printf("%04o %10s  %.19s  ", mode, file ? cli_size(cli_number(e, "size"), size) : "-", cli_text(e, "modifiedAt"));
    }
    bool infected = false;
    jsonx_bool(e, "quarantined", &infected);
    printf("%s%s%s\n", isatty(STDOUT_FILENO) ? cli_name(name) : name, mark, infected && with_details ? "  (infected)" : "");
}

static int each(void *ctx, json_t *e)
{
    struct list *l = ctx;
    if (l->all) {
        json_array_append(l->all, e);
        return 0;
    }
    CLEANUP_FREE char *keep = NULL;
    const char *name = cli_entry_name(e, &keep);
    if (name)
        print_entry(e, name, l->with_details);
    return 0;
}

static int list_target(struct remote *r, const struct target *t, bool json, bool with_details)
{
    CLEANUP_JSON json_t *file = NULL;
    if (cli_stat(r, t, &file))
        return CLI_FAILED;
    if (!file)
        return cli_fail("there is no %s:%s.", cli_name(t->drive), cli_name(t->path));
    if (cli_is_directory(file)) {
        struct list l = {with_details, json ? json_array() : NULL};
        int status = cli_each_entry(r, t, each, &l);
        if (l.all) {
            json_object_set_new(file, "entries", l.all);
            json_object_set_new(file, "next", json_null());
        }
        if (status)
            return status;
    } else if (!json) {
        print_entry(file, strrchr(t->path, '/') + 1, with_details);
    }
    return json ? cli_print_json(file) : cli_finish_output();
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool json = false, details = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"json", 0, CLI_FLAG, &json}, {"long", 'l', CLI_FLAG, &details}};
    int n = cli_parse(self, argc, argv, options, 3, 0, 1);
    if (n < 0)
        return CLI_USAGE;
    CLEANUP_TARGET struct target t = {0};
    struct remote *r;
    int status = target_open(self, n ? argv[0] : ":/", url, &t, &r);
    if (status)
        return status;
    status = list_target(r, &t, json, details);
    remote_free(r);
    return status;
}

const struct verb verb_ls = {"ls", "[-l] [--json] [--url URL] [DRIVE:/PATH]", "Lists a directory of a drive, without a mount",
                             "  -l, --long    mode, size and time too\n  --json        as GET /files answers, with all entries", run};
