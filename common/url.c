#include "common/url.h"
#include "common/mem.h"

#include <string.h>

char *url_shown(const char *url)
{
    const char *user = strstr(url, "://");
    user = user ? user + 3 : "";
    size_t n = strcspn(user, "?#"); /* a "/" in a secret should be encoded, and often is not */
    const char *at = memrchr(user, '@', n), *colon = at ? memchr(user, ':', (size_t)(at - user)) : NULL;
    return colon ? mem_printf("%.*s:***%s", (int)(colon - url), url, at) : mem_strdup(url);
}
