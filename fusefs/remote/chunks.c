/* Content: chunk maps with what is small enough to come along, and chunks by their hash. Nothing is handed on unverified. */
#include "common/errname.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/remote/http.h"

#include <errno.h>
#include <string.h>

#define PLAIN_MAX (256u << 20) /* what one read may unfold to in memory */

void remote_read_fini(struct remote_read *rd)
{
    for (size_t i = 0; i < rd->n_maps; i++)
        free(rd->maps[i].chunks);
    for (size_t i = 0; i < rd->n_contents; i++)
        free(rd->contents[i].bytes);
    free(rd->maps);
    free(rd->contents);
    *rd = (struct remote_read){0};
}

static int refs_from_json(const json_t *rows, struct remote_map *m)
{
    size_t n = json_array_size(rows);
    m->chunks = mem_calloc(n, sizeof *m->chunks);
    for (; m->n < n; m->n++) {
        struct chunk_ref *c = &m->chunks[m->n];
        const json_t *row = json_array_get(rows, m->n), *hash = json_array_get(row, 0), *len = json_array_get(row, 1);
        if (json_array_size(row) != 2 || !json_is_integer(len) || json_integer_value(len) < 0 || json_integer_value(len) > m->chunk_size)
            return -EINVAL;
        if (json_is_null(hash))
            continue;
        c->len = (uint32_t)json_integer_value(len);
        if (!json_is_string(hash) || json_string_length(hash) != HASH_HEX_LEN || hash_parse(json_string_value(hash), &c->hash) || c->len == 0)
            return -EINVAL;
    }
    return 0;
}

static int map_from_json(const json_t *o, const struct remote_want *w, struct remote_map *m)
{
    const char *error;
    if (!json_is_object(o) || jsonx_u64(o, "ino", &m->ino) || m->ino != w->ino)
        return -EINVAL;
    if (jsonx_str(o, "errno", &error) == 0) {
        m->error = errname_parse(error);
        return 0;
    }
    json_t *rows;
    if (jsonx_u64(o, "version", &m->version) || (w->version && m->version != w->version) || jsonx_u64(o, "size", &m->size) ||
        m->size > FILE_SIZE_MAX || jsonx_u32(o, "chunkSize", &m->chunk_size) || jsonx_i64(o, "mtime", &m->mtime) ||
        jsonx_u64(o, "first", &m->first) || m->first != w->first || jsonx_arr(o, "chunks", &rows) || json_array_size(rows) > w->count)
        return -EINVAL;
    if (json_array_size(rows) && !chunk_size_valid(m->chunk_size))
        return -EINVAL;
    return refs_from_json(rows, m);
}

static int content_from_frame(const json_t *o, const char *p, size_t n, size_t *used, size_t *plain, struct remote_content *c)
{
    const char *hex, *codec_text;
    uint32_t stored;
    enum codec codec;
    if (jsonx_str(o, "sha256", &hex) || strlen(hex) != HASH_HEX_LEN || hash_parse(hex, &c->hash) || jsonx_u32(o, "size", &c->size) ||
        jsonx_u32(o, "stored", &stored) || jsonx_str(o, "codec", &codec_text) || codec_parse(codec_text, &codec) ||
        c->size > CHUNK_SIZE_MAX || stored > n - *used || c->size > PLAIN_MAX - *plain)
        return problem_protocol("contents are not as the head says");
    c->bytes = mem_alloc(c->size ? c->size : 1);
    int err = codec_decode(codec, p + *used, stored, c->bytes, c->size);
    struct hash h;
    if (!err)
        hash_bytes(c->bytes, c->size, &h);
    if (err || !hash_equal(&h, &c->hash)) {
        free(c->bytes);
        c->bytes = NULL;
        return -EBADMSG;
    }
    *used += stored;
    *plain += c->size;
    return 0;
}

static int contents_from_frame(const json_t *head, const struct buf *raw, struct remote_read *rd)
{
    json_t *rows = NULL;
    int err = jsonx_arr(head, "contents", &rows);
    if (err)
        return err == -ENOENT && raw->len == 0 ? 0 : problem_protocol("contents are missing");
    size_t n = json_array_size(rows), used = 0, plain = 0;
    rd->contents = mem_calloc(n, sizeof *rd->contents);
    for (; rd->n_contents < n; rd->n_contents++) {
        err = content_from_frame(json_array_get(rows, rd->n_contents), raw->data, raw->len, &used, &plain, &rd->contents[rd->n_contents]);
        if (err)
            return err;
    }
    return used == raw->len ? 0 : problem_protocol("bytes are left over behind the contents");
}

static void take_places(struct direct *d, const json_t *head)
{
    uint64_t seconds = 0;
    json_t *places = NULL;
    jsonx_u64(head, "placeSeconds", &seconds);
    jsonx_arr(head, "places", &places);
    direct_take_places(d, places, seconds);
}

static int read_from_frame(const json_t *head, const struct buf *raw, const struct remote_want *wants, size_t n, struct remote_read *rd)
{
    json_t *files;
    if (jsonx_u64(head, "seq", &rd->seq) || jsonx_arr(head, "files", &files) || json_array_size(files) != n)
        return problem_protocol("the answer to read does not fit the question");
    rd->maps = mem_calloc(n, sizeof *rd->maps);
    while (rd->n_maps < n) {
        size_t i = rd->n_maps++;
        if (map_from_json(json_array_get(files, i), &wants[i], &rd->maps[i]))
            return problem_protocol("a chunk map is not well-formed");
    }
    return contents_from_frame(head, raw, rd);
}

static json_t *hash_list(const struct hash *h, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        char hex[HASH_HEX_LEN + 1];
        hash_hex(&h[i], hex);
        json_array_append_new(list, json_string_nocheck(hex));
    }
    return list;
}

int remote_read(struct remote *r, const struct remote_want *wants, size_t n, uint32_t inline_max, struct remote_read *ret)
{
    CLEANUP_JSON json_t *head = json_pack("{sssI}", "drive", r->drive, "inline", (json_int_t)inline_max);
    json_t *files = json_array();
    bool direct = direct_wanted(&r->direct);
    json_object_set_new(head, "files", files);
    if (direct)
        json_object_set_new(head, "direct", json_true());
    for (size_t i = 0; i < n; i++) {
        json_t *f = json_pack("{sIsIsI}", "ino", (json_int_t)wants[i].ino, "first", (json_int_t)wants[i].first, "count",
                              (json_int_t)wants[i].count);
        if (wants[i].version)
            json_object_set_new(f, "version", json_integer((json_int_t)wants[i].version));
        json_array_append_new(files, f);
    }
    CLEANUP_JSON json_t *answer = NULL;
    CLEANUP_BUF struct buf raw = {0};
    int err = fs_post_framed(r, "read", head, &answer, &raw);
    if (err)
        return err;
    struct remote_read rd = {0};
    err = read_from_frame(answer, &raw, wants, n, &rd);
    if (err)
        remote_read_fini(&rd);
    else
        *ret = rd;
    if (!err && direct)
        take_places(&r->direct, answer);
    return err;
}

int remote_expect(struct remote *r, const struct hash *h, size_t n)
{
    struct direct *d = &r->direct;
    if (n == 0 || !direct_wanted(d) || direct_knows(d, &h[0]))
        return 0;
    CLEANUP_JSON json_t *body = json_pack("{ss}", "drive", r->drive);
    CLEANUP_JSON json_t *o = NULL;
    json_object_set_new(body, "chunks", hash_list(h, n));
    int err = fs_post(r, "where", body, &o);
    uint64_t seconds = 0;
    json_t *places = NULL;
    if (err && err != -ENOENT) /* an older gateway has no such path */
        return err == -EHOSTUNREACH ? err : 0;
    if (!err && (jsonx_u64(o, "seconds", &seconds) || jsonx_arr(o, "places", &places)))
        return 0;
    direct_take_places(d, places, seconds);
    if (seconds)
        direct_take_absent(d, h, n);
    return 0;
}

static void chunk_path(struct remote *r, struct buf *path, const struct hash *h)
{
    char hex[HASH_HEX_LEN + 1];
    hash_hex(h, hex);
    fs_path(r, path, "chunk");
    buf_appendf(path, "&sha256=%s", hex);
}

int remote_chunk_get(struct remote *r, const struct hash *h, void *ret, uint32_t size)
{
    int err = size > CHUNK_INLINE_MAX ? remote_expect(r, h, 1) : 0;
    if (err)
        return err;
    if (direct_get(&r->direct, h, ret, size))
        return 0;
    CLEANUP_BUF struct buf path = {0};
    chunk_path(r, &path, h);
    struct http_request req = {.method = "GET", .path = path.data, .limit = CHUNK_ANSWER_MAX, .expect = size};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    err = http_exchange(r, &req, &a);
    if (err)
        return err;
    enum codec codec;
    if (codec_parse(a.codec[0] ? a.codec : "raw", &codec) || (a.size != UINT64_MAX && a.size != size))
        return -EBADMSG;
    struct hash got;
    err = codec_decode(codec, a.body.data, a.body.len, ret, size);
    if (err)
        return err;
    hash_bytes(ret, size, &got);
    return hash_equal(&got, h) ? 0 : -EBADMSG;
}

struct encoded {
    const struct hash *hash;
    uint32_t size;
    enum codec codec;
    struct buf stored;
};

static void encoded_fini(struct encoded *e)
{
    buf_fini(&e->stored);
}

static int put_encoded(struct remote *r, const struct encoded *e)
{
    CLEANUP_BUF struct buf path = {0};
    chunk_path(r, &path, e->hash);
    buf_appendf(&path, "&size=%u&codec=%s", e->size, codec_name(e->codec));
    struct http_request req = {.method = "PUT", .path = path.data, .body = e->stored.data, .body_len = e->stored.len};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    return http_exchange(r, &req, &a);
}

/* ---- bringing ---- */

/* The gateway's one answer to one chunk; *ret is its entry, owned by *ret_answer. -EAGAIN: none of use. */
static int ask_place(struct remote *r, const struct encoded *e, json_t **ret_answer, json_t **ret)
{
    char hex[HASH_HEX_LEN + 1];
    struct hash sum;
    json_t *places;
    uint64_t seconds;
    hash_hex(e->hash, hex);
    json_t *chunk = json_pack("{sssIsIss}", "sha256", hex, "size", (json_int_t)e->size, "stored", (json_int_t)e->stored.len, "codec", codec_name(e->codec));
    if (e->codec != CODEC_RAW) {
        hash_bytes(e->stored.data, e->stored.len, &sum);
        hash_hex(&sum, hex);
        json_object_set_new(chunk, "storedSha256", json_string_nocheck(hex));
    }
    CLEANUP_JSON json_t *body = json_pack("{sss[o]}", "drive", r->drive, "chunks", chunk);
    int err = fs_post(r, "places", body, ret_answer);
    if (err == -EHOSTUNREACH)
        return err;
    bool understood = !err && !jsonx_u64(*ret_answer, "seconds", &seconds) && !jsonx_arr(*ret_answer, "places", &places) && json_array_size(places) == 1;
    direct_offered(&r->direct, understood && seconds); /* not an older gateway, nor one whose store is not for clients */
    if (!understood)
        return -EAGAIN;
    *ret = json_array_get(places, 0);
    return 0;
}

static int say_placed(struct remote *r, const char *pack)
{
    CLEANUP_JSON json_t *body = json_pack("{sss[s]}", "drive", r->drive, "packs", pack), *o = NULL;
    json_t *placed;
    int err = fs_post(r, "placed", body, &o);
    if (err)
        return err == -EHOSTUNREACH ? err : -EAGAIN;
    return jsonx_arr(o, "placed", &placed) == 0 && json_is_true(json_array_get(placed, 0)) ? 0 : -EAGAIN;
}

/* -EAGAIN: not by this way. */
static int bring_directly(struct remote *r, const struct encoded *e, bool *ret_sent)
{
    CLEANUP_JSON json_t *answer = NULL;
    json_t *place, *headers;
    const char *pack, *url;
    bool there = false;
    int err = ask_place(r, e, &answer, &place);
    if (err)
        return err;
    if (jsonx_bool(place, "there", &there) == 0 && there) {
        *ret_sent = false;
        return 0;
    }
    if (jsonx_str(place, "pack", &pack) || jsonx_str(place, "url", &url) || jsonx_obj(place, "headers", &headers) ||
        !direct_put(&r->direct, url, headers, e->stored.data, e->stored.len, e->size))
        return -EAGAIN;
    return say_placed(r, pack);
}

int remote_chunk_bring(struct remote *r, const struct hash *h, const void *bytes, uint32_t size, bool ask, bool *ret_sent)
{
    CLEANUP(encoded_fini) struct encoded e = {.hash = h, .size = size};
    bool encoded = false, missing = true;
    *ret_sent = true;
    if (size > CHUNK_INLINE_MAX && direct_may_bring(&r->direct)) {
        e.codec = codec_encode(bytes, size, &e.stored);
        encoded = true;
        int err = e.stored.len > CHUNK_INLINE_MAX ? bring_directly(r, &e, ret_sent) : -EAGAIN;
        if (err != -EAGAIN)
            return err;
    }
    int err = ask ? remote_missing(r, h, 1, &missing) : 0;
    *ret_sent = missing;
    if (err || !missing)
        return err;
    if (!encoded)
        e.codec = codec_encode(bytes, size, &e.stored);
    return put_encoded(r, &e);
}

static int mark_missing(const json_t *rows, const struct hash *h, size_t n, bool *ret)
{
    for (size_t k = 0; k < json_array_size(rows); k++) {
        const char *hex = json_string_value(json_array_get(rows, k));
        struct hash missing;
        if (!hex || strlen(hex) != HASH_HEX_LEN || hash_parse(hex, &missing))
            return -EINVAL;
        for (size_t i = 0; i < n; i++)
            if (hash_equal(&h[i], &missing))
                ret[i] = true;
    }
    return 0;
}

int remote_missing(struct remote *r, const struct hash *h, size_t n, bool *ret_missing)
{
    CLEANUP_JSON json_t *body = json_pack("{ss}", "drive", r->drive);
    json_object_set_new(body, "chunks", hash_list(h, n));
    memset(ret_missing, 0, n * sizeof *ret_missing);
    CLEANUP_JSON json_t *o = NULL;
    int err = fs_post(r, "missing", body, &o);
    if (err)
        return err;
    json_t *rows;
    if (jsonx_arr(o, "missing", &rows) || mark_missing(rows, h, n, ret_missing))
        return problem_protocol("the answer to missing is not a list of hashes");
    return 0;
}
