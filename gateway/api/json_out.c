#include "gateway/api/json_out.h"
#include "common/base64.h"
#include "common/clock.h"
#include "common/utf8.h"

#include <string.h>

static void put(struct buf *b, char c)
{
    buf_append(b, &c, 1);
}

/* Comma and key. No string ends in an opening bracket: its last byte is a quote. */
static void begin(struct buf *b, const char *key)
{
    char last = b->len ? b->data[b->len - 1] : '{';
    if (last != '{' && last != '[')
        put(b, ',');
    if (!key)
        return;
    put(b, '"');
    buf_append_str(b, key);
    buf_append(b, "\":", 2);
}

void jout_open(struct buf *b, const char *key, char bracket)
{
    begin(b, key);
    put(b, bracket);
}

void jout_close(struct buf *b, char bracket)
{
    put(b, bracket);
}

static void put_digits(struct buf *b, uint64_t v)
{
    char text[20], *p = text + sizeof text;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    buf_append(b, p, (size_t)(text + sizeof text - p));
}

void jout_u64(struct buf *b, const char *key, uint64_t v)
{
    begin(b, key);
    put_digits(b, v);
}

void jout_i64(struct buf *b, const char *key, int64_t v)
{
    begin(b, key);
    if (v < 0)
        put(b, '-');
    put_digits(b, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

void jout_bool(struct buf *b, const char *key, bool v)
{
    begin(b, key);
    buf_append_str(b, v ? "true" : "false");
}

void jout_null(struct buf *b, const char *key)
{
    begin(b, key);
    buf_append_str(b, "null");
}

static bool plain(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\';
}

static void put_quoted(struct buf *b, const char *p, size_t n)
{
    put(b, '"');
    for (size_t i = 0; i < n;) {
        size_t run = i;
        while (run < n && plain((unsigned char)p[run]))
            run++;
        buf_append(b, p + i, run - i);
        if (run < n)
            buf_appendf(b, "\\u%04x", (unsigned char)p[run]);
        i = run + 1;
    }
    put(b, '"');
}

void jout_str(struct buf *b, const char *key, const char *utf8)
{
    begin(b, key);
    put_quoted(b, utf8, strlen(utf8));
}

void jout_bytes(struct buf *b, const char *key, const void *p, size_t n)
{
    if (utf8_valid(p, n) && !memchr(p, 0, n)) {
        begin(b, key);
        put_quoted(b, p, n);
        return;
    }
    char other[64];
    snprintf(other, sizeof other, "%s64", key);
    begin(b, other);
    put(b, '"');
    base64_append(b, p, n, false);
    put(b, '"');
}

void jout_time(struct buf *b, const char *key, int64_t ns)
{
    char text[CLOCK_TEXT];
    clock_format_rfc3339(ns, text);
    jout_str(b, key, text);
}

void jout_hash(struct buf *b, const char *key, const struct hash *h)
{
    char hex[HASH_HEX_LEN + 1];
    if (hash_is_zero(h)) {
        jout_null(b, key);
        return;
    }
    hash_hex(h, hex);
    jout_str(b, key, hex);
}

void jout_uuid(struct buf *b, const char *key, const struct uuid *u)
{
    char text[UUID_TEXT];
    uuid_text(u, text);
    jout_str(b, key, text);
}
