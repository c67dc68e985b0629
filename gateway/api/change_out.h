/* A change as people and scripts are told of it: by GET /changes and on /topic/file-changes. Paths are made here, as they were right after the
   change (docs/decisions/0003). One thread; reads within tx. */
#ifndef CAIRN_GATEWAY_API_CHANGE_OUT_H
#define CAIRN_GATEWAY_API_CHANGE_OUT_H
#include "gateway/api/user_names.h"

struct change_out { /* zeroed but for app and tx */
    struct app *app;
    struct meta_tx *tx; /* not older than the changes */
    struct user_names users;
    struct directory_path *paths; /* of directories met so far */
};
/* Appends {seq, kind, path, from?, ino, version?, device, user, at}, with `drive` where it is given. Changes come in rising seq. Nothing is appended for one
   that has no path: of a file that had no name any more. */
int change_out_put(struct change_out *o, struct buf *ret, const struct uuid *drive, const struct change_row *c);
void change_out_fini(struct change_out *o);
const char *change_kind_name(char kind); /* "created", … */
#endif
