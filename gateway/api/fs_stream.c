/* Streams of mounts: the socket, its messages, and its place in the drive's queue.

   A stream's life: open (a token came with the upgrade) → hello (token and role are checked on a worker) → its place in the drive's queue is
   found by an empty work → welcome → messages → closed. `joining` spans hello to welcome; a stream that is closed meanwhile is freed at the end of it. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/fs.h"
#include "gateway/api/streams_internal.h"

#include <errno.h>
#include <string.h>

#define LOST_MS (LEASE_MS + 2 * LEASE_MARGIN_MS) /* a lost mount's lease is out by then */
#define RECHECK_MS 10000
#define OVER_MS (INT64_MAX / 2) /* later than any lease */
#define CLOSE_POLICY 1008
#define CLOSE_ERROR 1011
#define CLOSE_AGAIN 1012
#define CLOSE_REPLACED 4409 /* the session has a newer stream */
#define CLOSE_TOKEN 4401    /* the token is not, or no longer, good */
#define CLOSE_NO_DRIVE 4404 /* the drive is not there for this user */

/* ---- coherence ---- */

static void on_answered(void *ctx, void *waiter)
{
    (void)ctx;
    told_settle(waiter);
}

static void tick(void *arg)
{
    struct streams *s = arg;
    s->tick_at = 0;
    stream_tick_soon(s);
}

static int soonest(int a, int b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Loop. Tells what is gathered; asks everybody who counts time when he wants to be asked again. */
void stream_tick_soon(struct streams *s)
{
    int64_t now = s->over ? OVER_MS : clock_boot_ms();
    int in = order_tick(s->order, now);
    if (s->shared)
        in = soonest(in, peers_tick(s->app->peers, now));
    in = soonest(in, coherence_tick(s->coherence, now));
    stream_flush_invals(s);
    if (in < 0 || s->over || (s->tick_at && s->tick_at <= now + in))
        return;
    if (s->tick_at)
        http_server_timer_cancel(s->app->server, s->tick_timer);
    s->tick_at = now + in;
    s->tick_timer = http_server_timer(s->app->server, (unsigned)in, tick, s);
}

void streams_over(struct streams *s)
{
    s->over = true;
    stream_tick_soon(s);
}

/* ---- all that are in ---- */

static struct drive_streams *find_drive(const struct streams *s, const struct uuid *drive)
{
    struct drive_streams *d;
    HASH_FIND(hh, s->of_drives, drive, sizeof *drive, d);
    return d;
}

struct stream *streams_of(const struct streams *s, const struct uuid *drive)
{
    struct drive_streams *d = find_drive(s, drive);
    return d ? d->first : NULL;
}

static void stream_list(struct stream *st)
{
    struct streams *s = st->streams;
    struct drive_streams *d = find_drive(s, &st->drive);
    if (!d) {
        d = mem_alloc(sizeof *d);
        d->drive = st->drive;
        HASH_ADD(hh, s->of_drives, drive, sizeof d->drive, d);
    }
    DL_APPEND(s->first, st);
    DL_APPEND2(d->first, st, prev_of_drive, next_of_drive);
}

static void stream_unlist(struct stream *st)
{
    struct streams *s = st->streams;
    struct drive_streams *d = find_drive(s, &st->drive);
    DL_DELETE(s->first, st);
    DL_DELETE2(d->first, st, prev_of_drive, next_of_drive);
    if (d->first)
        return;
    HASH_DEL(s->of_drives, d);
    free(d);
}

/* ---- the end of a stream ---- */

static void stream_free(struct stream *st)
{
    if (st->present)
        hub_presence(st->streams->app->hub, &st->who, false);
    buf_fini(&st->inval);
    free(st->authorization);
    free(st);
}

struct farewell { /* loop */
    struct streams *streams;
    struct uuid drive, session;
    struct farewell *prev, *next;
};

static void drop_interest(void *arg)
{
    struct farewell *f = arg;
    interest_drop(f->streams, &f->drive, &f->session);
    order_forget(f->streams->order, &f->drive);
    DL_DELETE(f->streams->farewells, f);
    free(f);
}

/* A lost mount may go on trusting what it knows until its lease is out: so long its interest stays. */
static void interest_end(struct stream *st, bool bye)
{
    struct streams *s = st->streams;
    if (!st->interested)
        return;
    st->interested = false;
    struct farewell *f = mem_alloc(sizeof *f);
    *f = (struct farewell){.streams = s, .drive = st->drive, .session = st->session};
    DL_APPEND(s->farewells, f);
    if (bye)
        drop_interest(f);
    else
        http_server_timer(s->app->server, LOST_MS, drop_interest, f);
}

/* Of a stream that is in. */
static void stream_leave(struct stream *st, bool bye)
{
    struct streams *s = st->streams;
    if (st->listed) {
        struct stream **at = &s->invals;
        while (*at != st)
            at = &(*at)->next_inval;
        *at = st->next_inval;
        st->listed = false;
    }
    coherence_leave(s->coherence, st->in, bye, clock_boot_ms());
    metric_set(s->m_streams, (double)coherence_streams(s->coherence));
    st->in = NULL;
    stream_unlist(st);
    interest_end(st, bye);
    mount_detach(s, st);
    stream_tick_soon(s);
}

void stream_end(struct stream *st, bool bye)
{
    if (st->in)
        stream_leave(st, bye);
    if (st->ws)
        ws_close(st->ws, bye ? 1000 : CLOSE_REPLACED, bye ? "bye" : "replaced");
}

static void stream_cut(struct stream *st)
{
    stream_leave(st, false);
    ws_close(st->ws, CLOSE_AGAIN, "come again");
}

void streams_cut(struct streams *s, const struct uuid *drive)
{
    while (drive && streams_of(s, drive))
        stream_cut(streams_of(s, drive));
    while (!drive && s->first)
        stream_cut(s->first);
}

static void stream_refuse(struct stream *st, uint16_t code, const char *why)
{
    if (st->ws)
        ws_close(st->ws, code, why);
}

/* ---- joining ---- */

#define NOT_YOURS "this session belongs to another user or drive"
struct join {
    struct drive_work work;
    struct stream *stream;
    char *authorization;
    uint64_t seq; /* the drive's, before the group that it is in */
    int64_t promise; /* boot ms: this gateway's interest lives until then; 0: it has none */
    bool fresh;
    uint16_t close_code;
    const char *why;
};

static void join_free(struct join *j)
{
    free(j->authorization);
    free(j);
}

/* Loop. Every way of joining ends here once. */
static void join_over(struct join *j)
{
    struct stream *st = j->stream;
    st->joining = false;
    if (!st->ws) {
        interest_end(st, true);
        stream_free(st);
    } else if (j->close_code) {
        interest_end(st, true);
        stream_refuse(st, j->close_code, j->why);
    }
    join_free(j);
}

static void join_over_on_loop(void *arg)
{
    join_over(arg);
}

static int join_prepare(struct drive_work *w, struct meta_tx *tx)
{
    struct join *j = w->ctx;
    struct streams *s = j->stream->streams;
    const struct app *app = s->app;
    j->seq = tx->drive.seq;
    if (!s->shared)
        return 0;
    j->promise = clock_boot_ms() + INTEREST_MS;
    int err = tx->meta->ops->interest_put(tx, &app->gateway, app->advertised, INTEREST_MS);
    if (err == -EACCES) {
        j->promise = 0;
        err = 0;
    }
    return err ? err : mount_claim(s, tx, &j->stream->session, &j->stream->who.user, &j->fresh);
}

/* Only for a work that failed: one that was committed is taken by stream_join. */
static void join_done(struct drive_work *w)
{
    struct join *j = w->ctx;
    j->close_code = w->error == -ENOENT ? CLOSE_NO_DRIVE : w->error == -EACCES ? CLOSE_POLICY : CLOSE_ERROR;
    j->why = w->error == -EACCES ? NOT_YOURS : "the drive cannot be reached";
    http_server_post(j->stream->streams->app->server, join_over_on_loop, j);
}

bool stream_is_join(const struct drive_work *w)
{
    return w->done == join_done;
}

void stream_join(struct drive_work *w)
{
    struct join *j = w->ctx;
    struct stream *st = j->stream, *old;
    struct streams *s = st->streams;
    if (st->ws) {
        if (mount_attach(s, st, &old)) {
            j->close_code = CLOSE_POLICY;
            j->why = NOT_YOURS;
        } else {
            if (old)
                stream_end(old, false);
            int64_t now = clock_boot_ms();
            uint64_t seq = order_place(s->order, &st->drive, j->seq, now);
            st->fresh |= j->fresh;
            st->in = coherence_join(s->coherence, &st->drive, &st->session, seq, st);
            if (j->promise)
                order_granted(s->order, &st->drive, j->seq, j->promise, now);
            if (s->shared)
                coherence_cap(s->coherence, &st->drive, order_cap(s->order, &st->drive), now);
            stream_list(st);
            metric_set(s->m_streams, (double)coherence_streams(s->coherence));
            st->checked = now;
            st->present = true;
            hub_presence(s->app->hub, &st->who, true);
            stream_welcome(st, seq);
        }
    }
    join_over(j);
}

/* Worker: token and role; then the place in the queue. */
static void join_check(void *arg)
{
    struct join *j = arg;
    struct stream *st = j->stream;
    struct app *app = st->streams->app;
    enum role role = ROLE_NONE;
    if (auth_verify(app, j->authorization, &st->who, &j->why)) {
        j->close_code = CLOSE_TOKEN;
    } else if (roles_get(app, &st->drive, &st->who.user, &role)) {
        j->close_code = CLOSE_ERROR;
        j->why = "the drive cannot be reached";
    } else if (role == ROLE_NONE) {
        j->close_code = CLOSE_NO_DRIVE;
        j->why = "no such drive";
    }
    if (j->close_code) {
        http_server_post(app->server, join_over_on_loop, j);
        return;
    }
    j->work.drive = st->drive;
    j->work.prepare = join_prepare;
    j->work.done = join_done;
    j->work.ctx = j;
    drive_queues_submit(app->queues, &j->work);
}

static void on_hello(struct stream *st, const json_t *o)
{
    const char *drive, *session;
    struct streams *s = st->streams;
    if (!st->authorization) {
        stream_refuse(st, CLOSE_POLICY, "hello was said before");
        return;
    }
    if (jsonx_str(o, "drive", &drive) || uuid_parse(drive, &st->drive) || jsonx_str(o, "session", &session) ||
        uuid_parse(session, &st->session) || jsonx_u64(o, "since", &st->since)) {
        stream_refuse(st, CLOSE_POLICY, "hello needs drive, session (ids) and since");
        return;
    }
    struct join *j = mem_alloc(sizeof *j);
    j->stream = st;
    j->authorization = st->authorization;
    st->authorization = NULL;
    st->joining = true;
    st->interested = true;
    interest_add(s, &st->drive, &st->session); /* before its work is submitted: fs_listener.c */
    order_expect(s->order, &st->drive);
    pool_run(http_server_pool(s->app->server), join_check, j);
}

/* ---- the socket; loop ---- */

static int on_open(struct ws *w, const char *authorization)
{
    if (!authorization)
        return -EACCES;
    struct app *app = http_server_app(ws_server(w));
    struct stream *st = mem_alloc(sizeof *st);
    st->streams = app->streams;
    st->ws = w;
    st->authorization = mem_strdup(authorization);
    ws_set_user(w, st);
    return 0;
}

/* ---- a role that was taken away ends the stream ---- */

struct recheck {
    struct streams *streams;
    struct uuid drive, session, user;
    bool gone;
};

static void rechecked(void *arg)
{
    struct recheck *r = arg;
    struct stream *st, *next;
    DL_FOREACH_SAFE(r->gone ? r->streams->first : NULL, st, next)
        if (uuid_equal(&st->session, &r->session) && uuid_equal(&st->who.user, &r->user))
            stream_refuse(st, CLOSE_NO_DRIVE, "no such drive");
    free(r);
}

static void recheck(void *arg)
{
    struct recheck *r = arg;
    enum role role;
    r->gone = roles_get(r->streams->app, &r->drive, &r->user, &role) == 0 && role == ROLE_NONE;
    http_server_post(r->streams->app->server, rechecked, r);
}

static void recheck_sometimes(struct stream *st, int64_t now)
{
    if (now - st->checked < RECHECK_MS)
        return;
    st->checked = now;
    struct recheck *r = mem_alloc(sizeof *r);
    *r = (struct recheck){.streams = st->streams, .drive = st->drive, .session = st->session, .user = st->who.user};
    pool_run(http_server_pool(st->streams->app->server), recheck, r);
}

/* ---- messages ---- */

static void on_beat_or_ack(struct stream *st, const json_t *o, bool beat)
{
    struct streams *s = st->streams;
    uint64_t seq, id = 0;
    if (!st->in || jsonx_u64(o, "seq", &seq) || (beat && jsonx_u64(o, "id", &id))) {
        stream_refuse(st, CLOSE_POLICY, st->in ? "seq or id is missing" : "hello comes first");
        return;
    }
    int64_t now = clock_boot_ms();
    if (beat)
        coherence_beat(s->coherence, st->in, id, seq, now);
    else
        coherence_ack(s->coherence, st->in, seq, now);
    stream_tick_soon(s);
    recheck_sometimes(st, now);
}

static void on_message(struct ws *w, const char *p, size_t n, bool binary)
{
    struct stream *st = ws_user(w);
    CLEANUP_JSON json_t *o = binary ? NULL : jsonx_parse(p, n, NULL);
    const char *t;
    if (!json_is_object(o) || jsonx_str(o, "t", &t)) {
        stream_refuse(st, CLOSE_POLICY, "a message is a JSON object with t");
        return;
    }
    if (strcmp(t, "beat") == 0 || strcmp(t, "ack") == 0)
        on_beat_or_ack(st, o, t[0] == 'b');
    else if (strcmp(t, "hello") == 0)
        on_hello(st, o);
    else if (strcmp(t, "bye") == 0 && st->in)
        mount_end(st->streams, &st->session);
    /* other messages are those of a later version */
}

static void on_close(struct ws *w)
{
    struct stream *st = ws_user(w);
    if (!st)
        return;
    st->ws = NULL;
    ws_set_user(w, NULL);
    if (st->joining)
        return; /* join_over frees it */
    if (st->in)
        stream_leave(st, false);
    stream_free(st);
}

const struct ws_protocol fs_stream_protocol = {
    .name = "cairn.fs.v1",
    .path = FS_BASE "/stream",
    .message_max = 64u << 10,
    .on_open = on_open,
    .on_message = on_message,
    .on_close = on_close,
};

/* ---- life ---- */

struct streams *streams_new(struct app *app)
{
    struct streams *s = mem_alloc(sizeof *s);
    s->shared = app->meta->shared;
    const struct coherence_io io = {.send_inval = stream_on_inval, .send_lease = stream_on_lease, .answered = on_answered, .ctx = s, .capped = s->shared};
    const struct order_io order_io = {.release = parcel_release, .fetch = on_order_fetch, .cap = on_order_cap, .ctx = s};
    s->listener.committed = streams_committed;
    s->app = app;
    s->coherence = coherence_new(&io);
    s->order = order_new(&order_io, !s->shared);
    if (s->shared) {
        const struct peers_io peers_io = {.heard = on_peer_inval, .unlocked = on_peer_unlocked, .settled = parcel_settle, .ctx = s};
        app->peers = peers_new(app->server, app->meta, &app->gateway, app->peer_secret, &peers_io);
    }
    s->m_streams = metric_get(METRIC_GAUGE, "cairn_mount_streams", "", "Streams of mounts");
    s->m_waited = metric_get(METRIC_COUNTER, "cairn_commits_waited_total", "", "Commits whose answer had somebody to wait for or to tell");
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

struct drive_listener *streams_listener(struct streams *s)
{
    return &s->listener;
}

void streams_free(struct streams *s)
{
    if (!s)
        return;
    struct farewell *f, *next;
    DL_FOREACH_SAFE(s->farewells, f, next)
        free(f);
    mounts_free(s);
    interests_free(s);
    order_free(s->order);
    coherence_free(s->coherence);
    peers_free(s->app->peers);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
