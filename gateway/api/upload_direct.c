/* Chunks of an upload that its client brings straight to the object store: URLs for those whose hash it has told, and what has arrived by them. Raw, so that the store itself checks their hashes. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/direct.h"
#include "gateway/api/json_out.h"
#include "gateway/api/uploads.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

#define URL_SECONDS 86400 /* as long as a session lives without a sign of its client */

/* Keys: direct/SESSION/NUMBER-RANDOM. Never the same twice: a URL that was given out for other bytes must not lead to this one's. */
static void put_prefix(const struct upload_row *u, char ret[64])
{
    char id[UUID_TEXT];
    uuid_text(&u->id, id);
    snprintf(ret, 64, "direct/%s/", id);
}

static void put_key(const struct upload_row *u, uint64_t n, char ret[64])
{
    struct uuid random;
    char prefix[64];
    put_prefix(u, prefix);
    uuid_new(&random);
    snprintf(ret, 64, "%s%llu-%02x%02x%02x%02x", prefix, (unsigned long long)n, random.b[12], random.b[13], random.b[14], random.b[15]);
}

static uint64_t number_of(const char *key)
{
    return strtoull(strrchr(key, '/') + 1, NULL, 10);
}

/* ---- URLs ---- */

int upload_put_urls(struct app *app, struct buf *out, const struct upload_row *u, const struct upload_chunk_row *chunks, size_t n)
{
    if (n == 0 || !direct_writes(app))
        return 0;
    CLEANUP_FREE struct pending_row *rows = mem_calloc(n < UPLOAD_URLS_MAX ? n : UPLOAD_URLS_MAX, sizeof *rows);
    size_t k = 0;
    jout_open(out, "uploadUrls", '{');
    for (size_t i = 0; i < n && k < UPLOAD_URLS_MAX; i++) {
        const struct upload_chunk_row *c = &chunks[i];
        struct pending_row *p = &rows[k];
        char number[24];
        *p = (struct pending_row){.chunk = {.hash = c->sha256, .size = c->size, .stored_size = c->size, .codec = CODEC_RAW}};
        direct_begin(p, &u->drive, &u->user, URL_SECONDS);
        put_key(u, c->n, p->chunk.pack);
        snprintf(number, sizeof number, "%llu", (unsigned long long)c->n);
        size_t before = out->len;
        jout_open(out, number, '{');
        if (direct_put_url(app, out, p, &c->sha256, URL_SECONDS)) {
            out->len = before;
            break;
        }
        jout_close(out, '}');
        k++;
    }
    jout_close(out, '}');
    return k ? app->meta->ops->pendings_add(app->meta, rows, k) : 0;
}

enum call_state upload_urls(struct call *c)
{
    CLEANUP(upload_row_fini) struct upload_row u = {0};
    CLEANUP(upload_hints_fini) struct upload_hints h = {0};
    CLEANUP_JSON json_t *body = NULL;
    if (!upload_load(c, &u))
        return CALL_DONE;
    if (u.state != 'a')
        return upload_not_active(c, u.state);
    body = access_body(c);
    if (!body)
        return CALL_DONE;
    const char *wrong = upload_hints_parse(body, &u, &h);
    if (wrong)
        return call_problem(c, 400, "bad-request", "%s", wrong);
    jout_open(&c->out, NULL, '{');
    int err = upload_put_urls(app_of(c), &c->out, &u, h.rows, h.n);
    jout_close(&c->out, '}');
    if (err) {
        buf_fini(&c->out);
        return call_errno(c, err, "the upload");
    }
    c->status = 200;
    return CALL_DONE;
}

/* ---- what has arrived ---- */

struct expected {
    struct pending_row row;
    bool arrived;
    UT_hash_handle hh; /* by row.chunk.pack */
};
struct arrivals {
    struct expected *all;
    size_t n; /* arrived */
};

static void arrivals_fini(struct arrivals *a)
{
    struct expected *e, *next;
    HASH_ITER(hh, a->all, e, next)
    {
        HASH_DEL(a->all, e);
        free(e);
    }
}

static int expect(void *ctx, const struct pending_row *p)
{
    struct arrivals *a = ctx;
    struct expected *e = mem_alloc(sizeof *e);
    *e = (struct expected){.row = *p};
    HASH_ADD_STR(a->all, row.chunk.pack, e);
    return 0;
}

static int arrive(void *ctx, const char *key, uint64_t size, int64_t modified_ns)
{
    struct arrivals *a = ctx;
    struct expected *e;
    (void)modified_ns;
    HASH_FIND_STR(a->all, key, e);
    if (e && !e->arrived && e->row.chunk.stored_size == size) {
        e->arrived = true;
        a->n++;
    }
    return 0;
}

/* The drive has them now, and the session knows them. */
static int record(struct app *app, struct upload_row *u, struct arrivals *a)
{
    CLEANUP_FREE struct pending_row *rows = mem_calloc(a->n, sizeof *rows);
    CLEANUP_FREE struct upload_chunk_row *chunks = mem_calloc(a->n, sizeof *chunks);
    CLEANUP_FREE int *settled = mem_calloc(a->n, sizeof *settled);
    size_t n = 0, k = 0;
    int64_t now = clock_wall_ns();
    for (struct expected *e = a->all; e; e = e->hh.next)
        if (e->arrived)
            rows[n++] = e->row;
    int err = direct_settle(app, rows, n, settled);
    for (size_t i = 0; i < n && !err; i++)
        if (settled[i] == 0)
            chunks[k++] = (struct upload_chunk_row){.n = number_of(rows[i].chunk.pack), .size = rows[i].chunk.size, .sha256 = rows[i].chunk.hash, .received = now};
    if (!err && k)
        err = app->meta->ops->upload_chunks_put(app->meta, &u->id, chunks, k, now + UPLOAD_LIVES_NS, &u->received);
    if (!err && k)
        upload_tell_progress(app, u, u->received);
    return err == -ENOENT ? 0 : err; /* the session ended meanwhile */
}

int upload_take_arrived(struct app *app, struct upload_row *u)
{
    CLEANUP(arrivals_fini) struct arrivals a = {0};
    char prefix[64];
    if (u->state != 'a')
        return 0;
    put_prefix(u, prefix);
    int err = app->meta->ops->pendings(app->meta, &u->drive, prefix, expect, &a);
    if (!err && a.all)
        err = app->objects->ops->list(app->objects, prefix, arrive, &a);
    return err || !a.n ? err : record(app, u, &a);
}
