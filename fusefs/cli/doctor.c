#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define SKEW_MAX_S 60

struct examination {
    json_t *findings; /* {check, ok, detail} */
    bool json, sick;
};

static void found(struct examination *x, bool ok, const char *check, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static void found(struct examination *x, bool ok, const char *check, const char *fmt, ...)
{
    char detail[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof detail, fmt, ap);
    va_end(ap);
    x->sick |= !ok;
    json_array_append_new(x->findings, json_pack("{sssbss}", "check", check, "ok", ok, "detail", cli_name(detail)));
    if (!x->json)
        printf("%s  %-10s %s\n", ok ? "ok " : "BAD", check, cli_name(detail));
}

static void examine_kernel(struct examination *x)
{
    struct utsname u;
    unsigned major = 0, minor = 0;
    uname(&u);
    sscanf(u.release, "%u.%u", &major, &minor);
    bool epoch = major > 6 || (major == 6 && minor >= 16);
    found(x, true, "kernel", "Linux %s: %s", u.release, epoch ? "names are invalidated by epoch" : "no epochs before 6.16: names are trusted for at most 1 s");
    bool fuse = access("/dev/fuse", R_OK | W_OK) == 0;
    found(x, fuse, "fuse", fuse ? "/dev/fuse can be used" : "/dev/fuse cannot be used (%s): load the module fuse, or ask for access to it", strerror(errno));
}

static void examine_fusermount(struct examination *x)
{
    const char *path = getenv("PATH");
    CLEANUP_FREE char *copy = mem_strdup(path ? path : "/usr/bin:/bin");
    char *save;
    bool there = geteuid() == 0;
    for (char *dir = strtok_r(copy, ":", &save); dir && !there; dir = strtok_r(NULL, ":", &save)) {
        CLEANUP_FREE char *program = mem_printf("%s/fusermount3", dir);
        there = access(program, X_OK) == 0;
    }
    found(x, there, "fusermount", there ? "mounting is possible" : "fusermount3 is not installed: only root can mount without it (package fuse3)");
}

static void examine_config(struct examination *x)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    CLEANUP_FREE char *path = xdg && xdg[0] == '/' ? mem_printf("%s/cairn/credentials.json", xdg) : mem_printf("%s/.config/cairn/credentials.json", home ? home : "");
    struct stat st;
    if (stat(path, &st))
        found(x, errno == ENOENT, "sign-in", "%s", errno == ENOENT ? "none is kept" : strerror(errno));
    else if (st.st_mode & 077)
        found(x, false, "sign-in", "others can read %s: chmod 600 it, then sign in anew", path);
    else
        found(x, true, "sign-in", "kept in %s", path);
}

static void examine_clock(struct examination *x, const json_t *headers)
{
    time_t theirs = curl_getdate(cli_text(headers, "date"), NULL);
    long long skew = theirs < 0 ? 0 : (long long)theirs - (long long)(clock_wall_ns() / 1000000000);
    if (skew > SKEW_MAX_S || skew < -SKEW_MAX_S)
        found(x, false, "clock", "the gateway's differs by %lld s: sign-ins may not last", skew);
    else if (theirs >= 0)
        found(x, true, "clock", "agrees with the gateway's");
}

static void examine_drives(struct examination *x, const json_t *drives)
{
    size_t n = json_array_size(drives), away = 0;
    for (size_t i = 0; i < n; i++)
        away += cli_is_away(json_array_get(drives, i));
    if (away)
        found(x, false, "access", "%zu of your %zu drive(s) cannot be reached by the gateway", away, n);
    else
        found(x, true, "access", "you may use %zu drive(s)", n);
}

static void examine_gateway(struct examination *x, const char *url)
{
    CLEANUP(cli_login_fini) struct cli_login l = {0};
    if (cli_find_login(url, &l)) {
        found(x, false, "gateway", "no gateway is known, or you are not signed in there");
        return;
    }
    struct remote *r = cli_connect(l.url);
    CLEANUP_BUF struct buf body = {0};
    CLEANUP_JSON json_t *headers = NULL, *drives = NULL;
    long status = 0;
    int err = remote_raw(r, "GET", "/actuator/health", NULL, NULL, 0, &body, &headers, &status);
    CLEANUP_JSON json_t *health = body.len ? jsonx_parse(body.data, body.len, NULL) : NULL;
    const char *text = cli_text(health, "status");
    if (err && !text[0])
        found(x, false, "gateway", "%s does not answer: %s", l.url, remote_problem()->detail[0] ? remote_problem()->detail : strerror(-err));
    else
        found(x, strcmp(text, "UP") == 0, "gateway", "%s is %s", l.url, text[0] ? text : "not a Cairn gateway");
    examine_clock(x, headers);
    err = remote_json(r, "GET", "/api/v1/drives", NULL, &drives, NULL);
    if (err)
        found(x, false, "access", "your drives cannot be listed: %s", remote_problem()->detail[0] ? remote_problem()->detail : strerror(-err));
    else
        examine_drives(x, json_object_get(drives, "drives"));
    remote_free(r);
}

static void examine_mounts(struct examination *x)
{
    struct cli_mount *m;
    size_t n = cli_mounts(&m);
    for (size_t i = 0; i < n; i++) {
        CLEANUP_JSON json_t *s = NULL;
        int err = cli_mount_status(m[i].dir, &s);
        if (err == -EACCES) /* another user's */
            continue;
        bool online = false;
        jsonx_bool(s, "online", &online);
        if (err == -ENOTCONN)
            found(x, false, "mount", "%s: its driver is gone; \"cairn unmount\" clears it away", m[i].dir);
        else if (err == -ETIMEDOUT)
            found(x, false, "mount", "%s: its driver hangs, or is stopped", m[i].dir);
        else if (err)
            found(x, false, "mount", "%s does not answer: %s", m[i].dir, strerror(-err));
        else
            found(x, online, "mount", "%s is %s", m[i].dir, online ? "connected" : "cut off from its gateway");
    }
    cli_mounts_free(m, n);
}

static int run(const struct verb *self, int argc, char **argv)
{
    const char *url = NULL;
    bool json = false;
    const struct cli_option options[] = {{"url", 0, CLI_TEXT, &url}, {"json", 0, CLI_FLAG, &json}};
    if (cli_parse(self, argc, argv, options, 2, 0, 0) < 0)
        return CLI_USAGE;
    CLEANUP_JSON json_t *all = json_array();
    struct examination x = {all, json, false};
    examine_kernel(&x);
    examine_fusermount(&x);
    examine_config(&x);
    examine_gateway(&x, url);
    examine_mounts(&x);
    int printed = json ? cli_print_json(all) : cli_finish_output();
    return x.sick ? CLI_FAILED : printed;
}

const struct verb verb_doctor = {"doctor", "[--json] [--url URL]", "Examines this machine, the sign-in, the gateway and the mounts", "Exit status 1 if something is wrong.", run};
