/* Drives and who may use them. What a drive is called and where it is, the catalogue knows; the rest its shard. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/adapters/meta_postgres.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define ROOT_INO 1
#define SEQ_FIRST (UINT64_C(1) << 40) /* generation 1 */
#define PAGE 1000

void pg_get_drive(struct pg_query *q, struct drive_row *ret)
{
    pg_id(q, &ret->id);
    pg_id(q, &ret->owner);
    pg_text(q, ret->name, sizeof ret->name);
    ret->root = pg_int(q);
    ret->seq = pg_int(q);
    ret->used = pg_int(q);
    ret->quota = pg_int(q);
    ret->files = pg_int(q);
    ret->next_ino = pg_int(q);
    ret->oldest_change = pg_int(q);
    ret->last_time = pg_int(q);
    ret->prior_end = pg_int(q);
    ret->role = ROLE_NONE;
    ret->away = false;
}

/* ---- making one ---- */

static int add_rows(struct pg_conn *c, const struct drive_row *d, int64_t now)
{
    PG_QUERY(q, c,
             "WITH d AS (INSERT INTO drive (" PG_DRIVE_COLUMNS ", lineage, generation_at) VALUES ($1, $2, $3, $4, $5, 0, $6, 1, $4::bigint + 1, 0, $7, 0, $8, 0) ON CONFLICT (id) DO NOTHING) "
             "INSERT INTO inode (drive, " PG_ATTR_COLUMNS("") ", born, born_at, parent, children) "
             "VALUES ($1, $4, $9, 2, 0, 0, 0, 0, $7, $7, $7, $7, 0, 0, false, $5, $7, 0, 0) ON CONFLICT (drive, ino) DO NOTHING");
    pg_put_id(&q, &d->id);
    pg_put_id(&q, &d->owner);
    pg_put_text(&q, d->name);
    pg_put_int(&q, ROOT_INO);
    pg_put_seq(&q, SEQ_FIRST);
    pg_put_seq(&q, d->quota);
    pg_put_int(&q, now);
    pg_put_text(&q, c ? c->lineage : "");
    pg_put_int(&q, S_IFDIR | 0755);
    return pg_run_once(&q);
}

static int add_placement(struct meta *m, const struct drive_row *d, const char *shard)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c,
             "WITH p AS (INSERT INTO placement (drive, owner, name, shard) VALUES ($1, $2, $3, $4) ON CONFLICT (drive) DO NOTHING RETURNING drive, owner) "
             "INSERT INTO member (user_id, drive, role) SELECT owner, drive, $5::bigint FROM p");
    pg_put_id(&q, &d->id);
    pg_put_id(&q, &d->owner);
    pg_put_text(&q, d->name);
    pg_put_text(&q, shard);
    pg_put_int(&q, ROLE_OWNER);
    return pg_run_once(&q);
}

static int remove_rows(struct pg_conn *c, const struct uuid *drive)
{
    PG_QUERY(q, c, "WITH i AS (DELETE FROM inode WHERE drive = $1) DELETE FROM drive WHERE id = $1");
    pg_put_id(&q, drive);
    return pg_run(&q);
}

/* First the rows, then the entry that makes them a drive: whoever finds one finds it whole. */
int postgres_drive_add(struct meta *m, const struct drive_row *d)
{
    char shard[64];
    struct pg_pool *pool;
    int err = pg_shards_place(postgres_of(m)->shards, &d->owner, shard, &pool);
    if (err)
        return err;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pg_conn_get(pool, &err);
    err = err ? err : add_rows(c, d, clock_wall_ns());
    if (err)
        return err;
    err = add_placement(m, d, shard);
    if (err == -EEXIST)
        remove_rows(c, &d->id);
    return err;
}

/* ---- finding them ---- */

static int by_id_here(struct meta *m, const struct uuid *id, struct drive_row *ret)
{
    PG_HERE(c, m, id);
    PG_QUERY(q, c, "SELECT " PG_DRIVE_COLUMNS " FROM drive WHERE id = $1");
    pg_put_id(&q, id);
    int err = pg_one(&q);
    if (!err)
        pg_get_drive(&q, ret);
    return err;
}

int postgres_drive_by_id(struct meta *m, const struct uuid *id, struct drive_row *ret)
{
    return PG_SEARCH(m, id, by_id_here(m, id, ret));
}

/* Drives that the catalogue has named, to be filled in from the shards where it says they are: a move that was broken off may have left rows in another. */
struct found {
    struct found_drive {
        struct drive_row row; /* root 0: not found there; away: where it may be could not be looked at */
        char shard[64], moving_to[64]; /* "": it is not */
    } *drives;
    size_t n;
};

static void found_fini(struct found *f)
{
    free(f->drives);
}

/* Columns: drive, name, shard, moving_to, role. */
static int take_found(struct pg_query *q, struct found *ret)
{
    int err;
    while ((err = pg_step(q)) == 1) {
        if (ret->n % 16 == 0)
            ret->drives = mem_realloc(ret->drives, (ret->n + 16) * sizeof *ret->drives);
        struct found_drive *d = &ret->drives[ret->n++];
        *d = (struct found_drive){0};
        pg_id(q, &d->row.id);
        pg_text(q, d->row.name, sizeof d->row.name);
        pg_text(q, d->shard, sizeof d->shard);
        pg_text(q, d->moving_to, sizeof d->moving_to);
        d->row.role = (enum role)pg_int(q);
    }
    return err;
}

static int find_memberships(struct meta *m, const struct uuid *user, struct found *ret)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c,
             "SELECT p.drive, p.name, p.shard, coalesce(p.moving_to, ''), m.role FROM member m JOIN placement p ON p.drive = m.drive WHERE m.user_id = $1 ORDER BY p.name, p.drive");
    pg_put_id(&q, user);
    return take_found(&q, ret);
}

static int find_page(struct meta *m, const struct uuid *after, struct found *ret)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT drive, name, shard, coalesce(moving_to, ''), 0::bigint FROM placement WHERE drive > $1 ORDER BY drive LIMIT $2");
    pg_put_id(&q, after);
    pg_put_int(&q, PAGE);
    return take_found(&q, ret);
}

static void fill_one(struct drive_row *r, const struct drive_row *d)
{
    const struct drive_row known = *r;
    *r = *d;
    r->role = known.role;
    memcpy(r->name, known.name, sizeof r->name);
}

#define FILL_FROM(table) "SELECT w.i, " PG_DRIVE_COLUMNS " FROM unnest($1::uuid[], $2::bigint[]) AS w(drive, i) JOIN " table " d ON d.id = w.drive"
static const char in_use[] = FILL_FROM("drive"), arriving[] = FILL_FROM("arriving");

static int fill_from(struct meta *m, const char *shard, const char *sql, struct found *f)
{
    struct pg_pool *pool = pg_shards_named(postgres_of(m)->shards, shard);
    int err = pool ? 0 : -EHOSTUNREACH;
    CLEANUP(postgres_scope_end) struct pg_conn *c = pool ? pg_conn_get(pool, &err) : NULL;
    if (err)
        return err;
    CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(c, sql);
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += strcmp(f->drives[i].shard, shard) == 0;
    pg_put_array(&q, PG_ID, n);
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->drives[i].shard, shard) == 0)
            pg_add_id(&q, &f->drives[i].row.id);
    pg_put_array(&q, PG_INT, n);
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->drives[i].shard, shard) == 0)
            pg_add_seq(&q, i);
    while ((err = pg_step(&q)) == 1) {
        struct drive_row d;
        struct drive_row *r = &f->drives[pg_int(&q)].row;
        pg_get_drive(&q, &d);
        fill_one(r, &d);
    }
    return err;
}

static void mark_away(struct found *f, const char *shard)
{
    for (size_t i = 0; i < f->n; i++)
        f->drives[i].row.away |= !f->drives[i].row.root && strcmp(f->drives[i].shard, shard) == 0;
}

static bool is_first_of_shard(const struct found *f, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(f->drives[k].shard, f->drives[i].shard) == 0)
            return false;
    return true;
}

/* Those whose move has reached the other shard, but not yet the catalogue: should it have ended there, they are to be found for the next one. */
static int fill_moving(struct meta *m, struct found *f)
{
    int err = 0;
    for (size_t i = 0; i < f->n; i++) {
        struct found_drive *d = &f->drives[i];
        if (d->row.root || !*d->moving_to)
            continue;
        memcpy(d->shard, d->moving_to, sizeof d->shard);
        struct found one = {.drives = d, .n = 1};
        int failed = fill_from(m, d->shard, in_use, &one);
        if (!failed && !d->row.root)
            failed = fill_from(m, d->shard, arriving, &one);
        d->row.away |= failed != 0;
        err = failed ? failed : err;
    }
    return err;
}

/* From each shard, though another is away. The last error. */
static int fill(struct meta *m, struct found *f)
{
    int err = 0;
    for (size_t i = 0; i < f->n; i++) {
        int failed = is_first_of_shard(f, i) ? fill_from(m, f->drives[i].shard, in_use, f) : 0;
        if (failed)
            mark_away(f, f->drives[i].shard);
        err = failed ? failed : err;
    }
    int failed = fill_moving(m, f);
    return failed ? failed : err;
}

static int call_filled(const struct found *f, bool away_too, int (*each)(void *ctx, const struct drive_row *d), void *ctx)
{
    int err = 0;
    for (size_t i = 0; i < f->n && !err; i++)
        if (f->drives[i].row.root || (away_too && f->drives[i].row.away))
            err = each(ctx, &f->drives[i].row);
    return err;
}

/* Not where the catalogue has just gone as well. */
static bool others_alone_are_away(const struct found *f)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->drives[i].row.away && strcmp(f->drives[i].shard, SHARD_MAIN) == 0)
            return false;
    return true;
}

int postgres_drive_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct drive_row *d), void *ctx)
{
    CLEANUP(found_fini) struct found f = {0};
    int err = find_memberships(m, user, &f);
    if (err)
        return err;
    err = fill(m, &f);
    if ((err == -EHOSTUNREACH || err == -ETIMEDOUT) && others_alone_are_away(&f))
        err = 0;
    return err ? err : call_filled(&f, true, each, ctx);
}

int postgres_drives_each(struct meta *m, int (*each)(void *ctx, const struct drive_row *d), void *ctx)
{
    struct uuid after = {{0}};
    int away = 0;
    for (size_t n = PAGE; n == PAGE;) {
        CLEANUP(found_fini) struct found f = {0};
        int err = find_page(m, &after, &f);
        n = f.n;
        if (n)
            after = f.drives[n - 1].row.id;
        int failed = err ? 0 : fill(m, &f);
        away = failed ? failed : away;
        if (!err)
            err = call_filled(&f, false, each, ctx);
        if (err)
            return err;
    }
    return away;
}

/* ---- changing them ---- */

static int changed_one(struct pg_query *q)
{
    int err = pg_run(q);
    return err ? err : pg_changes(q) == 0 ? -ENOENT : 0;
}

static int rename_here(struct meta *m, const struct uuid *id, const char *name)
{
    PG_HERE(c, m, id);
    PG_QUERY(q, c, "UPDATE drive SET name = $2 WHERE id = $1");
    pg_put_id(&q, id);
    pg_put_text(&q, name);
    return changed_one(&q);
}

int postgres_drive_rename(struct meta *m, const struct uuid *id, const char *name)
{
    {
        PG_CATALOGUE(c, m);
        PG_QUERY(q, c, "UPDATE placement SET name = $2 WHERE drive = $1");
        pg_put_id(&q, id);
        pg_put_text(&q, name);
        int err = changed_one(&q);
        if (err)
            return err;
    }
    return PG_SEARCH(m, id, rename_here(m, id, name));
}

static int quota_here(struct meta *m, const struct uuid *id, uint64_t quota)
{
    PG_HERE(c, m, id);
    PG_QUERY(q, c, "UPDATE drive SET quota = $2 WHERE id = $1");
    pg_put_id(&q, id);
    pg_put_seq(&q, quota);
    return changed_one(&q);
}

int postgres_drive_quota(struct meta *m, const struct uuid *id, uint64_t quota)
{
    return PG_SEARCH(m, id, quota_here(m, id, quota));
}

static int reserve_here(struct meta *m, const struct uuid *drive, uint64_t count, uint64_t *ret_first)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "UPDATE drive SET next_ino = next_ino + $2 WHERE id = $1 AND next_ino <= 9223372036854775807 - $2 RETURNING next_ino - $2");
    pg_put_id(&q, drive);
    pg_put_seq(&q, count);
    int err = pg_one(&q);
    if (!err)
        *ret_first = pg_int(&q);
    return err;
}

int postgres_inodes_reserve(struct meta *m, const struct uuid *drive, uint64_t count, uint64_t *ret_first)
{
    if (count > INT64_MAX)
        return -EOVERFLOW;
    int err = PG_SEARCH(m, drive, reserve_here(m, drive, count, ret_first));
    if (err != -ENOENT)
        return err;
    struct drive_row d;
    err = postgres_drive_by_id(m, drive, &d);
    return err ? err : -EOVERFLOW;
}

/* ---- members ---- */

int postgres_member_set(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role role)
{
    PG_CATALOGUE(c, m);
    if (role == ROLE_NONE) {
        PG_QUERY(q, c,
                 "WITH gone AS (DELETE FROM member WHERE user_id = $2 AND drive = $1) SELECT 1::bigint FROM placement WHERE drive = $1");
        pg_put_id(&q, drive);
        pg_put_id(&q, user);
        return pg_one(&q);
    }
    PG_QUERY(q, c,
             "INSERT INTO member (user_id, drive, role) SELECT $2::uuid, drive, $3::bigint FROM placement WHERE drive = $1 "
             "ON CONFLICT (user_id, drive) DO UPDATE SET role = excluded.role");
    pg_put_id(&q, drive);
    pg_put_id(&q, user);
    pg_put_int(&q, role);
    return changed_one(&q);
}

int postgres_member_role(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role *ret)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT role FROM member WHERE user_id = $1 AND drive = $2");
    pg_put_id(&q, user);
    pg_put_id(&q, drive);
    int err = pg_one(&q);
    *ret = err ? ROLE_NONE : (enum role)pg_int(&q);
    return err == -ENOENT ? 0 : err;
}

int postgres_member_list(struct meta *m, const struct uuid *drive, int (*each)(void *ctx, const struct uuid *user, enum role role), void *ctx)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c, "SELECT user_id, role FROM member WHERE drive = $1");
    pg_put_id(&q, drive);
    int err;
    while ((err = pg_step(&q)) == 1) {
        struct uuid user;
        pg_id(&q, &user);
        enum role role = (enum role)pg_int(&q);
        if ((err = each(ctx, &user, role)) != 0)
            break;
    }
    return err;
}

/* ---- cursors ---- */

int postgres_cursor_get(struct meta *m, const struct uuid *drive, const char *name, uint64_t *ret)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c, "SELECT seq FROM cursor WHERE drive = $1 AND name = $2");
    pg_put_id(&q, drive);
    pg_put_text(&q, name);
    int err = pg_one(&q);
    *ret = err ? 0 : (uint64_t)pg_int(&q);
    return err == -ENOENT ? 0 : err;
}

static int cursor_here(struct meta *m, const struct uuid *drive, const char *name, uint64_t seq)
{
    PG_HERE(c, m, drive);
    PG_QUERY(q, c,
             "WITH " PG_KEPT("$1") ", i AS (INSERT INTO cursor (drive, name, seq) SELECT d.id, $2::text, $3::bigint FROM d ON CONFLICT (drive, name) DO UPDATE SET seq = excluded.seq "
             "RETURNING 1)" PG_KEPT_SAYS("i"));
    pg_put_id(&q, drive);
    pg_put_text(&q, name);
    pg_put_seq(&q, seq);
    return postgres_run_kept(&q);
}

int postgres_cursor_put(struct meta *m, const struct uuid *drive, const char *name, uint64_t seq)
{
    return PG_SEARCH(m, drive, cursor_here(m, drive, name, seq));
}

/* ---- turns ---- */

int postgres_turn_take(struct meta *m, const char *name, const struct uuid *holder, unsigned ms)
{
    PG_CATALOGUE(c, m);
    PG_QUERY(q, c,
             "INSERT INTO turn AS t (name, holder, until) VALUES ($1, $2, " PG_NOW_NS " + $3::bigint) "
             "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE t.until < " PG_NOW_NS " OR t.holder = excluded.holder");
    pg_put_text(&q, name);
    pg_put_id(&q, holder);
    pg_put_int(&q, ms * INT64_C(1000000));
    int err = pg_run(&q);
    return err ? err : pg_changes(&q) ? 0 : -EAGAIN;
}
