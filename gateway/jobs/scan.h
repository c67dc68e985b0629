/* Virus scans: each version of new content is read from the store, shown to the scanner, and quarantined where it is infected.

   Asked for by messages `virus-scan.requested` (scan_handle), or, in an embedded gateway, by the drives' logs themselves (scan_loop). A version may be scanned twice; it comes out the same. */
#ifndef CAIRN_GATEWAY_JOBS_SCAN_H
#define CAIRN_GATEWAY_JOBS_SCAN_H
#include "gateway/core/drive_queue.h"
#include "gateway/ports/objects.h"
#include "gateway/ports/scanner.h"
#include <jansson.h>

struct scan_report {
    struct uuid drive;
    struct uuid owner, writer; /* of the drive; of the version (zero: not known) */
    uint64_t ino, version, size;
    enum scan_verdict verdict;
    char signature[SCAN_SIGNATURE_MAX]; /* SCAN_INFECTED: what was found */
    const char *path; /* where the file is now; NULL: it has no name any more */
    int64_t at;       /* ns: of the quarantine, or when it was found to be clean */
};

struct scan_ctx {
    struct meta *meta;
    struct objects *objects;
    struct scanner *scanner;
    struct drive_queues *queues; /* what commits the quarantine, and tells the mounts */
    const atomic_bool *stop;     /* may be NULL; true: what runs ends soon, with -EAGAIN */
    /* Told of each version that was decided, when the quarantine is in effect; from the calling thread. May be NULL. A negative errno: it could not be passed on, and the
       version is to be scanned, and told of, again. */
    int (*told)(void *ctx, const struct scan_report *r);
    void *ctx;
};

/* 0: decided, or there is nothing (any more) to decide. -EAGAIN: the scanner or a store is away; try again later. -EIO: this content cannot be read or scanned. Blocks. */
int scan_version(const struct scan_ctx *c, const struct uuid *drive, uint64_t ino, uint64_t version);
/* The same for a message's body, {drive: id, ino, version, …}. -EINVAL: it is none. */
int scan_handle(const struct scan_ctx *c, const json_t *body);
/* {kind: "infected"|"clean"|"too-large", drive, path, ino, version, size, signature?, at}: what users and messages are told; the caller owns it. */
json_t *scan_report_json(const struct scan_report *r);

/* Reads the logs of all drives, from where it was the last time it ran, and has each new content scanned: one thread. */
struct scan_loop;
struct scan_loop *scan_loop_start(const struct scan_ctx *c); /* copies c, but for `stop`, which is its own */
void scan_loop_stop(struct scan_loop *l);                    /* NULL is none. Waits for what runs */
#endif
