/* What a request about a path stands on: the drive that the caller may use, a snapshot of it, and what is at the path. */
#ifndef CAIRN_GATEWAY_API_PLACE_H
#define CAIRN_GATEWAY_API_PLACE_H
#include "gateway/api/app.h"

struct place {
    const char *path; /* borrowed from the request */
    struct drive_row drive;
    struct meta_tx *tx;     /* the snapshot; NULL after place_leave */
    bool is_root;
    /* What is there: name is set in any case, ino is 0 where nothing is, parent too where not even a directory is. The root has no parent and no name. */
    struct entry_row entry;
};
/* Checks everything that has to be checked before a path is read (role: viewer) or written. False: a problem was filled. Where even the directory
   is not there: for readers that is nothing there, for writers 404 `parent-not-found`. */
bool place_enter(struct call *c, const char *drive, const char *path, enum role least, struct place *ret);
/* The same where it is known that the caller may: drive is what access_drive gave. */
bool place_enter_drive(struct call *c, const struct drive_row *drive, const char *path, enum role least, struct place *ret);
/* The same as place_enter, from the query's `drive` and `path`. */
bool place_enter_query(struct call *c, enum role least, struct place *ret);
void place_leave(struct place *p); /* ends the snapshot */
#define CLEANUP_PLACE CLEANUP(place_leave)

/* Whether a file may be put there: nothing is, or a file. False: a problem was filled. */
bool place_takes_file(struct call *c, const struct place *p);
/* Looks a path up in a snapshot: 0, also where the name is not there (ino 0); -ENOENT, -ENOTDIR: a directory on the way. */
int place_find(struct meta_tx *tx, const char *path, struct entry_row *ret);
/* Makes the directories that lead to `path` where they are missing. False: a problem was filled. Blocks. */
bool place_make_parents(struct call *c, const struct drive_row *drive, const char *path);
/* A query argument that is a number: 0, -ENOENT, -EINVAL. */
int place_query_u64(struct call *c, const char *name, uint64_t *ret);
/* `limit`: `usual` where it is not given, at most `most`; false: a 400 was filled. */
bool place_query_limit(struct call *c, unsigned usual, unsigned most, unsigned *ret);
#endif
