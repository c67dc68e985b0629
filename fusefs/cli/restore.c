#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static int restore_here(struct remote *r, const struct target *t, uint64_t version)
{
    CLEANUP_JSON json_t *body = json_pack("{ss?ss?sI}", "drive", t->drive, "path", t->path, "version", (json_int_t)version);
    if (!body)
        return cli_fail("a path that is not valid UTF-8 can be restored by --to only.");
    CLEANUP_JSON json_t *o = NULL;
    int err = remote_json(r, "POST", "/api/v1/files/versions/restore", body, &o, NULL);
    if (err)
        return cli_fail_remote(r, err, "%s:%s cannot be restored to version %llu", cli_name(t->drive), cli_name(t->path), (unsigned long long)version);
    printf("%s:%s has the content of version %llu again, as version %llu.\n", cli_name(t->drive), cli_name(t->path), (unsigned long long)version,
           (unsigned long long)cli_number(o, "version"));
    return cli_finish_output();
}

/* Another place of a drive: by way of a file here; its chunks are in the drive already, so that nothing is sent back. */
static int restore_to_drive(struct remote *r, const struct target *from, uint64_t version, const struct target *to)
{
    const char *tmp = getenv("TMPDIR");
    CLEANUP_FREE char *dir = mem_printf("%s/cairn-restore-XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return cli_fail("%s cannot be made: %s.", dir, strerror(errno));
    CLEANUP_FREE char *file = mem_printf("%s/content", dir), *part = mem_printf("%s/content.part", dir);
    struct download how = {.version = version, .file = file};
    int status = download_file(r, from, &how);
    if (status == 0) {
        CLEANUP_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC);
        struct upload_figures figures = {0};
        status = fd < 0 ? cli_fail("%s cannot be read: %s.", file, strerror(errno)) : upload_file(r, file, fd, to, &figures);
    }
    unlink(file);
    unlink(part);
    rmdir(dir);
    return status;
}

static int restore_to(struct remote *r, const struct target *from, uint64_t version, const char *place)
{
    CLEANUP_TARGET struct target to = {0};
    if (target_parse(place, &to) == 0) {
        if (!to.drive)
            to.drive = mem_strdup(from->drive);
        return restore_to_drive(r, from, version, &to);
    }
    struct download how = {.version = version, .file = place};
    return download_file(r, from, &how);
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL, *place = NULL;
    uint64_t version = 0;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"version", 0, CLI_NUMBER, &version}, {"to", 0, CLI_TEXT, &place}};
    if (cli_parse(self, argc, argv, options, 3, 1, 1) < 0)
        return CLI_USAGE;
    if (!version)
        return cli_usage(self, "say which: --version N (\"cairn versions FILE\" lists them).");
    CLEANUP_TARGET struct target t = {0};
    struct remote *r;
    int status = target_open(self, argv[0], url, &t, &r);
    if (status)
        return status;
    cli_catch_interrupts();
    status = place && place[0] ? restore_to(r, &t, version, place) : restore_here(r, &t, version);
    remote_free(r);
    return status;
}

const struct verb verb_restore = {"restore", "FILE --version N [--to PATH] [--url URL]", "Gives a file the content of one of its versions again",
                                  "  --version N    which (\"cairn versions FILE\")\n"
                                  "  --to PATH      leaves FILE as it is and writes that version there: a local path, or DRIVE:/PATH\n\n"
                                  "FILE is a path in a mount, or DRIVE:/PATH. The content it has now stays as a version.",
                                  run};
