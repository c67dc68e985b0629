/* After a commit that got no answer, or a crash: it may have happened. If what the gateway has as newest is what was sent, then it did. */
#include "fusefs/cache/content_internal.h"

#include <fcntl.h>

/* Whatever was sent before this is answered when this is answered. */
static int pass_barrier(struct content *c)
{
    struct op op = {.kind = OP_LOCK, .ino = c->key.ino, .lock_type = F_RDLCK, .lock_end = UINT64_MAX >> 1, .lock_test = true};
    struct op_result res = {0};
    int err = opqueue_run(c->store->cfg.ops, &op, 1, NULL, 0, &res);
    op_result_fini(&res);
    return err;
}

static int read_newest(struct content *c, uint64_t first, uint64_t count, struct remote_read *ret)
{
    struct remote_want w = {.ino = c->key.ino, .first = first, .count = count};
    return content_read_map(c, &w, 0, c->store->cfg.timeout_ms, ret);
}

static bool same_ref(const struct chunk_ref *a, const struct chunk_ref *b)
{
    return hash_equal(&a->hash, &b->hash) && (a->len == b->len || hash_is_zero(&a->hash));
}

/* Is the newest version, from `first` on for a page, as the snapshot says? *ret_at moves on. */
static int compare_page(struct content *c, const struct snapshot *sn, size_t *ret_at, uint64_t *ret_version, bool *ret_same)
{
    uint64_t first = *ret_at < sn->n ? sn->items[*ret_at].n : 0;
    CLEANUP(remote_read_fini) struct remote_read rd = {0};
    int err = read_newest(c, first, *ret_at < sn->n ? MAP_PAGE : 0, &rd);
    if (err)
        return err;
    const struct remote_map *m = &rd.maps[0];
    *ret_same = m->size == sn->size && (m->version == *ret_version || *ret_version == 0) && (m->chunk_size == sn->chunk_size || sn->n == 0);
    *ret_version = m->version;
    size_t at = *ret_at;
    for (; *ret_same && at < sn->n && sn->items[at].n < first + m->n; at++)
        *ret_same = same_ref(&sn->items[at].up.ref, &m->chunks[sn->items[at].n - first]);
    if (*ret_same && at == *ret_at && at < sn->n)
        *ret_same = false; /* the answer was shorter than the file */
    *ret_at = at;
    return 0;
}

/* *ret_version: of the newest, if its content is that of the snapshot, else 0. */
static int compare(struct content *c, const struct snapshot *sn, uint64_t *ret_version)
{
    size_t at = 0;
    uint64_t version = 0;
    bool same = true;
    do {
        int err = compare_page(c, sn, &at, &version, &same);
        if (err)
            return err;
    } while (same && at < sn->n && version > sn->version);
    *ret_version = same && version > sn->version ? version : 0;
    return 0;
}

static int settle_recovered(struct content *c)
{
    content_lock(c);
    struct snapshot *sn = snapshot_take(c);
    pthread_mutex_unlock(&c->lock);
    int err = content_send_all(c, sn, UPLOAD_HASH_ONLY, 0);
    uint64_t version = 0;
    if (!err)
        err = compare(c, sn, &version);
    content_lock(c);
    if (!err && version)
        err = snapshot_committed(c, sn, version, 0);
    else
        snapshot_undo(c, sn);
    if (!err)
        c->recovered = false;
    pthread_mutex_unlock(&c->lock);
    snapshot_free(sn);
    return err;
}

int content_settle(struct content *c)
{
    content_lock(c);
    struct snapshot *sn = c->unsure;
    pthread_mutex_unlock(&c->lock);
    if (!sn)
        return settle_recovered(c);
    uint64_t version = 0;
    int err = pass_barrier(c);
    if (!err)
        err = compare(c, sn, &version);
    if (err)
        return err;
    content_lock(c);
    if (version)
        err = snapshot_committed(c, sn, version, 0);
    else
        snapshot_undo(c, sn);
    c->unsure = NULL;
    pthread_mutex_unlock(&c->lock);
    snapshot_free(sn);
    return err;
}
