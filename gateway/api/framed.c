#include "gateway/api/framed.h"
#include "common/jsonx.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>

void framed_fini(struct framed *f)
{
    json_decref(f->head);
    free(f->contents);
    *f = (struct framed){0};
}

static int parse_length(const char *text, size_t max, size_t *ret)
{
    size_t digits = text ? strspn(text, "0123456789") : 0;
    if (digits == 0 || digits > 10 || text[digits])
        return -EINVAL;
    *ret = (size_t)strtoull(text, NULL, 10);
    return *ret > max ? -EINVAL : 0;
}

static int parse_content(const json_t *o, struct chunk_row *c, const char **why)
{
    const char *hash, *codec;
    *why = "a content needs sha256, size, stored and codec";
    if (!json_is_object(o) || jsonx_str(o, "sha256", &hash) || hash_parse(hash, &c->hash) || jsonx_u32(o, "size", &c->size) ||
        jsonx_u32(o, "stored", &c->stored_size) || jsonx_str(o, "codec", &codec) || codec_parse(codec, &c->codec) || c->size == 0)
        return -EINVAL;
    *why = "a content is too large";
    if (c->size > CHUNK_SIZE_MAX || c->stored_size > CHUNK_INLINE_MAX)
        return -EMSGSIZE;
    *why = "a content's stored size does not fit its codec";
    return c->codec == CODEC_RAW && c->stored_size != c->size ? -EINVAL : 0;
}

static int parse_contents(struct framed *f, const char *bytes, size_t len, const char **why)
{
    json_t *list;
    int err = jsonx_arr(f->head, "contents", &list);
    *why = "contents is not an array";
    if (err && err != -ENOENT)
        return err;
    size_t n = err ? 0 : json_array_size(list);
    *why = "too many contents";
    if (n > FRAMED_CONTENTS_MAX)
        return -EMSGSIZE;
    f->contents = mem_calloc(n, sizeof *f->contents);
    uint64_t plain = 0;
    for (size_t i = 0; i < n; i++) {
        struct chunk_row *c = &f->contents[i];
        err = parse_content(json_array_get(list, i), c, why);
        if (err)
            return err;
        *why = "the contents' stored sizes are more than the body";
        if (c->stored_size > len)
            return -EINVAL;
        c->bytes = (char *)bytes;
        bytes += c->stored_size;
        len -= c->stored_size;
        *why = "the contents' plain sizes are too large together";
        plain += c->size;
        if (plain > FRAMED_PLAIN_MAX)
            return -EMSGSIZE;
        f->n_contents++;
    }
    *why = "the contents' stored sizes are less than the body";
    return len ? -EINVAL : 0;
}

int framed_parse(const char *head_len, const void *body, size_t len, struct framed *ret, const char **ret_why)
{
    struct framed f = {0};
    size_t head;
    *ret_why = "X-Cairn-Head is missing, or no length within the body";
    if (parse_length(head_len, len, &head))
        return -EINVAL;
    f.head = jsonx_parse(body, head, ret_why);
    if (!f.head)
        return -EINVAL;
    *ret_why = "the head is not an object";
    int err = json_is_object(f.head) ? parse_contents(&f, (const char *)body + head, len - head, ret_why) : -EINVAL;
    if (err) {
        framed_fini(&f);
        return err;
    }
    *ret = f;
    return 0;
}

int framed_verify(const struct framed *f, size_t *ret_bad)
{
    size_t room = 0;
    for (size_t i = 0; i < f->n_contents; i++)
        if (f->contents[i].codec != CODEC_RAW && f->contents[i].size > room)
            room = f->contents[i].size;
    CLEANUP_FREE char *plain = room ? mem_alloc(room) : NULL;
    for (size_t i = 0; i < f->n_contents; i++) {
        const struct chunk_row *c = &f->contents[i];
        const char *p = c->bytes;
        struct hash h;
        *ret_bad = i;
        if (c->codec != CODEC_RAW) {
            if (codec_decode(c->codec, c->bytes, c->stored_size, plain, c->size))
                return -EBADMSG;
            p = plain;
        }
        hash_bytes(p, c->size, &h);
        if (!hash_equal(&h, &c->hash))
            return -EBADMSG;
    }
    return 0;
}

void framed_describe(struct buf *head, const struct chunk_row *c)
{
    char hex[HASH_HEX_LEN + 1];
    hash_hex(&c->hash, hex);
    buf_appendf(head, "{\"sha256\":\"%s\",\"size\":%u,\"stored\":%u,\"codec\":\"%s\"}", hex, c->size, c->stored_size, codec_name(c->codec));
}
