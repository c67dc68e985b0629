/* Drives and who may use them. */
#include "common/clock.h"
#include "gateway/adapters/meta_sqlite.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define ROOT_INO 1
#define SEQ_FIRST (UINT64_C(1) << 40) /* generation 1 */

void get_drive(struct query *q, struct drive_row *ret)
{
    get_id(q, &ret->id);
    get_id(q, &ret->owner);
    get_text(q, ret->name, sizeof ret->name);
    ret->root = get_int(q);
    ret->seq = get_int(q);
    ret->used = get_int(q);
    ret->quota = get_int(q);
    ret->files = get_int(q);
    ret->next_ino = get_int(q);
    ret->oldest_change = get_int(q);
    ret->last_time = get_int(q);
    ret->prior_end = get_int(q);
    ret->role = ROLE_NONE;
    ret->away = false;
}

int sqlite_drive(struct conn *c, const struct uuid *id, struct drive_row *ret)
{
    QUERY(q, c, "SELECT " DRIVE_COLUMNS("") " FROM drive WHERE id = ?1");
    put_id(&q, id);
    int err = query_one(&q);
    if (!err)
        get_drive(&q, ret);
    return err;
}

static int add_row(struct conn *c, const struct drive_row *d, int64_t now)
{
    QUERY(q, c, "INSERT INTO drive (" DRIVE_COLUMNS("") ") VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, 1, ?7, 0, ?8, 0)");
    put_id(&q, &d->id);
    put_id(&q, &d->owner);
    put_text(&q, d->name);
    put_int(&q, ROOT_INO);
    put_seq(&q, SEQ_FIRST);
    put_seq(&q, d->quota);
    put_int(&q, ROOT_INO + 1);
    put_int(&q, now);
    return query_run(&q);
}

static int add_root(struct conn *c, const struct drive_row *d, int64_t now)
{
    struct attr root = {.ino = ROOT_INO, .mode = S_IFDIR | 0755, .nlink = 2, .atime = now, .mtime = now, .ctime = now, .btime = now};
    QUERY(q, c,
          "INSERT INTO inode (drive, " ATTR_COLUMNS("") ", born, born_at, parent, children) "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 0, 0)");
    put_id(&q, &d->id);
    put_attr(&q, &root);
    put_seq(&q, SEQ_FIRST);
    put_int(&q, now);
    return query_run(&q);
}

static int set_role(struct conn *c, const struct uuid *drive, const struct uuid *user, enum role role)
{
    QUERY(q, c, "INSERT OR REPLACE INTO member (drive, user, role) VALUES (?1, ?2, ?3)");
    put_id(&q, drive);
    put_id(&q, user);
    put_int(&q, role);
    return query_run(&q);
}

int sqlite_drive_add(struct meta *m, const struct drive_row *d)
{
    WRITER(w, m);
    int64_t now = clock_wall_ns();
    int err = w.err ? w.err : add_row(w.c, d, now);
    if (!err)
        err = add_root(w.c, d, now);
    if (!err)
        err = set_role(w.c, &d->id, &d->owner, ROLE_OWNER);
    return writer_commit(&w, err);
}

int sqlite_drive_by_id(struct meta *m, const struct uuid *id, struct drive_row *ret)
{
    READER(c, m);
    return sqlite_drive(c, id, ret);
}

int sqlite_drive_list(struct meta *m, const struct uuid *user, int (*each)(void *ctx, const struct drive_row *d), void *ctx)
{
    READER(c, m);
    QUERY(q, c,
          "SELECT " DRIVE_COLUMNS("d.") ", m.role FROM member m CROSS JOIN drive d ON d.id = m.drive WHERE m.user = ?1 ORDER BY d.name, d.id");
    put_id(&q, user);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct drive_row d;
        get_drive(&q, &d);
        d.role = (enum role)get_int(&q);
        if ((err = each(ctx, &d)) != 0)
            break;
    }
    return err;
}

int sqlite_drives_each(struct meta *m, int (*each)(void *ctx, const struct drive_row *d), void *ctx)
{
    READER(c, m);
    QUERY(q, c, "SELECT " DRIVE_COLUMNS("") " FROM drive");
    int err;
    while ((err = query_step(&q)) == 1) {
        struct drive_row d;
        get_drive(&q, &d);
        if ((err = each(ctx, &d)) != 0)
            break;
    }
    return err;
}

int sqlite_drive_rename(struct meta *m, const struct uuid *id, const char *name)
{
    WRITER(w, m);
    QUERY(q, w.c, "UPDATE drive SET name = ?2 WHERE id = ?1");
    put_id(&q, id);
    put_text(&q, name);
    int err = query_run(&q);
    if (!err && query_changes(&q) == 0)
        err = -ENOENT;
    query_end(&q);
    return writer_commit(&w, err);
}

int sqlite_drive_quota(struct meta *m, const struct uuid *id, uint64_t quota)
{
    WRITER(w, m);
    QUERY(q, w.c, "UPDATE drive SET quota = ?2 WHERE id = ?1");
    put_id(&q, id);
    put_seq(&q, quota);
    int err = query_run(&q);
    if (!err && query_changes(&q) == 0)
        err = -ENOENT;
    query_end(&q);
    return writer_commit(&w, err);
}

int sqlite_inodes_reserve(struct meta *m, const struct uuid *drive, uint64_t count, uint64_t *ret_first)
{
    WRITER(w, m);
    struct drive_row d;
    int err = w.err ? w.err : sqlite_drive(w.c, drive, &d);
    if (!err && count > INT64_MAX - d.next_ino)
        err = -EOVERFLOW;
    if (err)
        return writer_commit(&w, err);
    QUERY(q, w.c, "UPDATE drive SET next_ino = ?2 WHERE id = ?1");
    put_id(&q, drive);
    put_seq(&q, d.next_ino + count);
    err = query_run(&q);
    query_end(&q);
    *ret_first = d.next_ino;
    return writer_commit(&w, err);
}

/* ---- members ---- */

static int remove_member(struct conn *c, const struct uuid *drive, const struct uuid *user)
{
    QUERY(q, c, "DELETE FROM member WHERE user = ?1 AND drive = ?2");
    put_id(&q, user);
    put_id(&q, drive);
    return query_run(&q);
}

int sqlite_member_set(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role role)
{
    WRITER(w, m);
    struct drive_row d;
    int err = w.err ? w.err : sqlite_drive(w.c, drive, &d);
    if (!err)
        err = role == ROLE_NONE ? remove_member(w.c, drive, user) : set_role(w.c, drive, user, role);
    return writer_commit(&w, err);
}

int sqlite_member_role(struct meta *m, const struct uuid *drive, const struct uuid *user, enum role *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT role FROM member WHERE user = ?1 AND drive = ?2");
    put_id(&q, user);
    put_id(&q, drive);
    int err = query_one(&q);
    *ret = err ? ROLE_NONE : (enum role)get_int(&q);
    return err == -ENOENT ? 0 : err;
}

int sqlite_member_list(struct meta *m, const struct uuid *drive, int (*each)(void *ctx, const struct uuid *user, enum role role), void *ctx)
{
    READER(c, m);
    QUERY(q, c, "SELECT user, role FROM member WHERE drive = ?1");
    put_id(&q, drive);
    int err;
    while ((err = query_step(&q)) == 1) {
        struct uuid user;
        get_id(&q, &user);
        enum role role = (enum role)get_int(&q);
        if ((err = each(ctx, &user, role)) != 0)
            break;
    }
    return err;
}

/* ---- shards: there are none ---- */

int sqlite_shard_add(struct meta *m, const char *name, const char *url)
{
    (void)m;
    (void)name;
    (void)url;
    return -ENOTSUP;
}

int sqlite_shard_list(struct meta *m, int (*each)(void *ctx, const char *name, const char *url, uint64_t drives), void *ctx)
{
    (void)m;
    (void)each;
    (void)ctx;
    return -ENOTSUP;
}

int sqlite_drive_move(struct meta *m, const struct uuid *drive, const char *shard)
{
    (void)m;
    (void)drive;
    (void)shard;
    return -ENOTSUP;
}

/* ---- cursors ---- */

int sqlite_cursor_get(struct meta *m, const struct uuid *drive, const char *name, uint64_t *ret)
{
    READER(c, m);
    QUERY(q, c, "SELECT seq FROM cursor WHERE drive = ?1 AND name = ?2");
    put_id(&q, drive);
    put_text(&q, name);
    int err = query_one(&q);
    *ret = err ? 0 : (uint64_t)get_int(&q);
    return err == -ENOENT ? 0 : err;
}

int sqlite_cursor_put(struct meta *m, const struct uuid *drive, const char *name, uint64_t seq)
{
    WRITER(w, m);
    if (w.err)
        return w.err;
    QUERY(q, w.c, "INSERT OR REPLACE INTO cursor (drive, name, seq) VALUES (?1, ?2, ?3)");
    put_id(&q, drive);
    put_text(&q, name);
    put_seq(&q, seq);
    int err = query_run(&q);
    query_end(&q);
    return writer_commit(&w, err);
}

/* ---- turns ---- */

int sqlite_turn_take(struct meta *m, const char *name, const struct uuid *holder, unsigned ms)
{
    int64_t now = clock_wall_ns();
    WRITER(w, m);
    if (w.err)
        return w.err;
    QUERY(q, w.c,
          "INSERT INTO turn (name, holder, until) VALUES (?1, ?2, ?3) "
          "ON CONFLICT DO UPDATE SET holder = excluded.holder, until = excluded.until WHERE until < ?4 OR holder = excluded.holder");
    put_text(&q, name);
    put_id(&q, holder);
    put_int(&q, now + ms * INT64_C(1000000));
    put_int(&q, now);
    int err = query_run(&q);
    if (!err && query_changes(&q) == 0)
        err = -EAGAIN;
    query_end(&q);
    return writer_commit(&w, err);
}
