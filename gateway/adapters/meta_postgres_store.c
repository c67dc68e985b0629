/* Writes what a transaction made or changed (gateway/core/rows.h): a statement or two for each table, whatever the number of rows. They are sent, and answered
   with the commit: what a transaction costs in round trips does not depend on how much it stores. */
#include "common/mem.h"
#include "gateway/adapters/dentry_fold.h"
#include "gateway/adapters/meta_postgres.h"
#include "gateway/adapters/segment_pack.h"

#include <errno.h>

#define SECOND INT64_C(1000000000)
#define COMMITTED_KEPT_NS (INT64_C(300) * SECOND)

struct storing {
    struct pg_conn *c;
    const struct uuid *drive;
    struct rows *rows;
};

#define STATEMENT(q, s, sql)                                                                                                       \
    PG_QUERY(q, (s)->c, sql);                                                                                                      \
    pg_put_id(&q, (s)->drive)

/* ---- inodes ---- */

#define ATTR_ARRAYS                                                                                                                \
    "$2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], "             \
    "$10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::boolean[]"

static void put_attrs(struct pg_query *q, const struct attr *const *a, size_t n)
{
    PG_INTS(q, n, a[i]->ino);
    PG_INTS(q, n, a[i]->mode);
    PG_INTS(q, n, a[i]->nlink);
    PG_INTS(q, n, a[i]->uid);
    PG_INTS(q, n, a[i]->gid);
    PG_SIGNED(q, n, a[i]->rdev);
    PG_INTS(q, n, a[i]->size);
    PG_SIGNED(q, n, a[i]->atime);
    PG_SIGNED(q, n, a[i]->mtime);
    PG_SIGNED(q, n, a[i]->ctime);
    PG_SIGNED(q, n, a[i]->btime);
    PG_INTS(q, n, a[i]->version);
    PG_INTS(q, n, a[i]->chunk_size);
    PG_COLUMN(q, PG_BOOL, n, pg_add_bool(q, a[i]->quarantined));
}

/* Some of the dirty inodes, with the attributes to be written for each. */
struct inodes {
    const struct inode_row **rows;
    const struct attr **attrs;
    size_t n;
};

static void inodes_add(struct inodes *l, const struct inode_row *i, const struct attr *a)
{
    l->rows[l->n] = i;
    l->attrs[l->n++] = a;
}

static void store_past(struct storing *s, const struct inodes *l)
{
    STATEMENT(q, s,
              "INSERT INTO inode_past (drive, " PG_ATTR_COLUMNS("") ", born, died) SELECT $1, w.* FROM unnest(" ATTR_ARRAYS ", $16::bigint[], $17::bigint[]) AS w "
              "ON CONFLICT (drive, ino, died) DO UPDATE SET mode = excluded.mode, nlink = excluded.nlink, uid = excluded.uid, gid = excluded.gid, "
              "rdev = excluded.rdev, size = excluded.size, atime = excluded.atime, mtime = excluded.mtime, ctime = excluded.ctime, btime = excluded.btime, "
              "version = excluded.version, chunk_size = excluded.chunk_size, quarantined = excluded.quarantined, born = excluded.born");
    put_attrs(&q, l->attrs, l->n);
    PG_INTS(&q, l->n, l->rows[i]->past_born);
    PG_INTS(&q, l->n, l->rows[i]->past_died);
    pg_later(&q);
}

static void put_states(struct pg_query *q, const struct inodes *l)
{
    put_attrs(q, l->attrs, l->n);
    PG_INTS(q, l->n, l->rows[i]->born);
    PG_SIGNED(q, l->n, l->rows[i]->born_at);
    PG_INTS(q, l->n, l->rows[i]->parent);
    PG_INTS(q, l->n, l->rows[i]->children);
}

static void insert_inodes(struct storing *s, const struct inodes *l)
{
    STATEMENT(q, s,
              "INSERT INTO inode (drive, " PG_ATTR_COLUMNS("") ", born, born_at, parent, children, target) SELECT $1, w.* FROM "
              "unnest(" ATTR_ARRAYS ", $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bytea[]) AS w");
    put_states(&q, l);
    PG_COLUMN(&q, PG_BYTES, l->n, pg_add_text(&q, l->rows[i]->target));
    pg_later(&q);
}

static void update_inodes(struct storing *s, const struct inodes *l)
{
    STATEMENT(q, s,
              "UPDATE inode i SET mode = w.mode, nlink = w.nlink, uid = w.uid, gid = w.gid, rdev = w.rdev, size = w.size, atime = w.atime, mtime = w.mtime, "
              "ctime = w.ctime, btime = w.btime, version = w.version, chunk_size = w.chunk_size, quarantined = w.quarantined, born = w.born, "
              "born_at = w.born_at, parent = w.parent, children = w.children FROM unnest(" ATTR_ARRAYS ", $16::bigint[], $17::bigint[], $18::bigint[], "
              "$19::bigint[]) AS w(" PG_ATTR_COLUMNS("") ", born, born_at, parent, children) WHERE i.drive = $1 AND i.ino = w.ino");
    put_states(&q, l);
    pg_later(&q);
}

static void inodes_init(struct inodes *l, size_t n)
{
    *l = (struct inodes){mem_calloc(n + 1, sizeof *l->rows), mem_calloc(n + 1, sizeof *l->attrs), 0};
}

static void inodes_fini(struct inodes *l)
{
    free(l->rows);
    free(l->attrs);
}

static void store_inodes(struct storing *s)
{
    size_t n = 0;
    for (const struct inode_row *i = s->rows->dirty_inodes; i; i = i->next_dirty)
        n++;
    CLEANUP(inodes_fini) struct inodes past, fresh, old;
    inodes_init(&past, n);
    inodes_init(&fresh, n);
    inodes_init(&old, n);
    for (const struct inode_row *i = s->rows->dirty_inodes; i; i = i->next_dirty) {
        if (i->has_past)
            inodes_add(&past, i, &i->past);
        inodes_add(i->fresh ? &fresh : &old, i, &i->attr);
    }
    if (past.n)
        store_past(s, &past);
    if (fresh.n)
        insert_inodes(s, &fresh);
    if (old.n)
        update_inodes(s, &old);
}

/* ---- names ---- */

static void names_die(struct storing *s, const struct dentry_deaths *d)
{
    STATEMENT(q, s,
              "WITH gone AS (DELETE FROM dentry d USING unnest($2::bigint[], $3::bytea[], $4::bigint[]) AS w(parent, name, died) "
              "WHERE d.drive = $1 AND d.parent = w.parent AND d.name = w.name RETURNING d.parent, d.name, d.born, w.died, d.ino), "
              "kept AS (INSERT INTO dentry_past (drive, parent, name, born, died, ino) SELECT $1, parent, name, born, died, ino FROM gone WHERE born < died) "
              "SELECT 1 / (count(*) = $5)::int FROM gone"); /* fails where rows and store disagree */
    PG_INTS(&q, d->n, d->rows[i]->parent);
    PG_COLUMN(&q, PG_BYTES, d->n, pg_add_text(&q, d->rows[i]->name));
    PG_INTS(&q, d->n, d->rows[i]->seq);
    pg_put_seq(&q, d->n);
    pg_later(&q);
}

static void names_came_and_went(struct storing *s, const struct dentry_lives *l)
{
    STATEMENT(q, s,
              "INSERT INTO dentry_past (drive, parent, name, born, died, ino) "
              "SELECT $1, w.* FROM unnest($2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[]) AS w");
    PG_INTS(&q, l->n, l->rows[i].birth->parent);
    PG_COLUMN(&q, PG_BYTES, l->n, pg_add_text(&q, l->rows[i].birth->name));
    PG_INTS(&q, l->n, l->rows[i].birth->seq);
    PG_INTS(&q, l->n, l->rows[i].died);
    PG_INTS(&q, l->n, l->rows[i].birth->ino);
    pg_later(&q);
}

static void names_are_born(struct storing *s, const struct dentry_deaths *b)
{
    STATEMENT(q, s,
              "INSERT INTO dentry (drive, parent, name, ino, born) SELECT $1, w.* FROM unnest($2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[]) AS w");
    PG_INTS(&q, b->n, b->rows[i]->parent);
    PG_COLUMN(&q, PG_BYTES, b->n, pg_add_text(&q, b->rows[i]->name));
    PG_INTS(&q, b->n, b->rows[i]->ino);
    PG_INTS(&q, b->n, b->rows[i]->seq);
    pg_later(&q);
}

static int store_names(struct storing *s)
{
    CLEANUP(dentry_fold_fini) struct dentry_fold f = dentry_fold(s->rows->dentry_events, s->rows->n_dentry_events);
    if (f.deaths.n)
        names_die(s, &f.deaths);
    if (f.lives.n)
        names_came_and_went(s, &f.lives);
    if (f.births.n)
        names_are_born(s, &f.births);
    return f.err;
}

/* ---- xattrs ---- */

struct xattrs {
    const struct xattr_row **rows;
    size_t n;
};

static void put_xattr_keys(struct pg_query *q, const struct xattrs *l)
{
    PG_INTS(q, l->n, l->rows[i]->ino);
    PG_COLUMN(q, PG_BYTES, l->n, pg_add_text(q, l->rows[i]->name));
}

static void keep_xattrs(struct storing *s, const struct xattrs *l)
{
    STATEMENT(q, s,
              "INSERT INTO xattr_past (drive, ino, name, died, born, value) SELECT x.drive, x.ino, x.name, w.died, x.born, x.value "
              "FROM unnest($2::bigint[], $3::bytea[], $4::bigint[]) AS w(ino, name, died) JOIN xattr x ON x.drive = $1 AND x.ino = w.ino AND x.name = w.name "
              "ON CONFLICT (drive, ino, name, died) DO UPDATE SET born = excluded.born, value = excluded.value");
    put_xattr_keys(&q, l);
    PG_INTS(&q, l->n, l->rows[i]->past_died);
    pg_later(&q);
}

static void remove_xattrs(struct storing *s, const struct xattrs *l)
{
    STATEMENT(q, s, "DELETE FROM xattr x USING unnest($2::bigint[], $3::bytea[]) AS w(ino, name) WHERE x.drive = $1 AND x.ino = w.ino AND x.name = w.name");
    put_xattr_keys(&q, l);
    pg_later(&q);
}

static void set_xattrs(struct storing *s, const struct xattrs *l)
{
    STATEMENT(q, s,
              "INSERT INTO xattr (drive, ino, name, born, born_at, value) "
              "SELECT $1, w.* FROM unnest($2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[]) AS w "
              "ON CONFLICT (drive, ino, name) DO UPDATE SET born = excluded.born, born_at = excluded.born_at, value = excluded.value");
    put_xattr_keys(&q, l);
    PG_INTS(&q, l->n, l->rows[i]->born);
    PG_SIGNED(&q, l->n, l->rows[i]->born_at);
    PG_COLUMN(&q, PG_BYTES, l->n, pg_add_blob(&q, l->rows[i]->value, l->rows[i]->len));
    pg_later(&q);
}

static void store_xattrs(struct storing *s)
{
    size_t n = 0;
    for (const struct xattr_row *x = s->rows->dirty_xattrs; x; x = x->next_dirty)
        n++;
    if (n == 0)
        return;
    CLEANUP_FREE const struct xattr_row **space = mem_calloc(3 * n, sizeof *space);
    struct xattrs kept = {space, 0}, set = {space + n, 0}, removed = {space + 2 * n, 0};
    for (const struct xattr_row *x = s->rows->dirty_xattrs; x; x = x->next_dirty) {
        struct xattrs *l = x->value ? &set : &removed;
        l->rows[l->n++] = x;
        if (x->past_born && x->keep_past)
            kept.rows[kept.n++] = x;
    }
    if (kept.n)
        keep_xattrs(s, &kept);
    if (removed.n)
        remove_xattrs(s, &removed);
    if (set.n)
        set_xattrs(s, &set);
}

/* ---- content ---- */

static void add_versions(struct storing *s, const struct version_row *v, size_t n)
{
    STATEMENT(q, s,
              "INSERT INTO version (drive, " PG_VERSION_COLUMNS("") ") SELECT $1, w.* FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], "
              "$6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[], $10::uuid[], $11::text[], $12::boolean[], $13::boolean[]) AS w");
    PG_INTS(&q, n, v[i].ino);
    PG_INTS(&q, n, v[i].version);
    PG_INTS(&q, n, v[i].size);
    PG_INTS(&q, n, v[i].chunk_size);
    PG_COLUMN(&q, PG_BYTES, n, pg_add_hash(&q, &v[i].tree_hash));
    PG_COLUMN(&q, PG_BYTES, n, pg_add_hash_or_null(&q, &v[i].sha256));
    PG_SIGNED(&q, n, v[i].mtime);
    PG_SIGNED(&q, n, v[i].at);
    PG_COLUMN(&q, PG_ID, n, pg_add_id(&q, &v[i].user));
    PG_COLUMN(&q, PG_TEXT, n, pg_add_text(&q, v[i].device));
    PG_COLUMN(&q, PG_BOOL, n, pg_add_bool(&q, v[i].listed));
    PG_COLUMN(&q, PG_BOOL, n, pg_add_bool(&q, v[i].quarantined));
    pg_later(&q);
}

#define MARK(what) "UPDATE version v SET " what " FROM unnest($2::bigint[], $3::bigint[]) AS w(ino, version) WHERE v.drive = $1 AND v.ino = w.ino AND v.version = w.version"
static const char unlist[] = MARK("listed = false"), quarantine[] = MARK("quarantined = true");

static void mark_versions(struct storing *s, const char *sql, const struct version_row *v, size_t n)
{
    CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(s->c, sql);
    pg_put_id(&q, s->drive);
    PG_INTS(&q, n, v[i].ino);
    PG_INTS(&q, n, v[i].version);
    pg_later(&q);
}

static void add_packed(struct pg_query *q, const struct chunk_ref chunks[SEGMENT_CHUNKS])
{
    uint8_t packed[SEGMENT_CHUNKS * SEGMENT_ENTRY];
    size_t len = segment_pack(chunks, packed);
    pg_add_blob(q, packed, len);
}

static void add_segments(struct storing *s, const struct segment_new *g, size_t n)
{
    /* of one key, the last counts */
    STATEMENT(q, s,
              "INSERT INTO segment (drive, ino, number, version, chunks) SELECT DISTINCT ON (w.ino, w.number, w.version) $1::uuid, w.ino, w.number, w.version, w.chunks "
              "FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[]) WITH ORDINALITY AS w(ino, number, version, chunks, n) "
              "ORDER BY w.ino, w.number, w.version, w.n DESC ON CONFLICT (drive, ino, number, version) DO UPDATE SET chunks = excluded.chunks");
    PG_INTS(&q, n, g[i].ino);
    PG_INTS(&q, n, g[i].number);
    PG_INTS(&q, n, g[i].version);
    PG_COLUMN(&q, PG_BYTES, n, add_packed(&q, g[i].chunks));
    pg_later(&q);
}

static void add_cuts(struct storing *s, const struct cut_new *k, size_t n)
{
    STATEMENT(q, s,
              "INSERT INTO cut (drive, ino, version, from_segment) SELECT $1, w.* FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS w "
              "ON CONFLICT (drive, ino, version, from_segment) DO NOTHING");
    PG_INTS(&q, n, k[i].ino);
    PG_INTS(&q, n, k[i].version);
    PG_INTS(&q, n, k[i].from_segment);
    pg_later(&q);
}

static int add_chunks(struct storing *s)
{
    const struct rows *r = s->rows;
    CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(s->c, pg_chunks_add_sql);
    int err = pg_put_chunks(&q, s->drive, r->new_chunks, r->n_new_chunks, r->now);
    if (!err)
        pg_later(&q);
    return err;
}

static int store_content(struct storing *s)
{
    const struct rows *r = s->rows;
    int err = r->n_new_chunks ? add_chunks(s) : 0;
    if (r->n_new_versions)
        add_versions(s, r->new_versions, r->n_new_versions);
    if (r->n_unlisted)
        mark_versions(s, unlist, r->unlisted, r->n_unlisted);
    if (r->n_quarantined)
        mark_versions(s, quarantine, r->quarantined, r->n_quarantined);
    if (r->n_new_segments)
        add_segments(s, r->new_segments, r->n_new_segments);
    if (r->n_new_cuts)
        add_cuts(s, r->new_cuts, r->n_new_cuts);
    return err;
}

/* ---- locks ---- */

static void release(struct storing *s)
{
    STATEMENT(q, s, "DELETE FROM lock k USING unnest($2::uuid[]) AS w(session) WHERE k.drive = $1 AND k.session = w.session");
    PG_COLUMN(&q, PG_ID, s->rows->n_released, pg_add_id(&q, &s->rows->released[i]));
    pg_later(&q);
}

static void drop_locks(struct storing *s)
{
    STATEMENT(q, s, "DELETE FROM lock k USING unnest($2::bigint[]) AS w(ino) WHERE k.drive = $1 AND k.ino = w.ino");
    PG_INTS(&q, s->rows->n_dirty_locks, s->rows->dirty_locks[i]);
    pg_later(&q);
}

static void add_locks(struct storing *s, uint64_t ino, const struct lock_row *l, size_t n)
{
    STATEMENT(q, s,
              "INSERT INTO lock (drive, ino, n, session, flock, type, first, last, owner, pid) SELECT $1, $2, w.* FROM unnest($3::bigint[], $4::uuid[], "
              "$5::boolean[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]) AS w");
    pg_put_seq(&q, ino);
    PG_INTS(&q, n, i);
    PG_COLUMN(&q, PG_ID, n, pg_add_id(&q, &l[i].session));
    PG_COLUMN(&q, PG_BOOL, n, pg_add_bool(&q, l[i].flock_kind));
    PG_SIGNED(&q, n, l[i].type);
    PG_SIGNED(&q, n, l[i].start);
    PG_SIGNED(&q, n, l[i].end);
    PG_SIGNED(&q, n, l[i].owner);
    PG_INTS(&q, n, l[i].pid);
    pg_later(&q);
}

static int store_locks(struct storing *s)
{
    int err = 0;
    if (s->rows->n_released)
        release(s);
    if (s->rows->n_dirty_locks)
        drop_locks(s);
    for (size_t i = 0; i < s->rows->n_dirty_locks && !err; i++) {
        struct lock_row *locks;
        size_t n;
        err = rows_locks(s->rows, s->rows->dirty_locks[i], &locks, &n);
        if (!err && n)
            add_locks(s, s->rows->dirty_locks[i], locks, n);
    }
    return err;
}

/* ---- the log and the drive ---- */

static void add_changes(struct storing *s, const struct change_row *k, size_t n)
{
    STATEMENT(q, s,
              "INSERT INTO change (drive, seq, kind, ino, parent, name, from_parent, from_name, version, user_id, device, at, touch) SELECT $1, w.* FROM "
              "unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[], $8::bytea[], $9::bigint[], $10::uuid[], $11::text[], "
              "$12::bigint[], $13::text[]) AS w");
    PG_INTS(&q, n, k[i].seq);
    PG_COLUMN(&q, PG_TEXT, n, pg_add_text(&q, ((const char[2]){k[i].kind, 0})));
    PG_INTS(&q, n, k[i].ino);
    PG_INTS(&q, n, k[i].parent);
    PG_COLUMN(&q, PG_BYTES, n, pg_add_text(&q, k[i].name));
    PG_INTS(&q, n, k[i].from_parent);
    PG_COLUMN(&q, PG_BYTES, n, pg_add_text(&q, k[i].from_name));
    PG_INTS(&q, n, k[i].version);
    PG_COLUMN(&q, PG_ID, n, pg_add_id(&q, &k[i].user));
    PG_COLUMN(&q, PG_TEXT, n, pg_add_text(&q, k[i].device));
    PG_SIGNED(&q, n, k[i].at);
    PG_COLUMN(&q, PG_TEXT, n, pg_add_text(&q, k[i].touch));
    pg_later(&q);
}

static void outbox_put(struct storing *s, uint64_t first, uint64_t last, int64_t now)
{
    STATEMENT(q, s, "INSERT INTO outbox (drive, first, last, due) VALUES ($1, $2, $3, $4)");
    pg_put_seq(&q, first);
    pg_put_seq(&q, last);
    pg_put_int(&q, now + OUTBOX_GRACE_NS);
    pg_later(&q);
}

static void store_moment(struct storing *s, int64_t second, uint64_t seq)
{
    STATEMENT(q, s, "INSERT INTO moment (drive, second, seq) VALUES ($1, $2, $3) ON CONFLICT (drive, second) DO UPDATE SET seq = excluded.seq");
    pg_put_int(&q, second);
    pg_put_seq(&q, seq);
    pg_later(&q);
}

static void forget_committed(struct storing *s, int64_t before)
{
    STATEMENT(q, s, "DELETE FROM committed WHERE drive = $1 AND at < $2");
    pg_put_int(&q, before);
    pg_later(&q);
}

static void update_drive(struct storing *s, const struct drive_row *d, int64_t generation_at)
{
    STATEMENT(q, s,
              "UPDATE drive SET seq = $2, used = $3, files = $4, last_time = $5, next_ino = greatest(next_ino, $6), lineage = $7, prior_end = $8, generation_at = $9 WHERE id = $1");
    pg_put_seq(&q, d->seq);
    pg_put_seq(&q, d->used);
    pg_put_seq(&q, d->files);
    pg_put_int(&q, d->last_time);
    pg_put_seq(&q, d->next_ino);
    pg_put_text(&q, s->c->lineage);
    pg_put_seq(&q, d->prior_end);
    pg_put_int(&q, generation_at);
    pg_later(&q);
}

static void store_drive(struct storing *s, struct postgres_tx *tx)
{
    struct drive_row *d = &s->rows->drive;
    if (d->seq != tx->stored_seq && d->last_time < s->rows->now)
        d->last_time = s->rows->now;
    if (d->last_time < tx->stored_time)
        d->last_time = tx->stored_time;
    if (d->last_time / SECOND > tx->stored_time / SECOND) {
        store_moment(s, tx->stored_time / SECOND, tx->stored_seq);
        forget_committed(s, tx->base.now - COMMITTED_KEPT_NS);
    }
    update_drive(s, d, tx->generation_at);
    tx->base.drive = *d;
    tx->stored_seq = d->seq;
    tx->stored_time = d->last_time;
}

int postgres_store(struct meta_tx *base, struct rows *rows)
{
    if (!base->writing)
        return -EROFS;
    struct storing s = {.c = pg_conn_of(base), .drive = &base->drive.id, .rows = rows};
    store_inodes(&s);
    int err = store_names(&s);
    store_xattrs(&s);
    if (!err)
        err = store_content(&s);
    if (!err)
        err = store_locks(&s);
    if (err)
        return err;
    if (rows->n_changes)
        add_changes(&s, rows->changes, rows->n_changes);
    if (base->meta->outbox && rows->n_changes)
        outbox_put(&s, rows->changes[0].seq, rows->changes[rows->n_changes - 1].seq, base->now);
    store_drive(&s, postgres_tx_of(base));
    return s.c->failed;
}
