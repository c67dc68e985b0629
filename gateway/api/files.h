/* The endpoints about files, shared between their files: handlers that the table in files.c names, and what they answer with. */
#ifndef CAIRN_GATEWAY_API_FILES_H
#define CAIRN_GATEWAY_API_FILES_H
#include "gateway/api/place.h"

/* file_content.c */
enum call_state file_content_get(struct call *c);
enum call_state file_download_url(struct call *c);
enum call_state file_download(struct call *c); /* GET /d/{token}/{name}: no bearer token */
/* file_put.c */
enum call_state file_content_put(struct call *c);
/* file_change.c */
enum call_state file_delete(struct call *c);
enum call_state file_move(struct call *c);
enum call_state file_directory(struct call *c);

const char *file_kind(uint32_t mode); /* "file", "directory", "symlink", … */
/* The answer of GET /files about what is at a path, without the entries of a directory; leaves the object open. */
int file_describe(struct buf *out, struct meta_tx *tx, const char *path, const struct entry_row *e);
/* Answers with that, closed, for a path as it is now. */
enum call_state file_answer(struct call *c, int status, const struct uuid *drive, const char *path);
#endif
