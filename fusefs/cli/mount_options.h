/* What `cairn mount`, mount(8) and fstab may say about a mount. */
#ifndef CAIRN_FUSEFS_CLI_MOUNT_OPTIONS_H
#define CAIRN_FUSEFS_CLI_MOUNT_OPTIONS_H
#include "fusefs/cli/cli.h"

struct mount_options {
    const char *url, *drive, *user, *cache_dir, *dir; /* borrowed from argv or `words` */
    bool direct, password_stdin, foreground, writeback, debug, read_only, allow_other, strict, has_uid, has_gid;
    uint64_t cache_size;
    unsigned timeout_s;
    uid_t uid;
    gid_t gid;
    char *fuse_options; /* what is left for FUSE, comma-separated, or NULL; owned */
    char *words;        /* owned */
};
/* 0, or -EINVAL after a message. */
int mount_options_parse(const struct verb *self, int argc, char **argv, struct mount_options *ret);
void mount_options_fini(struct mount_options *o);
/* Called as a mount helper ("cairn DRIVE DIR -o …" or "mount.fuse.cairn DRIVE DIR -o …"): the same as arguments of `mount`, malloc'd; NULL: no helper's call. */
char **mount_helper_arguments(int argc, char **argv, int *ret_argc);
#endif
