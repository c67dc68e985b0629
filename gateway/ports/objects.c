#include "gateway/ports/objects.h"

#include <string.h>

bool objects_key_valid(const char *key)
{
    size_t n = strnlen(key, OBJECTS_KEY_MAX + 1);
    return n > 0 && n <= OBJECTS_KEY_MAX && strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789/-") == n;
}
