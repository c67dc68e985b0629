/* Transactions on a drive. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>

static struct sqlite_tx *tx_new(struct meta *m, struct conn *c, const struct drive_row *d, bool writing)
{
    struct sqlite_tx *tx = mem_alloc(sizeof *tx);
    int64_t now = clock_wall_ns();
    tx->base = (struct meta_tx){.meta = m, .drive = *d, .now = now > d->last_time ? now : d->last_time, .writing = writing};
    tx->c = c;
    tx->stored_seq = d->seq;
    tx->stored_time = d->last_time;
    return tx;
}

int sqlite_begin(struct meta *m, const struct uuid *drive, struct meta_tx **ret)
{
    struct writer w = writer_begin(sqlite_of(m));
    struct drive_row d;
    if (w.joined)
        return -EDEADLK;
    int err = w.err ? w.err : sqlite_drive(w.c, drive, &d);
    if (err) {
        writer_end(&w);
        return err;
    }
    struct sqlite_tx *tx = tx_new(m, w.c, &d, true);
    if (m->shared && (err = sqlite_interests(w.c, &tx->base)) != 0) {
        sqlite_rollback(&tx->base);
        return err;
    }
    *ret = &tx->base;
    return 0;
}

int sqlite_snapshot(struct meta *m, const struct uuid *drive, struct meta_tx **ret)
{
    struct conn *c = reader_get(sqlite_of(m));
    struct drive_row d;
    int err = 0;
    if (!c || c != sqlite_of(m)->writer) { /* within its own writing transaction, a thread sees that */
        QUERY(q, c, "BEGIN");
        err = query_run(&q);
    }
    if (!err)
        err = sqlite_drive(c, drive, &d); /* the first read: the snapshot is of now */
    if (err) {
        if (c && c != sqlite_of(m)->writer) {
            QUERY(q, c, "COMMIT");
            query_run(&q);
        }
        reader_put(&c);
        return err;
    }
    *ret = &tx_new(m, c, &d, false)->base;
    return 0;
}

int sqlite_snapshot_entry(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, struct meta_tx **ret, struct entry_row *ret_entry)
{
    *ret_entry = (struct entry_row){0};
    int err = sqlite_snapshot(m, drive, ret);
    if (err)
        return err;
    err = sqlite_entry(*ret, parent, name, 0, ret_entry);
    if (err == 0 || err == -ENOENT)
        return 0;
    sqlite_rollback(*ret);
    return err;
}

int sqlite_lookup(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, uint64_t *ret_seq, struct entry_row *ret_entry)
{
    struct meta_tx *tx;
    int err = sqlite_snapshot_entry(m, drive, parent, name, &tx, ret_entry);
    if (err)
        return err;
    *ret_seq = tx->drive.seq;
    sqlite_rollback(tx);
    return 0;
}

static int end(struct meta_tx *base, int err)
{
    struct sqlite_tx *tx = (struct sqlite_tx *)base;
    struct sqlite_meta *m = sqlite_of(base->meta);
    if (base->writing) {
        struct writer w = {.m = m, .c = tx->c, .lazy = base->lazy};
        err = writer_commit(&w, err);
    } else if (tx->c != m->writer) {
        QUERY(q, tx->c, "COMMIT");
        query_run(&q);
        query_end(&q); /* before another thread has the connection */
        reader_put(&tx->c);
    }
    free(tx->base.interests);
    free(tx);
    return err;
}

int sqlite_commit(struct meta_tx *tx)
{
    return end(tx, 0);
}

void sqlite_rollback(struct meta_tx *tx)
{
    end(tx, -ECANCELED);
}
