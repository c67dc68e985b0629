/* The one program on a user's machine: `cairn mount` is the driver, the other verbs are the command line. */
#include "common/log.h"
#include "fusefs/cli/cli.h"
#include "fusefs/cli/mount_options.h"

#include <locale.h>
#include <signal.h>

extern const struct verb verb_login, verb_logout, verb_mount, verb_unmount, verb_status, verb_drives, verb_ls, verb_put, verb_get, verb_rm, verb_mv,
    verb_mkdir, verb_versions, verb_restore, verb_watch, verb_conflicts, verb_trash, verb_stats, verb_doctor;

static const struct verb *const verbs[] = {
    &verb_login, &verb_logout, &verb_mount, &verb_unmount,  &verb_status,  &verb_drives, &verb_ls,        &verb_put,   &verb_get,
    &verb_rm,    &verb_mv,     &verb_mkdir, &verb_versions, &verb_restore, &verb_watch,  &verb_conflicts, &verb_trash, &verb_stats, &verb_doctor,
};

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    log_init(false, LOG_LEVEL_INFO);
    int n;
    char **helper = argc > 0 ? mount_helper_arguments(argc, argv, &n) : NULL;
    return helper ? cli_run(verbs, sizeof verbs / sizeof *verbs, n, helper) : cli_run(verbs, sizeof verbs / sizeof *verbs, argc, argv);
}
