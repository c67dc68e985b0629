/* A range of one version of a file, read piece by piece: chunk maps are looked up a segment at a time, holes and what lies
   behind a chunk's valid bytes read as zeros. One thread at a time. */
#ifndef CAIRN_GATEWAY_API_CONTENT_READER_H
#define CAIRN_GATEWAY_API_CONTENT_READER_H
#include "gateway/api/app.h"

struct content_reader;
/* Bytes [from, to) of the version, which is `size` long; to ≤ size. Reads the first chunk map within tx, which may end
   afterwards. The reader belongs to the caller. */
int content_reader_new(struct app *app, struct meta_tx *tx, uint64_t ino, const struct version_row *v, uint64_t from,
                       uint64_t to, struct content_reader **ret);
void content_reader_free(struct content_reader *r);
/* Appends the next piece, at most about `most` bytes. 1 while more follows, 0 at the end, or a negative errno. */
int content_reader_next(struct content_reader *r, size_t most, struct buf *ret);
/* Makes the range the body of the answer: at once where it is short, else streamed. Takes the reader. An error is
   returned before anything was answered. */
int content_reader_serve(struct content_reader *r, struct call *c);
#endif
