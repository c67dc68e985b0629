/* Directory entries, now and as of a seq. */
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>
#include <string.h>

#define LIVING "9223372036854775807" /* ALIVE */

static void get_name(struct query *q, char ret[NAME_LEN_MAX + 1])
{
    get_text(q, ret, NAME_LEN_MAX + 1);
}

/* parent, name, ino, born, died */
#define ENTRY_COLUMNS "parent, name, ino, born, died"
#define ENTRY_COLUMNS_LIVING "parent, name, ino, born, " LIVING " AS died"
static void get_entry(struct query *q, struct entry_row *ret)
{
    ret->parent = get_int(q);
    get_name(q, ret->name);
    ret->ino = get_int(q);
    ret->born = get_int(q);
    ret->died = get_int(q);
}

/* The inode as the entry had it: as of `at`, or at its end. */
static int entry_attr(struct meta_tx *tx, struct entry_row *e, uint64_t at)
{
    uint64_t when = at ? at : e->died == ALIVE ? 0 : e->died - 1;
    return sqlite_inode_at(conn_of(tx), &tx->drive.id, e->ino, when, true, &e->attr);
}

static int each_entry(struct meta_tx *tx, struct query *q, uint64_t at, int (*each)(void *ctx, const struct entry_row *e), void *ctx)
{
    int err;
    while ((err = query_step(q)) == 1) {
        struct entry_row e;
        get_entry(q, &e);
        err = entry_attr(tx, &e, at);
        if (!err)
            err = each(ctx, &e);
        if (err)
            break;
    }
    return err;
}

static int entry_then(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct entry_row *ret)
{
    QUERY(q, conn_of(tx),
          "SELECT " ENTRY_COLUMNS_LIVING " FROM dentry WHERE drive = ?1 AND parent = ?2 AND name = ?3 AND born <= ?4 UNION ALL "
          "SELECT " ENTRY_COLUMNS " FROM dentry_past WHERE drive = ?1 AND parent = ?2 AND name = ?3 AND born <= ?4 AND died > ?4 LIMIT 1");
    put_id(&q, &tx->drive.id);
    put_seq(&q, parent);
    put_name(&q, name);
    put_seq(&q, at);
    int err = query_one(&q);
    if (err)
        return err;
    get_entry(&q, ret);
    return entry_attr(tx, ret, at);
}

int sqlite_entry(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct entry_row *ret)
{
    if (at)
        return entry_then(tx, parent, name, at, ret);
    QUERY(q, conn_of(tx),
          "SELECT d.born, " ATTR_COLUMNS("i.") " FROM dentry d CROSS JOIN inode i ON i.drive = ?1 AND i.ino = d.ino "
          "WHERE d.drive = ?1 AND d.parent = ?2 AND d.name = ?3");
    put_id(&q, &tx->drive.id);
    put_seq(&q, parent);
    put_name(&q, name);
    int err = query_one(&q);
    if (err)
        return err;
    ret->parent = parent;
    ret->died = ALIVE;
    ret->born = get_int(&q);
    get_attr(&q, &ret->attr);
    ret->ino = ret->attr.ino;
    size_t len = strnlen(name, NAME_LEN_MAX);
    memcpy(ret->name, name, len);
    ret->name[len] = 0;
    return 0;
}

static int entries_then(struct meta_tx *tx, uint64_t parent, uint64_t at, const char *after, unsigned limit,
                        int (*each)(void *ctx, const struct entry_row *e), void *ctx)
{
    QUERY(q, conn_of(tx),
          "SELECT " ENTRY_COLUMNS_LIVING " FROM dentry WHERE drive = ?1 AND parent = ?2 AND name > ?3 AND born <= ?4 UNION ALL "
          "SELECT " ENTRY_COLUMNS " FROM dentry_past WHERE drive = ?1 AND parent = ?2 AND name > ?3 AND born <= ?4 AND died > ?4 "
          "ORDER BY name LIMIT ?5");
    put_id(&q, &tx->drive.id);
    put_seq(&q, parent);
    put_name(&q, after);
    put_seq(&q, at);
    put_int(&q, limit);
    return each_entry(tx, &q, at, each, ctx);
}

int sqlite_entries(struct meta_tx *tx, uint64_t parent, uint64_t at, const char *after, unsigned limit,
                   int (*each)(void *ctx, const struct entry_row *e), void *ctx)
{
    if (at)
        return entries_then(tx, parent, at, after, limit, each, ctx);
    QUERY(q, conn_of(tx),
          "SELECT d.name, d.born, " ATTR_COLUMNS("i.") " FROM dentry d CROSS JOIN inode i ON i.drive = ?1 AND i.ino = d.ino "
          "WHERE d.drive = ?1 AND d.parent = ?2 AND d.name > ?3 ORDER BY d.name LIMIT ?4");
    put_id(&q, &tx->drive.id);
    put_seq(&q, parent);
    put_name(&q, after);
    put_int(&q, limit);
    struct entry_row e = {.parent = parent, .died = ALIVE};
    int err;
    while ((err = query_step(&q)) == 1) {
        get_name(&q, e.name);
        e.born = get_int(&q);
        get_attr(&q, &e.attr);
        e.ino = e.attr.ino;
        if ((err = each(ctx, &e)) != 0)
            break;
    }
    return err;
}

int sqlite_entry_of_ino(struct meta_tx *tx, uint64_t ino, uint64_t at, struct entry_row *ret)
{
    QUERY(q, conn_of(tx),
          "SELECT " ENTRY_COLUMNS_LIVING " FROM dentry INDEXED BY dentry_ino WHERE drive = ?1 AND ino = ?2 AND born <= ?3 UNION ALL "
          "SELECT " ENTRY_COLUMNS " FROM dentry_past INDEXED BY dentry_past_ino WHERE drive = ?1 AND ino = ?2 AND born <= ?3 AND died > ?3 LIMIT 1");
    put_id(&q, &tx->drive.id);
    put_seq(&q, ino);
    put_seq(&q, at ? at : ALIVE - 1);
    int err = query_one(&q);
    if (err)
        return err;
    get_entry(&q, ret);
    return entry_attr(tx, ret, at);
}

int sqlite_entry_history(struct meta_tx *tx, uint64_t parent, const char *name, int (*each)(void *ctx, const struct entry_row *e),
                         void *ctx)
{
    QUERY(q, conn_of(tx),
          "SELECT " ENTRY_COLUMNS_LIVING " FROM dentry WHERE drive = ?1 AND parent = ?2 AND name = ?3 UNION ALL "
          "SELECT " ENTRY_COLUMNS " FROM dentry_past WHERE drive = ?1 AND parent = ?2 AND name = ?3 ORDER BY born DESC");
    put_id(&q, &tx->drive.id);
    put_seq(&q, parent);
    put_name(&q, name);
    return each_entry(tx, &q, 0, each, ctx);
}

/* When the name that a page ended with died last: the next page goes on from there. */
static int last_death(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t *ret)
{
    QUERY(q, conn_of(tx), "SELECT died FROM dentry_past WHERE drive = ?1 AND parent = ?2 AND name = ?3 ORDER BY born DESC LIMIT 1");
    put_id(&q, &tx->drive.id);
    put_seq(&q, parent);
    put_name(&q, name);
    int err = query_one(&q);
    if (!err)
        *ret = get_int(&q);
    return err;
}

int sqlite_entries_dead(struct meta_tx *tx, uint64_t parent, const char *after, unsigned limit,
                        int (*each)(void *ctx, const struct entry_row *e), void *ctx)
{
    uint64_t died = ALIVE;
    int err = *after ? last_death(tx, parent, after, &died) : 0;
    if (err)
        return err == -ENOENT ? 0 : err; /* no page ended with this name */
    QUERY(q, conn_of(tx),
          "SELECT parent, name, ino, born, max(died) AS died FROM dentry_past p WHERE drive = ?1 AND parent = ?2 "
          "AND NOT EXISTS (SELECT 1 FROM dentry d WHERE d.drive = ?1 AND d.parent = ?2 AND d.name = p.name) "
          "GROUP BY name HAVING max(died) < ?3 OR (max(died) = ?3 AND name > ?4) ORDER BY max(died) DESC, name LIMIT ?5");
    put_id(&q, &tx->drive.id);
    put_seq(&q, parent);
    put_seq(&q, died);
    put_name(&q, after);
    put_int(&q, limit);
    return each_entry(tx, &q, 0, each, ctx);
}
