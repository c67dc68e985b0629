/* Many connections on one epoll loop, each one an HTTP/1.1 client with one request at a time, or a WebSocket after an upgrade. One thread. */
#ifndef CAIRN_BENCH_CLIENT_H
#define CAIRN_BENCH_CLIENT_H
#include "common/buf.h"
#include "wire.h"
#include <netinet/in.h>

struct client;
struct link { /* one connection; the owner's to embed, zeroed */
    struct client *client;
    /* HTTP: pieces of a body; NULL: they are kept in `body`. */
    void (*on_body)(struct link *l, const char *p, size_t n);
    void (*on_answer)(struct link *l, int status); /* all of it is there; may send the next request */
    void (*on_message)(struct link *l, const char *p, size_t n); /* WebSocket */
    void (*on_failure)(struct link *l, const char *why); /* it is closed */
    const char *token; /* another than the client's, NULL none; the owner's */
    uint64_t began_us; /* when the request was begun, or, for the first, the connection */
    struct buf body;

    /* the client's */
    int fd;
    unsigned events;
    bool connected, in_body, websocket, head_only;
    struct buf in, out;
    size_t sent;
    uint64_t left; /* of the body */
    struct http_head head;
};

#define CLIENT_GATEWAYS_MAX 64
struct client {
    int epoll_fd;
    const char *token;
    char host[80];
    struct sockaddr_in to[CLIENT_GATEWAYS_MAX]; /* connections are spread over them */
    unsigned n_to, next_to;
    unsigned sources, next_source; /* addresses of 127/8 to come from, so that there are ports enough; 0: what the system picks */
    unsigned open, connecting;
    uint64_t end_us; /* everything ends then */
};

uint64_t now_us(void); /* CLOCK_MONOTONIC: the same in all processes */
/* "http://HOST:PORT", several joined by commas. Negative errno, told on stderr. */
int client_init(struct client *c, const char *url, const char *token, unsigned sources, double limit_s);
void client_fini(struct client *c);
/* Connects where it is not yet, and sends. path and headers ("Name: value\r\n…") may be of any origin that is trusted; body is copied. */
void link_request(struct link *l, const char *method, const char *path, const char *headers, const void *body, size_t n);
void link_upgrade(struct link *l, const char *path, const char *protocol); /* on_answer(101), then messages */
void link_send(struct link *l, const void *p, size_t n);                   /* a text message */
void link_close(struct link *l);
/* Waits for what happens, at most ms. false: the time is up. */
bool client_step(struct client *c, int ms);
#endif
