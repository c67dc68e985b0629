/* What is dirty at one moment. Writers go on meanwhile: each chunk's gen tells afterwards whether it is still what was committed. */
#include "fusefs/cache/content_internal.h"

/* No write is half done at that moment: else its other half would not be an append any more, when it comes after the commit. */
struct snapshot *snapshot_take(struct content *c)
{
    content_freeze(c);
    struct snapshot *sn = mem_alloc(sizeof *sn);
    *sn = (struct snapshot){.version = c->version,
                            .size = c->size,
                            .changes = c->changes,
                            .replaces = c->replaces,
                            .mtime = c->mtime,
                            .since = c->since,
                            .aside = c->aside,
                            .chunk_size = c->chunk_size};
    size_t n = 0;
    for (uint64_t i = 0; i < c->n_chunks; i++)
        n += (c->chunks[i].flags & CHUNK_DIRTY) != 0;
    sn->items = mem_calloc(n ? n : 1, sizeof *sn->items);
    for (uint64_t i = 0; i < c->n_chunks; i++)
        if (c->chunks[i].flags & CHUNK_DIRTY)
            sn->items[sn->n++].n = i;
    c->since = (struct since_base){.shrunk_to = c->size, .append_from = c->size, .append = sn->since.append};
    content_thaw(c);
    return sn;
}

void snapshot_free(struct snapshot *sn)
{
    if (!sn)
        return;
    for (size_t i = 0; i < sn->n; i++)
        uploaded_fini(&sn->items[i].up);
    free(sn->items);
    free(sn);
}

void snapshot_undo(struct content *c, const struct snapshot *sn)
{
    if (sn->since.shrunk_to < c->since.shrunk_to)
        c->since.shrunk_to = sn->since.shrunk_to;
    c->since.append_from = sn->since.append_from;
    c->since.append &= sn->since.append;
}

void snapshot_to_op(const struct content *c, const struct snapshot *sn, struct op *ret)
{
    *ret = (struct op){.kind = OP_COMMIT,
                       .ino = c->key.ino,
                       .has_base = true,
                       .base = sn->version,
                       .size = sn->size,
                       .shrunk_to = sn->since.shrunk_to < sn->size ? sn->since.shrunk_to : sn->size,
                       .append = sn->since.append,
                       .aside = sn->aside,
                       .append_from = sn->since.append_from,
                       .replaces = sn->replaces,
                       .has_mtime = true,
                       .mtime = sn->mtime,
                       .chunk_size = sn->chunk_size,
                       .n_changes = sn->n};
    ret->changes = mem_calloc(sn->n ? sn->n : 1, sizeof *ret->changes);
    for (size_t i = 0; i < sn->n; i++)
        ret->changes[i] = (struct chunk_change){sn->items[i].n, sn->items[i].up.ref};
}

int snapshot_journal(struct content *c, uint64_t ino)
{
    size_t n = 0;
    for (uint64_t i = 0; i < c->n_chunks; i++)
        n += (c->chunks[i].flags & CHUNK_DIRTY) != 0;
    CLEANUP_FREE struct journal_record *r = mem_calloc(n + 3, sizeof *r);
    n = 0;
    r[n++] = (struct journal_record){.kind = JOURNAL_DIRTY, .ino = ino, .a = c->version, .b = c->base_size, .len = c->chunk_size};
    if (!c->since.append)
        r[n++] = (struct journal_record){.kind = JOURNAL_NOT_APPEND, .ino = ino};
    if (c->since.shrunk_to < c->base_size)
        r[n++] = (struct journal_record){.kind = JOURNAL_SHRUNK, .ino = ino, .a = c->since.shrunk_to};
    for (uint64_t i = 0; i < c->n_chunks; i++) {
        const struct chunk *ch = &c->chunks[i];
        if (!(ch->flags & CHUNK_DIRTY))
            continue;
        r[n] = (struct journal_record){.kind = JOURNAL_CHUNK, .ino = ino, .a = i};
        if (!(ch->flags & CHUNK_PRESENT) && ch->stored) {
            r[n].kind = JOURNAL_STORED;
            r[n].hash = ch->stored->hash;
            r[n].len = ch->stored->len;
        }
        n++;
    }
    return journal_append(c->store->journal, r, n);
}

static int journal_clean(struct content *c, uint64_t ino)
{
    struct journal_record r = {.kind = JOURNAL_CLEAN, .ino = ino};
    return journal_append(c->store->journal, &r, 1);
}

int snapshot_committed(struct content *c, const struct snapshot *sn, uint64_t version, uint64_t ino)
{
    uint64_t before = c->key.ino;
    c->version = version;
    c->infected = false; /* for all that is known yet */
    c->base_size = sn->size;
    c->replaces = version;
    c->recovered = false;
    c->aside &= !sn->aside;
    for (size_t i = 0; i < sn->n; i++) {
        const struct send_item *it = &sn->items[i];
        if (it->n >= c->n_chunks)
            continue;
        struct chunk *ch = &c->chunks[it->n];
        if (ch->gen == it->gen && (ch->flags & CHUNK_DIRTY)) {
            chunk_set_clean(c, it->n, &it->up.ref);
        } else if (!(ch->flags & CHUNK_MAPPED) || (ch->flags & CHUNK_DIRTY)) {
            ch->hash = it->up.ref.hash;
            ch->len = it->up.ref.len;
            ch->flags |= CHUNK_MAPPED;
        }
    }
    uint64_t now = ino ? ino : before;
    bool rest = c->changes != sn->changes || c->writing;
    if (!rest) {
        c->has_mtime = false;
        store_mark_clean(c);
    }
    int err = rest ? snapshot_journal(c, now) : 0;
    if (now != before) { /* a crash finds the backing file under one name or the other, and a record for each */
        c->conflict = true;
        int e = store_rekey(c, now);
        err = err ? err : e;
    }
    int e = now != before || !rest ? journal_clean(c, before) : 0;
    return err ? err : e;
}
