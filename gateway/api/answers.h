/* Answers about a drive that are the same for everybody who may see it, as long as its seq is the same: kept in this process and in the cache of all.

   An entry is named by the drive, the seq of the snapshot that it was made from, and what was asked. Who asks has just been told the drive's seq by the metadata store, so
   that no answer is older than what was committed before the question. Seqs are never given twice, so an entry never becomes wrong: it is only no longer asked for. */
#ifndef CAIRN_GATEWAY_API_ANSWERS_H
#define CAIRN_GATEWAY_API_ANSWERS_H
#include "gateway/api/app.h"

/* The drive of the query's `drive`, for one who may read it, with its seq of now. False: a problem was filled. */
bool answer_drive(struct call *c, struct drive_row *ret);

struct answer_name {
    char key[CACHE_KEY_MAX + 1];
};
/* kind: one letter for each sort of question; question[n]: all that the answer depends on besides drive and seq. */
void answer_name(struct answer_name *ret, char kind, const struct uuid *drive, uint64_t seq, const void *question, size_t n);
/* Appends the answer; false: it is not kept. */
bool answer_find(struct app *app, const struct answer_name *name, struct buf *ret);
/* Keeps it, unless it is large. */
void answer_keep(struct app *app, const struct answer_name *name, const struct buf *answer);
#endif
