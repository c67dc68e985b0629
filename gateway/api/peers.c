/* Which gateway is told what, and waited for. */
#include "gateway/api/peers_internal.h"
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/json_out.h"
#include "gateway/core/order.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#define WAIT_MIN_MS 20   /* before it is dialled again */
#define WAIT_MAX_MS 500
#define LATER_MAX 1000
#define LATE_WINDOW_MS 60000
#define SHUN_MS 60000

/* ---- texts ---- */

struct peer_text {
    unsigned refs;
    uint64_t id; /* 0: nobody acknowledges it */
    struct buf text;
};

static struct peer_text *text_new(void)
{
    struct peer_text *t = mem_alloc(sizeof *t);
    t->refs = 1;
    return t;
}

struct peer_text *peer_text_new(struct peers *p, struct inval *v)
{
    struct peer_text *t = text_new();
    t->id = v->id = ++p->last_id;
    inval_write(v, &t->text);
    return t;
}

struct peer_text *peer_text_ref(struct peer_text *t)
{
    t->refs++;
    return t;
}

void peer_text_unref(struct peer_text *t)
{
    if (--t->refs)
        return;
    buf_fini(&t->text);
    free(t);
}

/* ---- what is done to the store, on a worker ---- */

struct verdict {
    struct meta *meta;
    struct uuid drive, gateway;
    int64_t until;
};

static void forget_row(void *arg)
{
    struct verdict *v = arg;
    v->meta->ops->interest_drop(v->meta, &v->drive, &v->gateway, v->until); /* if it fails, somebody else does it */
    free(v);
}

static void shun(void *arg)
{
    struct verdict *v = arg;
    char id[UUID_TEXT];
    uuid_text(&v->gateway, id);
    log_warn("gateway %s does not answer: it gets no interest in any drive for %d s", id, SHUN_MS / 1000);
    v->meta->ops->gateway_shun(v->meta, &v->gateway, SHUN_MS);
    free(v);
}

static void judge(struct peers *p, void (*fn)(void *), const struct uuid *drive, const struct uuid *gateway, int64_t until)
{
    struct verdict *v = mem_alloc(sizeof *v);
    *v = (struct verdict){.meta = p->meta, .gateway = *gateway, .until = until};
    if (drive)
        v->drive = *drive;
    pool_run(http_server_pool(p->server), fn, v);
}

/* ---- peers ---- */

static struct peer *find(const struct peers *p, const struct uuid *gateway)
{
    struct peer *peer;
    HASH_FIND(hh, p->all, gateway, sizeof *gateway, peer);
    return peer;
}

static void later_clear(struct peer *peer)
{
    for (struct later *l = peer->later, *next; l; l = next) {
        next = l->next;
        peer_text_unref(l->text);
        free(l);
    }
    peer->later = NULL;
    peer->n_later = 0;
}

static void peer_free(struct peer *peer)
{
    later_clear(peer);
    HASH_DEL(peer->peers->all, peer);
    free(peer);
}

static void look_after(void *arg);

static void look_after_in(struct peer *peer, unsigned ms)
{
    if (!peer->timer)
        peer->timer = http_server_timer(peer->peers->server, ms, look_after, peer);
}

/* ---- dialling ---- */

struct resolving {
    struct peers *peers;
    struct uuid gateway;
    char url[GATEWAY_URL_MAX + 1];
    char address[NI_MAXHOST];
    int port; /* 0: it could not be resolved */
};

/* Loop. */
static void resolved(void *arg)
{
    struct resolving *r = arg;
    struct peer *peer = find(r->peers, &r->gateway);
    if (peer) {
        peer->resolving = false;
        peer->link = r->port ? link_dial(peer, r->address, r->port) : NULL;
        if (!peer->link)
            look_after_in(peer, peer->wait_ms);
    }
    free(r);
}

/* "http://HOST:PORT": checked when it was configured. */
static int split(const char *url, char host[GATEWAY_URL_MAX + 1], const char **ret_port)
{
    const char *begin = strstr(url, "://"), *colon = strrchr(url, ':');
    if (!begin || colon <= begin)
        return -1;
    begin += 3;
    size_t n = (size_t)(colon - begin);
    if (n > 2 && begin[0] == '[') {
        begin++;
        n -= 2;
    }
    memcpy(host, begin, n);
    host[n] = 0;
    *ret_port = colon + 1;
    return 0;
}

/* Worker: a name may take its time. */
static void resolve(void *arg)
{
    struct resolving *r = arg;
    char host[GATEWAY_URL_MAX + 1], port[NI_MAXSERV];
    const char *service;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list = NULL;
    if (split(r->url, host, &service) == 0 && getaddrinfo(host, service, &hints, &list) == 0) {
        if (getnameinfo(list->ai_addr, list->ai_addrlen, r->address, sizeof r->address, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
            r->port = atoi(port);
        freeaddrinfo(list);
    }
    http_server_post(r->peers->server, resolved, r);
}

static void dial(struct peer *peer)
{
    struct peers *p = peer->peers;
    struct resolving *r = mem_alloc(sizeof *r);
    r->peers = p;
    r->gateway = peer->gateway;
    memcpy(r->url, peer->url, sizeof r->url);
    peer->resolving = true;
    peer->wait_ms = peer->wait_ms * 2 < WAIT_MAX_MS ? peer->wait_ms * 2 : WAIT_MAX_MS;
    pool_run(http_server_pool(p->server), resolve, r);
}

/* One without a link is dialled for as long as anybody waits for it; then it is remembered for as long as it counts that it was late. */
static void look_after(void *arg)
{
    struct peer *peer = arg;
    peer->timer = 0;
    if (peer->link || peer->resolving)
        return;
    int64_t late = peer->late[PEER_LATE_MAX - 1];
    if (awaited_owes(peer->peers->awaited, &peer->gateway) || peer->later)
        dial(peer);
    else if (late && clock_boot_ms() - late < LATE_WINDOW_MS)
        look_after_in(peer, LATE_WINDOW_MS);
    else
        peer_free(peer);
}

static struct peer *peer_of(struct peers *p, const struct interest_row *row)
{
    struct peer *peer = find(p, &row->gateway);
    if (!peer) {
        peer = mem_alloc(sizeof *peer);
        peer->peers = p;
        peer->gateway = row->gateway;
        peer->wait_ms = WAIT_MIN_MS / 2;
        memcpy(peer->url, row->url, sizeof peer->url);
        HASH_ADD(hh, p->all, gateway, sizeof peer->gateway, peer);
        dial(peer);
    } else if (!peer->link && !peer->resolving && peer->wait_ms <= WAIT_MIN_MS) {
        dial(peer);
    } else if (!peer->link && !peer->resolving) {
        look_after_in(peer, peer->wait_ms);
    }
    return peer;
}

/* ---- telling ---- */

static void send_text(void *ctx, void *message)
{
    struct link *l = ctx;
    const struct peer_text *t = message;
    link_send(l, t->text.data, t->text.len); /* where it cannot take more it is being dropped, and all is told again */
}

void peer_ready(struct peer *peer)
{
    peer->wait_ms = WAIT_MIN_MS / 2;
    awaited_each(peer->peers->awaited, &peer->gateway, send_text, peer->link);
    for (struct later *l = peer->later; l; l = l->next)
        send_text(peer->link, l->text);
    later_clear(peer);
}

void peer_lost(struct peer *peer)
{
    peer->link = NULL;
    later_clear(peer);
    look_after_in(peer, peer->wait_ms);
}

bool peers_tell(struct peers *p, const struct interest_row *to, const struct uuid *drive, int64_t read_at, struct peer_text *text, void *waiter, int64_t now)
{
    bool forget;
    int64_t until = sightings_until(p->sightings, drive, to, read_at, now, &forget);
    if (forget)
        judge(p, forget_row, drive, &to->gateway, to->until);
    if (until <= now || !awaited_add(p->awaited, &to->gateway, text->id, until, waiter, text, now))
        return false;
    peer_text_ref(text);
    metric_add(p->m_told, 1);
    struct peer *peer = peer_of(p, to);
    if (peer->link && peer->link->ready)
        send_text(peer->link, text);
    return true;
}

void peers_tell_unlocked(struct peers *p, const struct interest_row *to, const struct uuid *drive, uint64_t ino)
{
    struct peer *peer = peer_of(p, to);
    struct peer_text *t = text_new();
    jout_open(&t->text, NULL, '{');
    jout_str(&t->text, "t", "unlocked");
    jout_uuid(&t->text, "drive", drive);
    jout_u64(&t->text, "ino", ino);
    jout_close(&t->text, '}');
    if (peer->link && peer->link->ready) {
        send_text(peer->link, t);
    } else if (peer->n_later < LATER_MAX) {
        struct later *l = mem_alloc(sizeof *l);
        l->text = peer_text_ref(t);
        LL_APPEND(peer->later, l);
        peer->n_later++;
    }
    peer_text_unref(t);
}

/* ---- hearing ---- */

void peers_ack(struct peers *p, const struct uuid *gateway, uint64_t id)
{
    CLEANUP_BUF struct buf b = {0};
    struct link *l = p->links ? p->links->prev : NULL; /* the newest */
    while (l && (l->peer || !l->ready || !uuid_equal(&l->gateway, gateway)))
        l = l == p->links ? NULL : l->prev;
    if (!l)
        return; /* it comes again, and is asked again */
    jout_open(&b, NULL, '{');
    jout_str(&b, "t", "ack");
    jout_u64(&b, "id", id);
    jout_close(&b, '}');
    link_send(l, b.data, b.len);
}

static bool get_drive(const json_t *o, struct uuid *ret)
{
    const char *text;
    return jsonx_str(o, "drive", &text) == 0 && uuid_parse(text, ret) == 0;
}

static bool hear(struct link *l, const json_t *o, const char *type)
{
    struct peers *p = l->peers;
    struct uuid drive;
    struct inval v;
    uint64_t n;
    if (strcmp(type, "inval") == 0) {
        if (inval_read(o, &v))
            return false;
        p->io.heard(p->io.ctx, &l->gateway, &v);
        inval_fini(&v);
    } else if (strcmp(type, "ack") == 0) {
        if (jsonx_u64(o, "id", &n))
            return false;
        awaited_ack(p->awaited, &l->gateway, n);
    } else if (strcmp(type, "unlocked") == 0) {
        if (!get_drive(o, &drive) || jsonx_u64(o, "ino", &n))
            return false;
        p->io.unlocked(p->io.ctx, &drive, n);
    } else if (strcmp(type, "bye") == 0) {
        awaited_ended(p->awaited, &l->gateway, clock_boot_ms());
    }
    return true; /* others are those of a later version */
}

void peers_heard(struct link *l, const json_t *o, const char *type)
{
    if (hear(l, o, type))
        return;
    log_warn("a gateway (%s) says what is not understood: %s", ws_peer(l->ws), type);
    ws_close(l->ws, 1008, "not understood");
}

/* ---- waiting ---- */

/* Late is what was waited for until its row was out; what waited meanwhile is one with it. */
static void note_late(struct peers *p, const struct uuid *gateway)
{
    struct peer *peer = find(p, gateway);
    int64_t now = p->now;
    metric_add(p->m_late, 1);
    if (!peer || now - peer->late[PEER_LATE_MAX - 1] < INTEREST_MS)
        return;
    memmove(peer->late, peer->late + 1, sizeof peer->late - sizeof *peer->late);
    peer->late[PEER_LATE_MAX - 1] = now;
    if (peer->late[0] && now - peer->late[0] < LATE_WINDOW_MS)
        judge(p, shun, NULL, gateway, 0);
}

static void on_settled(void *ctx, const struct uuid *gateway, void *waiter, bool in_time)
{
    struct peers *p = ctx;
    if (!in_time)
        note_late(p, gateway);
    p->io.settled(p->io.ctx, waiter);
}

static void on_drop(void *ctx, void *message)
{
    (void)ctx;
    peer_text_unref(message);
}

int peers_tick(struct peers *p, int64_t now)
{
    p->now = now;
    return awaited_tick(p->awaited, now);
}

/* ---- life ---- */

struct peers *peers_new(struct http_server *server, struct meta *meta, const struct uuid *self, const uint8_t secret[32], const struct peers_io *io)
{
    struct peers *p = mem_alloc(sizeof *p);
    p->server = server;
    p->meta = meta;
    p->self = *self;
    p->io = *io;
    memcpy(p->secret, secret, sizeof p->secret);
    p->awaited = awaited_new(&(struct awaited_io){on_settled, on_drop, p});
    p->sightings = sightings_new();
    p->m_links = metric_get(METRIC_GAUGE, "cairn_peer_links", "", "Connections with other gateways");
    p->m_told = metric_get(METRIC_COUNTER, "cairn_peer_invalidations_total", "", "Commits that another gateway was told of and waited for, once for each");
    p->m_late = metric_get(METRIC_COUNTER, "cairn_peer_late_total", "", "Commits that waited for another gateway until its interest was out");
    return p;
}

void peers_bye(struct peers *p)
{
    static const char bye[] = "{\"t\":\"bye\"}";
    struct link *l, *next;
    DL_FOREACH_SAFE(p->links, l, next)
        if (l->ready)
            link_send(l, bye, sizeof bye - 1);
}

bool peers_are_quiet(const struct peers *p)
{
    const struct link *l;
    DL_FOREACH(p->links, l)
        if (l->ready && ws_backlog(l->ws))
            return false;
    return true;
}

void peers_free(struct peers *p)
{
    struct peer *peer, *next;
    if (!p)
        return;
    HASH_ITER(hh, p->all, peer, next)
        peer_free(peer);
    awaited_free(p->awaited);
    sightings_free(p->sightings);
    free(p);
}
