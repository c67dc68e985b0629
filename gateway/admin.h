/* The `admin` verbs. They work on the metadata itself, beside running gateways. */
#ifndef CAIRN_GATEWAY_ADMIN_H
#define CAIRN_GATEWAY_ADMIN_H
#include "gateway/config.h"
#include "gateway/ports/meta.h"

/* Returns the exit status: 0 done, 1 failed (said on stderr), 2 usage. */
int admin_run(struct meta *meta, const struct config *c);
/* Whether the words are a verb with the right number of arguments; else usage on stderr. Before anything is opened. */
bool admin_known(const struct config *c);
void admin_help(FILE *out);

/* ---- shared by admin_*.c: each verb returns an exit status ---- */
struct admin {
    struct meta *meta;
    const struct config *c;
    const char *const *args; /* behind "user add" */
};
int admin_failed(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* says it; 1 */
int admin_errno(int err, const char *what);
int admin_user(const struct admin *a, const char *name, struct user_row *ret); /* 0, or says why not: 1 */
/* The one drive that the first argument names: by its id, else by its name (of --owner, if given). 0, or says why not: 1. */
int admin_find_drive(const struct admin *a, struct drive_row *ret);
void admin_print(json_t *v); /* one line on stdout; takes the reference */
int admin_user_add(const struct admin *a);
int admin_user_list(const struct admin *a);
int admin_user_disable(const struct admin *a);
int admin_user_enable(const struct admin *a);
int admin_user_passwd(const struct admin *a);
int admin_user_token(const struct admin *a);
int admin_drive_create(const struct admin *a);
int admin_drive_list(const struct admin *a);
int admin_drive_quota(const struct admin *a);
int admin_drive_rename(const struct admin *a);
int admin_drive_move(const struct admin *a);
int admin_shard_add(const struct admin *a);
int admin_shard_list(const struct admin *a);
int admin_changes_trim(const struct admin *a);
int admin_fsck(const struct admin *a);
int admin_scrub(const struct admin *a);
struct drives {
    struct drive_row *row;
    size_t n;
};
int admin_drives(const struct admin *a, struct drives *ret); /* all of them; 0 or a negative errno */
void admin_drives_fini(struct drives *d);
#endif
