/* Changes of drives on their way to subscribers. The queue's worker only notes how far a drive has come; another one reads its log from there on,
   finds out paths and who may hear of them, and hands the messages to the loop: per drive one at a time, so that their order stays. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "common/uuid_list.h"
#include "gateway/api/change_rows.h"
#include "gateway/api/hub.h"
#include "gateway/core/paths.h"

#include <errno.h>
#include <string.h>

#define PAGE 200

struct conflict { /* a sibling was made: both writers are told */
    struct uuid user; /* who made it */
    uint64_t parent, seq;
    char name[NAME_LEN_MAX + 1];
    /* where the content that stays is: the inode, or a name */
    uint64_t ino, of_parent;
    char of_name[NAME_LEN_MAX + 1];
    int64_t at;
    struct conflict *next;
};
struct feed {
    struct uuid drive;
    struct hub *hub;
    bool placed;       /* `told` says something: always, while anything is to be said */
    uint64_t told, to; /* what came after `told`, up to `to`, is still to be said */
    bool look;         /* it may have come further than `to`: the drive knows */
    bool running;      /* a worker has it */
    struct conflict *conflicts;
    unsigned watched;  /* by how many subscriptions; */
    int64_t until;     /* and until then (boot ms) by those who ask again and again: as long it stays, with its place */
    bool wanted;       /* messages about it are asked for */
    bool failed;       /* the drive could not be read */
    int64_t looked;    /* boot ms */
    UT_hash_handle hh;
};

/* ---- the queue's worker ---- */

static struct conflict *conflict_of(const struct drive_work *w, size_t i)
{
    const struct op_result *r = &w->results[i];
    const struct op *op = &w->ops[i];
    struct conflict *c = mem_alloc(sizeof *c);
    c->user = w->actor.user;
    c->parent = r->conflict_parent;
    c->seq = r->seq;
    c->at = w->at;
    snprintf(c->name, sizeof c->name, "%s", r->conflict_name);
    if (op->kind == OP_COMMIT) {
        c->ino = op->ino;
    } else {
        c->of_parent = op->kind == OP_RENAME ? op->new_parent : op->parent;
        const char *name = op->kind == OP_RENAME ? op->new_name : op->name;
        snprintf(c->of_name, sizeof c->of_name, "%s", name ? name : "");
    }
    return c;
}

static struct conflict *conflicts_of(const struct drive_work *works)
{
    struct conflict *list = NULL;
    for (const struct drive_work *w = works; w; w = w->next)
        for (size_t i = 0; w->error == 0 && i < w->n_ops; i++)
            if (w->results[i].conflict_parent) {
                struct conflict *c = conflict_of(w, i);
                LL_APPEND(list, c);
            }
    return list;
}

static void feed_run(void *arg);

/* Under lock. */
static struct feed *feed_get(struct hub *h, const struct uuid *drive)
{
    struct feed *f;
    HASH_FIND(hh, h->feeds, drive, sizeof *drive, f);
    if (!f) {
        f = mem_alloc(sizeof *f);
        f->drive = *drive;
        f->hub = h;
        HASH_ADD(hh, h->feeds, drive, sizeof f->drive, f);
    }
    return f;
}

/* Under lock. True: the caller gives it to a worker, once it has let go of the lock. */
static bool start(struct feed *f)
{
    bool idle = !f->running;
    f->running = true;
    return idle;
}

static void hand_over(struct feed *f)
{
    pool_run(http_server_pool(f->hub->app->server), feed_run, f);
}

void feed_committed(struct hub *h, const struct uuid *drive, const struct drive_work *works)
{
    struct conflict *conflicts = conflicts_of(works);
    uint64_t first, last = drive_works_range(works, &first);
    bool said = last && h->subscribers[TOPIC_FILE_CHANGES];
    if (!said && !conflicts)
        return;
    pthread_mutex_lock(&h->lock);
    struct feed *f = feed_get(h, drive);
    LL_CONCAT(f->conflicts, conflicts);
    if (said) {
        if (!f->placed)
            f->told = first - 1;
        f->placed = true;
        f->to = f->to > last ? f->to : last;
    }
    bool fresh = start(f);
    pthread_mutex_unlock(&h->lock);
    if (fresh)
        hand_over(f);
}

/* ---- another worker ---- */

struct page {
    struct change_row rows[PAGE];
    size_t n;
};

static int collect(void *ctx, const struct change_row *row)
{
    struct page *p = ctx;
    if (p->n == PAGE)
        return 1;
    p->rows[p->n] = *row;
    p->rows[p->n++].touch = NULL; /* the log's, not needed here */
    return 0;
}

struct hearers {
    struct hub *hub;
    struct uuid_list users;
};

static int add_hearer(void *ctx, const struct uuid *user, enum role role)
{
    struct hearers *l = ctx;
    if (role >= ROLE_VIEWER && hub_listens(l->hub, TOPIC_FILE_CHANGES, user))
        uuid_list_add(&l->users, user);
    return 0;
}

/* What is to be said, and to whom: looked up once, however many listen. */
struct saying {
    struct hearers to; /* who listen and may see the drive */
    char **bodies;
    size_t n;
};

static void saying_fini(struct saying *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->bodies[i]);
    free(s->bodies);
    uuid_list_fini(&s->to.users);
}

/* One page of the log; *ret_told is the seq up to which all is said with it. */
static int read_page(struct hub *h, struct meta_tx *tx, const char *drive, uint64_t since, struct saying *ret, uint64_t *ret_told)
{
    CLEANUP_FREE struct page *p = mem_alloc(sizeof *p);
    CLEANUP(change_rows_fini) struct change_rows w = {.app = h->app, .tx = tx, .drive = drive};
    int err = tx->meta->ops->changes(tx, since, PAGE + 1, collect, p);
    ret->bodies = mem_calloc(p->n, sizeof *ret->bodies);
    for (size_t i = 0; i < p->n && err >= 0; i++) {
        CLEANUP_BUF struct buf b = {0};
        err = change_rows_put(&w, &p->rows[i], &b); /* 1: of a file without a name, nobody can be told which */
        if (err == 0)
            ret->bodies[ret->n++] = buf_detach(&b);
    }
    *ret_told = p->n == PAGE ? p->rows[PAGE - 1].seq : tx->drive.seq;
    return err < 0 ? err : 0;
}

/* Says one page of what there is; *ret_told is the seq up to which all is said then. 0; or a negative errno, and nothing is said. */
static int say_page(struct hub *h, const struct uuid *drive, uint64_t since, uint64_t *ret_told)
{
    struct meta *meta = h->app->meta;
    struct meta_tx *tx;
    char id[UUID_TEXT];
    CLEANUP(saying_fini) struct saying s = {.to.hub = h};
    int err = meta->ops->snapshot(meta, drive, &tx);
    if (err)
        return err;
    uuid_text(drive, id);
    err = read_page(h, tx, id, since, &s, ret_told);
    meta->ops->rollback(tx);
    if (!err)
        err = meta->ops->member_list(meta, drive, add_hearer, &s.to);
    if (err)
        return err;
    hub_post_delivery(h, TOPIC_FILE_CHANGES, drive, s.to.users.ids, s.to.users.n, s.bodies, s.n);
    s = (struct saying){0};
    return 0;
}

/* The one whose content stayed; false where that cannot be told any more. */
static bool other_writer(struct meta_tx *tx, const struct conflict *c, struct uuid *ret)
{
    struct entry_row e;
    struct attr a;
    struct version_row v;
    const struct meta_ops *ops = tx->meta->ops;
    uint64_t ino = c->ino;
    if (!ino && ops->entry(tx, c->of_parent, c->of_name, 0, &e) == 0)
        ino = e.ino;
    if (!ino || ops->inode(tx, ino, 0, &a) || ops->version(tx, ino, a.version, &v))
        return false;
    *ret = v.user;
    return true;
}

static void say_conflict(struct hub *h, const struct uuid *drive, const struct conflict *c)
{
    struct meta_tx *tx;
    struct uuid other;
    char id[UUID_TEXT], at[CLOCK_TEXT];
    CLEANUP_BUF struct buf path = {0};
    if (h->app->meta->ops->snapshot(h->app->meta, drive, &tx))
        return;
    if (path_of_name(tx, c->parent, c->name, c->seq, &path))
        buf_appendf(&path, "/%s", c->name); /* of a directory that has no name any more */
    bool two = other_writer(tx, c, &other) && !uuid_equal(&other, &c->user);
    h->app->meta->ops->rollback(tx);
    uuid_text(drive, id);
    clock_format_rfc3339(c->at, at);
    json_t *message = json_pack("{sssssIss}", "kind", "conflict", "drive", id, "seq", (json_int_t)c->seq, "at", at);
    jsonx_set_bytes(message, "path", path.data, path.len);
    if (two)
        hub_notify_user(h, &other, json_incref(message));
    hub_notify_user(h, &c->user, message);
}

/* Under lock: nobody has anything more to do with it. What could not be read is tried again, by a round, or where there are none with the next commit. */
static bool over(const struct feed *f)
{
    bool owed = f->failed && !f->hub->remote;
    return !f->running && !f->watched && !f->wanted && !owed && f->until < clock_boot_ms();
}

static void feed_free(struct feed *f)
{
    HASH_DEL(f->hub->feeds, f);
    free(f);
}

struct task { /* what is to be said next */
    bool placed, look;
    uint64_t since, to;
    struct conflict *conflicts;
};

/* False: nothing; the feed may be gone. */
static bool feed_take(struct feed *f, struct task *ret)
{
    struct hub *h = f->hub;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    *ret = (struct task){.placed = f->placed, .look = f->look, .since = f->told, .to = f->to, .conflicts = f->conflicts};
    f->conflicts = NULL;
    f->look = false;
    if ((f->placed && f->told < f->to) || ret->look || ret->conflicts)
        return true;
    f->running = false;
    if (over(f))
        feed_free(f);
    return false;
}

/* How far the drive is, now. Those who wait for it are told, wherever it was changed. */
static int look_at(struct hub *h, const struct uuid *drive, struct task *t)
{
    struct drive_row d;
    int err = h->app->meta->ops->drive_by_id(h->app->meta, drive, &d);
    if (err)
        return err;
    waits_moved(h, drive, d.seq);
    if (!t->placed || d.seq < t->since) /* nothing was told yet; or it was restored to an earlier state */
        t->since = d.seq;
    t->to = d.seq;
    return 0;
}

/* Says what is to be said; *ret_told is how far. */
static int feed_say(struct feed *f, struct task *t, uint64_t *ret_told)
{
    struct hub *h = f->hub;
    int err = t->look ? look_at(h, &f->drive, t) : 0;
    *ret_told = t->since;
    if (err || t->since >= t->to)
        return err;
    if (h->subscribers[TOPIC_FILE_CHANGES])
        return say_page(h, &f->drive, t->since, ret_told);
    *ret_told = t->to;
    return 0;
}

/* Under lock. What was told, and how far the feed is with it. */
static void feed_told(struct feed *f, const struct task *t, uint64_t told)
{
    if (!t->placed && f->placed) { /* a commit gave it a place while it was looked for: from the earlier of both on, it is still to be said */
        f->told = told < f->told ? told : f->told;
        f->to = f->to > t->to ? f->to : t->to;
        return;
    }
    f->placed = true;
    f->told = told;
    if (f->to <= t->to)
        f->to = told > t->since ? t->to : told; /* the log does not go so far: it was restored to an earlier state */
}

static void feed_run(void *arg)
{
    struct feed *f = arg;
    struct hub *h = f->hub;
    struct conflict *c, *next;
    struct task t;
    while (feed_take(f, &t)) {
        uint64_t told;
        int err = feed_say(f, &t, &told);
        LL_FOREACH_SAFE(t.conflicts, c, next) {
            say_conflict(h, &f->drive, c);
            free(c);
        }
        if (err)
            log_warn("changes after %llu could not be told to subscribers: %s", (unsigned long long)t.since, strerror(-err));
        pthread_mutex_lock(&h->lock);
        if (!err && (t.placed || t.look))
            feed_told(f, &t, told);
        else if (err && f->to <= t.to)
            f->to = f->told; /* its place stays */
        if (t.look || t.since < t.to) /* else it was for conflicts alone */
            f->failed = err != 0;
        pthread_mutex_unlock(&h->lock);
    }
}

/* ---- what happens at other gateways ---- */

/* Asks for messages, or no longer, as the feed needs them. Outside of the lock; the feed stays as long as `wanted` is set, which one caller sets. */
static void ask_for_messages(struct hub *h, const struct uuid *drive)
{
    struct feed *f;
    pthread_mutex_lock(&h->lock);
    HASH_FIND(hh, h->feeds, drive, sizeof *drive, f);
    bool ask = f && !f->wanted && h->remote;
    if (ask)
        f->wanted = true;
    pthread_mutex_unlock(&h->lock);
    if (!ask)
        return;
    remote_want_drive(h, drive, true);
    feed_moved(h, drive, UINT64_MAX); /* finds its place now, not when the broker answers */
}

void feed_watch(struct hub *h, const struct drive_row *drive)
{
    pthread_mutex_lock(&h->lock);
    struct feed *f = feed_get(h, &drive->id);
    f->watched++;
    if (!f->placed)
        f->told = f->to = drive->seq;
    f->placed = true;
    pthread_mutex_unlock(&h->lock);
    ask_for_messages(h, &drive->id);
}

void feed_unwatch(struct hub *h, const struct uuid *drive)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    feed_get(h, drive)->watched--;
}

void feed_watch_for(struct hub *h, const struct uuid *drive, unsigned ms)
{
    int64_t until = clock_boot_ms() + ms;
    if (!h->remote)
        return;
    pthread_mutex_lock(&h->lock);
    struct feed *f = feed_get(h, drive);
    f->until = f->until > until ? f->until : until;
    pthread_mutex_unlock(&h->lock);
    ask_for_messages(h, drive);
}

void feed_moved(struct hub *h, const struct uuid *drive, uint64_t seq)
{
    struct feed *f;
    bool fresh = false;
    if (seq != UINT64_MAX)
        waits_moved(h, drive, seq);
    pthread_mutex_lock(&h->lock);
    HASH_FIND(hh, h->feeds, drive, sizeof *drive, f);
    if (f && (!f->placed || seq > f->told)) {
        if (seq == UINT64_MAX || !f->placed)
            f->look = true;
        else
            f->to = f->to > seq ? f->to : seq;
        fresh = start(f);
    }
    pthread_mutex_unlock(&h->lock);
    if (fresh)
        hand_over(f);
}

#define FORGET_AT_ONCE 200

/* Some that nobody watches any more and that messages are asked for. */
static size_t take_unwatched(struct hub *h, struct uuid ret[FORGET_AT_ONCE])
{
    struct feed *f, *next;
    size_t n = 0;
    int64_t now = clock_boot_ms();
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    HASH_ITER(hh, h->feeds, f, next) {
        if (n == FORGET_AT_ONCE)
            break;
        if (!f->wanted || f->watched || f->until >= now)
            continue;
        ret[n++] = f->drive;
        f->wanted = false;
        if (over(f))
            feed_free(f);
    }
    return n;
}

void feeds_forget(struct hub *h)
{
    struct uuid drives[FORGET_AT_ONCE];
    size_t n;
    do {
        n = take_unwatched(h, drives);
        for (size_t i = 0; i < n; i++)
            remote_want_drive(h, &drives[i], false);
    } while (n == FORGET_AT_ONCE);
}

void feeds_look(struct hub *h, unsigned most, bool all)
{
    struct feed *f, *next;
    unsigned n = 0;
    int64_t now = clock_boot_ms();
    CLEANUP_FREE struct uuid *drives = mem_calloc(most, sizeof *drives);
    pthread_mutex_lock(&h->lock);
    HASH_ITER(hh, h->feeds, f, next) {
        if (n == most)
            break;
        if (!f->wanted || f->looked == now || !(all || f->failed))
            continue;
        drives[n++] = f->drive;
        f->looked = now;
        HASH_DEL(h->feeds, f); /* to the end: the next round begins with others */
        HASH_ADD(hh, h->feeds, drive, sizeof f->drive, f);
    }
    pthread_mutex_unlock(&h->lock);
    for (unsigned i = 0; i < n; i++)
        feed_moved(h, &drives[i], UINT64_MAX);
}

void feeds_free(struct hub *h)
{
    struct feed *f, *next;
    struct conflict *c, *tmp;
    HASH_ITER(hh, h->feeds, f, next) {
        LL_FOREACH_SAFE(f->conflicts, c, tmp)
            free(c);
        HASH_DEL(h->feeds, f);
        free(f);
    }
}
