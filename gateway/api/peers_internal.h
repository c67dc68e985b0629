/* Within peers.c (who is told what) and peer_link.c (one connection). Loop thread. */
#ifndef CAIRN_GATEWAY_API_PEERS_INTERNAL_H
#define CAIRN_GATEWAY_API_PEERS_INTERNAL_H
#include "common/hash.h"
#include "gateway/api/peers.h"
#include "gateway/core/awaited.h"
#include "gateway/core/sightings.h"
#include <uthash.h>
#include <utlist.h>

#define PEER_LATE_MAX 3

struct link { /* one connection */
    struct peers *peers;
    struct ws *ws;
    struct peer *peer;   /* who was dialled; NULL: it dialled us */
    struct uuid gateway; /* the other end, once it is ready */
    bool ready;          /* both have proved that they know the secret */
    struct hash mine, theirs; /* nonces */
    uint64_t timer;           /* for the handshake; 0: none */
    struct link *prev, *next; /* peers->links */
};

struct peer { /* a gateway that is told */
    struct peers *peers;
    struct uuid gateway;
    char url[GATEWAY_URL_MAX + 1];
    struct link *link; /* ready or not; NULL: none */
    bool resolving;
    uint64_t timer; /* to look after it again; 0: none */
    unsigned wait_ms;
    struct later {
        struct peer_text *text;
        struct later *next;
    } *later; /* what nobody waits for, until the link is ready */
    size_t n_later;
    int64_t late[PEER_LATE_MAX]; /* when it was, oldest first; 0: not */
    UT_hash_handle hh;
};

struct peers {
    struct http_server *server;
    struct meta *meta;
    struct uuid self;
    uint8_t secret[32];
    struct peers_io io;
    struct awaited *awaited;
    struct sightings *sightings;
    struct peer *all;
    struct link *links;
    int64_t now; /* as of the last peers_tick */
    uint64_t last_id; /* of what was told */
    struct metric *m_links, *m_told, *m_late;
};

/* ---- peer_link.c ---- */
struct link *link_dial(struct peer *peer, const char *address, int port); /* NULL: it failed at once */
int link_send(struct link *l, const char *text, size_t n);                /* of one that is ready */
/* Proof of knowing the secret, by whoever dialled or answered. */
void link_proof(const uint8_t secret[32], bool dialler, const struct uuid *dials, const struct uuid *answers, const struct hash *dials_nonce, const struct hash *answers_nonce,
                struct hash *ret);

/* ---- peers.c ---- */
void peer_ready(struct peer *peer);                 /* its link is */
void peer_lost(struct peer *peer);                  /* its link is gone */
void peers_heard(struct link *l, const json_t *o, const char *type); /* a message over a link that is ready */
#endif
