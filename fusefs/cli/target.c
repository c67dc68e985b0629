#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <string.h>

void target_fini(struct target *t)
{
    free(t->url);
    free(t->drive);
    free(t->path);
    *t = (struct target){0};
}

/* One '/' between names, none at the end; "." dropped. -EINVAL for "..". */
static int normal_path(const char *text, char **ret)
{
    CLEANUP_BUF struct buf b = {0};
    while (*text) {
        text += strspn(text, "/");
        size_t n = strcspn(text, "/");
        if (n == 2 && strncmp(text, "..", 2) == 0)
            return -EINVAL;
        if (n && !(n == 1 && text[0] == '.')) {
            buf_append(&b, "/", 1);
            buf_append(&b, text, n);
        }
        text += n;
    }
    if (!b.len)
        buf_append(&b, "/", 1);
    *ret = buf_detach(&b);
    return 0;
}

int target_parse(const char *text, struct target *ret)
{
    const char *colon = strchr(text, ':');
    if (!colon || (colon[1] && colon[1] != '/') || memchr(text, '/', (size_t)(colon - text)))
        return -EINVAL;
    struct target t = {0};
    if (normal_path(colon + 1, &t.path))
        return -EINVAL;
    if (colon > text)
        t.drive = mem_dup(text, (size_t)(colon - text));
    size_t len = strlen(colon + 1);
    t.slash = len && colon[len] == '/';
    *ret = t;
    return 0;
}

int target_find(const struct verb *self, const char *text, struct target *ret)
{
    if (target_parse(text, ret) == 0)
        return CLI_DONE;
    CLEANUP_FREE char *dir = NULL, *rel = NULL;
    int err = cli_mount_of(text, &dir, &rel);
    if (err == -ENOENT && !strchr(text, ':'))
        return cli_fail("%s is not in a mounted drive: write DRIVE:/PATH, or a path in a mount.", cli_name(text));
    if (err)
        return cli_usage(self, "\"%s\" is neither DRIVE:/PATH nor a path in a mount.", cli_name(text));
    CLEANUP_JSON json_t *status = NULL;
    err = cli_mount_status(dir, &status);
    const char *url, *drive;
    if (err || jsonx_str(status, "url", &url) || jsonx_str(status, "drive", &drive))
        return cli_fail("the mount at %s does not say what it is: %s.", dir, strerror(err ? -err : EPROTO));
    *ret = (struct target){mem_strdup(url), mem_strdup(drive), rel, false};
    size_t len = strlen(text);
    ret->slash = len && text[len - 1] == '/';
    rel = NULL;
    return CLI_DONE;
}

char *cli_drive(struct remote *r, const char *drive)
{
    const char *environment = getenv("CAIRN_DRIVE");
    if (drive && drive[0])
        return mem_strdup(drive);
    if (environment && environment[0])
        return mem_strdup(environment);
    CLEANUP_JSON json_t *o = NULL;
    int err = remote_json(r, "GET", "/api/v1/drives", NULL, &o, NULL);
    if (err) {
        cli_fail_remote(r, err, "your drives cannot be listed");
        return NULL;
    }
    const json_t *drives = json_object_get(o, "drives");
    const char *name = cli_text(json_array_get(drives, 0), "name");
    if (json_array_size(drives) == 1 && name[0])
        return mem_strdup(name);
    if (json_array_size(drives) == 0)
        cli_fail("you have no drive at %s yet.", remote_url(r));
    else
        cli_fail("you have %zu drives: say which (\"cairn drives\" lists them).", json_array_size(drives));
    return NULL;
}

int target_connect(struct target *t, const char *url, const char *drive, struct remote **ret_remote)
{
    struct remote *r = cli_connect(url ? url : t->url);
    if (!r)
        return CLI_FAILED;
    if (!t->drive)
        t->drive = cli_drive(r, drive);
    if (!t->drive) {
        remote_free(r);
        return CLI_FAILED;
    }
    *ret_remote = r;
    return CLI_DONE;
}

int target_open(const struct verb *self, const char *text, const char *url, struct target *ret, struct remote **ret_remote)
{
    int status = target_find(self, text, ret);
    return status ? status : target_connect(ret, url, NULL, ret_remote);
}

void cli_add_query(struct buf *ret, const char *key, const char *value)
{
    const char *at = ret->data ? strchr(ret->data, '?') : NULL;
    buf_appendf(ret, "%c%s=", at ? '&' : '?', key);
    buf_append_percent(ret, value, strlen(value));
}

void cli_path_query(struct buf *ret, const char *what, const struct target *t)
{
    buf_appendf(ret, "/api/v1/%s", what);
    cli_add_query(ret, "drive", t->drive);
    cli_add_query(ret, "path", t->path);
}

int cli_stat(struct remote *r, const struct target *t, json_t **ret)
{
    CLEANUP_BUF struct buf path = {0};
    cli_path_query(&path, "files", t);
    buf_append_str(&path, "&limit=1");
    *ret = NULL;
    int err = remote_json(r, "GET", path.data, NULL, ret, NULL);
    if (err == 0 && !*ret)
        err = -EPROTO;
    if (err == -ENOENT && strcmp(remote_problem()->code, "drive-not-found") != 0)
        return 0;
    return err ? cli_fail_remote(r, err, "%s:%s", cli_name(t->drive), cli_name(t->path)) : 0;
}

bool cli_is_directory(const json_t *file)
{
    return strcmp(cli_text(file, "kind"), "directory") == 0;
}

char *cli_join(const char *dir, const char *name)
{
    return mem_printf("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name);
}

const char *cli_entry_name(const json_t *entry, char **keep)
{
    *keep = NULL;
    size_t len;
    if (jsonx_bytes(entry, "name", keep, &len) || len == 0 || strlen(*keep) != len || strchr(*keep, '/'))
        return NULL;
    return *keep;
}

int cli_each_entry(struct remote *r, const struct target *dir, int (*fn)(void *ctx, json_t *entry), void *ctx)
{
    CLEANUP_FREE char *after = NULL;
    for (;;) {
        CLEANUP_BUF struct buf path = {0};
        cli_path_query(&path, "files", dir);
        if (after)
            cli_add_query(&path, "after", after);
        CLEANUP_JSON json_t *page = NULL;
        int err = remote_json(r, "GET", path.data, NULL, &page, NULL);
        if (err)
            return cli_fail_remote(r, err, "%s:%s", cli_name(dir->drive), cli_name(dir->path));
        const json_t *entries = json_object_get(page, "entries");
        for (size_t i = 0; i < json_array_size(entries); i++)
            if ((err = fn(ctx, json_array_get(entries, i))))
                return err;
        free(after);
        after = NULL;
        size_t len;
        if (jsonx_bytes(page, "next", &after, &len) || json_array_size(entries) == 0)
            return 0;
    }
}
