/* The file of sign-ins, and small files in general. */
#ifndef CAIRN_FUSEFS_CLI_CREDENTIALS_H
#define CAIRN_FUSEFS_CLI_CREDENTIALS_H
#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>

json_t *credentials_load(void); /* an empty object where there is none; owned by the caller */
int credentials_save(const json_t *all);
json_t *credentials_server(json_t *all, const char *url); /* borrowed, NULL: not signed in there */
void credentials_set(json_t *all, const char *url, const char *user, const char *access, const char *refresh);
int credentials_lock(void); /* a descriptor that holds the lock until it is closed; -1: there can be none */

int cli_make_parents(const char *path, mode_t mode);             /* of a file: the directories above it */
char *cli_read_file(const char *path, size_t most, size_t *ret_len); /* malloc'd, NUL behind it; NULL with errno */
int cli_replace_file(const char *path, const void *p, size_t n); /* atomically, mode 0600, parents made 0700 */
#endif
