/* Passwords as argon2id hashes in PHC form. One check costs about 30 ms of a core and 19 MiB, so callers bound how many run at once. Thread-safe. */
#ifndef CAIRN_GATEWAY_API_PASSWORD_H
#define CAIRN_GATEWAY_API_PASSWORD_H
#include <stdbool.h>

#define PASSWORD_LEN_MAX 1024
#define PASSWORD_LEN_CHOSEN_MIN 8 /* of one that a user chooses; an operator may set any that is not empty */
/* phc NULL (no such user): costs the same and is never right. */
bool password_matches(const char *phc, const char *password);
#endif
