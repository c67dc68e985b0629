#include "gateway/jobs/fsck_internal.h"

#include <stdarg.h>
#include <stdio.h>

void fsck_wrong(struct fsck *f, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    f->report->problems++;
    f->report->wrong(f->report->ctx, text);
}

int fsck_drive(struct meta *meta, struct objects *objects, const struct uuid *drive, bool contents, struct fsck_report *report)
{
    struct fsck f = {.meta = meta, .objects = objects, .report = report};
    struct fsck_inode *inodes = NULL, *i, *next;
    int err = meta->ops->snapshot(meta, drive, &f.tx);
    if (err)
        return err;
    err = fsck_names(&f, &inodes);
    if (!err)
        err = fsck_content(&f, inodes, contents);
    meta->ops->rollback(f.tx);
    HASH_ITER(hh, inodes, i, next)
    {
        HASH_DEL(inodes, i);
        free(i);
    }
    return err;
}
