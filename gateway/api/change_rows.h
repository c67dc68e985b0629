/* Rows of the change log in the form that people see: GET /changes, and /topic/file-changes. */
#ifndef CAIRN_GATEWAY_API_CHANGE_ROWS_H
#define CAIRN_GATEWAY_API_CHANGE_ROWS_H
#include "gateway/api/app.h"

/* Writes the rows of one page, in order of seq; remembers the last directory's path and the last user's name. */
struct change_rows {
    struct app *app;
    struct meta_tx *tx;
    const char *drive; /* id for a member `drive`; NULL: none */
    /* private */
    uint64_t parent;
    struct buf path; /* of parent, with a slash at its end */
    struct uuid user;
    char user_name[65];
};
void change_rows_fini(struct change_rows *w);
/* Appends {seq,kind,path,from?,ino,version?,device,user,at,drive?}. 0 or a negative errno with nothing appended. A directory that
   is gone from the tree as of then (it cannot be walked to): its part of the path is left empty. */
int change_rows_put(struct change_rows *w, const struct change_row *row, struct buf *ret);
#endif
