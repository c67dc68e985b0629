/* Sessions: begun, and asked about. */
#include "gateway/api/uploads.h"
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/content.h"
#include "gateway/api/json_out.h"
#include "gateway/api/place.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNKS_MAX (UINT64_C(1) << 22) /* of one file */

uint64_t upload_total(const struct upload_row *u)
{
    return chunk_count(u->size, u->chunk_size);
}

unsigned upload_progress(uint64_t received, uint64_t total)
{
    return total == 0 ? 100 : (unsigned)(received * 100 / total);
}

bool upload_load(struct call *c, struct upload_row *ret)
{
    struct meta *meta = app_of(c)->meta;
    struct upload_row u = {0};
    struct uuid id;
    int err = uuid_parse(c->params[0], &id) ? -ENOENT : meta->ops->upload_get(meta, &id, &u);
    if (err == 0 && !uuid_equal(&u.user, &principal_of(c)->user)) {
        upload_row_fini(&u);
        err = -ENOENT;
    }
    if (err == -ENOENT)
        call_problem(c, 404, "upload-not-found", "there is no such upload");
    else if (err)
        call_errno(c, err, "the upload");
    if (err)
        return false;
    if (u.state == 'a' && u.expires <= clock_wall_ns())
        u.state = 'e';
    *ret = u;
    return true;
}

enum call_state upload_not_active(struct call *c, char state)
{
    if (state == 'c')
        return call_problem(c, 409, "upload-completed", "the upload has been completed");
    if (state == 'x')
        return call_problem(c, 409, "upload-cancelled", "the upload has been cancelled");
    return call_problem(c, 410, "upload-expired", "the upload has expired: nothing came for 24 hours");
}

/* ---- initiate ---- */

void upload_hints_fini(struct upload_hints *h)
{
    free(h->rows);
}

/* What is wrong with the request, or NULL. */
static const char *parse_numbers(const json_t *body, struct upload_row *u)
{
    uint64_t chunk_size;
    const char *sha256;
    if (jsonx_u64(body, "size", &u->size) || u->size > (uint64_t)FILE_SIZE_MAX)
        return "size is a number of bytes, at most 64 TiB";
    chunk_size = content_chunk_size(u->size);
    if (jsonx_u64(body, "chunkSize", &chunk_size) == -EINVAL || !chunk_size_valid(chunk_size))
        return "chunkSize is a power of two from 65536 to 67108864";
    u->chunk_size = (uint32_t)chunk_size;
    if (upload_total(u) > CHUNKS_MAX)
        return "a file has at most 4194304 chunks: choose larger ones";
    int err = jsonx_u64(body, "baseVersion", &u->base);
    if (err == -EINVAL)
        return "baseVersion is a number";
    u->has_base = err == 0;
    u->mode = 0644;
    if (jsonx_u32(body, "mode", &u->mode) == -EINVAL || u->mode > 07777)
        return "mode is a number of at most 4095";
    err = jsonx_str(body, "sha256", &sha256);
    if (err == -EINVAL || (err == 0 && hash_parse(sha256, &u->sha256)))
        return "sha256 is 64 hex digits";
    return NULL;
}

static int by_number(const void *a, const void *b)
{
    const struct upload_chunk_row *x = a, *y = b;
    return (x->n > y->n) - (x->n < y->n);
}

const char *upload_hints_parse(const json_t *body, const struct upload_row *u, struct upload_hints *ret)
{
    json_t *chunks;
    int err = jsonx_arr(body, "chunks", &chunks);
    if (err == -ENOENT)
        return NULL;
    if (err || json_array_size(chunks) > upload_total(u))
        return "chunks is an array of at most as many as the file has";
    ret->rows = mem_calloc(json_array_size(chunks), sizeof *ret->rows);
    for (size_t i = 0; i < json_array_size(chunks); i++) {
        const json_t *o = json_array_get(chunks, i);
        struct upload_chunk_row *r = &ret->rows[ret->n++];
        uint64_t size;
        const char *hex;
        if (!json_is_object(o) || jsonx_u64(o, "n", &r->n) || jsonx_str(o, "sha256", &hex) || hash_parse(hex, &r->sha256))
            return "a chunk has n, sha256 (64 hex digits) and size";
        r->size = chunk_length(u->size, u->chunk_size, r->n);
        size = r->size;
        if (jsonx_u64(o, "size", &size) == -EINVAL || r->size == 0 || size != r->size)
            return "a chunk's n or size does not fit the file";
    }
    if (ret->n)
        qsort(ret->rows, ret->n, sizeof *ret->rows, by_number);
    for (size_t i = 1; i < ret->n; i++)
        if (ret->rows[i].n == ret->rows[i - 1].n)
            return "a chunk is there twice";
    return NULL;
}

/* Puts the chunks that the drive has, of the size that the file needs, before the others; each part stays in order. */
static int split_known(struct app *app, const struct uuid *drive, struct upload_hints *h, size_t *ret_known)
{
    CLEANUP_FREE struct hash *hashes = mem_calloc(h->n, sizeof *hashes);
    CLEANUP_FREE struct chunk_row *rows = mem_calloc(h->n, sizeof *rows);
    CLEANUP_FREE struct upload_chunk_row *others = mem_calloc(h->n, sizeof *others);
    size_t n = 0, n_others = 0;
    for (size_t i = 0; i < h->n; i++)
        hashes[i] = h->rows[i].sha256;
    int err = h->n ? app->meta->ops->chunks_find(app->meta, drive, hashes, h->n, rows) : 0;
    int64_t now = clock_wall_ns();
    for (size_t i = 0; i < h->n && err == 0; i++) {
        struct upload_chunk_row *r = &h->rows[i];
        if (rows[i].stored_size && uuid_is_zero(&rows[i].unverified_by) && rows[i].size == r->size) {
            r->received = now;
            h->rows[n++] = *r;
        } else {
            others[n_others++] = *r;
        }
    }
    if (n_others)
        memcpy(h->rows + n, others, n_others * sizeof *others);
    *ret_known = n;
    return err;
}

static void put_missing(struct buf *out, const struct upload_row *u, const struct upload_chunk_row *have, size_t n_have)
{
    uint64_t total = upload_total(u);
    size_t next = 0;
    jout_open(out, "missing", '[');
    for (uint64_t n = 0; n < total; n++) {
        if (next < n_have && have[next].n == n)
            next++;
        else
            jout_u64(out, NULL, n);
    }
    jout_close(out, ']');
}

static enum call_state begin_session(struct call *c, struct upload_row *u, struct upload_hints *hints)
{
    struct app *app = app_of(c);
    const struct principal *who = principal_of(c);
    uuid_new(&u->id);
    u->user = who->user;
    memcpy(u->device, who->device, sizeof u->device);
    u->state = 'a';
    u->created = clock_wall_ns();
    u->expires = u->created + UPLOAD_LIVES_NS;
    size_t known = 0;
    int err = split_known(app, &u->drive, hints, &known);
    if (err == 0)
        err = app->meta->ops->upload_add(app->meta, u);
    if (err == 0 && known)
        err = app->meta->ops->upload_chunks_put(app->meta, &u->id, hints->rows, known, u->expires, &u->received);
    if (err)
        return call_errno(c, err, "the upload");
    jout_open(&c->out, NULL, '{');
    jout_uuid(&c->out, "sessionId", &u->id);
    jout_u64(&c->out, "chunkSize", u->chunk_size);
    jout_u64(&c->out, "totalChunks", upload_total(u));
    jout_time(&c->out, "expiresAt", u->expires);
    put_missing(&c->out, u, hints->rows, known);
    err = upload_put_urls(app, &c->out, u, hints->rows + known, hints->n - known);
    jout_close(&c->out, '}');
    if (err) {
        buf_fini(&c->out);
        return call_errno(c, err, "the upload");
    }
    c->status = 201;
    return CALL_DONE;
}

/* The place is looked up and left again before anything is written. */
static bool find_place(struct call *c, const char *drive, const char *path, bool parents, struct upload_row *u)
{
    CLEANUP_PLACE struct place p = {0};
    struct drive_row d;
    if (parents && (!access_drive(c, drive, ROLE_EDITOR, &d) || !place_make_parents(c, &d, path)))
        return false;
    if (!place_enter(c, drive, path, ROLE_EDITOR, &p) || !place_takes_file(c, &p))
        return false;
    if (p.tx->drive.quota && u->size > p.tx->drive.quota) {
        call_errno(c, -EDQUOT, path);
        return false;
    }
    u->drive = p.drive.id;
    u->parent = p.entry.parent;
    memcpy(u->name, p.entry.name, sizeof u->name);
    u->path = mem_strdup(path);
    return true;
}

enum call_state upload_initiate(struct call *c)
{
    CLEANUP_JSON json_t *body = access_body(c);
    CLEANUP(upload_row_fini) struct upload_row u = {0};
    CLEANUP(upload_hints_fini) struct upload_hints hints = {0};
    const char *path, *drive = NULL;
    bool parents = false;
    if (!body || !(path = access_path_member(c, body, "path")))
        return CALL_DONE;
    const char *wrong = parse_numbers(body, &u);
    if (!wrong)
        wrong = upload_hints_parse(body, &u, &hints);
    if (!wrong && (jsonx_str(body, "drive", &drive) == -EINVAL || jsonx_bool(body, "createParents", &parents) == -EINVAL))
        wrong = "drive is a string, createParents true or false";
    if (wrong)
        return call_problem(c, 400, "bad-request", "%s", wrong);
    return find_place(c, drive, path, parents, &u) ? begin_session(c, &u, &hints) : CALL_DONE;
}

/* ---- what is there ---- */

static const char *state_name(char state)
{
    return state == 'a' ? "active" : state == 'c' ? "completed" : state == 'x' ? "cancelled" : "expired";
}

/* The session with what has arrived by now. A store that is away is no reason not to tell of the rest. */
static bool load_arrived(struct call *c, struct upload_row *ret)
{
    if (!upload_load(c, ret))
        return false;
    int err = upload_take_arrived(app_of(c), ret);
    if (!err || err == -EHOSTUNREACH)
        return true;
    call_errno(c, err, "the upload's chunks");
    return false;
}

static enum call_state upload_get(struct call *c)
{
    CLEANUP(upload_row_fini) struct upload_row u = {0};
    if (!load_arrived(c, &u))
        return CALL_DONE;
    uint64_t total = upload_total(&u);
    struct buf *b = &c->out;
    jout_open(b, NULL, '{');
    jout_uuid(b, "sessionId", &u.id);
    jout_str(b, "state", state_name(u.state));
    jout_uuid(b, "drive", &u.drive);
    jout_str(b, "path", u.path);
    jout_u64(b, "size", u.size);
    jout_u64(b, "chunkSize", u.chunk_size);
    jout_u64(b, "totalChunks", total);
    jout_u64(b, "received", u.received);
    jout_u64(b, "total", total);
    jout_u64(b, "progress", u.state == 'c' ? 100 : upload_progress(u.received, total));
    jout_hash(b, "sha256", &u.sha256);
    jout_time(b, "createdAt", u.created);
    jout_time(b, "expiresAt", u.expires);
    jout_close(b, '}');
    c->status = 200;
    return CALL_DONE;
}

static int put_chunk(void *ctx, const struct upload_chunk_row *r)
{
    struct buf *b = ctx;
    jout_open(b, NULL, '{');
    jout_u64(b, "n", r->n);
    jout_u64(b, "size", r->size);
    jout_hash(b, "sha256", &r->sha256);
    jout_time(b, "receivedAt", r->received);
    jout_close(b, '}');
    return 0;
}

struct gaps {
    struct buf *out;
    uint64_t next;
};

static void put_gap(struct gaps *g, uint64_t end)
{
    for (; g->next < end; g->next++)
        jout_u64(g->out, NULL, g->next);
}

static int skip_chunk(void *ctx, const struct upload_chunk_row *r)
{
    struct gaps *g = ctx;
    put_gap(g, r->n);
    g->next = r->n + 1;
    return 0;
}

/* {KEY: [what `each` makes of the session's chunks]} */
static enum call_state answer_list(struct call *c, const char *key, struct upload_row *u, int (*each)(void *, const struct upload_chunk_row *), void *ctx,
                                   struct gaps *gaps)
{
    struct meta *meta = app_of(c)->meta;
    jout_open(&c->out, NULL, '{');
    jout_open(&c->out, key, '[');
    int err = meta->ops->upload_chunks(meta, &u->id, each, ctx);
    if (err < 0) {
        buf_fini(&c->out);
        return call_errno(c, err, "the upload's chunks");
    }
    if (gaps)
        put_gap(gaps, upload_total(u));
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

static enum call_state upload_chunks(struct call *c)
{
    CLEANUP(upload_row_fini) struct upload_row u = {0};
    return load_arrived(c, &u) ? answer_list(c, "chunks", &u, put_chunk, &c->out, NULL) : CALL_DONE;
}

static enum call_state upload_missing(struct call *c)
{
    CLEANUP(upload_row_fini) struct upload_row u = {0};
    struct gaps gaps = {.out = &c->out};
    return load_arrived(c, &u) ? answer_list(c, "missing", &u, skip_chunk, &gaps, &gaps) : CALL_DONE;
}

const struct route upload_routes[] = {
    {HTTP_POST, "/api/v1/upload/initiate", upload_initiate, 0, 32 << 20},
    {HTTP_POST, "/api/v1/upload/{}/chunk/{}", upload_chunk, 0, CHUNK_SIZE_MAX},
    {HTTP_POST, "/api/v1/upload/{}/urls", upload_urls, 0, 32 << 20},
    {HTTP_GET, "/api/v1/upload/{}", upload_get, 0, 0},
    {HTTP_GET, "/api/v1/upload/{}/chunks", upload_chunks, 0, 0},
    {HTTP_GET, "/api/v1/upload/{}/missing-chunks", upload_missing, 0, 0},
    {HTTP_POST, "/api/v1/upload/{}/complete", upload_complete, 0, 64 << 10},
    {HTTP_DELETE, "/api/v1/upload/{}", upload_cancel, 0, 0},
};
const size_t upload_routes_n = sizeof upload_routes / sizeof *upload_routes;
