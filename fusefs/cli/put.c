#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>

struct put {
    struct remote *r;
    const char *drive;
    bool recursive;
    struct upload_figures figures;
};

static int put_file(struct put *p, const char *file, const char *path)
{
    CLEANUP_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st))
        return cli_fail("%s cannot be opened: %s.", cli_name(file), strerror(errno));
    if (!S_ISREG(st.st_mode))
        return cli_fail("%s is not a regular file: only files and directories can be put.", cli_name(file));
    struct target to = {.drive = (char *)p->drive, .path = (char *)path};
    return upload_file(p->r, file, fd, &to, &p->figures);
}

static int make_directory(struct put *p, const char *path)
{
    if (strcmp(path, "/") == 0)
        return 0;
    CLEANUP_JSON json_t *body = json_pack("{ss?ss?}", "drive", p->drive, "path", path);
    int err = body ? remote_json(p->r, "POST", "/api/v1/files/directory", body, NULL, NULL) : -EILSEQ;
    return err && err != -EEXIST ? cli_fail_remote(p->r, err, "%s:%s cannot be made", cli_name(p->drive), cli_name(path)) : 0;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static int put_entry(struct put *p, const FTSENT *e, const char *path)
{
    switch (e->fts_info) {
    case FTS_D:
        return make_directory(p, path);
    case FTS_F:
        return put_file(p, e->fts_accpath, path);
    case FTS_DP:
        return 0;
    case FTS_SL:
    case FTS_SLNONE:
    case FTS_DEFAULT:
        cli_note("%s is left out: only files and directories can be put.", cli_name(e->fts_path));
        return 0;
    default:
        return cli_fail("%s cannot be read: %s.", cli_name(e->fts_path), strerror(e->fts_errno));
    }
}

static int put_tree(struct put *p, const char *dir, const char *path)
{
    CLEANUP_FREE char *root = mem_strdup(dir);
    char *roots[] = {root, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    if (!fts)
        return cli_fail("%s cannot be read: %s.", cli_name(dir), strerror(errno));
    int status = CLI_DONE;
    size_t prefix = strlen(root);
    for (FTSENT *e; !cli_interrupted() && (e = fts_read(fts));) {
        const char *rel = e->fts_path + prefix;
        rel += *rel == '/';
        CLEANUP_FREE char *to = *rel ? cli_join(path, rel) : mem_strdup(path);
        if (put_entry(p, e, to)) {
            status = CLI_FAILED;
            if (e->fts_info == FTS_D) /* nothing can go into it */
                fts_set(fts, e, FTS_SKIP);
        }
    }
    fts_close(fts);
    return cli_interrupted() ? CLI_FAILED : status;
}

static const char *last_part(char *path)
{
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = 0;
    char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static int put_source(struct put *p, char *source, const struct target *to, bool inside)
{
    struct stat st;
    if (stat(source, &st))
        return cli_fail("%s cannot be found: %s.", cli_name(source), strerror(errno));
    const char *name = last_part(source);
    if (inside && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "/") == 0))
        inside = false; /* its entries go there */
    CLEANUP_FREE char *path = inside ? cli_join(to->path, name) : mem_strdup(to->path);
    if (S_ISDIR(st.st_mode) && !p->recursive)
        return cli_fail("%s is a directory: use -r to put it with all that is in it.", cli_name(source));
    return S_ISDIR(st.st_mode) ? put_tree(p, source, path) : put_file(p, source, path);
}

static int put_all(struct put *p, char **sources, int n, const struct target *to)
{
    CLEANUP_JSON json_t *there = NULL;
    if (cli_stat(p->r, to, &there))
        return CLI_FAILED;
    bool inside = there && cli_is_directory(there);
    if (!inside && (to->slash || n > 1))
        return cli_fail("%s:%s is no directory: make it with \"cairn mkdir\" first.", cli_name(to->drive), cli_name(to->path));
    int status = CLI_DONE;
    for (int i = 0; i < n && !cli_interrupted(); i++)
        if (put_source(p, sources[i], to, inside))
            status = CLI_FAILED;
    if (p->figures.files > 1) {
        char size[32];
        printf("%llu files, %s: sent %llu of %llu chunks (%llu already there)\n", (unsigned long long)p->figures.files,
               cli_size(p->figures.bytes, size), (unsigned long long)p->figures.sent, (unsigned long long)p->figures.chunks,
               (unsigned long long)(p->figures.chunks - p->figures.sent));
    }
    return cli_interrupted() ? CLI_FAILED : status ? status : cli_finish_output();
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL, *direct = "auto";
    bool recursive = false, on;
    const struct cli_option options[] = {{"direct", 0, CLI_TEXT, &direct}, {"url", 0, CLI_TEXT, &url}, {"recursive", 'r', CLI_FLAG, &recursive}};
    int n = cli_parse(self, argc, argv, options, 3, 2, -1);
    if (n < 0 || cli_parse_direct(self, direct, &on))
        return CLI_USAGE;
    CLEANUP_TARGET struct target to = {0};
    struct remote *r;
    int status = target_open(self, argv[n - 1], url, &to, &r);
    if (status)
        return status;
    remote_set_direct(r, on);
    cli_catch_interrupts();
    struct put p = {.r = r, .drive = to.drive, .recursive = recursive};
    status = put_all(&p, argv, n - 1, &to);
    remote_free(r);
    return status;
}

const struct verb verb_put = {"put", "[-r] [--direct auto|off] [--url URL] FILE… DRIVE:/PATH", "Puts files into a drive; goes on where an earlier try stopped",
                              "  -r, --recursive     directories with all that is in them\n"
                              "  --direct auto|off   chunks straight to the object store where it can be reached (auto), or all through the gateway\n\n"
                              "If PATH is a directory, the files go into it. Only what the drive does not have is sent. After an interruption the same command\n"
                              "sends only what is still missing (for a day).",
                              run};
