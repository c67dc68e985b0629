/* STOMP frames, versions 1.0, 1.1 and 1.2 (https://stomp.github.io): an incremental parser and a writer. No I/O; a parser is
   owned by one thread. */
#ifndef CAIRN_COMMON_STOMP_H
#define CAIRN_COMMON_STOMP_H
#include "common/buf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stomp_version { STOMP_10, STOMP_11, STOMP_12 };
#define STOMP_HEADERS_MAX 32
#define STOMP_HEADER_BYTES_MAX 16384u /* command and headers together */

struct stomp_header {
    char *name, *value; /* unescaped */
};
struct stomp_frame {
    char *command;
    struct stomp_header headers[STOMP_HEADERS_MAX];
    size_t n_headers;
    char *body; /* NUL-terminated behind body_len bytes */
    size_t body_len;
    char *text; /* private: what command and headers point into */
};
void stomp_frame_fini(struct stomp_frame *f);
/* The first header of that name, NULL where there is none. */
const char *stomp_get(const struct stomp_frame *f, const char *name);

struct stomp_parser {
    enum stomp_version version; /* how later frames are read; set it once it is negotiated */
    size_t frame_max;           /* a longer body or an endless frame is an error */
    /* private */
    struct buf in;
    size_t scanned;  /* no end of the headers (of the body) before it */
    bool in_body;    /* the headers of `frame` are complete, its body starts at in[0] */
    bool has_length; /* of body_len bytes */
    struct stomp_frame frame;
};
void stomp_parser_init(struct stomp_parser *p, size_t frame_max);
void stomp_parser_fini(struct stomp_parser *p);
void stomp_feed(struct stomp_parser *p, const void *bytes, size_t n);
/* 1: *ret is the next frame, owned by the caller; 0: more bytes are needed; -EPROTO: the stream is broken for good, ret_why
   is a static text. Line ends between frames are heart-beats and skipped. */
int stomp_next(struct stomp_parser *p, struct stomp_frame *ret, const char **ret_why);

/* Writing: begin, headers, end. Headers are escaped as the version needs; those of CONNECTED never are (escape false). 1.0 has no
   escapes: what would break the frame is left out there. */
void stomp_begin(struct buf *out, const char *command);
void stomp_header(struct buf *out, enum stomp_version v, bool escape, const char *name, const char *value);
void stomp_end(struct buf *out, const void *body, size_t n); /* writes content-length where there is a body */

/* accept-version ("1.0,1.2"; NULL means 1.0) → the highest that both speak; -EPROTO: none. */
int stomp_negotiate(const char *accept_version, enum stomp_version *ret);
const char *stomp_version_text(enum stomp_version v);
/* heart-beat "cx,cy" in ms (NULL means "0,0") against what we can do and want, `own_ms`: how often we are to send, and how often the
   client will; 0: not at all. -EPROTO where it is none. */
int stomp_heartbeat(const char *header, unsigned own_ms, unsigned *ret_send_ms, unsigned *ret_expect_ms);
#endif
