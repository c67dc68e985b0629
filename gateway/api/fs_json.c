#include "gateway/api/fs.h"

void fs_put_attr(struct buf *b, const char *key, const struct attr *a)
{
    buf_reserve(b, 320);
    jout_open(b, key, '{');
    jout_u64(b, "ino", a->ino);
    jout_u64(b, "mode", a->mode);
    jout_u64(b, "nlink", a->nlink);
    jout_u64(b, "uid", a->uid);
    jout_u64(b, "gid", a->gid);
    if (a->rdev)
        jout_u64(b, "rdev", a->rdev);
    jout_u64(b, "size", a->size);
    jout_i64(b, "atime", a->atime);
    jout_i64(b, "mtime", a->mtime);
    jout_i64(b, "ctime", a->ctime);
    jout_i64(b, "btime", a->btime);
    jout_u64(b, "version", a->version);
    jout_u64(b, "chunkSize", a->chunk_size);
    if (a->quarantined)
        jout_bool(b, "quarantined", true);
    jout_close(b, '}');
}
