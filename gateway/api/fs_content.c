/* Chunk maps, chunks, and the small contents that travel with them. */
#include "common/errname.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/direct.h"
#include "gateway/api/framed.h"
#include "gateway/api/fs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define READ_FILES_MAX 1024
#define READ_CHUNKS_MAX 65536      /* of all files of a request together */
#define READ_INLINE_MAX (8u << 20)
#define READ_INLINE_TRIES 16       /* chunks of one file that are looked up for coming along */
#define MISSING_MAX 10000

/* ---- stored bytes ---- */

/* Appends a chunk's stored bytes. Packing moves chunks while we read: one that is not where it was is looked up again. */
static int stored_bytes(struct app *app, const struct uuid *drive, struct chunk_row *row, struct buf *ret)
{
    if (!row->pack[0]) {
        buf_append(ret, row->bytes, row->stored_size);
        return 0;
    }
    int err = objects_near(app)->ops->get(objects_near(app), row->pack, row->offset, row->stored_size, ret);
    if (err != -ENOENT)
        return err;
    struct chunk_row again;
    err = app->meta->ops->chunk_get(app->meta, drive, &row->hash, &again);
    if (err)
        return err;
    if (again.pack[0])
        err = objects_near(app)->ops->get(objects_near(app), again.pack, again.offset, again.stored_size, ret);
    else
        buf_append(ret, again.bytes, again.stored_size);
    chunk_row_fini(&again);
    return err == -ENOENT ? -EIO : err; /* the drive has it, the store does not: data is lost, which is no "not found" */
}

enum call_state fs_chunk_get(struct call *c)
{
    struct app *app = app_of(c);
    struct drive_row drive;
    struct chunk_row row;
    struct hash h;
    if (!fs_query_hash(c, &h) || !roles_drive(c, call_query(c, "drive", NULL), ROLE_VIEWER, &drive))
        return CALL_DONE;
    int err = app->meta->ops->chunk_get(app->meta, &drive.id, &h, &row);
    if (err)
        return fs_fail(c, err, "the chunk");
    char size[16];
    snprintf(size, sizeof size, "%u", row.size);
    err = stored_bytes(app, &drive.id, &row, &c->out);
    if (err == 0) {
        call_add_header(c, "X-Cairn-Codec", codec_name(row.codec));
        call_add_header(c, "X-Cairn-Size", size);
        c->content_type = "application/octet-stream";
        c->status = 200;
    }
    chunk_row_fini(&row);
    return err ? fs_fail(c, err, "the chunk's bytes") : CALL_DONE;
}

static int chunk_store(struct app *app, const struct uuid *drive, struct chunk_row *row)
{
    if (row->stored_size > CHUNK_INLINE_MAX) {
        struct uuid id;
        char text[UUID_TEXT];
        struct hash stored = row->hash;
        uuid_new(&id);
        uuid_text(&id, text);
        snprintf(row->pack, sizeof row->pack, "chunk/%s", text);
        if (row->codec != CODEC_RAW)
            hash_bytes(row->bytes, row->stored_size, &stored);
        int err = app->objects->ops->put(app->objects, row->pack, row->bytes, row->stored_size, &stored);
        if (err)
            return err;
        row->bytes = NULL;
    }
    return app->meta->ops->chunks_add(app->meta, drive, row, 1);
}

/* The body must be the chunk it claims to be before anything is kept of it. */
static bool chunk_matches(struct call *c, const struct chunk_row *row)
{
    struct framed one = {.contents = (struct chunk_row *)row, .n_contents = 1};
    size_t bad;
    if (framed_verify(&one, &bad) == 0)
        return true;
    call_problem(c, 422, "chunk-checksum", "these bytes are not the chunk of that hash and size");
    return false;
}

enum call_state fs_chunk_put(struct call *c)
{
    struct app *app = app_of(c);
    struct drive_row drive;
    struct chunk_row row = {.stored_size = (uint32_t)c->body.len, .bytes = c->body.data};
    uint64_t size;
    bool known = false;
    const char *codec = call_query(c, "codec", NULL);
    if (!fs_query_hash(c, &row.hash) || !fs_query_u64(c, "size", true, &size))
        return CALL_DONE;
    if (codec_parse(codec, &row.codec) || size == 0 || size > CHUNK_SIZE_MAX || c->body.len > CHUNK_SIZE_MAX)
        return call_problem(c, 400, "bad-query", "codec is raw or zstd, size from 1 to 64 MiB");
    row.size = (uint32_t)size;
    if (!roles_drive(c, call_query(c, "drive", NULL), ROLE_EDITOR, &drive) || !chunk_matches(c, &row))
        return CALL_DONE;
    int err = app->meta->ops->chunks_known(app->meta, &drive.id, &row.hash, 1, &known);
    if (err == 0 && !known)
        err = chunk_store(app, &drive.id, &row);
    if (err)
        return fs_fail(c, err, "storing the chunk");
    buf_append_str(&c->out, "{}");
    c->status = 200;
    return CALL_DONE;
}

enum call_state fs_missing(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP(fs_hashes_fini) struct fs_hashes h = {0};
    struct drive_row drive;
    if (!fs_hashes_body(c, MISSING_MAX, &h) || !roles_drive(c, h.drive, ROLE_VIEWER, &drive))
        return CALL_DONE;
    CLEANUP_FREE bool *known = mem_calloc(h.n, sizeof *known);
    int err = h.n ? app->meta->ops->chunks_known(app->meta, &drive.id, h.hashes, h.n, known) : 0;
    if (err)
        return fs_fail(c, err, "chunks");
    jout_open(&c->out, NULL, '{');
    jout_open(&c->out, "missing", '[');
    for (size_t i = 0; i < h.n; i++)
        if (!known[i])
            jout_hash(&c->out, NULL, &h.hashes[i]);
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

/* ---- read ---- */

struct want {
    uint64_t ino, version, first, count;
};
struct reading {
    struct app *app;
    struct meta_tx *tx;
    struct buf *files, contents_head, contents, places;
    size_t contents_max, n_contents, n_places;
    bool direct; /* the client fetches what is in the object store there */
    size_t chunks_left; /* of READ_CHUNKS_MAX */
};

static void reading_fini(struct reading *r)
{
    buf_fini(&r->contents_head);
    buf_fini(&r->contents);
    buf_fini(&r->places);
}

static bool room_along(const struct reading *r)
{
    return (r->contents.len < r->contents_max && r->n_contents < FRAMED_CONTENTS_MAX) || (r->direct && r->n_places < DIRECT_PLACES_MAX);
}

static void read_place(struct reading *r, const struct chunk_row *row)
{
    if (!r->direct || !row->pack[0] || r->n_places == DIRECT_PLACES_MAX)
        return;
    if (direct_put_place(r->app, &r->places, row) == 0)
        r->n_places++;
}

static bool read_inline(struct reading *r, struct chunk_row *row)
{
    size_t before = r->contents.len;
    if (row->stored_size > CHUNK_INLINE_MAX || before >= r->contents_max || row->stored_size > r->contents_max - before || r->n_contents == FRAMED_CONTENTS_MAX)
        return false;
    if (stored_bytes(r->app, &r->tx->drive.id, row, &r->contents)) {
        r->contents.len = before;
        return false;
    }
    if (r->n_contents++)
        buf_append(&r->contents_head, ",", 1);
    framed_describe(&r->contents_head, row);
    return true;
}

/* Lets small chunks come along while there is room, and of others where they are; what does not fit or cannot be read is fetched by the client itself. */
static void read_along(struct reading *r, const struct chunk_ref *refs, size_t n)
{
    const struct meta_ops *ops = r->app->meta->ops;
    const struct uuid *drive = &r->tx->drive.id;
    struct hash h[READ_INLINE_TRIES];
    struct chunk_row found[READ_INLINE_TRIES];
    size_t k = 0;
    for (size_t i = 0; i < n && k < READ_INLINE_TRIES; i++)
        if (!hash_is_zero(&refs[i].hash))
            h[k++] = refs[i].hash;
    if (k > 1 && r->direct && ops->chunks_find(r->app->meta, drive, h, k, found))
        return;
    for (size_t i = 0; i < k && room_along(r); i++) {
        CLEANUP(chunk_row_fini) struct chunk_row row = {0};
        if (k > 1 && r->direct && found[i].pack[0] && found[i].stored_size > CHUNK_INLINE_MAX) { /* most of a large file: one question was enough */
            read_place(r, &found[i]);
            continue;
        }
        if (ops->chunk_get(r->app->meta, drive, &h[i], &row))
            return;
        if (!read_inline(r, &row))
            read_place(r, &row);
    }
}

/* What version, of which size: the newest, or one of the past. */
static int read_version(struct reading *r, const struct want *w, struct version_row *ret)
{
    struct attr a;
    const struct meta_ops *ops = r->tx->meta->ops;
    if (w->version)
        return ops->version(r->tx, w->ino, w->version, ret);
    int err = ops->inode(r->tx, w->ino, 0, &a);
    if (err)
        return err;
    if (!S_ISREG(a.mode))
        return S_ISDIR(a.mode) ? -EISDIR : -EINVAL;
    *ret = (struct version_row){.ino = a.ino, .version = a.version, .size = a.size, .chunk_size = a.chunk_size, .mtime = a.mtime,
                                .quarantined = a.quarantined};
    return 0;
}

static void put_map(struct buf *b, const struct chunk_ref *refs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        jout_open(b, NULL, '[');
        jout_hash(b, NULL, &refs[i].hash);
        jout_u64(b, NULL, refs[i].len);
        jout_close(b, ']');
    }
}

static int read_map(struct reading *r, const struct want *w, const struct version_row *v)
{
    uint64_t count = v->chunk_size ? chunk_count(v->size, v->chunk_size) : 0;
    uint64_t n = w->first < count ? count - w->first : 0;
    if (n > w->count)
        n = w->count;
    if (n > r->chunks_left)
        n = r->chunks_left;
    r->chunks_left -= n;
    CLEANUP_FREE struct chunk_ref *refs = mem_calloc(n, sizeof *refs);
    int err = n ? r->tx->meta->ops->chunk_map(r->tx, w->ino, v->version, w->first, n, refs) : 0;
    if (err)
        return err;
    jout_u64(r->files, "version", v->version);
    jout_u64(r->files, "size", v->size);
    jout_u64(r->files, "chunkSize", v->chunk_size);
    jout_i64(r->files, "mtime", v->mtime);
    jout_u64(r->files, "first", w->first);
    jout_open(r->files, "chunks", '[');
    put_map(r->files, refs, n);
    jout_close(r->files, ']');
    read_along(r, refs, n);
    return 0;
}

/* One file of the answer; what is wrong with it concerns only itself, except that the store is away. */
static int read_file(struct reading *r, const struct want *w)
{
    struct version_row v = {0};
    jout_open(r->files, NULL, '{');
    jout_u64(r->files, "ino", w->ino);
    int err = read_version(r, w, &v);
    if (err == 0 && v.quarantined)
        err = -EACCES;
    if (err == 0)
        err = read_map(r, w, &v);
    if (err == -EHOSTUNREACH || err == -EAGAIN || err == -ETIMEDOUT)
        return err;
    if (err) {
        jout_u64(r->files, "version", w->version);
        jout_str(r->files, "errno", errname_of(err));
    }
    jout_close(r->files, '}');
    return 0;
}

static int want_of(const json_t *o, struct want *ret)
{
    int err = jsonx_u64(o, "version", &ret->version);
    return (err && err != -ENOENT) || jsonx_u64(o, "ino", &ret->ino) || jsonx_u64(o, "first", &ret->first) || jsonx_u64(o, "count", &ret->count)
               ? -EINVAL
               : 0;
}

static enum call_state read_answer(struct call *c, struct reading *r)
{
    char head[24];
    jout_close(&c->out, ']');
    jout_open(&c->out, "contents", '[');
    if (r->contents_head.len)
        buf_append(&c->out, r->contents_head.data, r->contents_head.len);
    jout_close(&c->out, ']');
    if (r->direct) {
        jout_u64(&c->out, "placeSeconds", DIRECT_READ_SECONDS);
        jout_open(&c->out, "places", '[');
        if (r->places.len)
            buf_append(&c->out, r->places.data, r->places.len);
        jout_close(&c->out, ']');
    }
    jout_close(&c->out, '}');
    snprintf(head, sizeof head, "%zu", c->out.len);
    if (r->contents.len)
        buf_append(&c->out, r->contents.data, r->contents.len);
    call_add_header(c, "X-Cairn-Head", head);
    c->content_type = FRAMED_MEDIA_TYPE;
    c->status = 200;
    return CALL_DONE;
}

enum call_state fs_read(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP_JSON json_t *body = access_body(c);
    const char *text = NULL;
    struct drive_row drive;
    json_t *list;
    uint64_t inline_max = 0;
    bool direct = false;
    if (!body)
        return CALL_DONE;
    if (jsonx_u64(body, "inline", &inline_max) == -EINVAL || jsonx_bool(body, "direct", &direct) == -EINVAL || jsonx_str(body, "drive", &text) || jsonx_arr(body, "files", &list) || json_array_size(list) > READ_FILES_MAX)
        return call_problem(c, 400, "bad-json", "read needs drive and files, at most %d", READ_FILES_MAX);
    if (!roles_drive(c, text, ROLE_VIEWER, &drive))
        return CALL_DONE;
    CLEANUP_SNAPSHOT struct meta_tx *tx = NULL;
    int err = app->meta->ops->snapshot(app->meta, &drive.id, &tx);
    if (err) {
        tx = NULL;
        return fs_fail(c, err, "the drive");
    }
    CLEANUP(reading_fini) struct reading r = {.app = app, .tx = tx, .files = &c->out, .chunks_left = READ_CHUNKS_MAX};
    r.direct = direct && direct_reads(app);
    r.contents_max = inline_max > READ_INLINE_MAX ? READ_INLINE_MAX : inline_max;
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seq", tx->drive.seq);
    jout_open(&c->out, "files", '[');
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct want w = {0};
        if (want_of(json_array_get(list, i), &w)) {
            buf_fini(&c->out);
            return call_problem(c, 400, "bad-json", "file %zu needs ino, first and count", i);
        }
        err = read_file(&r, &w);
        if (err)
            return fs_fail(c, err, "the file");
    }
    return read_answer(c, &r);
}
