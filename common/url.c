#include "common/url.h"
#include "common/mem.h"
#include "common/number.h"

#include <ctype.h>
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

/* HOST, HOST:PORT, [IPv6] or [IPv6]:PORT. */
static bool parse_address(char *text, uint64_t port, struct url_address *ret)
{
    bool literal = text[0] == '[';
    char *host = literal ? text + 1 : text, *rest = host + strcspn(host, literal ? "]" : ":");
    if (literal && *rest == ']')
        *rest++ = '\0';
    else if (literal)
        return false;
    if (*rest == ':') {
        *rest++ = '\0';
        if (!number_parse(rest, 1, 65535, &port))
            return false;
    } else if (*rest) {
        return false;
    }
    size_t n = strlen(host);
    if (n == 0 || n >= sizeof ret->host)
        return false;
    for (const char *p = host; *p; p++)
        if (literal ? !isxdigit((unsigned char)*p) && !strchr(":.", *p) : !isalnum((unsigned char)*p) && !strchr(".-_", *p))
            return false;
    memcpy(ret->host, host, n + 1);
    ret->port = (uint16_t)port;
    return true;
}

size_t url_addresses(char *text, uint16_t default_port, struct url_address *ret, size_t max)
{
    size_t n = 0;
    for (char *next; text; text = next) {
        next = strchr(text, ',');
        if (next)
            *next++ = '\0';
        if (n == max || !parse_address(text, default_port, &ret[n]))
            return 0;
        n++;
    }
    return n;
}
