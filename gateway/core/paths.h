/* Where things are, as text. */
#ifndef CAIRN_GATEWAY_CORE_PATHS_H
#define CAIRN_GATEWAY_CORE_PATHS_H
#include "gateway/ports/meta.h"

/* The path of a directory as of a seq (0: now), by its entries' past ("/" for the root). Appends. -ENOENT: it has no name, or its past is no longer kept. */
int path_of_directory(struct meta_tx *tx, uint64_t dir, uint64_t at, struct buf *ret);
/* The path of a name in a directory; the directory as path_of_directory. */
int path_of_name(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct buf *ret);
/* The path of an inode now, by any one of its names. -ENOENT: it has none. */
int path_of_inode(struct meta_tx *tx, uint64_t ino, struct buf *ret);
#endif
