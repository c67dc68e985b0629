/* POST /upload/{id}/chunk/{n}: checked, stored, recorded, and only then acknowledged. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/api/json_out.h"
#include "gateway/api/uploads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool parse_number(const char *text, uint64_t *ret)
{
    size_t len = strlen(text);
    if (len == 0 || len > 18 || strspn(text, "0123456789") != len)
        return false;
    *ret = strtoull(text, NULL, 10);
    return true;
}

static bool size_fits(struct call *c, const struct upload_row *u, uint64_t n)
{
    uint32_t size = chunk_length(u->size, u->chunk_size, n);
    if (c->body_len == size)
        return true;
    call_problem(c, 422, "chunk-size", "chunk %llu has %lu bytes; %llu came", (unsigned long long)n, (unsigned long)size, (unsigned long long)c->body_len);
    return false;
}

/* Checksums are looked at before anything is stored. */
static bool checksums_fit(struct call *c)
{
    const char *sha256 = call_header(c, "x-chunk-sha256"), *xxh3 = call_header(c, "x-chunk-xxh3");
    const char *body = c->body.len ? c->body.data : "";
    struct hash want, is;
    uint8_t sum[8];
    if ((sha256 && hash_parse(sha256, &want)) || (xxh3 && hex_decode(xxh3, sizeof sum, sum))) {
        call_problem(c, 400, "bad-checksum", "X-Chunk-SHA256 is 64 hex digits, X-Chunk-XXH3 16");
        return false;
    }
    bool fits = true;
    if (sha256) {
        hash_bytes(body, c->body.len, &is);
        fits = hash_equal(&want, &is);
    }
    if (xxh3) {
        uint64_t v = 0;
        for (size_t i = 0; i < sizeof sum; i++)
            v = v << 8 | sum[i];
        fits = fits && v == hash_xxh3(body, c->body.len);
    }
    if (!fits)
        call_problem(c, 422, "chunk-checksum", "the bytes are not those that the checksum says: send them again");
    return fits;
}

void upload_tell_progress(struct app *app, const struct upload_row *u, uint64_t received)
{
    uint64_t total = upload_total(u);
    char id[UUID_TEXT];
    uuid_text(&u->id, id);
    json_t *message = json_pack("{sssssIsIsi}", "sessionId", id, "path", u->path, "received", (json_int_t)received, "total", (json_int_t)total,
                                "progress", (int)upload_progress(received, total));
    if (message)
        hub_upload_progress(app->hub, &u->user, message, id, received == total);
}

static enum call_state answer(struct call *c, const struct upload_row *u, const struct upload_chunk_row *row, uint64_t received)
{
    uint64_t total = upload_total(u);
    jout_open(&c->out, NULL, '{');
    jout_u64(&c->out, "n", row->n);
    jout_u64(&c->out, "size", row->size);
    jout_hash(&c->out, "sha256", &row->sha256);
    jout_u64(&c->out, "received", received);
    jout_u64(&c->out, "total", total);
    jout_u64(&c->out, "progress", upload_progress(received, total));
    jout_close(&c->out, '}');
    c->status = 200;
    return CALL_DONE;
}

enum call_state upload_chunk(struct call *c)
{
    struct app *app = app_of(c);
    CLEANUP(upload_row_fini) struct upload_row u = {0};
    struct upload_chunk_row row = {0};
    uint64_t received;
    if (!upload_load(c, &u))
        return CALL_DONE;
    if (u.state != 'a')
        return upload_not_active(c, u.state);
    if (!parse_number(c->params[1], &row.n))
        return call_problem(c, 400, "bad-chunk-number", "a chunk's number is a number from 0");
    if (row.n >= upload_total(&u))
        return call_problem(c, 404, "chunk-out-of-range", "the file has %llu chunks, numbered from 0", (unsigned long long)upload_total(&u));
    if (!size_fits(c, &u, row.n) || !checksums_fit(c))
        return CALL_DONE;
    int err = content_chunk_store(app, &u.drive, c->body.data, c->body.len, &row.sha256);
    if (err)
        return call_errno(c, err, "the chunk");
    row.size = (uint32_t)c->body.len;
    row.received = clock_wall_ns();
    err = app->meta->ops->upload_chunks_put(app->meta, &u.id, &row, 1, row.received + UPLOAD_LIVES_NS, &received);
    if (err == -ENOENT) { /* it ended meanwhile */
        upload_row_fini(&u);
        return upload_load(c, &u) ? upload_not_active(c, u.state) : CALL_DONE;
    }
    if (err)
        return call_errno(c, err, "the chunk");
    upload_tell_progress(app, &u, received);
    return answer(c, &u, &row, received);
}
