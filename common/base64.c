#include "common/base64.h"

#include <errno.h>

static const char plain_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64_append(struct buf *ret, const void *p, size_t n, bool url)
{
    const char *digits = url ? url_digits : plain_digits;
    const uint8_t *s = p;
    buf_reserve(ret, n / 3 * 4 + 4);
    for (size_t i = 0; i < n; i += 3) {
        size_t have = n - i < 3 ? n - i : 3;
        uint32_t v = (uint32_t)s[i] << 16 | (have > 1 ? (uint32_t)s[i + 1] << 8 : 0) | (have > 2 ? s[i + 2] : 0);
        char out[4] = {digits[v >> 18], digits[v >> 12 & 63], have > 1 ? digits[v >> 6 & 63] : '=', have > 2 ? digits[v & 63] : '='};
        buf_append(ret, out, url ? have + 1 : 4);
    }
}

static int value_of(char c, bool url)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == (url ? '-' : '+'))
        return 62;
    if (c == (url ? '_' : '/'))
        return 63;
    return -1;
}

int base64_decode(const char *text, size_t n, bool url, struct buf *ret)
{
    if (!url) {
        if (n % 4)
            return -EINVAL;
        for (int i = 0; i < 2 && n && text[n - 1] == '='; i++)
            n--;
    }
    if (n % 4 == 1)
        return -EINVAL;
    size_t before = ret->len;
    uint32_t v = 0;
    buf_reserve(ret, n / 4 * 3 + 3);
    for (size_t i = 0; i < n; i++) {
        int d = value_of(text[i], url);
        if (d < 0) {
            ret->len = before;
            ret->data[before] = 0;
            return -EINVAL;
        }
        v = v << 6 | (uint32_t)d;
        if (i % 4) {
            unsigned shift = 6 - 2 * (unsigned)(i % 4);
            ret->data[ret->len++] = (char)(v >> shift);
        }
    }
    ret->data[ret->len] = 0;
    return 0;
}
