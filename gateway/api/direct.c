#include "gateway/api/direct.h"
#include "common/mem.h"
#include "gateway/api/json_out.h"

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
