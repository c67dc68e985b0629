#include "gateway/api/conditional.h"

#include <string.h>
#include <strings.h>

static const char *skip_space(const char *p)
{
    return p + strspn(p, " \t");
}

/* Digits into *ret, held at UINT64_MAX where there are too many. False: there are none. */
static bool number(const char **p, uint64_t *ret)
{
    uint64_t v = 0;
    if (**p < '0' || **p > '9')
        return false;
    for (; **p >= '0' && **p <= '9'; (*p)++)
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(**p - '0'), &v))
            v = UINT64_MAX;
    *ret = v;
    return true;
}

enum range_kind range_parse(const char *header, uint64_t size, uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t from = 0, last = UINT64_MAX;
    if (!header || strncasecmp(header, "bytes", 5) != 0)
        return RANGE_ALL;
    const char *p = skip_space(header + 5);
    if (*p++ != '=')
        return RANGE_ALL;
    p = skip_space(p);
    bool has_from = number(&p, &from);
    if (*p++ != '-')
        return RANGE_ALL;
    bool has_last = number(&p, &last);
    if (*skip_space(p) || (!has_from && !has_last) || (has_from && has_last && last < from))
        return RANGE_ALL;
    if (!has_from) { /* the last so many bytes */
        from = last < size ? size - last : 0;
        if (last == 0)
            return RANGE_NONE;
        last = UINT64_MAX;
    }
    if (from >= size)
        return RANGE_NONE;
    *ret_from = from;
    *ret_to = last < size ? last + 1 : size;
    return RANGE_PART;
}

bool etag_listed(const char *header, const char *etag, bool weak)
{
    size_t len = strlen(etag);
    const char *p = skip_space(header);
    if (*p == '*' && !*skip_space(p + 1))
        return true;
    while (*p) {
        bool is_weak = strncmp(p, "W/", 2) == 0;
        if (is_weak)
            p += 2;
        if (*p != '"')
            return false;
        const char *end = strchr(p + 1, '"');
        if (!end)
            return false;
        if ((size_t)(end + 1 - p) == len && memcmp(p, etag, len) == 0 && (weak || !is_weak))
            return true;
        p = skip_space(end + 1);
        if (*p == ',')
            p = skip_space(p + 1);
    }
    return false;
}
