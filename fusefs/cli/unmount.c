#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

#define POLL_MS 100
#define DRIVER_END_MS 10000

static void pause_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Until all is sent. The driver's pid, 0 if it did not say. Negative errno. */
static int wait_sent(const char *dir, pid_t *ret_driver)
{
    struct progress *p = NULL;
    uint64_t most = 0;
    int err;
    for (;;) {
        CLEANUP_JSON json_t *s = NULL;
        err = cli_mount_status(dir, &s);
        if (err)
            break;
        *ret_driver = (pid_t)cli_number(s, "pid");
        uint64_t left = cli_number(s, "dirtyBytes") + cli_number(s, "uploadingBytes") + cli_number(s, "pendingOperations");
        if (left == 0 && cli_number(s, "dirtyFiles") == 0)
            break;
        err = cli_interrupted() ? -EINTR : 0;
        if (err)
            break;
        most = left > most ? left : most;
        if (!p)
            p = progress_new("sending", most);
        progress_set(p, most - left, most);
        pause_ms(POLL_MS);
    }
    progress_free(p);
    return err;
}

static int run_fusermount(const char *dir, const char *how)
{
    pid_t pid = fork();
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", how, "--", dir, (char *)NULL);
        execlp("fusermount", "fusermount", how, "--", dir, (char *)NULL);
        _exit(127);
    }
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -errno;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return -ENOENT;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

/* Forced by root, calls that wait for a driver that is gone end as well (MNT_FORCE aborts the connection); fusermount3 cannot do that. */
static int detach(const char *dir, bool lazy)
{
    if (geteuid() == 0)
        return umount2(dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH | MNT_FORCE : 0)) ? -errno : 0;
    return run_fusermount(dir, lazy ? "-uz" : "-u");
}

/* The cache folder can be used again when its driver has ended. */
static void wait_driver(pid_t pid)
{
    for (unsigned waited = 0; pid > 1 && waited < DRIVER_END_MS && (kill(pid, 0) == 0 || errno == EPERM); waited += 20)
        pause_ms(20);
}

static int unmount(const char *dir, bool force)
{
    pid_t driver = 0;
    int err = force ? 0 : wait_sent(dir, &driver);
    if (err == -EINTR)
        return cli_fail("stopped; %s stays mounted, and goes on sending.", cli_name(dir));
    if (err && err != -ENOTCONN)
        return cli_fail("%s does not say whether all is sent: %s. --force unmounts it all the same; what is not sent stays in the journal.", cli_name(dir),
                        strerror(-err));
    err = detach(dir, force || err == -ENOTCONN);
    if (err == -EBUSY)
        return cli_fail("%s is in use: end the programs that use it (\"fuser -vm %s\" lists them), or use --force.", cli_name(dir), cli_name(dir));
    if (err == -ENOENT)
        return cli_fail("fusermount3 is not installed: it is in the package fuse3.");
    if (err)
        return cli_fail("%s cannot be unmounted: %s.", cli_name(dir), strerror(-err));
    if (!force)
        wait_driver(driver);
    return CLI_DONE;
}

static int run(const struct verb *self, int argc, char **argv)
{
    bool force = false;
    const struct cli_option options[] = {{"force", 'f', CLI_FLAG, &force}};
    if (cli_parse(self, argc, argv, options, 1, 1, 1) < 0)
        return CLI_USAGE;
    CLEANUP_FREE char *dir = NULL, *rel = NULL;
    if (cli_mount_of(argv[0], &dir, &rel))
        return cli_fail("%s is not a mounted drive.", cli_name(argv[0]));
    if (strcmp(rel, "/") != 0)
        return cli_fail("%s is in the mount %s, but is not it.", cli_name(argv[0]), cli_name(dir));
    cli_catch_interrupts();
    return unmount(dir, force);
}

const struct verb verb_unmount = {"unmount", "[--force] DIR", "Unmounts a drive when everything in it is sent",
                                  "  -f, --force    at once, even if it is in use; what is not sent stays in the journal of the cache folder and is sent by the\n"
                                  "                 next mount with it",
                                  run};
