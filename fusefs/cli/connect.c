/* Which gateway, and as whom: options, the environment, and $XDG_CONFIG_HOME/cairn/credentials.json.

   The file: {"default": URL, "servers": {URL: {user, accessToken, refreshToken}}}, mode 0600, replaced whole. credentials.lock beside it is held from reading the
   tokens until renewed ones are saved, so that two programs do not burn one refresh token. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"
#include "fusefs/cli/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <termios.h>

#define FILE_MAX (1u << 20)

/* ---- the file ---- */

static char *config_path(const char *name)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/')
        return mem_printf("%s/cairn/%s", xdg, name);
    return mem_printf("%s/.config/cairn/%s", home && home[0] ? home : "/root", name);
}

int cli_make_parents(const char *path, mode_t mode)
{
    CLEANUP_FREE char *copy = mem_strdup(path);
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(copy, mode) && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return 0;
}

char *cli_read_file(const char *path, size_t most, size_t *ret_len)
{
    CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) || (uint64_t)st.st_size > most)
        return NULL;
    char *text = mem_alloc((size_t)st.st_size + 1);
    ssize_t n = read(fd, text, (size_t)st.st_size);
    if (n < 0) {
        free(text);
        return NULL;
    }
    *ret_len = (size_t)n;
    return text;
}

int cli_replace_file(const char *path, const void *p, size_t n)
{
    int err = cli_make_parents(path, 0700);
    if (err)
        return err;
    CLEANUP_FREE char *tmp = mem_printf("%s.%d.tmp", path, (int)getpid());
    CLEANUP_CLOSE int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    if (write(fd, p, n) == (ssize_t)n && fsync(fd) == 0 && rename(tmp, path) == 0)
        return 0;
    err = errno ? -errno : -EIO;
    unlink(tmp);
    return err;
}

json_t *credentials_load(void)
{
    CLEANUP_FREE char *path = config_path("credentials.json");
    size_t n = 0;
    CLEANUP_FREE char *text = cli_read_file(path, FILE_MAX, &n);
    json_t *o = text ? jsonx_parse(text, n, NULL) : NULL;
    if (json_is_object(o))
        return o;
    json_decref(o);
    return json_object();
}

int credentials_save(const json_t *o)
{
    CLEANUP_FREE char *path = config_path("credentials.json");
    CLEANUP_BUF struct buf text = {0};
    jsonx_dump(o, &text);
    return cli_replace_file(path, text.data, text.len);
}

json_t *credentials_server(json_t *all, const char *url)
{
    return json_object_get(json_object_get(all, "servers"), url);
}

void credentials_set(json_t *all, const char *url, const char *user, const char *access, const char *refresh)
{
    json_t *servers = json_object_get(all, "servers");
    if (!json_is_object(servers)) {
        servers = json_object();
        json_object_set_new(all, "servers", servers);
    }
    json_object_set_new(servers, url, json_pack("{ss*ss*ss*}", "user", user, "accessToken", access, "refreshToken", refresh));
}

int credentials_lock(void)
{
    CLEANUP_FREE char *path = config_path("credentials.lock");
    if (cli_make_parents(path, 0700))
        return -1;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    while (fd >= 0 && flock(fd, LOCK_EX) && errno == EINTR)
        ;
    return fd; /* closing it ends the lock; without one (a read-only home) each program is on its own */
}

/* ---- as remote_token_store ---- */

static struct {
    char url[CLI_URL_MAX];
    int lock;
} kept = {.lock = -1};

static void store_lock(void *ctx, char **ret_access, char **ret_refresh)
{
    (void)ctx;
    kept.lock = credentials_lock();
    CLEANUP_JSON json_t *all = credentials_load();
    const json_t *server = credentials_server(all, kept.url);
    const char *text;
    *ret_access = jsonx_str(server, "accessToken", &text) ? NULL : mem_strdup(text);
    *ret_refresh = jsonx_str(server, "refreshToken", &text) ? NULL : mem_strdup(text);
}

static void store_unlock(void *ctx)
{
    (void)ctx;
    if (kept.lock >= 0)
        close(kept.lock);
    kept.lock = -1;
}

void cli_save_tokens(void *ctx, const char *access, const char *refresh)
{
    (void)ctx;
    CLEANUP_JSON json_t *all = credentials_load();
    CLEANUP_FREE char *user = mem_strdup(cli_text(credentials_server(all, kept.url), "user"));
    credentials_set(all, kept.url, user, access, refresh);
    int err = credentials_save(all);
    if (err)
        cli_note("cairn: renewed tokens cannot be saved (%s): sign in again next time.", strerror(-err));
}

const struct remote_token_store *cli_token_store(const char *url)
{
    static const struct remote_token_store store = {store_lock, store_unlock, NULL};
    snprintf(kept.url, sizeof kept.url, "%s", url);
    return &store;
}

/* ---- who and where ---- */

int cli_normal_url(const char *text, char ret[CLI_URL_MAX])
{
    size_t scheme = strncmp(text, "http://", 7) == 0 ? 7 : strncmp(text, "https://", 8) == 0 ? 8 : 0, len = strlen(text);
    while (len > scheme && text[len - 1] == '/')
        len--;
    if (!scheme || len <= scheme || len >= CLI_URL_MAX || strcspn(text, " \t\r\n?#@") < len)
        return -EINVAL;
    memcpy(ret, text, len);
    ret[len] = 0;
    return 0;
}

void cli_device(char ret[129])
{
    if (gethostname(ret, 129) || !ret[0])
        strcpy(ret, "unknown");
    ret[128] = 0;
}

void cli_login_fini(struct cli_login *l)
{
    free(l->url);
    free(l->user);
    free(l->access);
    free(l->refresh);
    *l = (struct cli_login){0};
}

int cli_find_login(const char *url, struct cli_login *ret)
{
    CLEANUP_JSON json_t *all = credentials_load();
    const char *environment = getenv("CAIRN_URL"), *token = getenv("CAIRN_TOKEN");
    if (!url && environment && environment[0])
        url = environment;
    if (!url && jsonx_str(all, "default", &url))
        return cli_fail("no gateway is known: sign in with \"cairn login URL --user NAME\", or set $CAIRN_URL and $CAIRN_TOKEN.");
    char normal[CLI_URL_MAX];
    if (cli_normal_url(url, normal))
        return cli_fail("\"%s\" is no gateway's URL: write http://HOST:PORT or https://HOST.", cli_name(url));
    const json_t *server = credentials_server(all, normal);
    const char *access, *refresh = NULL, *user = NULL;
    if (token && token[0]) {
        access = token;
    } else if (jsonx_str(server, "accessToken", &access)) {
        return cli_fail("you are not signed in at %s: run \"cairn login %s --user NAME\".", normal, normal);
    } else {
        jsonx_str(server, "refreshToken", &refresh);
        jsonx_str(server, "user", &user);
    }
    *ret = (struct cli_login){mem_strdup(normal), mem_strdup(user), mem_strdup(access), mem_strdup(refresh)};
    return CLI_DONE;
}

struct remote *cli_connect(const char *url)
{
    CLEANUP(cli_login_fini) struct cli_login l = {0};
    if (cli_find_login(url, &l))
        return NULL;
    struct remote *r = remote_new(l.url, l.access, l.refresh, l.refresh ? cli_save_tokens : NULL, NULL);
    if (l.refresh)
        remote_share_tokens(r, cli_token_store(l.url));
    return r;
}

/* ---- passwords ---- */

static ssize_t read_line(FILE *f, char **ret)
{
    size_t room = 0;
    ssize_t n = getline(ret, &room, f);
    while (n > 0 && ((*ret)[n - 1] == '\n' || (*ret)[n - 1] == '\r'))
        (*ret)[--n] = 0;
    return n;
}

char *cli_read_password(const char *user, bool from_stdin)
{
    char *line = NULL;
    if (from_stdin) {
        if (read_line(stdin, &line) > 0)
            return line;
        free(line);
        cli_fail("no password came on standard input.");
        return NULL;
    }
    CLEANUP_FILE FILE *tty = fopen("/dev/tty", "r+e");
    struct termios before, quiet;
    if (!tty || tcgetattr(fileno(tty), &before)) {
        cli_fail("there is no terminal to ask for a password: give it by --password-stdin.");
        return NULL;
    }
    fprintf(tty, "Password of %s: ", cli_name(user));
    fflush(tty);
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(fileno(tty), TCSAFLUSH, &quiet);
    ssize_t n = read_line(tty, &line);
    tcsetattr(fileno(tty), TCSAFLUSH, &before);
    fputc('\n', tty);
    if (n > 0)
        return line;
    free(line);
    cli_fail("no password was given.");
    return NULL;
}
