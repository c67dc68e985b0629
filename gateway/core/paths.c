#include "gateway/core/paths.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>

#define DEPTH_MAX 65536 /* far beyond any path that can be asked for: ends a walk that would not end */

int path_of_directory(struct meta_tx *tx, uint64_t dir, uint64_t at, struct buf *ret)
{
    CLEANUP_BUF struct buf names = {0}; /* from the directory up, each with its NUL in front */
    for (unsigned depth = 0; dir != tx->drive.root; depth++) {
        struct entry_row e;
        if (depth == DEPTH_MAX)
            return -ELOOP;
        int err = tx->meta->ops->entry_of_ino(tx, dir, at, &e);
        if (err)
            return err;
        buf_append(&names, "", 1);
        buf_append_str(&names, e.name);
        dir = e.parent;
    }
    if (names.len == 0)
        buf_append_str(ret, "/");
    while (names.len > 0) {
        const char *nul = memrchr(names.data, 0, names.len);
        buf_append_str(ret, "/");
        buf_append_str(ret, nul + 1);
        names.len = (size_t)(nul - names.data);
        names.data[names.len] = 0;
    }
    return 0;
}

int path_of_name(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct buf *ret)
{
    int err = path_of_directory(tx, parent, at, ret);
    if (err)
        return err;
    if (ret->len == 0 || ret->data[ret->len - 1] != '/')
        buf_append_str(ret, "/");
    buf_append_str(ret, name);
    return 0;
}

int path_of_inode(struct meta_tx *tx, uint64_t ino, struct buf *ret)
{
    struct entry_row e;
    int err = tx->meta->ops->entry_of_ino(tx, ino, 0, &e);
    return err ? err : path_of_name(tx, e.parent, e.name, 0, ret);
}
