#include "common/utf8.h"
#include "common/uuid.h"
#include "gateway/config.h"

#include <ctype.h>
#include <string.h>

const char *config_user_name_wrong(const char *name)
{
    size_t n = strlen(name);
    if (n == 0 || n > 64)
        return "a user's name has 1 to 64 characters";
    if (!isalnum((unsigned char)name[0]))
        return "a user's name starts with a letter or a digit (a-z, A-Z, 0-9)";
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-@+", *p))
            return "a user's name is made of letters, digits and . _ - @ +";
    return NULL;
}

const char *config_drive_name_wrong(const char *name)
{
    size_t n = strlen(name);
    struct uuid ignored;
    if (n == 0 || n > 128)
        return "a drive's name has 1 to 128 bytes";
    if (!utf8_valid(name, n))
        return "a drive's name is UTF-8";
    for (const char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/' || *p == ':')
            return "a drive's name has no '/', no ':' and no control characters";
    if (name[0] == ' ' || name[n - 1] == ' ' || name[0] == '.')
        return "a drive's name does not start with a dot or a space, nor end with one";
    if (uuid_parse(name, &ignored) == 0)
        return "a drive's name must not look like an id";
    return NULL;
}
