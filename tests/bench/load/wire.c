#include "wire.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define HEAD_MAX (64u << 10)

static bool header_is(const char *line, const char *name, const char **ret_value)
{
    size_t n = strlen(name);
    if (strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    *ret_value = line + n + 1 + strspn(line + n + 1, " \t");
    return true;
}

/* end: the empty line that ends the head. */
static const char *next_line(const char *line, const char *end)
{
    const char *stop = memmem(line, (size_t)(end - line) + 2, "\r\n", 2);
    return stop + 2;
}

int http_head_parse(const char *p, size_t n, bool no_body, struct http_head *ret)
{
    const char *end = n ? memmem(p, n, "\r\n\r\n", 4) : NULL;
    if (!end)
        return n > HEAD_MAX ? -1 : 0;
    *ret = (struct http_head){.length = (size_t)(end - p) + 4};
    if (ret->length < 16 || memcmp(p, "HTTP/1.1 ", 9) != 0 || !isdigit((unsigned char)p[9]) || !isdigit((unsigned char)p[10]) || !isdigit((unsigned char)p[11]))
        return -1;
    ret->status = (p[9] - '0') * 100 + (p[10] - '0') * 10 + p[11] - '0';
    bool sized = no_body || ret->status / 100 == 1 || ret->status == 204 || ret->status == 304, empty = sized;
    for (const char *line = next_line(p, end); line < end; line = next_line(line, end)) {
        const char *value;
        if (header_is(line, "content-length", &value)) {
            char *stop;
            ret->body = strtoull(value, &stop, 10);
            if (!isdigit((unsigned char)*value) || *stop != '\r')
                return -1;
            sized = true;
        } else if (header_is(line, "connection", &value)) {
            ret->close = strncasecmp(value, "close", 5) == 0;
        }
    }
    if (empty)
        ret->body = 0;
    return sized ? 1 : -1;
}

static uint64_t big_endian(const unsigned char *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

int ws_frame_parse(const char *p, size_t n, struct ws_frame *ret)
{
    const unsigned char *b = (const unsigned char *)p;
    if (n < 2)
        return 0;
    if (b[1] & 0x80 || b[0] & 0x70)
        return -1;
    unsigned code = b[1] & 0x7f, more = code == 126 ? 2 : code == 127 ? 8 : 0;
    if (n < 2 + more)
        return 0;
    uint64_t length = more ? big_endian(b + 2, more) : code;
    if (length > 64u << 20)
        return -1;
    if (n < 2 + more + length)
        return 0;
    *ret = (struct ws_frame){b[0] & 0x80, b[0] & 0x0f, p + 2 + more, (size_t)length, 2 + more + (size_t)length};
    return 1;
}

void ws_frame_put(struct buf *out, unsigned opcode, const void *p, size_t n)
{
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    unsigned char head[14] = {(unsigned char)(0x80 | opcode)};
    size_t at = 2;
    if (n < 126) {
        head[1] = (unsigned char)(0x80 | n);
    } else {
        unsigned bytes = n < 65536 ? 2 : 8;
        head[1] = bytes == 2 ? 0x80 | 126 : 0x80 | 127;
        for (unsigned i = 0; i < bytes; i++)
            head[at++] = (unsigned char)((uint64_t)n >> (8 * (bytes - 1 - i)));
    }
    memcpy(head + at, mask, 4);
    buf_append(out, head, at + 4);
    buf_reserve(out, n);
    for (size_t i = 0; i < n; i++)
        out->data[out->len + i] = (char)(((const unsigned char *)p)[i] ^ mask[i & 3]);
    out->len += n;
    out->data[out->len] = 0;
}

int url_parse(const char *url, struct address *ret, const char **ret_path)
{
    if (strncmp(url, "http://", 7) != 0)
        return -EINVAL;
    const char *host = url + 7;
    size_t all = strcspn(host, "/?"), n = strcspn(host, ":/?");
    if (n == 0 || n >= sizeof ret->host || all - n > sizeof ret->port - 1)
        return -EINVAL;
    *ret = (struct address){.port = "80"};
    memcpy(ret->host, host, n);
    if (all > n + 1) {
        memcpy(ret->port, host + n + 1, all - n - 1);
        ret->port[all - n - 1] = 0;
    }
    *ret_path = host + all;
    return strspn(ret->port, "0123456789") == strlen(ret->port) ? 0 : -EINVAL;
}
