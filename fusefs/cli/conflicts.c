#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <string.h>

#define DEPTH_MAX 256

struct search {
    struct remote *r;
    const char *drive;
    const char *dir; /* whose entries come */
    unsigned depth;
    json_t *found;
};

static bool is_sibling(const char *name)
{
    const char *mark = strstr(name, " (conflict, ");
    return mark && mark > name && strchr(mark, ')');
}

static int each(void *ctx, json_t *e)
{
    struct search *s = ctx;
    CLEANUP_FREE char *keep = NULL;
    const char *name = cli_entry_name(e, &keep);
    if (!name)
        return 0;
    CLEANUP_FREE char *path = cli_join(s->dir, name);
    if (cli_is_directory(e)) {
        if (s->depth >= DEPTH_MAX)
            return cli_fail("%s is too deep.", cli_name(path));
        struct search below = *s;
        struct target t = {.drive = (char *)s->drive, .path = path};
        below.dir = path;
        below.depth++;
        return cli_each_entry(s->r, &t, each, &below);
    }
    if (is_sibling(name)) {
        json_object_set_new(e, "path", json_string(path));
        json_array_append(s->found, e);
    }
    return 0;
}

/* What mounts of this drive here were told; found: {path…} of those. */
static void add_notices(const struct target *t, json_t *notices)
{
    struct cli_mount *m;
    size_t n = cli_mounts(&m);
    for (size_t i = 0; i < n; i++) {
        CLEANUP_JSON json_t *s = NULL;
        if (cli_mount_status(m[i].dir, &s) || strcmp(cli_text(s, "drive"), t->drive) != 0)
            continue;
        const json_t *list = json_object_get(s, "notices");
        for (size_t k = 0; k < json_array_size(list); k++)
            if (strcmp(cli_text(json_array_get(list, k), "kind"), "conflict") == 0)
                json_array_append(notices, json_array_get(list, k));
    }
    cli_mounts_free(m, n);
}

static int list(struct remote *r, const struct target *t, bool json)
{
    CLEANUP_JSON json_t *o = json_object();
    json_t *found = json_array(), *notices = json_array();
    json_object_set_new(o, "conflicts", found);
    json_object_set_new(o, "notices", notices);
    struct search s = {r, t->drive, t->path, 0, found};
    int status = cli_each_entry(r, t, each, &s);
    if (status)
        return status;
    add_notices(t, notices);
    if (json)
        return cli_print_json(o);
    for (size_t i = 0; i < json_array_size(found); i++) {
        const json_t *e = json_array_get(found, i);
        char size[32];
        printf("%s:%s  %s, %.19sZ\n", cli_name(t->drive), cli_name(cli_text(e, "path")), cli_size(cli_number(e, "size"), size), cli_text(e, "modifiedAt"));
    }
    for (size_t i = 0; i < json_array_size(notices); i++)
        printf("notice: %s  %.19sZ\n", cli_name(cli_text(json_array_get(notices, i), "path")), cli_text(json_array_get(notices, i), "at"));
    if (json_array_size(found) + json_array_size(notices) == 0)
        puts("There are no conflicts.");
    return cli_finish_output();
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool json = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"json", 0, CLI_FLAG, &json}};
    int n = cli_parse(self, argc, argv, options, 2, 0, 1);
    if (n < 0)
        return CLI_USAGE;
    CLEANUP_TARGET struct target t = {0};
    struct remote *r;
    int status = target_open(self, n ? argv[0] : ":/", url, &t, &r);
    if (status)
        return status;
    status = list(r, &t, json);
    remote_free(r);
    return status;
}

const struct verb verb_conflicts = {"conflicts", "[--json] [--url URL] [DIR|DRIVE:/PATH]", "Lists files that two wrote at once: the copies to look at",
                                    "Both contents are kept: the later is beside the file as \"NAME (conflict, DEVICE, TIME).EXT\". Keep what you need of it, then\n"
                                    "remove it. Notices are what mounts on this machine were told.",
                                    run};
