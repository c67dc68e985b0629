/* Fills what a transaction wants to know (gateway/core/rows.h). */
#include "common/mem.h"
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>
#include <string.h>

#define NAMES_ENOUGH 4 /* of one inode: some may die in this very transaction */
#define LOCKS_MAX 65536

struct loading {
    struct conn *c;
    const struct uuid *drive;
    struct rows *rows;
};

static int load_inode(struct loading *l, const struct want *w)
{
    QUERY(q, l->c,
          "SELECT parent, children, born, born_at, " ATTR_COLUMNS("") " FROM inode WHERE drive = ?1 AND ino = ?2");
    put_id(&q, l->drive);
    put_seq(&q, w->ino);
    int err = query_one(&q);
    if (err)
        return err;
    struct inode_row i = {0};
    i.parent = get_int(&q);
    i.children = get_u32(&q);
    i.born = get_int(&q);
    i.born_at = get_int(&q);
    get_attr(&q, &i.attr);
    rows_put_inode(l->rows, &i);
    return 0;
}

static int load_target(struct loading *l, const struct want *w)
{
    QUERY(q, l->c, "SELECT target FROM inode WHERE drive = ?1 AND ino = ?2 AND target IS NOT NULL");
    put_id(&q, l->drive);
    put_seq(&q, w->ino);
    int err = query_one(&q);
    if (err)
        return err;
    char target[SYMLINK_LEN_MAX + 1];
    get_text(&q, target, sizeof target);
    rows_put_target(l->rows, w->ino, target);
    return 0;
}

static int load_dentry(struct loading *l, const struct want *w)
{
    QUERY(q, l->c, "SELECT ino, born FROM dentry WHERE drive = ?1 AND parent = ?2 AND name = ?3");
    put_id(&q, l->drive);
    put_seq(&q, w->ino);
    put_name(&q, w->name);
    int err = query_one(&q);
    if (err)
        return err;
    struct dentry_row d = {.parent = w->ino};
    memcpy(d.name, w->name, sizeof d.name);
    d.ino = get_int(&q);
    d.born = get_int(&q);
    rows_put_dentry(l->rows, &d);
    return 0;
}

static int load_entry_of(struct loading *l, const struct want *w)
{
    QUERY(q, l->c,
          /* named: left to itself, SQLite goes through all names of the drive by the primary key */
          "SELECT parent, name, born FROM dentry INDEXED BY dentry_ino WHERE drive = ?1 AND ino = ?2 ORDER BY born LIMIT ?3");
    put_id(&q, l->drive);
    put_seq(&q, w->ino);
    put_int(&q, NAMES_ENOUGH);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct dentry_row d = {.ino = w->ino};
        d.parent = get_int(&q);
        get_text(&q, d.name, sizeof d.name);
        d.born = get_int(&q);
        rows_put_entry_of(l->rows, w->ino, &d);
    }
    return err;
}

static int load_xattr(struct loading *l, const struct want *w)
{
    QUERY(q, l->c, "SELECT value, born, born_at FROM xattr WHERE drive = ?1 AND ino = ?2 AND name = ?3");
    put_id(&q, l->drive);
    put_seq(&q, w->ino);
    put_name(&q, w->name);
    int err = query_one(&q);
    if (err)
        return err;
    struct xattr_row x = {.ino = w->ino};
    memcpy(x.name, w->name, sizeof x.name);
    const void *p = get_blob(&q, &x.len);
    x.value = mem_dup(p, x.len);
    x.born = get_int(&q);
    x.born_at = get_int(&q);
    rows_put_xattr(l->rows, &x);
    free(x.value);
    return 0;
}

static int load_version(struct loading *l, const struct want *w)
{
    QUERY(q, l->c, "SELECT " VERSION_COLUMNS " FROM version WHERE drive = ?1 AND ino = ?2 AND version = ?3");
    put_id(&q, l->drive);
    put_seq(&q, w->ino);
    put_seq(&q, w->number);
    int err = query_one(&q);
    if (err)
        return err;
    struct version_row v;
    get_version(&q, &v);
    rows_put_version(l->rows, &v);
    return 0;
}

static int load_segment(struct loading *l, const struct want *w)
{
    struct segment_row s = {.ino = w->ino, .number = w->number, .at = w->at};
    int err = sqlite_segment_at(l->c, l->drive, w->ino, w->number, w->at, &s.version, s.chunks);
    if (!err)
        rows_put_segment(l->rows, &s);
    return err;
}

static int load_chunk(struct loading *l, const struct want *w)
{
    QUERY(q, l->c, "SELECT 1 FROM chunk WHERE drive = ?1 AND hash = ?2 AND damaged = 0");
    put_id(&q, l->drive);
    put_hash(&q, &w->hash);
    int err = query_one(&q);
    if (!err)
        rows_put_chunk(l->rows, &w->hash);
    return err;
}

static int load_locks(struct loading *l, const struct want *w)
{
    QUERY(q, l->c, "SELECT " LOCK_COLUMNS " FROM lock WHERE drive = ?1 AND ino = ?2 ORDER BY n LIMIT ?3");
    put_id(&q, l->drive);
    put_seq(&q, w->ino);
    put_int(&q, LOCKS_MAX);
    CLEANUP_FREE struct lock_row *locks = NULL;
    size_t n = 0, cap = 0;
    int err;
    while ((err = query_step(&q)) == 1) {
        if (n == cap) {
            cap = cap ? 2 * cap : 8;
            locks = mem_realloc(locks, cap * sizeof *locks);
        }
        get_lock(&q, &locks[n++]);
    }
    if (!err)
        rows_put_locks(l->rows, w->ino, locks, n);
    return err;
}

static int load_one(struct loading *l, const struct want *w)
{
    switch (w->kind) {
    case WANT_INODE:
        return load_inode(l, w);
    case WANT_TARGET:
        return load_target(l, w);
    case WANT_DENTRY:
        return load_dentry(l, w);
    case WANT_ENTRY_OF:
        return load_entry_of(l, w);
    case WANT_XATTR:
        return load_xattr(l, w);
    case WANT_VERSION:
        return load_version(l, w);
    case WANT_SEGMENT:
        return load_segment(l, w);
    case WANT_CHUNK:
        return load_chunk(l, w);
    case WANT_LOCKS:
        return load_locks(l, w);
    }
    return -EINVAL;
}

int sqlite_load(struct meta_tx *tx, struct rows *rows)
{
    struct loading l = {.c = conn_of(tx), .drive = &tx->drive.id, .rows = rows};
    for (size_t i = 0; i < rows->n_wants; i++) {
        int err = load_one(&l, &rows->wants[i]);
        if (err && err != -ENOENT) /* what is not there stays without a row */
            return err;
    }
    rows_wants_done(rows);
    return 0;
}
