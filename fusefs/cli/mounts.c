/* Mounted drives, as the kernel lists them, and what each says of itself. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"
#include "fusefs/driver/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#define STATUS_MAX (64u << 10)
#define ANSWER_MS 10000

/* mountinfo writes space, tab, newline and backslash as \ooo (proc(5)). In place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *p = text; *p; to++) {
        if (p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' && p[2] <= '7' && p[3] >= '0' && p[3] <= '7') {
            *to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
            p += 4;
        } else {
            *to = *p++;
        }
    }
    *to = 0;
}

/* "36 35 98:0 ROOT DIR OPTIONS [optional…] - TYPE SOURCE OPTIONS": a cairn's DIR and SOURCE, in the line itself. */
static bool parse_line(char *line, char **ret_dir, char **ret_source)
{
    char *field, *save, *dir = NULL, *type = NULL, *source = NULL;
    int n = 0, behind = 0;
    for (field = strtok_r(line, " \n", &save); field; field = strtok_r(NULL, " \n", &save)) {
        if (++n == 5)
            dir = field;
        else if (behind && ++behind == 2)
            type = field;
        else if (behind == 3)
            source = field;
        else if (!behind && n > 6 && strcmp(field, "-") == 0)
            behind = 1;
    }
    if (!dir || !type || !source || strcmp(type, "fuse.cairn") != 0)
        return false;
    unescape(dir);
    unescape(source);
    *ret_dir = dir;
    *ret_source = source;
    return true;
}

size_t cli_mounts_parse(FILE *f, struct cli_mount **ret)
{
    CLEANUP_FREE char *line = NULL;
    size_t room = 0, n = 0;
    *ret = NULL;
    while (getline(&line, &room, f) > 0) {
        char *dir, *source;
        if (!parse_line(line, &dir, &source))
            continue;
        *ret = mem_realloc(*ret, (n + 1) * sizeof **ret);
        (*ret)[n++] = (struct cli_mount){mem_strdup(dir), mem_strdup(source)};
    }
    return n;
}

size_t cli_mounts(struct cli_mount **ret)
{
    CLEANUP_FILE FILE *f = fopen("/proc/self/mountinfo", "re");
    *ret = NULL;
    return f ? cli_mounts_parse(f, ret) : 0;
}

void cli_mounts_free(struct cli_mount *m, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(m[i].dir);
        free(m[i].source);
    }
    free(m);
}

/* Absolute, without asking the last component what it points to. */
static char *absolute(const char *path)
{
    CLEANUP_FREE char *copy = mem_strdup(path);
    size_t len = strlen(copy);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = 0;
    char *slash = strrchr(copy, '/');
    const char *last = slash ? slash + 1 : copy;
    if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || !*last)
        return realpath(copy, NULL);
    CLEANUP_FREE char *name = mem_strdup(last);
    if (slash)
        slash[slash == copy] = 0;
    CLEANUP_FREE char *dir = realpath(slash ? copy : ".", NULL);
    return dir ? mem_printf("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, name) : NULL;
}

int cli_mount_of(const char *path, char **ret_dir, char **ret_rel)
{
    CLEANUP_FREE char *full = absolute(path);
    if (!full)
        return -errno;
    struct cli_mount *m;
    size_t n = cli_mounts(&m), best = 0;
    const char *found = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(m[i].dir);
        if (len >= best && strncmp(full, m[i].dir, len) == 0 && (full[len] == '/' || !full[len])) {
            found = m[i].dir;
            best = len;
        }
    }
    if (found) {
        *ret_dir = mem_strdup(found);
        *ret_rel = mem_strdup(full[best] ? full + best : "/");
    }
    cli_mounts_free(m, n);
    return found ? 0 : -ENOENT;
}

/* Asks, and tells the pipe: "-" and the errno, or "+" and the text. */
static _Noreturn void ask_driver(const char *dir, int out)
{
    char *text = mem_alloc(STATUS_MAX + 1);
    int null = open("/dev/null", O_RDWR); /* whoever reads what the parent prints must not wait for this process */
    for (int fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    ssize_t n = getxattr(dir, DRIVER_STATUS_XATTR, text + 1, STATUS_MAX);
    text[0] = n < 0 ? '-' : '+';
    if (n < 0)
        n = snprintf(text + 1, STATUS_MAX, "%d", errno);
    for (ssize_t at = 0, w; at <= n; at += w)
        if ((w = write(out, text + at, (size_t)(n + 1 - at))) <= 0)
            break;
    _exit(0);
}

/* All that comes until the pipe is closed. */
static int hear(int fd, int64_t until_ms, struct buf *ret)
{
    char piece[4096];
    for (;;) {
        int64_t left = until_ms - clock_boot_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (left <= 0 || poll(&p, 1, (int)left) == 0)
            return -ETIMEDOUT;
        ssize_t n = read(fd, piece, sizeof piece);
        if (n == 0)
            return 0;
        if (n > 0)
            buf_append(ret, piece, (size_t)n);
        else if (errno != EINTR)
            return -errno;
    }
}

/* A driver that hangs keeps whoever asks it, and in the kernel not even a signal ends that wait: so another process asks, which is left behind. */
static int ask(const char *dir, struct buf *ret)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC))
        return -errno;
    pid_t child = fork();
    if (child == 0)
        ask_driver(dir, fds[1]);
    int err = child < 0 ? -errno : 0;
    close(fds[1]);
    if (!err)
        err = hear(fds[0], clock_boot_ms() + ANSWER_MS, ret);
    close(fds[0]);
    if (child > 0) {
        if (err)
            kill(child, SIGKILL);
        waitpid(child, NULL, err ? WNOHANG : 0);
    }
    return err;
}

int cli_mount_status(const char *dir, json_t **ret)
{
    CLEANUP_BUF struct buf text = {0};
    int err = ask(dir, &text);
    if (err)
        return err;
    if (text.len && text.data[0] == '-') {
        buf_append(&text, "", 1);
        return -atoi(text.data + 1);
    }
    json_t *o = text.len ? jsonx_parse(text.data + 1, text.len - 1, NULL) : NULL;
    if (!json_is_object(o)) {
        json_decref(o);
        return -EPROTO;
    }
    *ret = o;
    return 0;
}
