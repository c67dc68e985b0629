/* Drivers that fetch chunks from the object store, and bring them there, themselves: where chunks are, places for new ones, and the word that they are there. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/direct.h"
#include "gateway/api/fs.h"

#include <errno.h>
#include <string.h>

/* ---- where ---- */

enum call_state fs_where(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP(fs_hashes_fini) struct fs_hashes h = {0};
    struct drive_row drive;
    if (!fs_hashes_body(c, DIRECT_PLACES_MAX, &h) || !roles_drive(c, h.drive, ROLE_VIEWER, &drive))
        return CALL_DONE;
    CLEANUP_FREE struct chunk_row *rows = mem_calloc(h.n, sizeof *rows);
    bool direct = direct_reads(app);
    int err = h.n && direct ? app->meta->ops->chunks_find(app->meta, &drive.id, h.hashes, h.n, rows) : 0;
    if (err)
        return fs_fail(c, err, "chunks");
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "seconds", direct ? DIRECT_READ_SECONDS : 0);
    jout_open(&c->out, "places", '[');
    for (size_t i = 0; i < h.n && direct; i++)
        if (rows[i].pack[0])
            direct_put_place(app, &c->out, &rows[i]);
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

/* ---- places ---- */

struct placing {
    size_t n;
    struct hash *hashes, *sums;
    struct pending_row *rows; /* one for each that is asked for; n_begun of them, at the beginning, are recorded */
    struct chunk_row *known;
    size_t n_begun;
    bool direct;
};

static void placing_fini(struct placing *p)
{
    free(p->hashes);
    free(p->sums);
    free(p->rows);
    free(p->known);
}

static int place_of_json(const json_t *o, struct chunk_row *row, struct hash *ret_sum)
{
    const char *hex, *codec;
    if (jsonx_str(o, "sha256", &hex) || hash_parse(hex, &row->hash) || jsonx_u32(o, "size", &row->size) || jsonx_u32(o, "stored", &row->stored_size) ||
        jsonx_str(o, "codec", &codec) || codec_parse(codec, &row->codec) || row->size == 0 || row->size > CHUNK_SIZE_MAX || row->stored_size == 0 ||
        row->stored_size > row->size || (row->codec == CODEC_RAW && row->stored_size != row->size))
        return -EINVAL;
    *ret_sum = row->hash;
    if (row->codec == CODEC_RAW)
        return 0;
    return jsonx_str(o, "storedSha256", &hex) || hash_parse(hex, ret_sum) ? -EINVAL : 0;
}

static bool places_parse(struct call *c, const json_t *list, struct placing *p)
{
    p->n = json_array_size(list);
    p->hashes = mem_calloc(p->n, sizeof *p->hashes);
    p->sums = mem_calloc(p->n, sizeof *p->sums);
    p->rows = mem_calloc(p->n, sizeof *p->rows);
    p->known = mem_calloc(p->n, sizeof *p->known);
    for (size_t i = 0; i < p->n; i++) {
        if (place_of_json(json_array_get(list, i), &p->known[i], &p->sums[i])) {
            call_problem(c, 400, "bad-json", "chunk %zu needs sha256, size, stored, codec and, unless it is raw, storedSha256, and they must fit each other", i);
            return false;
        }
        p->hashes[i] = p->known[i].hash;
        p->rows[i].chunk = p->known[i];
    }
    return true;
}

/* One entry of the answer: it is there; or bring it to that URL; or null: bring it through the gateway. */
static void put_entry(struct call *c, struct placing *p, size_t i, const struct uuid *drive)
{
    const struct chunk_row *known = &p->known[i];
    struct buf *out = &c->out;
    bool there = known->stored_size && uuid_is_zero(&known->unverified_by);
    struct pending_row row = p->rows[i];
    size_t before = out->len;
    if (there) {
        jout_open(out, NULL, '{');
        jout_bool(out, "there", true);
        jout_close(out, '}');
        return;
    }
    /* of what is there on somebody's word only, no second word is taken: the gateway looks at it itself */
    if (p->direct && !known->stored_size && row.chunk.stored_size > CHUNK_INLINE_MAX) {
        direct_begin(&row, drive, &principal_of(c)->user, DIRECT_WRITE_SECONDS);
        jout_open(out, NULL, '{');
        jout_str(out, "pack", row.chunk.pack);
        if (direct_put_url(app_of(c), out, &row, &p->sums[i], DIRECT_WRITE_SECONDS) == 0) {
            jout_close(out, '}');
            p->rows[p->n_begun++] = row; /* n_begun ≤ i */
            return;
        }
        out->len = before;
    }
    jout_null(out, NULL);
}

enum call_state fs_places(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP_JSON json_t *body = access_body(c);
    CLEANUP(placing_fini) struct placing p = {0};
    const char *text = NULL;
    struct drive_row drive;
    json_t *list;
    if (!body)
        return CALL_DONE;
    if (jsonx_str(body, "drive", &text) || jsonx_arr(body, "chunks", &list) || json_array_size(list) > DIRECT_PLACES_MAX)
        return call_problem(c, 400, "bad-json", "places needs drive and chunks, at most %d", DIRECT_PLACES_MAX);
    if (!roles_drive(c, text, ROLE_EDITOR, &drive) || !places_parse(c, list, &p))
        return CALL_DONE;
    int err = p.n ? app->meta->ops->chunks_find(app->meta, &drive.id, p.hashes, p.n, p.known) : 0;
    if (err)
        return fs_fail(c, err, "chunks");
    jout_open(&c->out, NULL, '{');
    p.direct = direct_writes(app);
    jout_u64(&c->out, "seconds", p.direct ? DIRECT_WRITE_SECONDS : 0);
    jout_open(&c->out, "places", '[');
    for (size_t i = 0; i < p.n; i++)
        put_entry(c, &p, i, &drive.id);
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    if (p.n_begun)
        err = app->meta->ops->pendings_add(app->meta, p.rows, p.n_begun); /* before anybody knows a URL */
    if (err)
        return fs_fail(c, err, "places");
    c->status = 200;
    return CALL_DONE;
}

/* ---- placed ---- */

struct exact {
    const char *key;
    struct pending_row *ret;
    bool found;
};

static int take_exact(void *ctx, const struct pending_row *p)
{
    struct exact *e = ctx;
    e->found = strcmp(p->chunk.pack, e->key) == 0;
    if (e->found)
        *e->ret = *p;
    return 1;
}

/* 1: pending for this user, and in the store with all its bytes; 0: not so. */
static int is_there(struct call *c, const struct uuid *drive, const char *key, struct pending_row *ret)
{
    struct app *app = app_of(c);
    struct exact e = {.key = key, .ret = ret};
    CLEANUP_BUF struct buf nothing = {0};
    int err = app->meta->ops->pendings(app->meta, drive, key, take_exact, &e);
    if (err < 0)
        return err;
    if (!e.found || !uuid_equal(&ret->user, &principal_of(c)->user))
        return 0;
    err = app->objects->ops->get(app->objects, key, ret->chunk.stored_size, 0, &nothing); /* no byte behind its last one: it is that long */
    return err == 0 ? 1 : err == -ENOENT || err == -ERANGE ? 0 : err;
}

enum call_state fs_placed(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP_JSON json_t *body = access_body(c);
    const char *text = NULL;
    struct drive_row drive;
    json_t *list;
    if (!body)
        return CALL_DONE;
    if (jsonx_str(body, "drive", &text) || jsonx_arr(body, "packs", &list) || json_array_size(list) > DIRECT_PLACES_MAX)
        return call_problem(c, 400, "bad-json", "placed needs drive and packs, at most %d", DIRECT_PLACES_MAX);
    if (!roles_drive(c, text, ROLE_EDITOR, &drive))
        return CALL_DONE;
    size_t n = json_array_size(list), k = 0;
    CLEANUP_FREE struct pending_row *rows = mem_calloc(n, sizeof *rows);
    CLEANUP_FREE int *settled = mem_calloc(n, sizeof *settled), *there = mem_calloc(n, sizeof *there);
    for (size_t i = 0; i < n; i++) {
        const char *key = json_string_value(json_array_get(list, i));
        if (!key || !objects_key_valid(key))
            return call_problem(c, 400, "bad-json", "pack %zu is not one of ours", i);
        there[i] = is_there(c, &drive.id, key, &rows[k]);
        if (there[i] < 0)
            return fs_fail(c, there[i], "the object");
        k += (size_t)there[i];
    }
    int err = k ? direct_settle(app, rows, k, settled) : 0;
    if (err)
        return fs_fail(c, err, "chunks");
    jout_open(&c->out, NULL, '{');
    jout_open(&c->out, "placed", '[');
    for (size_t i = 0, at = 0; i < n; i++)
        jout_bool(&c->out, NULL, there[i] && settled[at++] == 0);
    jout_close(&c->out, ']');
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}
