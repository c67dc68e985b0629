#include "gateway/adapters/s3_xml.h"
#include "common/mem.h"

#include <string.h>

/* After the name in "<name>" or "<name xmlns=…>", so that <Key> is not found in <KeyCount>. */
static bool ends_name(char c)
{
    return c == '>' || c == ' ' || c == '/';
}

static const char *element(const char *xml, const char *name, size_t *ret_len, const char **ret_after)
{
    size_t n = strlen(name);
    for (const char *p = strchr(xml, '<'); p; p = strchr(p + 1, '<')) {
        if (strncmp(p + 1, name, n) != 0 || !ends_name(p[1 + n]))
            continue;
        const char *start = strchr(p, '>');
        if (!start)
            return NULL;
        if (start[-1] == '/') { /* <Name/> */
            *ret_len = 0;
            *ret_after = start + 1;
            return start + 1;
        }
        for (const char *end = strstr(++start, "</"); end; end = strstr(end + 2, "</"))
            if (strncmp(end + 2, name, n) == 0 && end[2 + n] == '>') {
                *ret_len = (size_t)(end - start);
                *ret_after = end + 3 + n;
                return start;
            }
        return NULL;
    }
    return NULL;
}

static size_t entity(const char *p, size_t n, char *ret)
{
    static const struct {
        const char *text;
        char c;
    } all[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}, {"&#34;", '"'}, {"&#39;", '\''}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t len = strlen(all[i].text);
        if (len <= n && memcmp(p, all[i].text, len) == 0) {
            *ret = all[i].c;
            return len;
        }
    }
    *ret = *p;
    return 1;
}

bool s3_xml_text(const char *xml, const char *name, char *ret, size_t cap)
{
    size_t n = 0, len = 0;
    const char *after, *p = element(xml, name, &n, &after);
    for (size_t i = 0; p && i < n && len + 1 < cap;)
        i += entity(p + i, n - i, &ret[len++]);
    ret[len] = 0;
    return p != NULL;
}

char *s3_xml_next(const char **at, const char *name)
{
    size_t n;
    const char *p = element(*at, name, &n, at);
    return p ? mem_dup(p, n) : NULL;
}
