/* The framed form of docs/protocol.md: a JSON head, and the contents that it lists behind it. Pure; strict about every length. */
#ifndef CAIRN_GATEWAY_API_FRAMED_H
#define CAIRN_GATEWAY_API_FRAMED_H
#include "gateway/ports/meta.h"
#include <jansson.h>

#define FRAMED_MEDIA_TYPE "application/vnd.cairn.framed"
#define FRAMED_CONTENTS_MAX 4096
#define FRAMED_PLAIN_MAX (UINT64_C(1) << 30) /* plain bytes of all contents of one body */

struct framed {
    json_t *head;
    struct chunk_row *contents; /* their bytes are borrowed from the body; not verified yet */
    size_t n_contents;
};
void framed_fini(struct framed *f);
/* head_len: the text of X-Cairn-Head. -EINVAL, -EMSGSIZE (contents over a limit: size of one, number, plain sum); ret_why gets a text. */
int framed_parse(const char *head_len, const void *body, size_t len, struct framed *ret, const char **ret_why);
/* Decodes each content and checks its hash; -EBADMSG: *ret_bad is the first that is not what it says. */
int framed_verify(const struct framed *f, size_t *ret_bad);
/* The entry of a head's `contents` array. */
void framed_describe(struct buf *head, const struct chunk_row *c);
#endif
