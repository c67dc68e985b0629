#include "common/mem.h"
#include "fusefs/cli/cli.h"
#include "fusefs/cli/mount_options.h"
#include "fusefs/driver/driver.h"

#include <errno.h>
#include <string.h>

struct identity { /* tokens for this mount, and where renewed ones go */
    struct cli_login login;
    bool kept; /* in the file of sign-ins */
};

static int sign_in(const struct mount_options *o, struct cli_login *ret)
{
    const char *url = o->url ? o->url : getenv("CAIRN_URL");
    char normal[CLI_URL_MAX], device[129];
    if (!url || cli_normal_url(url, normal))
        return cli_fail("with --user the gateway must be named too: --url http://HOST:PORT.");
    char *password = cli_read_password(o->user, o->password_stdin);
    if (!password)
        return CLI_FAILED;
    cli_device(device);
    int err = remote_login(normal, o->user, password, device, &ret->access, &ret->refresh);
    explicit_bzero(password, strlen(password));
    free(password);
    if (err) {
        if (remote_problem()->status == 401)
            return cli_fail("%s does not know this user and password.", normal);
        return cli_fail("you cannot be signed in at %s: %s.", normal, remote_problem()->detail[0] ? remote_problem()->detail : strerror(-err));
    }
    ret->url = mem_strdup(normal);
    return CLI_DONE;
}

static int identify(const struct mount_options *o, struct identity *ret)
{
    if (o->user)
        return sign_in(o, &ret->login);
    int status = cli_find_login(o->url, &ret->login);
    ret->kept = status == 0 && ret->login.refresh;
    return status;
}

static char *choose_drive(const struct mount_options *o, struct identity *who)
{
    if (o->drive && o->drive[0])
        return mem_strdup(o->drive);
    struct remote *r = remote_new(who->login.url, who->login.access, who->login.refresh, who->kept ? cli_save_tokens : NULL, NULL);
    if (who->kept)
        remote_share_tokens(r, cli_token_store(who->login.url));
    char *drive = cli_drive(r, NULL);
    remote_free(r);
    return drive;
}

static char *absolute_dir(const char *dir)
{
    char *full = realpath(dir, NULL);
    if (!full && errno == ENOTCONN)
        cli_fail("%s: the driver of a former mount is gone: \"cairn unmount %s\" clears it away.", cli_name(dir), cli_name(dir));
    else if (!full)
        cli_fail("%s cannot be mounted on: %s.", cli_name(dir), strerror(errno));
    return full;
}

static char *absolute_cache(const char *dir)
{
    if (!dir || !dir[0] || dir[0] == '/')
        return mem_strdup(dir ? dir : "");
    CLEANUP_FREE char *here = realpath(".", NULL);
    return mem_printf("%s/%s", here ? here : "", dir);
}

static int mount_drive(const struct mount_options *o)
{
    struct identity who = {0};
    int status = identify(o, &who);
    CLEANUP_FREE char *dir = status ? NULL : absolute_dir(o->dir), *drive = dir ? choose_drive(o, &who) : NULL, *cache = absolute_cache(o->cache_dir);
    char device[129];
    cli_device(device);
    if (!status && !drive)
        status = CLI_FAILED;
    if (!status) {
        struct driver_options d = {
            .url = who.login.url, .access_token = who.login.access, .refresh_token = who.login.refresh, .drive = drive, .device = device,
            .mountpoint = dir, .cache_dir = cache, .cache_size = o->cache_size, .timeout_s = o->timeout_s, .foreground = o->foreground,
            .writeback = o->writeback, .direct = o->direct, .read_only = o->read_only, .allow_other = o->allow_other, .strict = o->strict, .has_uid = o->has_uid,
            .has_gid = o->has_gid, .uid = o->uid, .gid = o->gid, .fuse_options = o->fuse_options, .debug = o->debug,
            .on_tokens = who.kept ? cli_save_tokens : NULL, .token_store = who.kept ? cli_token_store(who.login.url) : NULL,
        };
        status = driver_run(&d);
    }
    cli_login_fini(&who.login);
    return status;
}

static int run(const struct verb *self, int argc, char **argv)
{
    CLEANUP(mount_options_fini) struct mount_options o = {0};
    int err = mount_options_parse(self, argc, argv, &o);
    return err ? CLI_USAGE : mount_drive(&o);
}

const struct verb verb_mount = {
    "mount", "[--drive NAME] [--url URL] [OPTION…] DIR", "Mounts a drive on a directory",
    "  --drive NAME          which drive; not needed if you have one only ($CAIRN_DRIVE)\n"
    "  --url URL             which gateway; else $CAIRN_URL, else that of the last login\n"
    "  -u, --user NAME       signs in for this mount only; --password-stdin: the password is the first line of standard input\n"
    "  --cache-dir DIR       where the cache and the journal are kept ($XDG_CACHE_HOME/cairn/…)\n"
    "  --cache-size 10G      how much of the drive is kept here\n"
    "  --direct auto|off     chunks straight from and to the object store where it can be reached (auto), or all through the gateway\n"
    "  --writeback           close and fsync return when the journal is on disk, and sending follows\n"
    "  -f, --foreground      does not go into the background\n"
    "  -d, --debug           logs every FUSE request, in the foreground\n"
    "  -o OPT,…              timeout=30 (seconds a call waits for a gateway that is away), uid=N, gid=N, allow_other, ro,\n"
    "                        strict (EIO instead of the cache when cut off), url=, user=, cache-dir=, cache-size=, writeback, direct=; others go to FUSE\n\n"
    "In /etc/fstab: DRIVE DIR fuse.cairn url=http://HOST:PORT,_netdev 0 0",
    run};
