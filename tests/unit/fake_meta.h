/* A metadata store with nothing but transactions on drives, over fake_store.h; failures on request. */
#ifndef CAIRN_TESTS_FAKE_META_H
#define CAIRN_TESTS_FAKE_META_H
#include "fake_store.h"

#include <stdatomic.h>

#define FAKE_DRIVES 4

struct fake_drive {
    struct fake_store store;
    atomic_bool locked; /* a queue never has two transactions of one drive at once */
};
struct fake_meta {
    struct meta meta;
    struct fake_drive drives[FAKE_DRIVES]; /* the drive's number is the first byte of its id */
    int64_t now;
    atomic_uint begun, committed, lazy; /* lazy: of the committed */
    int fail_begin, fail_commit; /* the errno, for as many times as: */
    unsigned fail_times;
};
struct fake_tx {
    struct meta_tx tx;
    struct fake_drive *drive;
    struct fake_store next;
};

static inline bool fake_fails(struct fake_meta *f, int err)
{
    if (!err || !f->fail_times)
        return false;
    f->fail_times--;
    return true;
}

static inline int fake_begin(struct meta *m, const struct uuid *drive, struct meta_tx **ret)
{
    struct fake_meta *f = (struct fake_meta *)m;
    atomic_fetch_add(&f->begun, 1);
    if (fake_fails(f, f->fail_begin))
        return f->fail_begin;
    if (drive->b[0] >= FAKE_DRIVES)
        return -ENOENT;
    struct fake_tx *tx = mem_alloc(sizeof *tx);
    tx->drive = &f->drives[drive->b[0]];
    if (atomic_exchange(&tx->drive->locked, true))
        abort();
    fake_copy(&tx->next, &tx->drive->store);
    tx->tx = (struct meta_tx){.meta = m, .drive = tx->next.drive, .now = f->now, .writing = true};
    *ret = &tx->tx;
    return 0;
}
static inline int fake_tx_load(struct meta_tx *tx, struct rows *r)
{
    fake_load(&((struct fake_tx *)tx)->next, r);
    return 0;
}
static inline int fake_tx_store(struct meta_tx *tx, struct rows *r)
{
    fake_save(&((struct fake_tx *)tx)->next, r);
    return 0;
}
static inline void fake_end(struct fake_tx *tx)
{
    fake_fini(&tx->next);
    atomic_store(&tx->drive->locked, false);
    free(tx);
}
static inline void fake_rollback(struct meta_tx *tx)
{
    fake_end((struct fake_tx *)tx);
}
static inline int fake_commit(struct meta_tx *tx)
{
    struct fake_tx *t = (struct fake_tx *)tx;
    struct fake_meta *f = (struct fake_meta *)tx->meta;
    if (fake_fails(f, f->fail_commit)) {
        fake_end(t);
        return f->fail_commit;
    }
    struct fake_store was = t->drive->store;
    t->drive->store = t->next;
    t->next = was;
    atomic_fetch_add(&f->committed, 1);
    atomic_fetch_add(&f->lazy, tx->lazy);
    fake_end(t);
    return 0;
}

static inline void fake_meta_init(struct fake_meta *f)
{
    static const struct meta_ops ops = {
        .begin = fake_begin, .load = fake_tx_load, .store = fake_tx_store, .commit = fake_commit, .rollback = fake_rollback};
    memset(f, 0, sizeof *f);
    f->meta.ops = &ops;
    f->now = FAKE_NOW;
    for (int i = 0; i < FAKE_DRIVES; i++)
        fake_init(&f->drives[i].store);
}
static inline void fake_meta_fini(struct fake_meta *f)
{
    for (int i = 0; i < FAKE_DRIVES; i++)
        fake_fini(&f->drives[i].store);
}
#endif
