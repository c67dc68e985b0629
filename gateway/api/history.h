/* A file's history is its path's: the versions of the inode that has the name now, and of each that had it before, up to
   when it lost it. Saving by writing a new file and renaming it over the old one goes on with it, and so does creating
   the file again. */
#ifndef CAIRN_GATEWAY_API_HISTORY_H
#define CAIRN_GATEWAY_API_HISTORY_H
#include "gateway/api/app.h"

/* An inode that is, or was until `until`, what is asked for; ALIVE (rows.h): it still is. */
struct history_inode {
    uint64_t ino, until;
};
struct history {
    struct history_inode *inodes; /* each inode once, latest `until` first */
    size_t n;
    struct entry_row now; /* what has the name now; ino 0: nothing has */
};
void history_fini(struct history *h);

/* Who had this name of this directory. 0, also where nobody ever had (n 0). */
int history_of_name(struct meta_tx *tx, uint64_t parent, const char *name, struct history *ret);
/* As above for a path, whose directories may be gone by now, or others than they were. -EINVAL, -ENAMETOOLONG: no path. */
int history_of_path(struct meta_tx *tx, const char *path, struct history *ret);
/* As that, but of the directories that the path was, not the files. */
int history_of_directory(struct meta_tx *tx, const char *path, struct history *ret);

/* Listed versions below `before` (ALIVE: all), newest first, at most `limit`; stops when `each` returns non-zero, and returns that. */
int history_versions(struct meta_tx *tx, const struct history *h, uint64_t before, unsigned limit,
                     int (*each)(void *ctx, const struct version_row *v), void *ctx);
/* Version `number` of this history; ret->ino tells whose it is. -ENOENT. 0 is the empty content of a file never written to. */
int history_version(struct meta_tx *tx, const struct history *h, uint64_t number, struct version_row *ret);
/* Whether v is what the name holds now. */
bool history_is_current(const struct history *h, const struct version_row *v);
#endif
