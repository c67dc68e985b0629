/* Directory entries, now and as of a seq. */
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <string.h>

#define LIVING "9223372036854775807::bigint" /* ALIVE */

#define ENTRY_COLUMNS "parent, name, ino, born, died"
#define ENTRY_COLUMNS_LIVING "parent, name, ino, born, " LIVING " AS died"
/* An entry and the inode as the entry had it: as of `at`, or at its end. */
#define WITH_ATTR(entries, at)                                                                                                     \
    "SELECT e.parent, e.name, e.ino, e.born, e.died, " PG_ATTR_COLUMNS("a.") " FROM (" entries ") e CROSS JOIN LATERAL " PG_ATTR_NEAREST("e.ino", at) " a "
#define AT_ITS_END "(CASE WHEN e.died = " LIVING " THEN e.died ELSE e.died - 1 END)"

static void get_entry(struct pg_query *q, struct entry_row *ret)
{
    ret->parent = pg_int(q);
    pg_text(q, ret->name, sizeof ret->name);
    ret->ino = pg_int(q);
    ret->born = pg_int(q);
    ret->died = pg_int(q);
    pg_get_attr(q, &ret->attr);
}

static int one_entry(struct pg_query *q, struct entry_row *ret)
{
    int err = pg_one(q);
    if (!err)
        get_entry(q, ret);
    return err;
}

static int each_entry(struct pg_query *q, int (*each)(void *ctx, const struct entry_row *e), void *ctx)
{
    int err;
    while ((err = pg_step(q)) == 1) {
        struct entry_row e;
        get_entry(q, &e);
        if ((err = each(ctx, &e)) != 0)
            break;
    }
    return err;
}

/* Those that live, with their inodes as they are now: one look-up each. */
#define ENTRY_NOW_COLUMNS "d.parent, d.name, d.ino, d.born, " LIVING ", " PG_ATTR_COLUMNS("i.")
#define ENTRY_NOW_TABLES "dentry d JOIN inode i ON i.drive = $1 AND i.ino = d.ino"
#define ENTRIES_NOW "SELECT " ENTRY_NOW_COLUMNS " FROM " ENTRY_NOW_TABLES " WHERE d.drive = $1 AND d.parent = $2 AND "

struct pg_query pg_entry_query(struct pg_conn *c, const struct uuid *drive, uint64_t parent, const char *name)
{
    struct pg_query q = pg_query_begin(c, ENTRIES_NOW "d.name = $3");
    pg_put_id(&q, drive);
    pg_put_seq(&q, parent);
    pg_put_name(&q, name);
    return q;
}

int pg_entry_take(struct pg_query *q, struct entry_row *ret)
{
    return one_entry(q, ret);
}

/* One statement is one snapshot: nothing is begun or ended. */
static int lookup_here(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, uint64_t *ret_seq, struct entry_row *ret_entry)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "SELECT r.seq, " ENTRY_NOW_COLUMNS " FROM drive r LEFT JOIN (" ENTRY_NOW_TABLES ") ON d.drive = $1 AND d.parent = $2 AND d.name = $3 WHERE r.id = $1");
    pg_put_id(&q, drive);
    pg_put_seq(&q, parent);
    pg_put_name(&q, name);
    int err = pg_one(&q);
    if (err)
        return err;
    *ret_seq = (uint64_t)pg_int(&q);
    get_entry(&q, ret_entry);
    return 0;
}

int postgres_lookup(struct meta *m, const struct uuid *drive, uint64_t parent, const char *name, uint64_t *ret_seq, struct entry_row *ret_entry)
{
    return PG_SEARCH(m, drive, lookup_here(m, drive, parent, name, ret_seq, ret_entry));
}

int postgres_entry(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t at, struct entry_row *ret)
{
    if (!at) {
        CLEANUP(pg_query_end) struct pg_query q = pg_entry_query(pg_conn_of(tx), &tx->drive.id, parent, name);
        return one_entry(&q, ret);
    }
    PG_QUERY(q, pg_conn_of(tx),
             WITH_ATTR("SELECT " ENTRY_COLUMNS_LIVING " FROM dentry WHERE drive = $1 AND parent = $2 AND name = $3 AND born <= $4 UNION ALL "
                       "SELECT " ENTRY_COLUMNS " FROM dentry_past WHERE drive = $1 AND parent = $2 AND name = $3 AND born <= $4 AND died > $4 LIMIT 1", "$4"));
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, parent);
    pg_put_name(&q, name);
    pg_put_seq(&q, at);
    return one_entry(&q, ret);
}

int postgres_entries(struct meta_tx *tx, uint64_t parent, uint64_t at, const char *after, unsigned limit,
                     int (*each)(void *ctx, const struct entry_row *e), void *ctx)
{
    if (!at) {
        PG_QUERY(q, pg_conn_of(tx), ENTRIES_NOW "d.name > $3 ORDER BY d.name LIMIT $4");
        pg_put_id(&q, &tx->drive.id);
        pg_put_seq(&q, parent);
        pg_put_name(&q, after);
        pg_put_int(&q, limit);
        return each_entry(&q, each, ctx);
    }
    PG_QUERY(q, pg_conn_of(tx),
             WITH_ATTR("SELECT " ENTRY_COLUMNS_LIVING " FROM dentry WHERE drive = $1 AND parent = $2 AND name > $3 AND born <= $4 UNION ALL "
                       "SELECT " ENTRY_COLUMNS " FROM dentry_past WHERE drive = $1 AND parent = $2 AND name > $3 AND born <= $4 AND died > $4 "
                       "ORDER BY name LIMIT $5", "$4") "ORDER BY e.name");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, parent);
    pg_put_name(&q, after);
    pg_put_seq(&q, at);
    pg_put_int(&q, limit);
    return each_entry(&q, each, ctx);
}

int postgres_entry_of_ino(struct meta_tx *tx, uint64_t ino, uint64_t at, struct entry_row *ret)
{
    PG_QUERY(q, pg_conn_of(tx),
             WITH_ATTR("SELECT " ENTRY_COLUMNS_LIVING " FROM dentry WHERE drive = $1 AND ino = $2 AND born <= $3 UNION ALL "
                       "SELECT " ENTRY_COLUMNS " FROM dentry_past WHERE drive = $1 AND ino = $2 AND born <= $3 AND died > $3 LIMIT 1", "$4"));
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, ino);
    pg_put_seq(&q, at ? at : ALIVE - 1);
    pg_put_seq(&q, at ? at : ALIVE);
    return one_entry(&q, ret);
}

int postgres_entry_history(struct meta_tx *tx, uint64_t parent, const char *name, int (*each)(void *ctx, const struct entry_row *e),
                           void *ctx)
{
    PG_QUERY(q, pg_conn_of(tx),
             WITH_ATTR("SELECT " ENTRY_COLUMNS_LIVING " FROM dentry WHERE drive = $1 AND parent = $2 AND name = $3 UNION ALL "
                       "SELECT " ENTRY_COLUMNS " FROM dentry_past WHERE drive = $1 AND parent = $2 AND name = $3", AT_ITS_END) "ORDER BY e.born DESC");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, parent);
    pg_put_name(&q, name);
    return each_entry(&q, each, ctx);
}

/* When the name that a page ended with died last: the next page goes on from there. */
static int last_death(struct meta_tx *tx, uint64_t parent, const char *name, uint64_t *ret)
{
    PG_QUERY(q, pg_conn_of(tx), "SELECT died FROM dentry_past WHERE drive = $1 AND parent = $2 AND name = $3 ORDER BY born DESC LIMIT 1");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, parent);
    pg_put_name(&q, name);
    int err = pg_one(&q);
    if (!err)
        *ret = pg_int(&q);
    return err;
}

int postgres_entries_dead(struct meta_tx *tx, uint64_t parent, const char *after, unsigned limit,
                          int (*each)(void *ctx, const struct entry_row *e), void *ctx)
{
    uint64_t died = ALIVE;
    int err = *after ? last_death(tx, parent, after, &died) : 0;
    if (err)
        return err == -ENOENT ? 0 : err; /* no page ended with this name */
    PG_QUERY(q, pg_conn_of(tx),
             WITH_ATTR("SELECT * FROM (SELECT DISTINCT ON (name) " ENTRY_COLUMNS " FROM dentry_past WHERE drive = $1 AND parent = $2 ORDER BY name, died DESC) p "
                       "WHERE NOT EXISTS (SELECT 1 FROM dentry d WHERE d.drive = $1 AND d.parent = $2 AND d.name = p.name) "
                       "AND (died < $3 OR (died = $3 AND name > $4)) ORDER BY died DESC, name LIMIT $5", AT_ITS_END) "ORDER BY e.died DESC, e.name");
    pg_put_id(&q, &tx->drive.id);
    pg_put_seq(&q, parent);
    pg_put_seq(&q, died);
    pg_put_name(&q, after);
    pg_put_int(&q, limit);
    return each_entry(&q, each, ctx);
}
