/* Sessions of mounts: begun by POST mount, kept while a stream is there, ended with their locks.

   They live in memory. A gateway that was restarted learns of them when they speak again; those of which the database has locks
   but which stay silent are ended as well. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/api/streams_internal.h"

#include <errno.h>
#include <string.h>

#define SESSION_TICK_MS 1000

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

void streams_session_begin(struct streams *s, const struct uuid *id, const struct uuid *drive, const struct principal *who)
{
    pthread_mutex_lock(&s->lock);
    add(s, id, drive, who);
    pthread_mutex_unlock(&s->lock);
    http_server_post(s->app->server, watch_on_loop, s);
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

int streams_session_use(struct streams *s, const struct uuid *id, const struct uuid *drive, const struct principal *who, bool locks)
{
    struct mount *n;
    bool fresh;
    pthread_mutex_lock(&s->lock);
    int err = use(s, id, drive, who, &n, &fresh);
    if (err == 0)
        n->locks |= locks;
    pthread_mutex_unlock(&s->lock);
    if (fresh)
        http_server_post(s->app->server, watch_on_loop, s);
    return err;
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
    st->fresh = n->fresh;
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

static void released(struct drive_work *w)
{
    if (w->error < 0 && w->error != -ENOENT)
        log_warn("locks of a lost session could not be released: %s", strerror(-w->error));
    free(w->ops);
    free(w->results);
    free(w);
}

static void release_locks(struct streams *s, const struct uuid *session, const struct uuid *drive)
{
    struct drive_work *w = mem_alloc(sizeof *w);
    w->drive = *drive;
    w->actor.session = *session;
    w->ops = mem_alloc(sizeof *w->ops);
    w->ops->kind = OP_LOCK_RELEASE_ALL;
    w->n_ops = 1;
    w->results = mem_alloc(sizeof *w->results);
    w->done = released;
    drive_queues_submit(s->app->queues, w);
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
    if (n->locks)
        release_locks(s, &n->id, &n->drive);
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
        if (lost[i]->locks)
            release_locks(s, &lost[i]->id, &lost[i]->drive);
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
    int err = s->app->meta->ops->lock_sessions(s->app->meta, found_in_store, s);
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
