/* What a gateway's answers look like on the wire: HTTP/1.1 heads and WebSocket frames, read from a buffer that may not hold all of it yet. */
#ifndef CAIRN_BENCH_WIRE_H
#define CAIRN_BENCH_WIRE_H
#include "common/buf.h"

struct http_head {
    int status;
    size_t length; /* of the head */
    uint64_t body; /* bytes that follow it */
    bool close;    /* the connection ends behind it */
};
/* 1: *ret is filled; 0: more is needed; -1: malformed, or a body whose length is not said (the gateway always says it). no_body: the answer to a HEAD. */
int http_head_parse(const char *p, size_t n, bool no_body, struct http_head *ret);

enum { WS_TEXT = 1, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
struct ws_frame {
    bool final;
    unsigned opcode;
    const char *payload; /* into the buffer */
    size_t length;
    size_t whole;        /* bytes of the frame */
};
/* 1, 0, -1 as above; a server's frames are not masked. */
int ws_frame_parse(const char *p, size_t n, struct ws_frame *ret);
/* Appends a client's frame: final, masked (with a constant: nothing here is between us and the gateway). */
void ws_frame_put(struct buf *out, unsigned opcode, const void *p, size_t n);

struct address {
    char host[64], port[8];
};
/* "http://HOST[:PORT]" with anything behind it; *ret_path points to that (may be empty). -EINVAL. */
int url_parse(const char *url, struct address *ret, const char **ret_path);
#endif
