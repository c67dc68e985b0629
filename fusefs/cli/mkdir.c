#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <string.h>

static int make(struct remote *r, const char *drive, const char *path)
{
    CLEANUP_JSON json_t *body = json_pack("{ss?ss?}", "drive", drive, "path", path);
    return body ? remote_json(r, "POST", "/api/v1/files/directory", body, NULL, NULL) : -EILSEQ;
}

/* With parents: what is there already is well. */
static int make_all(struct remote *r, const struct target *t)
{
    CLEANUP_FREE char *path = mem_strdup(t->path);
    int err = 0;
    for (char *slash = strchr(path + 1, '/'); !err && slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        err = make(r, t->drive, path);
        err = err == -EEXIST ? 0 : err;
        *slash = '/';
    }
    if (!err && path[1])
        err = make(r, t->drive, path);
    return err == -EEXIST ? 0 : err;
}

static int make_one(const struct verb *self, const char *url, const char *text, bool parents)
{
    CLEANUP_TARGET struct target t = {0};
    struct remote *r;
    int status = target_open(self, text, url, &t, &r);
    if (status)
        return status;
    int err = parents ? make_all(r, &t) : make(r, t.drive, t.path);
    if (err == -EILSEQ)
        status = cli_fail("%s is not valid UTF-8: make it in a mount.", cli_name(text));
    else if (err)
        status = cli_fail_remote(r, err, "%s cannot be made", cli_name(text));
    remote_free(r);
    return status;
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool parents = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"parents", 'p', CLI_FLAG, &parents}};
    int n = cli_parse(self, argc, argv, options, 2, 1, -1), status = CLI_DONE;
    if (n < 0)
        return CLI_USAGE;
    for (int i = 0; i < n; i++) {
        int one = make_one(self, url, argv[i], parents);
        status = one ? one : status;
    }
    return status;
}

const struct verb verb_mkdir = {"mkdir", "[-p] [--url URL] DRIVE:/PATH…", "Makes directories in a drive",
                                "  -p, --parents    missing parents too; what is there already is no failure", run};
