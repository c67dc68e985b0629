#include "gateway/api/password.h"
#include "common/mem.h"
#include "gateway/api/app.h"

#include <argon2.h>
#include <errno.h>
#include <openssl/rand.h>
#include <string.h>

/* OWASP's second recommendation for argon2id */
#define COST_PASSES 2
#define COST_KIB 19456
#define COST_LANES 1
#define SALT_LEN 16
#define KEY_LEN 32
#define PHC_MAX 160

static int hash_with(const char *password, const uint8_t salt[SALT_LEN], char ret[PHC_MAX])
{
    size_t n = strlen(password);
    if (n > PASSWORD_LEN_MAX)
        return -EINVAL;
    int rc = argon2id_hash_encoded(COST_PASSES, COST_KIB, COST_LANES, password, n, salt, SALT_LEN, KEY_LEN, ret, PHC_MAX);
    if (rc == ARGON2_OK)
        return 0;
    return rc == ARGON2_MEMORY_ALLOCATION_ERROR ? -ENOMEM : -EIO;
}

int auth_hash_password(const char *password, char **ret_phc)
{
    uint8_t salt[SALT_LEN];
    char phc[PHC_MAX];
    if (RAND_bytes(salt, sizeof salt) != 1)
        return -EIO;
    int err = hash_with(password, salt, phc);
    if (err)
        return err;
    *ret_phc = mem_strdup(phc);
    return 0;
}

bool password_matches(const char *phc, const char *password)
{
    static const uint8_t salt[SALT_LEN];
    char ignored[PHC_MAX];
    if (!phc) {
        hash_with(password, salt, ignored);
        return false;
    }
    return strlen(password) <= PASSWORD_LEN_MAX && argon2id_verify(phc, password, strlen(password)) == ARGON2_OK;
}
