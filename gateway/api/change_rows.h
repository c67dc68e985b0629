/* Rows of the change log in the form that people see: GET /changes, and /topic/file-changes. Paths are made here, as they were right after the
   change (docs/decisions/0003). */
#ifndef CAIRN_GATEWAY_API_CHANGE_ROWS_H
#define CAIRN_GATEWAY_API_CHANGE_ROWS_H
#include "gateway/api/user_names.h"

/* Writes the rows of one page, in order of seq; what paths and names they have in common is looked up once. One thread. */
struct change_rows {
    struct app *app;
    struct meta_tx *tx; /* not older than the rows */
    const char *drive;  /* id for a member `drive`; NULL: none */
    /* private */
    struct user_names users;
    struct directory_path *paths;
};
void change_rows_fini(struct change_rows *w);
/* Appends {seq,kind,path,from?,ino,version?,device,user,at,drive?}, after a comma where it is not the first in its array. 1: nothing, as the row
   has no path (of a file without a name). A negative errno: nothing was appended. A path that cannot be told any more is null. */
int change_rows_put(struct change_rows *w, const struct change_row *row, struct buf *ret);
#endif
