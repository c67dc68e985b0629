/* Sessions of mounts: begun by POST mount, kept while a stream is there, ended with their locks.

   They live in memory. A gateway that was restarted learns of them when they speak again; those of which the database has locks
   but which stay silent are ended as well.

   Where several gateways share the store, each session has a row there as well, which says who answers for it: the gateway that had its last stream. Requests may come to any gateway,
   which then remembers the session for a moment as a foreign one. Whoever ends a session looks at its row under the drive's lock, so that one that has moved meanwhile keeps what it has. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/api/streams_internal.h"

#include <errno.h>
#include <string.h>

#define SESSION_TICK_MS 1000
#define SESSION_RETRY_MS 5000 /* where the store could not be told of its end */

static struct mount *find(struct streams *s, const struct uuid *id)
{
    struct mount *found;
    HASH_FIND(hh, s->mounts, id, sizeof *id, found);
    return found;
}

static struct mount *add(struct streams *s, const struct uuid *id, const struct uuid *drive, const struct principal *who)
{
    struct mount *n = mem_alloc(sizeof *n);
    n->id = *id;
    n->drive = *drive;
    n->gone_since = clock_boot_ms();
    if (who) {
        n->user = who->user;
        memcpy(n->user_name, who->name, sizeof n->user_name);
        memcpy(n->device, who->device, sizeof n->device);
    }
    HASH_ADD(hh, s->mounts, id, sizeof n->id, n);
    return n;
}

static void watch_on_loop(void *arg)
{
    mounts_watch(arg);
}

static int row_put(struct streams *s, const struct uuid *drive, const struct uuid *session, const struct uuid *user, const struct uuid *gateway)
{
    const struct mount_row row = {.drive = *drive, .session = *session, .user = *user, .gateway = *gateway};
    return s->app->meta->ops->mount_put(s->app->meta, &row);
}

int streams_session_begin(struct streams *s, const struct uuid *id, const struct uuid *drive, const struct principal *who)
{
    int err = s->shared ? row_put(s, drive, id, &who->user, &s->app->gateway) : 0;
    if (err)
        return err;
    pthread_mutex_lock(&s->lock);
    add(s, id, drive, who);
    pthread_mutex_unlock(&s->lock);
    http_server_post(s->app->server, watch_on_loop, s);
    return 0;
}

/* Under lock. A session found in the database is nobody's until somebody claims it. */
static int use(struct streams *s, const struct uuid *id, const struct uuid *drive, const struct principal *who, struct mount **ret, bool *ret_new)
{
    struct mount *n = find(s, id);
    *ret_new = !n;
    if (!n) {
        n = add(s, id, drive, who);
        n->locks = true; /* for all we know */
        n->fresh = true;
    } else if (uuid_is_zero(&n->user) && uuid_equal(&n->drive, drive)) {
        n->user = who->user;
        memcpy(n->user_name, who->name, sizeof n->user_name);
        memcpy(n->device, who->device, sizeof n->device);
    }
    *ret = n;
    return uuid_equal(&n->user, &who->user) && uuid_equal(&n->drive, drive) ? 0 : -EACCES;
}

/* One that this gateway does not know may be another's. *ret_foreign: it is, or it has ended. */
static int look_up(struct streams *s, const struct uuid *id, const struct uuid *drive, const struct principal *who, bool *ret_foreign)
{
    struct mount_row row;
    pthread_mutex_lock(&s->lock);
    bool known = !s->shared || find(s, id);
    pthread_mutex_unlock(&s->lock);
    *ret_foreign = false;
    if (known)
        return 0;
    int err = s->app->meta->ops->mount_get(s->app->meta, drive, id, &row);
    if (err && err != -ENOENT)
        return err;
    *ret_foreign = err || !uuid_equal(&row.gateway, &s->app->gateway);
    return !err && !uuid_equal(&row.user, &who->user) ? -EACCES : 0;
}

int streams_session_use(struct streams *s, const struct uuid *id, const struct uuid *drive, const struct principal *who, bool locks)
{
    struct mount *n;
    bool fresh, foreign;
    int err = look_up(s, id, drive, who, &foreign);
    if (err)
        return err;
    pthread_mutex_lock(&s->lock);
    err = use(s, id, drive, who, &n, &fresh);
    if (err == 0)
        n->locks |= locks;
    if (fresh)
        n->foreign = foreign;
    pthread_mutex_unlock(&s->lock);
    if (fresh)
        http_server_post(s->app->server, watch_on_loop, s);
    return err;
}

int streams_session_locks(struct streams *s, struct meta_tx *tx, const struct uuid *id, const struct uuid *user)
{
    static const struct uuid nobody;
    struct mount_row row;
    int err = s->shared ? s->app->meta->ops->mount_get(s->app->meta, &tx->drive.id, id, &row) : 0;
    return err == -ENOENT ? row_put(s, &tx->drive.id, id, user, &nobody) : err;
}

int mount_claim(struct streams *s, struct meta_tx *tx, const struct uuid *session, const struct uuid *user, bool *ret_fresh)
{
    struct mount_row row;
    int err = s->app->meta->ops->mount_get(s->app->meta, &tx->drive.id, session, &row);
    if (err && err != -ENOENT)
        return err;
    if (!err && !uuid_equal(&row.user, user))
        return -EACCES;
    *ret_fresh = err || uuid_is_zero(&row.gateway);
    return row_put(s, &tx->drive.id, session, user, &s->app->gateway);
}

int mount_attach(struct streams *s, struct stream *st, struct stream **ret_old)
{
    struct mount *n;
    bool fresh;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    *ret_old = NULL;
    int err = use(s, &st->session, &st->drive, &st->who, &n, &fresh);
    if (err)
        return err;
    *ret_old = n->stream;
    n->stream = st;
    n->foreign = false;
    st->fresh = n->fresh && !s->shared; /* else mount_claim knows */
    n->fresh = false;
    n->gone_since = 0;
    return 0;
}

void mount_detach(struct streams *s, struct stream *st)
{
    pthread_mutex_lock(&s->lock);
    struct mount *n = find(s, &st->session);
    bool gone = n && n->stream == st;
    if (gone) {
        n->stream = NULL;
        n->gone_since = clock_boot_ms();
    }
    pthread_mutex_unlock(&s->lock);
    if (gone)
        mounts_watch(s);
}

/* ---- the end ---- */

enum why { END_TOLD, END_LOST, END_ORPHAN };

struct ending_work {
    struct drive_work work; /* first */
    struct streams *streams;
    enum why why;
    struct op op;
    struct op_result result;
};

/* Whether it still is to end. */
static int ending_prepare(struct drive_work *w, struct meta_tx *tx)
{
    const struct ending_work *e = w->ctx;
    const struct app *app = e->streams->app;
    struct mount_row row;
    if (!e->streams->shared || e->why == END_TOLD)
        return 0;
    int err = app->meta->ops->mount_get(app->meta, &tx->drive.id, &w->actor.session, &row);
    if (err)
        return err == -ENOENT ? 1 : err;
    bool ends = e->why == END_LOST ? uuid_equal(&row.gateway, &app->gateway) : row.silent >= ORPHAN_MS * INT64_C(1000000);
    return ends ? 0 : 1;
}

static int ending_conclude(struct drive_work *w, struct meta_tx *tx)
{
    const struct ending_work *e = w->ctx;
    struct meta *m = tx->meta;
    int err = e->streams->shared ? m->ops->mount_drop(m, &tx->drive.id, &w->actor.session) : 0;
    return err == -ENOENT ? 0 : err;
}

static void ended(struct drive_work *w)
{
    struct ending_work *e = w->ctx;
    struct streams *s = e->streams;
    if (w->error < 0 && w->error != -ENOENT) {
        log_warn("locks of a lost session could not be released: %s", strerror(-w->error));
        pthread_mutex_lock(&s->lock);
        bool again = e->why != END_ORPHAN && !find(s, &w->actor.session); /* orphans are found again */
        if (again) {
            struct mount *n = add(s, &w->actor.session, &w->drive, NULL);
            n->locks = true;
            n->gone_since -= SESSION_LOST_MS - SESSION_RETRY_MS;
        }
        pthread_mutex_unlock(&s->lock);
        if (again)
            http_server_post(s->app->server, watch_on_loop, s);
    }
    free(e);
}

static void end_in_store(struct streams *s, const struct uuid *session, const struct uuid *drive, enum why why)
{
    struct ending_work *e = mem_alloc(sizeof *e);
    e->streams = s;
    e->why = why;
    e->op.kind = OP_LOCK_RELEASE_ALL;
    e->work = (struct drive_work){.drive = *drive, .actor.session = *session, .ops = &e->op, .n_ops = 1, .results = &e->result,
                                  .prepare = ending_prepare, .conclude = ending_conclude, .done = ended, .ctx = e};
    drive_queues_submit(s->app->queues, &e->work);
}

void mount_end_orphan(struct streams *s, const struct mount_row *r)
{
    end_in_store(s, &r->session, &r->drive, END_ORPHAN);
}

/* Has something in the store that ends with it. */
static bool has_more(const struct streams *s, const struct mount *n)
{
    return s->shared || n->locks;
}

/* Out of the table, under lock. */
static void forget(struct streams *s, struct mount *n)
{
    HASH_DEL(s->mounts, n);
}

void mount_end(struct streams *s, const struct uuid *id)
{
    pthread_mutex_lock(&s->lock);
    struct mount *n = find(s, id);
    if (n)
        forget(s, n);
    pthread_mutex_unlock(&s->lock);
    if (!n)
        return;
    if (n->stream)
        stream_end(n->stream, true);
    if (has_more(s, n))
        end_in_store(s, &n->id, &n->drive, END_TOLD);
    free(n);
}

struct ending {
    struct streams *streams;
    struct uuid session;
};

static void end_on_loop(void *arg)
{
    struct ending *e = arg;
    mount_end(e->streams, &e->session);
    free(e);
}

void streams_session_end(struct streams *s, const struct uuid *id)
{
    struct ending *e = mem_alloc(sizeof *e);
    *e = (struct ending){s, *id};
    http_server_post(s->app->server, end_on_loop, e);
}

/* Those lost for too long, out of the table; tells whether any other is without a stream. */
static size_t take_lost(struct streams *s, struct mount ***ret, bool *ret_waiting)
{
    struct mount *n, *next;
    size_t taken = 0;
    int64_t now = clock_boot_ms();
    *ret = NULL;
    *ret_waiting = false;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    HASH_ITER(hh, s->mounts, n, next) {
        if (!n->gone_since)
            continue;
        if (now - n->gone_since < SESSION_LOST_MS) {
            *ret_waiting = true;
            continue;
        }
        forget(s, n);
        *ret = mem_realloc(*ret, (taken + 1) * sizeof **ret);
        (*ret)[taken++] = n;
    }
    return taken;
}

void mounts_tick(void *arg)
{
    struct streams *s = arg;
    struct mount **lost;
    bool waiting;
    size_t n = take_lost(s, &lost, &waiting);
    for (size_t i = 0; i < n; i++) {
        if (has_more(s, lost[i]) && !lost[i]->foreign)
            end_in_store(s, &lost[i]->id, &lost[i]->drive, END_LOST);
        free(lost[i]);
    }
    free(lost);
    s->session_ticking = waiting;
    if (waiting)
        http_server_timer(s->app->server, SESSION_TICK_MS, mounts_tick, s);
}

void mounts_watch(struct streams *s)
{
    if (s->session_ticking)
        return;
    s->session_ticking = true;
    http_server_timer(s->app->server, SESSION_TICK_MS, mounts_tick, s);
}

static int found_in_store(void *ctx, const struct uuid *drive, const struct uuid *session)
{
    struct streams *s = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    if (!find(s, session))
        add(s, session, drive, NULL)->locks = true;
    return 0;
}

void streams_start(struct streams *s)
{
    struct meta *m = s->app->meta;
    if (s->shared) {
        if (m->ops->gateway_heard(m, &s->app->gateway)) /* before any mount: one whose gateway was never heard is an orphan */
            log_warn("the metadata store does not know of this gateway yet");
        http_server_post(s->app->server, promises_start, s);
        return;
    }
    int err = m->ops->lock_sessions(m, found_in_store, s);
    if (err < 0)
        log_warn("sessions with locks could not be listed: %s", strerror(-err));
    http_server_post(s->app->server, watch_on_loop, s);
}

void mounts_free(struct streams *s)
{
    struct mount *n, *next;
    HASH_ITER(hh, s->mounts, n, next) {
        forget(s, n);
        free(n);
    }
}
