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

bool url_is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    return strncmp(host, "127.", 4) == 0 || strncmp(host, "localhost", 9) == 0 || strncmp(host, "[::1]", 5) == 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

ssize_t url_decode(const char *p, size_t n, char *ret)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int c = p[i];
        if (c == '%') {
            int high = n - i < 3 ? -1 : hex_digit(p[i + 1]), low = high < 0 ? -1 : hex_digit(p[i + 2]);
            if (low < 0)
                return -1;
            c = high << 4 | low;
            i += 2;
        }
        ret[len++] = (char)c;
    }
    ret[len] = 0;
    return (ssize_t)len;
}
