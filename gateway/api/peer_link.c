/* One connection between two gateways: its handshake, then its messages.

   dialled:  {t:"challenge", gateway, nonce}           who it is, and a nonce
   dialler:  {t:"hello", gateway, nonce, proof}
   dialled:  {t:"welcome", proof}
   A proof is HMAC-SHA-256 under the store's secret over who says it, both ids and both nonces. */
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/api/app.h"
#include "gateway/api/json_out.h"
#include "gateway/api/peers_internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#define HANDSHAKE_MS 3000
#define GREETING_MAX 1024          /* the longest message of one that has not proved anything */
#define MESSAGE_MAX (64u << 20)
#define CLOSE_POLICY 1008

void link_proof(const uint8_t secret[32], bool dialler, const struct uuid *dials, const struct uuid *answers, const struct hash *dials_nonce, const struct hash *answers_nonce,
                struct hash *ret)
{
    CLEANUP_BUF struct buf in = {0};
    unsigned len = HASH_LEN;
    buf_append_str(&in, dialler ? "cairn.peer.v1 dials:" : "cairn.peer.v1 answers:");
    buf_append(&in, dials->b, sizeof dials->b);
    buf_append(&in, answers->b, sizeof answers->b);
    buf_append(&in, dials_nonce->b, HASH_LEN);
    buf_append(&in, answers_nonce->b, HASH_LEN);
    if (!HMAC(EVP_sha256(), secret, 32, (const unsigned char *)in.data, in.len, ret->b, &len))
        abort();
}

/* ---- life ---- */

static void too_slow(void *arg)
{
    struct link *l = arg;
    l->timer = 0;
    ws_close(l->ws, CLOSE_POLICY, "no handshake");
}

static struct link *link_new(struct peers *p, struct ws *w, struct peer *peer)
{
    struct link *l = mem_alloc(sizeof *l);
    l->peers = p;
    l->ws = w;
    l->peer = peer;
    if (RAND_bytes(l->mine.b, HASH_LEN) != 1)
        abort();
    l->timer = http_server_timer(p->server, HANDSHAKE_MS, too_slow, l);
    DL_APPEND(p->links, l);
    return l;
}

static void refuse(struct link *l, const char *why)
{
    log_warn("a link between gateways (%s) is refused: %s", ws_peer(l->ws), why);
    ws_close(l->ws, CLOSE_POLICY, why);
}

static void now_ready(struct link *l)
{
    http_server_timer_cancel(l->peers->server, l->timer);
    l->timer = 0;
    l->ready = true;
    ws_set_message_max(l->ws, MESSAGE_MAX);
    metric_add(l->peers->m_links, 1);
    if (l->peer)
        peer_ready(l->peer);
}

struct link *link_dial(struct peer *peer, const char *address, int port)
{
    struct ws *w = ws_connect(peer->peers->server, &peers_protocol, address, port, NULL);
    if (!w)
        return NULL;
    struct link *l = link_new(peer->peers, w, peer);
    ws_set_user(w, l);
    return l;
}

int link_send(struct link *l, const char *text, size_t n)
{
    return ws_send(l->ws, text, n);
}

static int on_open(struct ws *w, const char *authorization)
{
    (void)authorization;
    struct peers *p = ((struct app *)http_server_app(ws_server(w)))->peers;
    if (!p)
        return -EACCES;
    struct link *l = link_new(p, w, NULL);
    ws_set_user(w, l);
    CLEANUP_BUF struct buf b = {0};
    jout_open(&b, NULL, '{');
    jout_str(&b, "t", "challenge");
    jout_uuid(&b, "gateway", &p->self);
    jout_hash(&b, "nonce", &l->mine);
    jout_close(&b, '}');
    return ws_send(w, b.data, b.len);
}

static void on_close(struct ws *w)
{
    struct link *l = ws_user(w);
    if (!l)
        return;
    struct peers *p = l->peers;
    if (l->timer)
        http_server_timer_cancel(p->server, l->timer);
    if (l->ready)
        metric_add(p->m_links, -1);
    DL_DELETE(p->links, l);
    if (l->peer)
        peer_lost(l->peer);
    free(l);
}

/* ---- the handshake ---- */

static bool get_uuid(const json_t *o, const char *key, struct uuid *ret)
{
    const char *text;
    return jsonx_str(o, key, &text) == 0 && uuid_parse(text, ret) == 0;
}

static bool get_hash(const json_t *o, const char *key, struct hash *ret)
{
    const char *text;
    return jsonx_str(o, key, &text) == 0 && hash_parse(text, ret) == 0;
}

static bool proved(const struct link *l, const json_t *o, bool dialler)
{
    struct hash said, due;
    const struct uuid *self = &l->peers->self;
    if (dialler)
        link_proof(l->peers->secret, true, &l->gateway, self, &l->theirs, &l->mine, &due);
    else
        link_proof(l->peers->secret, false, self, &l->gateway, &l->mine, &l->theirs, &due);
    return get_hash(o, "proof", &said) && CRYPTO_memcmp(said.b, due.b, HASH_LEN) == 0;
}

static void on_challenge(struct link *l, const json_t *o)
{
    CLEANUP_BUF struct buf b = {0};
    struct hash proof;
    if (!get_uuid(o, "gateway", &l->gateway) || !get_hash(o, "nonce", &l->theirs)) {
        refuse(l, "malformed challenge");
        return;
    }
    if (!uuid_equal(&l->gateway, &l->peer->gateway)) { /* its address is another one's by now: the row will be out */
        ws_close(l->ws, CLOSE_POLICY, "another gateway was meant");
        return;
    }
    link_proof(l->peers->secret, true, &l->peers->self, &l->gateway, &l->mine, &l->theirs, &proof);
    jout_open(&b, NULL, '{');
    jout_str(&b, "t", "hello");
    jout_uuid(&b, "gateway", &l->peers->self);
    jout_hash(&b, "nonce", &l->mine);
    jout_hash(&b, "proof", &proof);
    jout_close(&b, '}');
    ws_send(l->ws, b.data, b.len);
}

static void on_hello(struct link *l, const json_t *o)
{
    CLEANUP_BUF struct buf b = {0};
    struct hash proof;
    if (!get_uuid(o, "gateway", &l->gateway) || !get_hash(o, "nonce", &l->theirs) || !proved(l, o, true)) {
        refuse(l, "it does not know the secret");
        return;
    }
    link_proof(l->peers->secret, false, &l->gateway, &l->peers->self, &l->theirs, &l->mine, &proof);
    jout_open(&b, NULL, '{');
    jout_str(&b, "t", "welcome");
    jout_hash(&b, "proof", &proof);
    jout_close(&b, '}');
    if (ws_send(l->ws, b.data, b.len) == 0)
        now_ready(l);
}

static void on_welcome(struct link *l, const json_t *o)
{
    if (uuid_is_zero(&l->gateway) || !proved(l, o, false))
        refuse(l, "it does not know the secret");
    else
        now_ready(l);
}

static void on_message(struct ws *w, const char *p, size_t n, bool binary)
{
    struct link *l = ws_user(w);
    CLEANUP_JSON json_t *o = binary ? NULL : jsonx_parse(p, n, NULL);
    const char *t;
    if (!json_is_object(o) || jsonx_str(o, "t", &t))
        refuse(l, "a message is a JSON object with t");
    else if (l->ready)
        peers_heard(l, o, t);
    else if (l->peer && strcmp(t, "challenge") == 0)
        on_challenge(l, o);
    else if (l->peer && strcmp(t, "welcome") == 0)
        on_welcome(l, o);
    else if (!l->peer && strcmp(t, "hello") == 0)
        on_hello(l, o);
    else
        refuse(l, "the handshake comes first");
}

const struct ws_protocol peers_protocol = {
    .name = "cairn.peer.v1",
    .path = "/peer",
    .message_max = GREETING_MAX,
    .backlog_max = 2 * MESSAGE_MAX,
    .on_open = on_open,
    .on_message = on_message,
    .on_close = on_close,
    .internal = true,
};
