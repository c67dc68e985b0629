/* Fills what a transaction wants to know (gateway/core/rows.h): one statement for each kind of rows, and one round trip for all. */
#include "common/mem.h"
#include "gateway/adapters/meta_postgres.h"
#include "gateway/adapters/segment_pack.h"

#include <errno.h>
#include <string.h>

#define NAMES_ENOUGH "4" /* of one inode: some may die in this very transaction */
#define KINDS (WANT_LOCKS + 1)

struct loading {
    struct rows *rows;
    struct want **of[KINDS]; /* the wants of each kind */
    size_t n[KINDS];
};

/* ---- asking: arguments from $2 on, one array for each column of the key ---- */

static void put_inos(struct pg_query *q, const struct loading *l, enum want_kind kind)
{
    PG_INTS(q, l->n[kind], l->of[kind][i]->ino);
}

static void put_names(struct pg_query *q, const struct loading *l, enum want_kind kind)
{
    put_inos(q, l, kind);
    PG_COLUMN(q, PG_BYTES, l->n[kind], pg_add_text(q, l->of[kind][i]->name));
}

static void put_numbers(struct pg_query *q, const struct loading *l, enum want_kind kind)
{
    put_inos(q, l, kind);
    PG_INTS(q, l->n[kind], l->of[kind][i]->number);
}

static void put_segments(struct pg_query *q, const struct loading *l, enum want_kind kind)
{
    put_numbers(q, l, kind);
    PG_INTS(q, l->n[kind], l->of[kind][i]->at);
}

static void put_hashes(struct pg_query *q, const struct loading *l, enum want_kind kind)
{
    PG_COLUMN(q, PG_BYTES, l->n[kind], pg_add_hash(q, &l->of[kind][i]->hash));
}

/* ---- taking a row ---- */

static int take_inode(struct loading *l, struct pg_query *q)
{
    struct inode_row i = {0};
    i.parent = pg_int(q);
    i.children = pg_u32(q);
    i.born = pg_int(q);
    i.born_at = pg_int(q);
    pg_get_attr(q, &i.attr);
    rows_put_inode(l->rows, &i);
    return 0;
}

static int take_target(struct loading *l, struct pg_query *q)
{
    char target[SYMLINK_LEN_MAX + 1];
    uint64_t ino = pg_int(q);
    pg_text(q, target, sizeof target);
    rows_put_target(l->rows, ino, target);
    return 0;
}

static void get_dentry(struct pg_query *q, struct dentry_row *ret)
{
    ret->parent = pg_int(q);
    memset(ret->name, 0, sizeof ret->name);
    pg_text(q, ret->name, sizeof ret->name);
    ret->ino = pg_int(q);
    ret->born = pg_int(q);
}

static int take_dentry(struct loading *l, struct pg_query *q)
{
    struct dentry_row d;
    get_dentry(q, &d);
    rows_put_dentry(l->rows, &d);
    return 0;
}

static int take_entry_of(struct loading *l, struct pg_query *q)
{
    struct dentry_row d;
    get_dentry(q, &d);
    rows_put_entry_of(l->rows, d.ino, &d);
    return 0;
}

static int take_xattr(struct loading *l, struct pg_query *q)
{
    struct xattr_row x = {0};
    x.ino = pg_int(q);
    pg_text(q, x.name, sizeof x.name);
    const void *p = pg_blob(q, &x.len);
    x.value = mem_dup(p, x.len);
    x.born = pg_int(q);
    x.born_at = pg_int(q);
    rows_put_xattr(l->rows, &x);
    free(x.value);
    return 0;
}

static int take_version(struct loading *l, struct pg_query *q)
{
    struct version_row v;
    pg_get_version(q, &v);
    rows_put_version(l->rows, &v);
    return 0;
}

static int take_segment(struct loading *l, struct pg_query *q)
{
    struct segment_row s = {0};
    s.ino = pg_int(q);
    s.number = pg_int(q);
    s.at = pg_int(q);
    s.version = pg_int(q);
    size_t len;
    const void *p = pg_blob(q, &len);
    int err = segment_unpack(p, len, s.chunks);
    if (!err)
        rows_put_segment(l->rows, &s);
    return err;
}

static int take_chunk(struct loading *l, struct pg_query *q)
{
    struct hash h;
    pg_hash(q, &h);
    rows_put_chunk(l->rows, &h);
    return 0;
}

/* Rows of one inode follow one another. */
static int take_locks(struct loading *l, struct pg_query *q)
{
    CLEANUP_FREE struct lock_row *locks = NULL;
    size_t n = 0;
    int more;
    do {
        struct lock_row k;
        pg_get_lock(q, &k);
        if (n && locks[0].ino != k.ino) {
            rows_put_locks(l->rows, locks[0].ino, locks, n);
            n = 0;
        }
        if (n % 8 == 0)
            locks = mem_realloc(locks, (n + 8) * sizeof *locks);
        locks[n++] = k;
    } while ((more = pg_step(q)) == 1);
    rows_put_locks(l->rows, locks[0].ino, locks, n);
    return more;
}

/* ---- the kinds ---- */

static const struct kind {
    const char *sql;
    void (*put)(struct pg_query *q, const struct loading *l, enum want_kind kind);
    int (*take)(struct loading *l, struct pg_query *q);
} kinds[KINDS] = {
    [WANT_INODE] = {"SELECT i.parent, i.children, i.born, i.born_at, " PG_ATTR_COLUMNS("i.") " FROM unnest($2::bigint[]) AS w(ino) "
                    "JOIN inode i ON i.drive = $1 AND i.ino = w.ino", put_inos, take_inode},
    [WANT_TARGET] = {"SELECT i.ino, i.target FROM unnest($2::bigint[]) AS w(ino) JOIN inode i ON i.drive = $1 AND i.ino = w.ino AND i.target IS NOT NULL", put_inos,
                     take_target},
    [WANT_DENTRY] = {"SELECT d.parent, d.name, d.ino, d.born FROM unnest($2::bigint[], $3::bytea[]) AS w(parent, name) "
                     "JOIN dentry d ON d.drive = $1 AND d.parent = w.parent AND d.name = w.name", put_names, take_dentry},
    [WANT_ENTRY_OF] = {"SELECT d.parent, d.name, d.ino, d.born FROM unnest($2::bigint[]) AS w(ino) CROSS JOIN LATERAL "
                       "(SELECT parent, name, ino, born FROM dentry WHERE drive = $1 AND ino = w.ino ORDER BY born LIMIT " NAMES_ENOUGH ") d", put_inos, take_entry_of},
    [WANT_XATTR] = {"SELECT x.ino, x.name, x.value, x.born, x.born_at FROM unnest($2::bigint[], $3::bytea[]) AS w(ino, name) "
                    "JOIN xattr x ON x.drive = $1 AND x.ino = w.ino AND x.name = w.name", put_names, take_xattr},
    [WANT_VERSION] = {"SELECT " PG_VERSION_COLUMNS("v.") " FROM unnest($2::bigint[], $3::bigint[]) AS w(ino, version) "
                      "JOIN version v ON v.drive = $1 AND v.ino = w.ino AND v.version = w.version", put_numbers, take_version},
    [WANT_SEGMENT] = {"SELECT w.ino, w.number, w.at, s.version, s.chunks FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS w(ino, number, at) CROSS JOIN LATERAL "
                      "(SELECT version, chunks FROM segment WHERE drive = $1 AND ino = w.ino AND number = w.number AND version <= w.at ORDER BY version DESC LIMIT 1) s "
                      "WHERE NOT EXISTS (SELECT 1 FROM cut k WHERE k.drive = $1 AND k.ino = w.ino AND k.version > s.version AND k.version <= w.at "
                      "AND k.from_segment <= w.number)", put_segments, take_segment},
    [WANT_CHUNK] = {"SELECT c.hash FROM unnest($2::bytea[]) AS w(hash) JOIN chunk c ON c.drive = $1 AND c.hash = w.hash AND NOT c.damaged", put_hashes, take_chunk},
    [WANT_LOCKS] = {"SELECT " PG_LOCK_COLUMNS("k.") " FROM unnest($2::bigint[]) AS w(ino) JOIN lock k ON k.drive = $1 AND k.ino = w.ino ORDER BY k.ino, k.n", put_inos,
                    take_locks},
};

static void sort_out(struct loading *l)
{
    struct rows *r = l->rows;
    for (size_t i = 0; i < r->n_wants; i++)
        l->n[r->wants[i].kind]++;
    for (size_t k = 0; k < KINDS; k++) {
        l->of[k] = mem_calloc(l->n[k] + 1, sizeof *l->of[k]);
        l->n[k] = 0;
    }
    for (size_t i = 0; i < r->n_wants; i++) {
        struct want *w = &r->wants[i];
        l->of[w->kind][l->n[w->kind]++] = w;
    }
}

/* Where the store has nothing of these kinds, there is still a row: one that says so. */
static void put_empty(struct loading *l)
{
    for (size_t i = 0; i < l->n[WANT_SEGMENT]; i++) {
        const struct want *w = l->of[WANT_SEGMENT][i];
        rows_put_segment(l->rows, &(struct segment_row){.ino = w->ino, .number = w->number, .at = w->at});
    }
    for (size_t i = 0; i < l->n[WANT_LOCKS]; i++)
        rows_put_locks(l->rows, l->of[WANT_LOCKS][i]->ino, NULL, 0);
}

static int load_kinds(struct meta_tx *tx, struct loading *l, struct pg_query q[KINDS])
{
    for (size_t k = 0; k < KINDS; k++) {
        if (l->n[k] == 0)
            continue;
        q[k] = pg_query_begin(pg_conn_of(tx), kinds[k].sql);
        pg_put_id(&q[k], &tx->drive.id);
        kinds[k].put(&q[k], l, (enum want_kind)k);
        pg_send(&q[k]);
    }
    for (size_t k = 0; k < KINDS; k++) {
        int err = l->n[k] ? 1 : 0;
        while (err == 1 && (err = pg_step(&q[k])) == 1) {
            err = kinds[k].take(l, &q[k]);
            err = err ? err : 1;
        }
        if (err < 0)
            return err;
    }
    return 0;
}

int postgres_load(struct meta_tx *tx, struct rows *rows)
{
    struct loading l = {.rows = rows};
    struct pg_query q[KINDS] = {0};
    sort_out(&l);
    int err = load_kinds(tx, &l, q);
    if (!err) {
        put_empty(&l);
        rows_wants_done(rows);
    }
    for (size_t k = 0; k < KINDS; k++) {
        pg_query_end(&q[k]);
        free(l.of[k]);
    }
    return err;
}
