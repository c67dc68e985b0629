#include "fusefs/sync/sync.h"
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "fusefs/cache/content.h"
#include "fusefs/sync/stream.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define BEATS 64          /* heart-beats that can be unanswered */
#define SILENCE_MS 5000   /* a connection that says nothing for so long is made anew */
#define PROBE_MS 1000     /* a gateway that could not be reached is not asked again before */
#define PATIENCE_MS 2000  /* so long one that is gone is looked for before the cache is believed: there may be another one */
#define ASK_TRIES 2       /* of one call, while others reach a gateway and it does not */
#define NOTICES 50

/* What the stream's thread hands to the applier, in order. */
struct incoming {
    struct incoming *next;
    enum { IN_WELCOME, IN_INVAL, IN_RESET } what;
    uint64_t seq;
    json_t *changes;
};

struct sync {
    struct sync_config cfg;
    struct stream *stream;
    pthread_t applier, clock;

    pthread_mutex_t lock; /* guards all below up to the next comment */
    pthread_cond_t work;
    struct incoming *first, **last;
    uint64_t seq; /* everything up to it is known */
    uint64_t beat;
    int64_t beat_sent[BEATS];
    int64_t last_beat, last_heard;
    bool away, session_over; /* away: it was connected and is not; session_over: for so long that the gateway may have ended its locks */
    json_t *notices;
    bool connected, stopping;
    unsigned reached; /* how often a gateway was: by the stream, or by who asked */
    bool gave_up;     /* one was looked for in vain, and was not reached since */

    pthread_mutex_t apply; /* one at a time applies changes: the applier, or a FUSE thread that catches up. Taken before `lock` */
    _Atomic int64_t lease_until;
    _Atomic bool caught_up, emptied; /* emptied: the kernel holds nothing that needs a lease */
    _Atomic int64_t unreachable_until; /* set under `lock` */
};

/* ---- trust ---- */

bool sync_trusted(struct sync *s)
{
    return s->caught_up && !s->emptied && kernel_ready(s->cfg.kernel) && clock_boot_ms() < s->lease_until - SYNC_GUARD_MS / 2;
}

uint64_t sync_seq(struct sync *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    return s->seq;
}

bool sync_online(struct sync *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    return s->connected;
}

void sync_own(struct sync *s, uint64_t seq)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (seq == s->seq + 1)
        s->seq = seq;
}

static void seq_reached(struct sync *s, uint64_t seq)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (s->seq < seq)
        s->seq = seq;
}

json_t *sync_notices(struct sync *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    return json_deep_copy(s->notices);
}

/* ---- applying ---- */

#define ITEMS_MAX (4 + 4 + OP_TOUCH_MAX + 1)

static struct node *held(struct replica *r, uint64_t ino)
{
    struct node *n = replica_find(r, ino);
    return n && n->nlookup ? n : NULL;
}

/* What the kernel may hold of what was touched. */
static size_t touch_items(struct replica *r, const struct touch *t, struct kernel_item items[ITEMS_MAX])
{
    size_t n = 0;
    replica_lock(r);
    for (size_t i = 0; i < t->n_names; i++) {
        struct node *dir = held(r, t->names[i].parent);
        if (!dir)
            continue;
        items[n] = (struct kernel_item){.what = KERNEL_NAME, .id = replica_id(r, dir), .dir_ino = dir->ino};
        strcpy(items[n++].name, t->names[i].name);
        items[n++] = (struct kernel_item){.what = KERNEL_LISTING, .id = replica_id(r, dir)};
    }
    for (size_t i = 0; i < t->n_inodes; i++) {
        struct node *node = held(r, t->inodes[i]);
        if (node)
            items[n++] = (struct kernel_item){.what = KERNEL_ATTR, .id = replica_id(r, node)};
    }
    replica_unlock(r);
    return n;
}

/* Content first: a READ that comes from now on gets the new one. */
static void touch_content(struct sync *s, const struct touch *t, struct kernel_item items[ITEMS_MAX], size_t *n)
{
    struct replica *r = s->cfg.replica;
    replica_lock(r);
    struct node *node = replica_find(r, t->content_ino);
    struct content *content = node && node->content ? content_ref(node->content) : NULL;
    uint64_t id = node && node->nlookup ? replica_id(r, node) : 0;
    struct attr attr = node ? node->attr : (struct attr){0};
    replica_unlock(r);
    if (content) {
        attr.ino = t->content_ino;
        attr.version = t->content_version;
        attr.size = t->content_size;
        attr.chunk_size = t->content_chunk_size;
        attr.quarantined = t->content_quarantined;
        bool visible = content_remote_changed(content, &attr, t->content_from, t->content_to);
        content_unref(content);
        if (!visible)
            return;
    }
    if (id)
        items[(*n)++] = (struct kernel_item){.what = KERNEL_DATA, .id = id, .off = (int64_t)t->content_from, .len = 0};
}

/* `apply` held. */
static void apply_changes(struct sync *s, const json_t *changes)
{
    size_t count = json_array_size(changes), n = 0;
    CLEANUP_FREE struct kernel_item *items = mem_calloc(count ? count * ITEMS_MAX : 1, sizeof *items);
    for (size_t i = 0; i < count; i++) {
        struct touch t;
        if (touch_from_json(json_array_get(changes, i), &t)) {
            log_warn("a change could not be read and was passed over");
            continue;
        }
        replica_apply_touch(s->cfg.replica, &t);
        n += touch_items(s->cfg.replica, &t, items + n);
        if (t.content_ino)
            touch_content(s, &t, items, &n);
    }
    kernel_invalidate(s->cfg.kernel, items, n);
}

struct inodes {
    uint64_t *ino;
    size_t n;
};
static void with_content(void *ctx, struct node *n)
{
    struct inodes *l = ctx;
    if (!n->content)
        return;
    l->ino = mem_realloc(l->ino, (l->n + 1) * sizeof *l->ino);
    l->ino[l->n++] = n->ino;
}

/* Nothing is known any more: what is open is compared with its newest version. `apply` held. */
static int start_afresh(struct sync *s)
{
    uint64_t seq;
    int err = remote_seq(s->cfg.remote, &seq);
    if (err)
        return err;
    replica_empty(s->cfg.replica, seq);
    store_start_afresh(s->cfg.store);
    struct inodes l = {0};
    replica_each(s->cfg.replica, with_content, &l);
    for (size_t i = 0; i < l.n && !err; i++) {
        struct attr attr;
        uint64_t as_of;
        err = remote_inode(s->cfg.remote, l.ino[i], 0, &as_of, &attr);
        if (err == -ENOENT) {
            err = 0; /* removed; its handles go on with what they have */
            continue;
        }
        if (err)
            break;
        replica_lock(s->cfg.replica);
        struct node *n = replica_find(s->cfg.replica, l.ino[i]);
        struct content *c = n && n->content ? content_ref(n->content) : NULL;
        replica_unlock(s->cfg.replica);
        if (c) {
            content_revalidate(c, &attr, as_of);
            content_unref(c);
        }
    }
    free(l.ino);
    if (err)
        return err;
    kernel_empty(s->cfg.kernel, true);
    seq_reached(s, seq);
    log_info("started afresh at %llu", (unsigned long long)seq);
    return 0;
}

/* Everything up to at least `upto` becomes known. `apply` held. */
static int catch_up(struct sync *s, uint64_t upto)
{
    for (;;) {
        uint64_t since = sync_seq(s), next;
        CLEANUP_JSON json_t *changes = NULL;
        bool more;
        if (since >= upto)
            return 0;
        int err = remote_changes(s->cfg.remote, since, &changes, &next, &more);
        if (err == -ESTALE)
            return start_afresh(s);
        if (err)
            return err;
        apply_changes(s, changes);
        seq_reached(s, next);
        if (!more) {
            seq_reached(s, upto); /* numbers may be skipped */
            return 0;
        }
    }
}

static int ask(struct sync *s)
{
    uint64_t seq;
    int err = remote_seq(s->cfg.remote, &seq);
    if (err == 0 && sync_seq(s) < seq) {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->apply);
        err = catch_up(s, seq);
    }
    return err;
}

/* `lock` held. */
static void is_reached(struct sync *s)
{
    s->reached++;
    s->gave_up = false;
    s->unreachable_until = 0;
}

static unsigned begin_asking(struct sync *s, unsigned *ret_timeout_ms)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    *ret_timeout_ms = s->gave_up ? 0 : PATIENCE_MS;
    return s->reached;
}

static void end_asking(struct sync *s, unsigned reached_before, bool answered)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (answered) {
        is_reached(s);
    } else if (s->reached == reached_before) { /* else another one is there, which was not asked */
        s->gave_up = true;
        s->unreachable_until = clock_boot_ms() + PROBE_MS;
    }
}

int sync_fresh(struct sync *s)
{
    if (sync_trusted(s))
        return 0;
    for (int tries = 0; tries < ASK_TRIES && clock_boot_ms() >= s->unreachable_until; tries++) {
        struct remote_wait wait = {0};
        unsigned reached = begin_asking(s, &wait.timeout_ms);
        int err;
        do
            err = ask(s);
        while (remote_wait(&wait, err));
        end_asking(s, reached, err == 0);
        if (err == 0)
            return 0;
    }
    return s->cfg.strict ? -EIO : 0;
}

/* ---- the applier ---- */

static void acknowledge(struct sync *s)
{
    char text[64];
    snprintf(text, sizeof text, "{\"t\":\"ack\",\"seq\":%llu}", (unsigned long long)sync_seq(s));
    stream_send(s->stream, text);
}

static void handle(struct sync *s, struct incoming *in)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->apply);
    int err = 0;
    if (in->what == IN_INVAL && s->caught_up) {
        apply_changes(s, in->changes);
        seq_reached(s, in->seq);
        acknowledge(s);
        return;
    }
    if (in->what == IN_RESET)
        err = start_afresh(s);
    else if (in->what == IN_WELCOME)
        err = catch_up(s, in->seq);
    if (err) { /* the gateway went away again: the next connection says welcome again */
        stream_reconnect(s->stream);
        return;
    }
    if (in->what != IN_INVAL) {
        s->caught_up = true;
        acknowledge(s);
    }
}

static struct incoming *take(struct sync *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    while (!s->first && !s->stopping)
        pthread_cond_wait(&s->work, &s->lock);
    struct incoming *in = s->first;
    if (in) {
        s->first = in->next;
        if (!s->first)
            s->last = &s->first;
    }
    return in;
}

static void incoming_free(struct incoming *in)
{
    json_decref(in->changes);
    free(in);
}

static void *apply_loop(void *arg)
{
    struct sync *s = arg;
    struct incoming *in;
    pthread_setname_np(pthread_self(), "apply");
    while ((in = take(s))) {
        handle(s, in);
        incoming_free(in);
    }
    return NULL;
}

/* ---- the stream ---- */

/* Takes the reference. */
static void enqueue(struct sync *s, int what, uint64_t seq, json_t *changes)
{
    struct incoming *in = mem_alloc(sizeof *in);
    in->what = what;
    in->seq = seq;
    in->changes = changes;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    *s->last = in;
    s->last = &in->next;
    pthread_cond_signal(&s->work);
}

static void connected(void *ctx, struct stream *stream)
{
    struct sync *s = ctx;
    const struct remote_mount_info *info = remote_info(s->cfg.remote);
    char drive[UUID_TEXT], session[UUID_TEXT], text[256];
    uuid_text(&info->drive, drive);
    uuid_text(&info->session, session);
    pthread_mutex_lock(&s->lock);
    s->connected = true;
    s->away = s->session_over = false;
    s->last_heard = clock_boot_ms();
    snprintf(text, sizeof text, "{\"t\":\"hello\",\"drive\":\"%s\",\"session\":\"%s\",\"since\":%llu}", drive, session,
             (unsigned long long)s->seq);
    pthread_mutex_unlock(&s->lock);
    remote_reconnected(s->cfg.remote);
    stream_send(stream, text);
}

static void disconnected(void *ctx)
{
    struct sync *s = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    s->connected = false;
    s->away = true;
}

/* Only now a gateway was reached that reaches the drive: one whose database is away closes what it accepted. */
static void welcomed(struct sync *s, uint64_t seq)
{
    pthread_mutex_lock(&s->lock);
    is_reached(s);
    pthread_mutex_unlock(&s->lock);
    s->caught_up = false; /* until what lies between was read */
    enqueue(s, IN_WELCOME, seq, NULL);
}

static void leased(struct sync *s, uint64_t id, uint64_t ms)
{
    pthread_mutex_lock(&s->lock);
    int64_t sent = id <= s->beat && id + BEATS > s->beat ? s->beat_sent[id % BEATS] : 0;
    pthread_mutex_unlock(&s->lock);
    int64_t until = sent + (int64_t)(ms < 60000 ? ms : 60000);
    if (!sent || until <= s->lease_until)
        return;
    s->lease_until = until;
    if (clock_boot_ms() < until - SYNC_GUARD_MS)
        s->emptied = false;
}

static void notice(struct sync *s, json_t *o)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (json_array_size(s->notices) >= NOTICES)
        json_array_remove(s->notices, 0);
    json_array_append(s->notices, o);
}

static void message(void *ctx, const char *text, size_t n)
{
    struct sync *s = ctx;
    CLEANUP_JSON json_t *o = jsonx_parse(text, n, NULL);
    const char *type;
    uint64_t seq = 0, id, ms;
    json_t *changes;
    if (!o || jsonx_str(o, "t", &type))
        return;
    pthread_mutex_lock(&s->lock);
    s->last_heard = clock_boot_ms();
    pthread_mutex_unlock(&s->lock);
    jsonx_u64(o, "seq", &seq);
    if (strcmp(type, "inval") == 0 && jsonx_arr(o, "changes", &changes) == 0) {
        json_incref(changes);
        json_object_del(o, "changes"); /* the applier's alone from here on */
        enqueue(s, IN_INVAL, seq, changes);
    } else if (strcmp(type, "lease") == 0 && jsonx_u64(o, "id", &id) == 0 && jsonx_u64(o, "ms", &ms) == 0) {
        leased(s, id, ms);
    } else if (strcmp(type, "welcome") == 0) {
        bool fresh = false;
        jsonx_bool(o, "fresh", &fresh);
        if (fresh) /* before anything is believed again */
            s->cfg.on_session_lost(s->cfg.ctx);
        welcomed(s, seq);
    } else if (strcmp(type, "reset") == 0) {
        s->caught_up = false;
        enqueue(s, IN_RESET, seq, NULL);
    } else if (strcmp(type, "unlocked") == 0 && jsonx_u64(o, "ino", &id) == 0) {
        if (s->cfg.on_unlocked)
            s->cfg.on_unlocked(s->cfg.ctx, id);
    } else if (strcmp(type, "notice") == 0) {
        notice(s, o);
    }
}

/* ---- the clock ---- */

static void beat(struct sync *s, int64_t now)
{
    char text[96];
    pthread_mutex_lock(&s->lock);
    bool due = s->connected && now - s->last_beat >= (int64_t)remote_info(s->cfg.remote)->heartbeat_ms;
    bool silent = s->connected && now - s->last_heard > SILENCE_MS;
    if (due) {
        s->last_beat = now;
        s->beat++;
        s->beat_sent[s->beat % BEATS] = now;
        snprintf(text, sizeof text, "{\"t\":\"beat\",\"id\":%llu,\"seq\":%llu}", (unsigned long long)s->beat,
                 (unsigned long long)(s->caught_up ? s->seq : 0));
    }
    if (silent)
        s->last_heard = now;
    pthread_mutex_unlock(&s->lock);
    if (due)
        stream_send(s->stream, text);
    if (silent)
        stream_reconnect(s->stream);
}

/* Nothing was heard of the gateway for nearly as long as it keeps the locks of a mount that is away. */
static void watch_session(struct sync *s, int64_t now)
{
    pthread_mutex_lock(&s->lock);
    bool over = s->away && !s->session_over && now - s->last_heard > SYNC_SESSION_MS;
    s->session_over |= over;
    pthread_mutex_unlock(&s->lock);
    if (over)
        s->cfg.on_session_lost(s->cfg.ctx);
}

static void *clock_loop(void *arg)
{
    struct sync *s = arg;
    pthread_setname_np(pthread_self(), "clock");
    for (;;) {
        int64_t now = clock_boot_ms();
        pthread_mutex_lock(&s->lock);
        bool stopping = s->stopping;
        pthread_mutex_unlock(&s->lock);
        if (stopping)
            return NULL;
        if (!s->emptied && now >= s->lease_until - SYNC_GUARD_MS) { /* before a beat, whose lease would hide it */
            s->emptied = true;                                      /* first: no answer is for keeping from here on */
            kernel_empty(s->cfg.kernel, false);
            log_debug("the cache lease is out");
        }
        beat(s, now);
        watch_session(s, now);
        struct timespec pause = {.tv_nsec = 20 * 1000000};
        nanosleep(&pause, NULL);
    }
}

struct sync *sync_start(const struct sync_config *cfg)
{
    struct sync *s = mem_alloc(sizeof *s);
    s->cfg = *cfg;
    s->seq = remote_info(cfg->remote)->seq;
    s->last = &s->first;
    s->emptied = true;
    s->notices = json_array();
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->apply, NULL);
    pthread_cond_init(&s->work, NULL);
    struct stream_handler h = {connected, message, disconnected, s};
    s->stream = stream_start(cfg->remote, &h);
    if (!s->stream || pthread_create(&s->applier, NULL, apply_loop, s) || pthread_create(&s->clock, NULL, clock_loop, s))
        abort(); /* threads and a socket context are what the mount is made of */
    return s;
}

void sync_stop(struct sync *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->applier, NULL);
    pthread_join(s->clock, NULL);
    stream_send(s->stream, "{\"t\":\"bye\"}");
    stream_stop(s->stream);
}

void sync_free(struct sync *s)
{
    if (!s)
        return;
    while (s->first) {
        struct incoming *in = s->first;
        s->first = in->next;
        incoming_free(in);
    }
    json_decref(s->notices);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->apply);
    pthread_cond_destroy(&s->work);
    free(s);
}
