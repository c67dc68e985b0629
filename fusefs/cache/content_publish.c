/* The commit of what is dirty: chunks that the gateway lacks, then one batch, then what the answer means. */
#include "fusefs/cache/content_internal.h"

#include <fcntl.h>

#define TORN_TRIES 5
#define MISSING_TRIES 5

struct commit { /* one call of content_commit */
    const struct op *extra;
    size_t n_extra;
    struct op_result *ret_extra, *ret_commit;
    unsigned torn, missing, flags;
};

/* Results of operations that nobody asked for are ended here. */
static void hand_over(struct op_result *from, struct op_result *to)
{
    if (to) {
        op_result_fini(to);
        *to = *from;
    } else {
        op_result_fini(from);
    }
}

static int run(struct content *c, struct commit *k, const struct snapshot *sn, struct op_result *ret)
{
    size_t n = k->n_extra + (sn ? 1 : 0), riding = 0;
    CLEANUP_FREE struct op *ops = mem_calloc(n, sizeof *ops); /* the extra ones are borrowed */
    CLEANUP_FREE struct op_result *res = mem_calloc(n, sizeof *res);
    if (k->n_extra)
        memcpy(ops, k->extra, k->n_extra * sizeof *ops);
    struct op *commit = NULL;
    CLEANUP_FREE struct remote_inline *contents = mem_calloc(sn && sn->n ? sn->n : 1, sizeof *contents); /* borrowed likewise */
    if (sn) {
        commit = &ops[k->n_extra];
        snapshot_to_op(c, sn, commit);
        for (size_t i = 0; i < sn->n; i++)
            if (sn->items[i].up.rides)
                contents[riding++] = sn->items[i].up.content;
    }
    int err = opqueue_run(c->store->cfg.ops, ops, n, contents, riding, res);
    if (commit)
        op_fini(commit);
    for (size_t i = 0; i < k->n_extra; i++)
        hand_over(&res[i], k->ret_extra ? &k->ret_extra[i] : NULL);
    if (sn)
        *ret = res[k->n_extra];
    if (!err)
        k->n_extra = 0; /* answered, one way or the other: never sent again */
    return err;
}

/* The gateway lacks chunks that it was thought to have. */
static void forget_stored(struct content *c, const struct op_result *res)
{
    content_lock(c);
    for (uint64_t i = 0; i < c->n_chunks; i++) {
        struct chunk *ch = &c->chunks[i];
        for (size_t k = 0; ch->stored && (ch->flags & CHUNK_PRESENT) && k < res->n_missing; k++)
            if (hash_equal(&ch->stored->hash, &res->missing[k])) {
                free(ch->stored);
                ch->stored = NULL;
                chunk_account(c, i);
            }
    }
    pthread_mutex_unlock(&c->lock);
}

/* 0: done. -EAGAIN: again. */
static int answered(struct content *c, struct commit *k, struct snapshot *sn, struct op_result *res)
{
    content_lock(c);
    if (res->error == 0) {
        int err = snapshot_committed(c, sn, res->version, res->ino);
        pthread_mutex_unlock(&c->lock);
        if (err)
            log_warn("the journal of inode %llu: %s", (unsigned long long)c->key.ino, strerror(-err));
        hand_over(res, k->ret_commit);
        return 0;
    }
    snapshot_undo(c, sn);
    pthread_mutex_unlock(&c->lock);
    int err = res->error;
    if (err == -ENODATA && k->missing++ < MISSING_TRIES) {
        forget_stored(c, res);
        k->flags = UPLOAD_FORCE;
        err = -EAGAIN;
    } else if (err == -ESTALE && sn->since.append) {
        err = content_rebase(c);
        if (!err)
            err = -EAGAIN;
    } else if (err == -ECANCELED) { /* one of the extra operations failed; the content is not to suffer for it */
        err = -EAGAIN;
    } else {
        hand_over(res, k->ret_commit);
        return err == -EAGAIN ? -EIO : err;
    }
    op_result_fini(res);
    return err;
}

/* It may have happened or yet happen: until that is known, `since` tells only of what came after the snapshot. */
static void unanswered(struct content *c, struct snapshot *sn)
{
    content_lock(c);
    c->unsure = sn;
    pthread_mutex_unlock(&c->lock);
}

static int try_commit(struct content *c, struct commit *k)
{
    content_lock(c);
    bool ask = c->dirty && (c->unsure || c->recovered);
    pthread_mutex_unlock(&c->lock);
    int err = ask ? content_settle(c) : 0;
    if (err)
        return err;
    content_lock(c);
    struct snapshot *sn = c->dirty ? snapshot_take(c) : NULL;
    c->committing = sn != NULL;
    pthread_mutex_unlock(&c->lock);
    if (!sn)
        return k->n_extra ? run(c, k, NULL, NULL) : 0;
    err = content_send_all(c, sn, k->flags, c->store->cfg.timeout_ms);
    if (err) {
        content_lock(c);
        snapshot_undo(c, sn);
        pthread_mutex_unlock(&c->lock);
        snapshot_free(sn);
        return err == -EAGAIN && k->torn++ >= TORN_TRIES ? -EIO : err;
    }
    struct op_result res = {0};
    err = run(c, k, sn, &res);
    if (err) {
        op_result_fini(&res);
        unanswered(c, sn);
        return err;
    }
    err = answered(c, k, sn, &res);
    snapshot_free(sn);
    return err;
}

int content_commit(struct content *c, const struct op *extra, size_t n_extra, struct op_result *ret_extra, struct op_result *ret_commit,
                   bool last)
{
    if (ret_extra)
        memset(ret_extra, 0, n_extra * sizeof *ret_extra);
    if (ret_commit)
        *ret_commit = (struct op_result){0};
    struct commit k = {.extra = extra, .n_extra = n_extra, .ret_extra = ret_extra, .ret_commit = ret_commit};
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->publishing);
    /* An append that comes too late comes again: each time somebody else's has gone through, so this is bounded by time, not by a count. */
    int64_t until = clock_boot_ms() + c->store->cfg.timeout_ms;
    int err;
    do
        err = try_commit(c, &k);
    while (err == -EAGAIN && clock_boot_ms() < until);
    content_lock(c);
    c->committing = false;
    if (last && !c->dirty)
        c->replaces = 0;
    pthread_mutex_unlock(&c->lock);
    return err == -EAGAIN || err == -EHOSTUNREACH || err == -EPROTO ? -EIO : err;
}

/* On the local disk for certain: what write-back promises before it has told the gateway. */
static int make_durable(struct content *c)
{
    int fd = backing_get(c);
    if (fd < 0)
        return fd;
    int err = fdatasync(fd) ? -errno : 0;
    backing_put(c);
    return err ? err : journal_sync(c->store->journal);
}

int content_publish(struct content *c, const struct op *extra, size_t n_extra, struct op_result *ret_extra,
                    struct op_result *ret_commit, bool last)
{
    atomic_store(&c->nameless, false);
    if (!c->store->cfg.writeback)
        return content_commit(c, extra, n_extra, ret_extra, ret_commit, last);
    if (ret_extra)
        memset(ret_extra, 0, n_extra * sizeof *ret_extra);
    if (ret_commit)
        *ret_commit = (struct op_result){0};
    bool dirty;
    content_stat(c, NULL, NULL, &dirty);
    int err = dirty ? make_durable(c) : 0;
    if (!err && (dirty || n_extra))
        store_publish_later(c, extra, n_extra, last);
    return err;
}
