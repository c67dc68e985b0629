/* Checks what is stored of a drive against itself, on one snapshot, beside whatever is running. Repairs nothing. */
#ifndef CAIRN_GATEWAY_JOBS_FSCK_H
#define CAIRN_GATEWAY_JOBS_FSCK_H
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"

struct fsck_report {
    void (*wrong)(void *ctx, const char *text); /* told of each thing that is wrong */
    void *ctx;
    uint64_t problems, inodes, entries, versions, chunks; /* counted */
};
/* Names point to inodes that are there; link counts, entry counts, the drive's figures are right; every directory hangs below the root; the content of each listed version resolves to
   chunks that are there, whole, with the tree hash that was recorded. contents: also reads and decodes every chunk and checks its hash. 0, or why it could not be
   done (what is wrong with the drive is no error). */
int fsck_drive(struct meta *meta, struct objects *objects, const struct uuid *drive, bool contents, struct fsck_report *report);
#endif
