#include "gateway/api/direct.h"
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/api/json_out.h"

#define SECOND INT64_C(1000000000)
#define LATE_NS (600 * SECOND) /* what was begun in time may end later, and clocks differ; jobs/pending.c waits longer before it removes anything */

bool direct_reads(struct app *app)
{
    CLEANUP_BUF struct buf url = {0};
    return app->objects->ops->presign_get(app->objects, "direct", 1, &url) == 0;
}

int direct_put_place(struct app *app, struct buf *out, const struct chunk_row *row)
{
    CLEANUP_BUF struct buf url = {0};
    int err = app->objects->ops->presign_get(app->objects, row->pack, DIRECT_READ_SECONDS, &url);
    if (err)
        return err;
    jout_open(out, NULL, '{');
    jout_hash(out, "sha256", &row->hash);
    jout_u64(out, "size", row->size);
    jout_u64(out, "stored", row->stored_size);
    jout_str(out, "codec", codec_name(row->codec));
    jout_u64(out, "offset", row->offset);
    jout_str(out, "url", url.data);
    jout_close(out, '}');
    return 0;
}

bool direct_writes(struct app *app)
{
    CLEANUP_BUF struct buf url = {0}, headers = {0};
    struct hash sum = {0};
    return app->objects->ops->presign_put(app->objects, "direct", 1, &sum, 1, &url, &headers) == 0;
}

void direct_begin(struct pending_row *p, const struct uuid *drive, const struct uuid *user, unsigned seconds)
{
    struct uuid id;
    char text[UUID_TEXT];
    uuid_new(&id);
    uuid_text(&id, text);
    /* the id's last byte is random: it spreads the objects over folders */
    snprintf(p->chunk.pack, sizeof p->chunk.pack, "direct/%02x/%s", id.b[15], text);
    p->drive = *drive;
    p->user = *user;
    p->expires = clock_wall_ns() + seconds * SECOND;
}

int direct_put_url(struct app *app, struct buf *out, const struct pending_row *p, const struct hash *sum, unsigned seconds)
{
    CLEANUP_BUF struct buf url = {0}, headers = {0};
    int err = app->objects->ops->presign_put(app->objects, p->chunk.pack, p->chunk.stored_size, sum, seconds, &url, &headers);
    if (err)
        return err;
    jout_str(out, "url", url.data);
    buf_append_str(out, ",\"headers\":");
    buf_append(out, headers.data, headers.len);
    return 0;
}

int direct_settle(struct app *app, struct pending_row *p, size_t n, int *ret)
{
    for (size_t i = 0; i < n; i++) /* the sum that the store has checked is that of the bytes as stored: raw, it is the chunk's own name */
        p[i].chunk.unverified_by = p[i].chunk.codec == CODEC_RAW ? (struct uuid){0} : p[i].user;
    return app->meta->ops->pendings_settle(app->meta, p, n, clock_wall_ns() - LATE_NS, ret);
}
