#include "common/base64.h"
#include "common/utf8.h"
#include "gateway/api/fs.h"

#include <string.h>

void fs_put_int(struct buf *b, int64_t v)
{
    char digits[24], *at = digits + sizeof digits;
    uint64_t rest = v < 0 ? -(uint64_t)v : (uint64_t)v;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (v < 0)
        *--at = '-';
    buf_append(b, at, (size_t)(digits + sizeof digits - at));
}

void fs_put_member(struct buf *b, const char *key, uint64_t v)
{
    buf_append(b, "\"", 1);
    buf_append_str(b, key);
    buf_append(b, "\":", 2);
    fs_put_int(b, (int64_t)v);
}

void fs_put_string(struct buf *b, const char *s, size_t n)
{
    buf_append(b, "\"", 1);
    for (size_t from = 0, i = 0;; i++) {
        unsigned char c = i < n ? (unsigned char)s[i] : 0;
        if (i < n && c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_append(b, s + from, i - from);
        from = i + 1;
        if (i == n)
            break;
        if (c < 0x20)
            buf_appendf(b, "\\u%04x", c);
        else
            buf_append(b, (char[]){'\\', (char)c}, 2);
    }
    buf_append(b, "\"", 1);
}

void fs_put_bytes(struct buf *b, const char *key, const void *p, size_t n)
{
    bool text = n == 0 || (utf8_valid(p, n) && !memchr(p, 0, n));
    buf_append(b, "\"", 1);
    buf_append_str(b, key);
    if (text) {
        buf_append(b, "\":", 2);
        fs_put_string(b, n ? p : "", n);
        return;
    }
    buf_append_str(b, "64\":\"");
    base64_append(b, p, n, false);
    buf_append(b, "\"", 1);
}

void fs_put_attr(struct buf *b, const struct attr *a)
{
    static const char *const keys[] = {"{\"ino\":", ",\"mode\":", ",\"nlink\":", ",\"uid\":", ",\"gid\":", ",\"rdev\":", ",\"size\":",
                                       ",\"atime\":", ",\"mtime\":", ",\"ctime\":", ",\"btime\":", ",\"version\":", ",\"chunkSize\":"};
    const int64_t values[] = {(int64_t)a->ino, a->mode, a->nlink, a->uid, a->gid, (int64_t)a->rdev, (int64_t)a->size,
                              a->atime, a->mtime, a->ctime, a->btime, (int64_t)a->version, a->chunk_size};
    buf_reserve(b, 320);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (i == 5 && !a->rdev)
            continue;
        buf_append_str(b, keys[i]);
        fs_put_int(b, values[i]);
    }
    buf_append_str(b, a->quarantined ? ",\"quarantined\":true}" : "}");
}
