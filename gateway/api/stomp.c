/* STOMP on /ws: one connection's protocol (https://stomp.github.io/stomp-specification-1.2.html).

   Everything runs on the loop, except what needs the store: the token of CONNECT, and the drives of a SUBSCRIBE. A worker does that while the connection is
   `busy`: frames behind it wait in the parser, so that their order, and with it the meaning of a RECEIPT, stays. Clients only listen: there is nothing to SEND to. */
#include "common/clock.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/hub.h"

#include <errno.h>
#include <string.h>

#define HEARTBEAT 10000         /* ms: the least both ways */
#define LATE(ms) ((ms) * 2)     /* the specification asks for tolerance */
#define CONNECT_WITHIN_MS 10000
#define FRAME_MAX (64u << 10)
#define WAITING_MAX (256u << 10) /* bytes of frames behind a busy one */
#define CLOSE_NORMAL 1000
#define CLOSE_POLICY 1008

/* ---- speaking ---- */

static void conn_send(struct conn *c, const struct buf *b)
{
    c->sent = clock_boot_ms();
    if (c->ws)
        ws_send(c->ws, b->data, b->len); /* -ENOBUFS: it does not read; on_close follows */
}

static void conn_close(struct conn *c, uint16_t code, const char *why)
{
    c->closing = true;
    if (c->ws)
        ws_close(c->ws, code, why);
}

/* ERROR ends the connection. f: what it is about, or NULL. */
static void conn_error(struct conn *c, const struct stomp_frame *f, const char *message)
{
    CLEANUP_BUF struct buf b = {0};
    const char *receipt = f ? stomp_get(f, "receipt") : NULL;
    stomp_begin(&b, "ERROR");
    stomp_header(&b, c->version, true, "message", message);
    stomp_header(&b, c->version, true, "content-type", "text/plain");
    if (!c->connected)
        stomp_header(&b, c->version, true, "version", "1.0,1.1,1.2");
    if (receipt)
        stomp_header(&b, c->version, true, "receipt-id", receipt);
    stomp_end(&b, message, strlen(message));
    conn_send(c, &b);
    conn_close(c, CLOSE_POLICY, message);
}

static void conn_receipt(struct conn *c, const struct stomp_frame *f)
{
    CLEANUP_BUF struct buf b = {0};
    const char *receipt = stomp_get(f, "receipt");
    if (!receipt)
        return;
    stomp_begin(&b, "RECEIPT");
    stomp_header(&b, c->version, true, "receipt-id", receipt);
    stomp_end(&b, NULL, 0);
    conn_send(c, &b);
}

void conn_message(struct conn *c, const struct subscription *s, const char *body, size_t n)
{
    CLEANUP_BUF struct buf b = {0};
    char id[24];
    snprintf(id, sizeof id, "%llu", (unsigned long long)++c->messages);
    stomp_begin(&b, "MESSAGE");
    if (s->id)
        stomp_header(&b, c->version, true, "subscription", s->id);
    stomp_header(&b, c->version, true, "message-id", id);
    stomp_header(&b, c->version, true, "destination", s->destination);
    stomp_header(&b, c->version, true, "content-type", "application/json");
    stomp_end(&b, body, n);
    conn_send(c, &b);
}

/* ---- what a worker looks up ---- */

struct lookup {
    struct conn *conn;
    struct stomp_frame frame;
    /* CONNECT */
    const char *authorization, *code; /* into frame or conn */
    struct principal who;
    /* SUBSCRIBE */
    const char *drive;
    struct drive_row found; /* zero: all */
    unsigned matches;
    bool watching; /* until the subscription does it */
    int err;
    void (*then)(struct lookup *l); /* on the loop */
};

static void conn_pump(struct conn *c);
static void conn_free(struct conn *c);

static void lookup_over(void *arg)
{
    struct lookup *l = arg;
    struct conn *c = l->conn;
    c->busy = false;
    bool gone = !c->ws;
    if (!gone && !c->closing)
        l->then(l);
    if (l->watching)
        remote_unwatch(c->hub, &c->who.user, &l->found.id);
    if (gone)
        conn_free(c);
    else
        conn_pump(c);
    stomp_frame_fini(&l->frame);
    free(l);
}

/* Takes the frame. */
static struct lookup *lookup_new(struct conn *c, struct stomp_frame *f, void (*then)(struct lookup *))
{
    struct lookup *l = mem_alloc(sizeof *l);
    l->conn = c;
    l->frame = *f;
    l->then = then;
    *f = (struct stomp_frame){0};
    c->busy = true;
    return l;
}

/* ---- CONNECT ---- */

static void verify_token(void *arg)
{
    struct lookup *l = arg;
    struct app *app = l->conn->hub->app;
    l->err = auth_verify(app, l->authorization, &l->who, &l->code);
    http_server_post(app->server, lookup_over, l);
}

static void connected(struct lookup *l)
{
    struct conn *c = l->conn;
    CLEANUP_BUF struct buf b = {0};
    char beat[32];
    if (l->err) {
        conn_error(c, &l->frame, l->code ? l->code : "token-invalid");
        return;
    }
    c->who = l->who;
    c->connected = true;
    c->parser.version = c->version;
    hub_presence(c->hub, &c->who, true);
    snprintf(beat, sizeof beat, "%d,%d", HEARTBEAT, HEARTBEAT);
    stomp_begin(&b, "CONNECTED");
    stomp_header(&b, c->version, false, "version", stomp_version_text(c->version));
    stomp_header(&b, c->version, false, "heart-beat", beat);
    stomp_header(&b, c->version, false, "server", "cairn/" CAIRN_VERSION);
    stomp_header(&b, c->version, false, "user-name", c->who.name);
    stomp_end(&b, NULL, 0);
    conn_send(c, &b);
}

static void on_connect(struct conn *c, struct stomp_frame *f)
{
    const char *authorization = stomp_get(f, "Authorization");
    if (!authorization)
        authorization = stomp_get(f, "authorization");
    if (!authorization)
        authorization = c->authorization;
    if (c->connected) {
        conn_error(c, f, "connected already");
        return;
    }
    if (stomp_negotiate(stomp_get(f, "accept-version"), &c->version)) {
        conn_error(c, f, "no version in common");
        return;
    }
    if (stomp_heartbeat(stomp_get(f, "heart-beat"), HEARTBEAT, &c->send_ms, &c->expect_ms)) {
        conn_error(c, f, "heart-beat is two numbers");
        return;
    }
    if (!authorization) {
        conn_error(c, f, "Authorization is missing");
        return;
    }
    struct lookup *l = lookup_new(c, f, connected);
    l->authorization = authorization + strspn(authorization, " ");
    pool_run(http_server_pool(c->hub->app->server), verify_token, l);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

static struct subscription *find_subscription(struct conn *c, const char *id, const char *destination)
{
    for (size_t i = 0; i < c->n_subs; i++) {
        struct subscription *s = &c->subs[i];
        if (id ? s->id && strcmp(s->id, id) == 0 : destination && !s->id && strcmp(s->destination, destination) == 0)
            return s;
    }
    return NULL;
}

static void subscription_end(struct conn *c, struct subscription *s)
{
    hub_subscribed(c->hub, c, s, false);
    free(s->id);
    free(s->destination);
    *s = c->subs[--c->n_subs];
}

static void subscribe(struct conn *c, const struct stomp_frame *f, const struct uuid *drive)
{
    c->subs = mem_realloc(c->subs, (c->n_subs + 1) * sizeof *c->subs);
    struct subscription *s = &c->subs[c->n_subs++];
    *s = (struct subscription){.id = mem_strdup(stomp_get(f, "id")), .destination = mem_strdup(stomp_get(f, "destination"))};
    topic_parse(s->destination, &s->topic);
    if (drive)
        s->drive = *drive;
    hub_subscribed(c->hub, c, s, true);
    conn_receipt(c, f);
}

static int match_drive(void *ctx, const struct drive_row *d)
{
    struct lookup *l = ctx;
    struct uuid id;
    if (uuid_parse(l->drive, &id) == 0 && uuid_equal(&id, &d->id)) {
        l->found = *d;
        l->matches = 1;
        return 1; /* an id goes before names */
    }
    if (strcmp(l->drive, d->name) == 0) {
        l->found = *d;
        l->matches++;
    }
    return 0;
}

static void watch_changes(void *arg)
{
    struct lookup *l = arg;
    struct hub *h = l->conn->hub;
    struct app *app = h->app;
    const struct uuid *user = &l->conn->who.user;
    if (l->drive)
        l->err = app->meta->ops->drive_list(app->meta, user, match_drive, l);
    if (l->err >= 0 && l->matches == 1 && l->found.away)
        l->err = -EHOSTUNREACH;
    if (l->err >= 0 && (!l->drive || l->matches == 1)) {
        l->err = remote_watch(h, user, l->drive ? &l->found : NULL);
        l->watching = l->err == 0;
    }
    http_server_post(app->server, lookup_over, l);
}

static void changes_watched(struct lookup *l)
{
    if (l->err < 0) {
        conn_error(l->conn, &l->frame, "the store cannot be reached");
    } else if (!l->watching) {
        conn_error(l->conn, &l->frame, l->matches ? "drive-ambiguous" : "drive-not-found");
    } else {
        subscribe(l->conn, &l->frame, &l->found.id);
        l->watching = false;
    }
}

static void on_subscribe(struct conn *c, struct stomp_frame *f)
{
    const char *id = stomp_get(f, "id"), *destination = stomp_get(f, "destination"), *drive = stomp_get(f, "drive");
    const char *ack = stomp_get(f, "ack");
    enum topic topic;
    const char *wrong = !destination                                                        ? "destination is missing"
                        : topic_parse(destination, &topic)                                  ? "there is no such destination"
                        : !id && c->version != STOMP_10                                     ? "id is missing"
                        : find_subscription(c, id, destination)                             ? "this id is in use"
                        : c->n_subs == SUBSCRIPTIONS_MAX                                    ? "too many subscriptions"
                        : ack && strcmp(ack, "auto") != 0 && strncmp(ack, "client", 6) != 0 ? "ack is auto"
                                                                                            : NULL;
    if (wrong) {
        conn_error(c, f, wrong);
        return;
    }
    if (topic != TOPIC_FILE_CHANGES) {
        subscribe(c, f, NULL);
        return;
    }
    struct lookup *l = lookup_new(c, f, changes_watched);
    l->drive = drive;
    pool_run(http_server_pool(c->hub->app->server), watch_changes, l);
}

static void on_unsubscribe(struct conn *c, struct stomp_frame *f)
{
    const char *id = stomp_get(f, "id");
    if (!id && c->version != STOMP_10) {
        conn_error(c, f, "id is missing");
        return;
    }
    struct subscription *s = find_subscription(c, id, stomp_get(f, "destination"));
    if (!s) {
        conn_error(c, f, "there is no such subscription");
        return;
    }
    subscription_end(c, s);
    conn_receipt(c, f);
}

/* ---- frames ---- */

static void on_disconnect(struct conn *c, struct stomp_frame *f)
{
    conn_receipt(c, f);
    conn_close(c, CLOSE_NORMAL, "bye");
}

/* Messages need no acknowledgement here; those who send one are not told off. */
static void on_ack(struct conn *c, struct stomp_frame *f)
{
    conn_receipt(c, f);
}

static void on_send(struct conn *c, struct stomp_frame *f)
{
    conn_error(c, f, "nothing can be sent to any destination");
}

static const struct {
    const char *command;
    void (*run)(struct conn *c, struct stomp_frame *f); /* may take the frame */
} commands[] = {
    {"SUBSCRIBE", on_subscribe}, {"UNSUBSCRIBE", on_unsubscribe}, {"DISCONNECT", on_disconnect}, {"ACK", on_ack},
    {"NACK", on_ack},            {"SEND", on_send},               {"CONNECT", on_connect},       {"STOMP", on_connect},
};

static void on_frame(struct conn *c, struct stomp_frame *f)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].command, f->command) != 0)
            continue;
        if (!c->connected && commands[i].run != on_connect)
            break;
        commands[i].run(c, f);
        return;
    }
    conn_error(c, f, c->connected ? "unknown command" : "CONNECT comes first");
}

static void conn_pump(struct conn *c)
{
    while (!c->busy && !c->closing) {
        struct stomp_frame f;
        const char *why;
        int got = stomp_next(&c->parser, &f, &why);
        if (got < 0)
            conn_error(c, NULL, why);
        if (got <= 0)
            return;
        on_frame(c, &f);
        stomp_frame_fini(&f);
    }
}

/* ---- the socket ---- */

static int on_open(struct ws *w, const char *authorization)
{
    struct app *app = http_server_app(ws_server(w));
    struct conn *c = mem_alloc(sizeof *c);
    c->hub = app->hub;
    c->ws = w;
    c->authorization = mem_strdup(authorization);
    c->opened = c->sent = c->received = clock_boot_ms();
    stomp_parser_init(&c->parser, FRAME_MAX);
    DL_APPEND(c->hub->conns, c);
    ws_set_user(w, c);
    hub_tick_on(c->hub);
    return 0;
}

static void on_message(struct ws *w, const char *p, size_t n, bool binary)
{
    (void)binary; /* frames may hold any bytes */
    struct conn *c = ws_user(w);
    c->received = clock_boot_ms();
    if (c->closing)
        return;
    if (c->parser.in.len + n > WAITING_MAX) {
        conn_error(c, NULL, "too much at once");
        return;
    }
    stomp_feed(&c->parser, p, n);
    conn_pump(c);
}

static void conn_free(struct conn *c)
{
    stomp_parser_fini(&c->parser);
    free(c->authorization);
    free(c->subs);
    free(c);
}

static void on_close(struct ws *w)
{
    struct conn *c = ws_user(w);
    if (!c)
        return;
    ws_set_user(w, NULL);
    c->ws = NULL;
    c->closing = true;
    DL_DELETE(c->hub->conns, c);
    while (c->n_subs)
        subscription_end(c, &c->subs[c->n_subs - 1]);
    if (c->connected)
        hub_presence(c->hub, &c->who, false);
    if (!c->busy)
        conn_free(c);
}

/* Heart-beats, and those who owe one. A tenth of the time is kept as margin for the network. */
static void conn_tick(struct conn *c, int64_t now)
{
    if (c->closing)
        return;
    if (!c->connected) {
        if (now - c->opened > CONNECT_WITHIN_MS)
            conn_error(c, NULL, "CONNECT did not come");
    } else if (c->expect_ms && now - c->received > LATE((int64_t)c->expect_ms)) {
        conn_error(c, NULL, "no heart-beat came");
    } else if (c->send_ms && now - c->sent >= (int64_t)c->send_ms - c->send_ms / 10) {
        CLEANUP_BUF struct buf b = {0};
        buf_append(&b, "\n", 1);
        conn_send(c, &b);
    }
}

bool conn_tick_all(struct hub *h, int64_t now)
{
    struct conn *c, *next;
    DL_FOREACH_SAFE(h->conns, c, next)
        conn_tick(c, now);
    return h->conns != NULL;
}

#define STOMP_PROTOCOL(sub_protocol)                                                                                   \
    {.name = sub_protocol, .path = "/ws", .message_max = WAITING_MAX, .on_open = on_open, .on_message = on_message,    \
     .on_close = on_close}
const struct ws_protocol stomp_protocols[3] = {STOMP_PROTOCOL("v12.stomp"), STOMP_PROTOCOL("v11.stomp"), STOMP_PROTOCOL("v10.stomp")};
