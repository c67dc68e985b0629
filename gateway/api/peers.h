/* Links to the other gateways that share the metadata store (docs/decisions/0020): who must hear of a commit is told, and waited for. Loop thread.

   A gateway dials each that it has something to tell; what is told is kept until it was acknowledged, and told again over a new connection. Both ends prove that they know the secret
   of the store before anything else is said. */
#ifndef CAIRN_GATEWAY_API_PEERS_H
#define CAIRN_GATEWAY_API_PEERS_H
#include "gateway/api/inval.h"
#include "gateway/ports/meta.h"
#include "gateway/server/http.h"

struct peers;
struct peers_io {
    void (*heard)(void *ctx, const struct uuid *gateway, struct inval *v); /* v is the callee's to end; peers_ack is to follow, now or later */
    void (*unlocked)(void *ctx, const struct uuid *drive, uint64_t ino);
    void (*settled)(void *ctx, void *waiter); /* one gateway less to wait for */
    void *ctx;
};
/* The server's app is a struct app that has this in `peers`. */
struct peers *peers_new(struct http_server *server, struct meta *meta, const struct uuid *self, const uint8_t secret[32], const struct peers_io *io);
void peers_free(struct peers *p); /* after the server has ended */
extern const struct ws_protocol peers_protocol;

struct peer_text; /* what is told, to several */
struct peer_text *peer_text_new(struct peers *p, struct inval *v); /* gives v its id */
struct peer_text *peer_text_ref(struct peer_text *t);
void peer_text_unref(struct peer_text *t);

/* Tells the gateway of this row, which was read under the drive's lock not before read_at, and waits for its word on it as long as the row may hold. false: it need not be waited for. */
bool peers_tell(struct peers *p, const struct interest_row *to, const struct uuid *drive, int64_t read_at_ms, struct peer_text *text, void *waiter, int64_t now_ms);
void peers_tell_unlocked(struct peers *p, const struct interest_row *to, const struct uuid *drive, uint64_t ino); /* once, as far as it goes: nobody waits */
void peers_ack(struct peers *p, const struct uuid *gateway, uint64_t id);
int peers_tick(struct peers *p, int64_t now_ms); /* gives up what is out; when to call it next (ms), -1: nothing waits */
void peers_bye(struct peers *p);         /* nobody trusts this gateway, now or later: tells all that it has links with */
bool peers_are_quiet(const struct peers *p); /* everything that was said has left */
#endif
