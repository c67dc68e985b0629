/* Changes of drives on their way to subscribers. The queue's worker only notes how far a drive has come; another one reads its log from there on,
   finds out paths and who may hear of them, and hands the messages to the loop: per drive one at a time, so that their order stays. */
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/pool.h"
#include "gateway/api/change_rows.h"
#include "gateway/api/hub.h"

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
    uint64_t told, to; /* what came after `told`, up to `to`, is still to be said */
    struct conflict *conflicts;
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

void feed_committed(struct hub *h, const struct uuid *drive, const struct drive_work *works)
{
    struct conflict *conflicts = conflicts_of(works);
    uint64_t first = 0, last = 0;
    for (const struct drive_work *w = works; w; w = w->next)
        if (w->error == 0 && w->first_seq) {
            first = first && first < w->first_seq ? first : w->first_seq;
            last = last > w->last_seq ? last : w->last_seq;
        }
    bool said = last && h->subscribers[TOPIC_FILE_CHANGES];
    if (!said && !conflicts)
        return;
    struct feed *f;
    pthread_mutex_lock(&h->lock);
    HASH_FIND(hh, h->feeds, drive, sizeof *drive, f);
    bool fresh = !f;
    if (fresh) {
        f = mem_alloc(sizeof *f);
        f->drive = *drive;
        f->hub = h;
        HASH_ADD(hh, h->feeds, drive, sizeof f->drive, f);
    }
    LL_CONCAT(f->conflicts, conflicts);
    if (said) {
        if (f->to == f->told)
            f->told = first - 1;
        f->to = last;
    }
    pthread_mutex_unlock(&h->lock);
    if (fresh)
        pool_run(http_server_pool(h->app->server), feed_run, f);
}

/* ---- another worker ---- */

struct page {
    struct change_row rows[PAGE];
    size_t n;
    uint64_t to;
};

static int collect(void *ctx, const struct change_row *row)
{
    struct page *p = ctx;
    if (p->n == PAGE || row->seq > p->to)
        return 1;
    p->rows[p->n] = *row;
    p->rows[p->n++].touch = NULL; /* the log's, not needed here */
    return 0;
}

/* Of those who listen, those who may see the drive. */
static struct uuid *listeners(struct hub *h, const struct uuid *drive, size_t *ret_n)
{
    size_t n, kept = 0;
    struct meta *meta = h->app->meta;
    struct uuid *users = hub_users(h, TOPIC_FILE_CHANGES, &n);
    for (size_t i = 0; i < n; i++) {
        enum role role = ROLE_NONE;
        if (meta->ops->member_role(meta, drive, &users[i], &role) == 0 && role >= ROLE_VIEWER)
            users[kept++] = users[i];
    }
    *ret_n = kept;
    return users;
}

/* Says one page; returns the seq up to which all is said, 0 where the drive cannot be read. */
static uint64_t say_page(struct hub *h, const struct uuid *drive, uint64_t since, uint64_t to)
{
    struct meta *meta = h->app->meta;
    struct meta_tx *tx;
    char id[UUID_TEXT];
    size_t n_users, n = 0;
    if (meta->ops->snapshot(meta, drive, &tx))
        return 0;
    uuid_text(drive, id);
    CLEANUP_FREE struct page *p = mem_alloc(sizeof *p);
    p->to = to;
    CLEANUP(change_rows_fini) struct change_rows w = {.app = h->app, .tx = tx, .drive = id};
    int err = meta->ops->changes(tx, since, PAGE + 1, collect, p);
    char **bodies = mem_calloc(p->n, sizeof *bodies);
    for (size_t i = 0; i < p->n; i++) {
        struct buf b = {0};
        if (change_rows_put(&w, &p->rows[i], &b) == 0)
            bodies[n++] = buf_detach(&b);
        else
            buf_fini(&b);
    }
    meta->ops->rollback(tx);
    struct uuid *users = listeners(h, drive, &n_users);
    hub_post_delivery(h, TOPIC_FILE_CHANGES, drive, users, n_users, bodies, n);
    if (err < 0)
        return 0;
    return p->n == PAGE ? p->rows[PAGE - 1].seq : to;
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
    access_path_of(tx, c->parent, c->seq, &path);
    if (path.len == 0 || path.data[path.len - 1] != '/')
        buf_append(&path, "/", 1);
    buf_append_str(&path, c->name);
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

/* What is to be said next; false: nothing, and the feed is gone. */
static bool feed_take(struct feed *f, uint64_t *ret_since, uint64_t *ret_to, struct conflict **ret_conflicts)
{
    struct hub *h = f->hub;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&h->lock);
    *ret_since = f->told;
    *ret_to = f->to;
    *ret_conflicts = f->conflicts;
    f->conflicts = NULL;
    if (f->told < f->to || *ret_conflicts)
        return true;
    HASH_DEL(h->feeds, f);
    free(f);
    return false;
}

static void feed_run(void *arg)
{
    struct feed *f = arg;
    struct hub *h = f->hub;
    struct conflict *conflicts, *c, *next;
    uint64_t since, to;
    while (feed_take(f, &since, &to, &conflicts)) {
        uint64_t told = since < to ? say_page(h, &f->drive, since, to) : to;
        LL_FOREACH_SAFE(conflicts, c, next) {
            say_conflict(h, &f->drive, c);
            free(c);
        }
        if (told == 0 && since < to)
            log_warn("changes %llu to %llu could not be told to subscribers", (unsigned long long)since + 1, (unsigned long long)to);
        pthread_mutex_lock(&h->lock);
        f->told = told ? told : to;
        pthread_mutex_unlock(&h->lock);
    }
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
