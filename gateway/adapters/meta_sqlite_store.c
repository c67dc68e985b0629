/* Writes what a transaction made or changed (gateway/core/rows.h). */
#include "gateway/adapters/meta_sqlite.h"
#include "gateway/adapters/segment_pack.h"

#include <errno.h>

#define SECOND INT64_C(1000000000)

struct storing {
    struct conn *c;
    const struct uuid *drive;
    struct rows *rows;
};

/* ---- inodes ---- */

static int store_past(struct storing *s, const struct inode_row *i)
{
    QUERY(q, s->c,
          "INSERT OR REPLACE INTO inode_past (drive, died, born, " ATTR_COLUMNS("") ") "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)");
    put_id(&q, s->drive);
    put_seq(&q, i->past_died);
    put_seq(&q, i->past_born);
    put_attr(&q, &i->past);
    return query_run(&q);
}

static int insert_inode(struct storing *s, const struct inode_row *i)
{
    QUERY(q, s->c,
          "INSERT INTO inode (drive, born, born_at, parent, children, target, " ATTR_COLUMNS("") ") "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)");
    put_id(&q, s->drive);
    put_seq(&q, i->born);
    put_int(&q, i->born_at);
    put_seq(&q, i->parent);
    put_int(&q, i->children);
    if (i->target)
        put_name(&q, i->target);
    else
        put_null(&q);
    put_attr(&q, &i->attr);
    return query_run(&q);
}

static int update_inode(struct storing *s, const struct inode_row *i)
{
    QUERY(q, s->c,
          "UPDATE inode SET born = ?2, born_at = ?3, parent = ?4, children = ?5, mode = ?7, nlink = ?8, uid = ?9, gid = ?10, rdev = ?11, "
          "size = ?12, atime = ?13, mtime = ?14, ctime = ?15, btime = ?16, version = ?17, chunk_size = ?18, quarantined = ?19 "
          "WHERE drive = ?1 AND ino = ?6");
    put_id(&q, s->drive);
    put_seq(&q, i->born);
    put_int(&q, i->born_at);
    put_seq(&q, i->parent);
    put_int(&q, i->children);
    put_attr(&q, &i->attr);
    return query_run(&q);
}

static int store_inodes(struct storing *s)
{
    int err = 0;
    for (const struct inode_row *i = s->rows->dirty_inodes; i && !err; i = i->next_dirty) {
        if (i->has_past)
            err = store_past(s, i);
        if (!err)
            err = i->fresh ? insert_inode(s, i) : update_inode(s, i);
    }
    return err;
}

/* ---- names ---- */

static int name_is_born(struct storing *s, const struct dentry_event *e)
{
    QUERY(q, s->c, "INSERT INTO dentry (drive, parent, name, ino, born) VALUES (?1, ?2, ?3, ?4, ?5)");
    put_id(&q, s->drive);
    put_seq(&q, e->parent);
    put_name(&q, e->name);
    put_seq(&q, e->ino);
    put_seq(&q, e->seq);
    return query_run(&q);
}

static int name_dies(struct storing *s, const struct dentry_event *e)
{
    uint64_t born, ino;
    {
        QUERY(gone, s->c, "DELETE FROM dentry WHERE drive = ?1 AND parent = ?2 AND name = ?3 RETURNING born, ino");
        put_id(&gone, s->drive);
        put_seq(&gone, e->parent);
        put_name(&gone, e->name);
        int err = query_one(&gone);
        if (err)
            return err == -ENOENT ? -EIO : err; /* rows and store disagree */
        born = get_int(&gone);
        ino = get_int(&gone);
        err = query_run(&gone);
        if (err)
            return err;
    }
    if (born >= e->seq) /* it was never seen */
        return 0;
    QUERY(q, s->c, "INSERT INTO dentry_past (drive, parent, name, born, died, ino) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    put_id(&q, s->drive);
    put_seq(&q, e->parent);
    put_name(&q, e->name);
    put_seq(&q, born);
    put_seq(&q, e->seq);
    put_seq(&q, ino);
    return query_run(&q);
}

static int store_names(struct storing *s)
{
    int err = 0;
    for (size_t i = 0; i < s->rows->n_dentry_events && !err; i++) {
        const struct dentry_event *e = &s->rows->dentry_events[i];
        err = e->dies ? name_dies(s, e) : name_is_born(s, e);
    }
    return err;
}

/* ---- xattrs ---- */

static int keep_xattr(struct storing *s, const struct xattr_row *x)
{
    QUERY(q, s->c,
          "INSERT OR REPLACE INTO xattr_past (drive, ino, name, died, born, value) "
          "SELECT drive, ino, name, ?4, born, value FROM xattr WHERE drive = ?1 AND ino = ?2 AND name = ?3");
    put_id(&q, s->drive);
    put_seq(&q, x->ino);
    put_name(&q, x->name);
    put_seq(&q, x->past_died);
    return query_run(&q);
}

static int remove_xattr(struct storing *s, const struct xattr_row *x)
{
    QUERY(q, s->c, "DELETE FROM xattr WHERE drive = ?1 AND ino = ?2 AND name = ?3");
    put_id(&q, s->drive);
    put_seq(&q, x->ino);
    put_name(&q, x->name);
    return query_run(&q);
}

static int set_xattr(struct storing *s, const struct xattr_row *x)
{
    QUERY(q, s->c, "INSERT OR REPLACE INTO xattr (drive, ino, name, born, born_at, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    put_id(&q, s->drive);
    put_seq(&q, x->ino);
    put_name(&q, x->name);
    put_seq(&q, x->born);
    put_int(&q, x->born_at);
    put_blob(&q, x->value, x->len);
    return query_run(&q);
}

static int store_xattrs(struct storing *s)
{
    int err = 0;
    for (const struct xattr_row *x = s->rows->dirty_xattrs; x && !err; x = x->next_dirty) {
        if (x->past_born && x->keep_past)
            err = keep_xattr(s, x);
        if (!err)
            err = x->value ? set_xattr(s, x) : remove_xattr(s, x);
    }
    return err;
}

/* ---- content ---- */

static int add_version(struct storing *s, const struct version_row *v)
{
    QUERY(q, s->c,
          "INSERT INTO version (drive, " VERSION_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
    put_id(&q, s->drive);
    put_seq(&q, v->ino);
    put_seq(&q, v->version);
    put_seq(&q, v->size);
    put_int(&q, v->chunk_size);
    put_hash(&q, &v->tree_hash);
    put_hash_or_null(&q, &v->sha256);
    put_int(&q, v->mtime);
    put_int(&q, v->at);
    put_id(&q, &v->user);
    put_text(&q, v->device);
    put_int(&q, v->listed);
    put_int(&q, v->quarantined);
    return query_run(&q);
}

static int unlist(struct storing *s, const struct version_row *v)
{
    QUERY(q, s->c, "UPDATE version SET listed = 0 WHERE drive = ?1 AND ino = ?2 AND version = ?3");
    put_id(&q, s->drive);
    put_seq(&q, v->ino);
    put_seq(&q, v->version);
    return query_run(&q);
}

static int quarantine(struct storing *s, const struct version_row *v)
{
    QUERY(q, s->c, "UPDATE version SET quarantined = 1 WHERE drive = ?1 AND ino = ?2 AND version = ?3");
    put_id(&q, s->drive);
    put_seq(&q, v->ino);
    put_seq(&q, v->version);
    return query_run(&q);
}

static int add_segment(struct storing *s, const struct segment_new *g)
{
    uint8_t packed[SEGMENT_CHUNKS * SEGMENT_ENTRY];
    size_t len = segment_pack(g->chunks, packed);
    QUERY(q, s->c, "INSERT OR REPLACE INTO segment (drive, ino, number, version, chunks) VALUES (?1, ?2, ?3, ?4, ?5)");
    put_id(&q, s->drive);
    put_seq(&q, g->ino);
    put_seq(&q, g->number);
    put_seq(&q, g->version);
    put_blob(&q, packed, len);
    return query_run(&q);
}

static int add_cut(struct storing *s, const struct cut_new *k)
{
    QUERY(q, s->c, "INSERT OR IGNORE INTO cut (drive, ino, version, from_segment) VALUES (?1, ?2, ?3, ?4)");
    put_id(&q, s->drive);
    put_seq(&q, k->ino);
    put_seq(&q, k->version);
    put_seq(&q, k->from_segment);
    return query_run(&q);
}

static int store_content(struct storing *s)
{
    const struct rows *r = s->rows;
    int err = sqlite_chunks_add(s->c, s->drive, r->new_chunks, r->n_new_chunks, r->now);
    for (size_t i = 0; i < r->n_new_versions && !err; i++)
        err = add_version(s, &r->new_versions[i]);
    for (size_t i = 0; i < r->n_unlisted && !err; i++)
        err = unlist(s, &r->unlisted[i]);
    for (size_t i = 0; i < r->n_quarantined && !err; i++)
        err = quarantine(s, &r->quarantined[i]);
    for (size_t i = 0; i < r->n_new_segments && !err; i++)
        err = add_segment(s, &r->new_segments[i]);
    for (size_t i = 0; i < r->n_new_cuts && !err; i++)
        err = add_cut(s, &r->new_cuts[i]);
    return err;
}

/* ---- locks ---- */

static int release(struct storing *s, const struct uuid *session)
{
    QUERY(q, s->c, "DELETE FROM lock WHERE drive = ?1 AND session = ?2");
    put_id(&q, s->drive);
    put_id(&q, session);
    return query_run(&q);
}

static int drop_locks(struct storing *s, uint64_t ino)
{
    QUERY(q, s->c, "DELETE FROM lock WHERE drive = ?1 AND ino = ?2");
    put_id(&q, s->drive);
    put_seq(&q, ino);
    return query_run(&q);
}

static int add_lock(struct storing *s, uint64_t ino, const struct lock_row *l, size_t n)
{
    QUERY(q, s->c,
          "INSERT INTO lock (drive, n, " LOCK_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    put_id(&q, s->drive);
    put_seq(&q, n);
    put_seq(&q, ino);
    put_id(&q, &l->session);
    put_int(&q, l->flock_kind);
    put_int(&q, l->type);
    put_int(&q, (int64_t)l->start);
    put_int(&q, (int64_t)l->end);
    put_int(&q, (int64_t)l->owner);
    put_int(&q, l->pid);
    return query_run(&q);
}

static int replace_locks(struct storing *s, uint64_t ino)
{
    struct lock_row *locks;
    size_t n;
    int err = rows_locks(s->rows, ino, &locks, &n);
    if (!err)
        err = drop_locks(s, ino);
    for (size_t i = 0; i < n && !err; i++)
        err = add_lock(s, ino, &locks[i], i);
    return err;
}

static int store_locks(struct storing *s)
{
    int err = 0;
    for (size_t i = 0; i < s->rows->n_released && !err; i++)
        err = release(s, &s->rows->released[i]);
    for (size_t i = 0; i < s->rows->n_dirty_locks && !err; i++)
        err = replace_locks(s, s->rows->dirty_locks[i]);
    return err;
}

/* ---- the log and the drive ---- */

static int store_change(struct storing *s, const struct change_row *c)
{
    QUERY(q, s->c,
          "INSERT INTO change (drive, seq, kind, ino, parent, name, from_parent, from_name, version, user, device, at, touch) "
          "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)");
    const char kind[2] = {c->kind, 0};
    put_id(&q, s->drive);
    put_seq(&q, c->seq);
    put_text(&q, kind);
    put_seq(&q, c->ino);
    put_seq(&q, c->parent);
    put_name(&q, c->name);
    put_seq(&q, c->from_parent);
    put_name(&q, c->from_name);
    put_seq(&q, c->version);
    put_id(&q, &c->user);
    put_text(&q, c->device);
    put_int(&q, c->at);
    put_text(&q, c->touch);
    return query_run(&q);
}

static int store_moment(struct storing *s, int64_t second, uint64_t seq)
{
    QUERY(q, s->c, "INSERT OR REPLACE INTO moment (drive, second, seq) VALUES (?1, ?2, ?3)");
    put_id(&q, s->drive);
    put_int(&q, second);
    put_seq(&q, seq);
    return query_run(&q);
}

static int store_drive(struct storing *s, struct sqlite_tx *tx)
{
    struct drive_row *d = &s->rows->drive;
    if (d->seq != tx->stored_seq && d->last_time < s->rows->now)
        d->last_time = s->rows->now;
    if (d->last_time < tx->stored_time)
        d->last_time = tx->stored_time;
    int err = 0;
    if (d->last_time / SECOND > tx->stored_time / SECOND)
        err = store_moment(s, tx->stored_time / SECOND, tx->stored_seq);
    if (err)
        return err;
    QUERY(q, s->c,
          "UPDATE drive SET seq = ?2, used = ?3, files = ?4, last_time = ?5, next_ino = max(next_ino, ?6) WHERE id = ?1");
    put_id(&q, s->drive);
    put_seq(&q, d->seq);
    put_seq(&q, d->used);
    put_seq(&q, d->files);
    put_int(&q, d->last_time);
    put_seq(&q, d->next_ino);
    err = query_run(&q);
    if (err)
        return err;
    tx->base.drive = *d;
    tx->stored_seq = d->seq;
    tx->stored_time = d->last_time;
    return 0;
}

int sqlite_store(struct meta_tx *base, struct rows *rows)
{
    if (!base->writing)
        return -EROFS;
    struct storing s = {.c = conn_of(base), .drive = &base->drive.id, .rows = rows};
    int err = store_inodes(&s);
    if (!err)
        err = store_names(&s);
    if (!err)
        err = store_xattrs(&s);
    if (!err)
        err = store_content(&s);
    if (!err)
        err = store_locks(&s);
    for (size_t i = 0; i < rows->n_changes && !err; i++)
        err = store_change(&s, &rows->changes[i]);
    if (!err && base->meta->outbox && rows->n_changes)
        err = sqlite_outbox_put(s.c, base, &(struct outbox_row){base->drive.id, rows->changes[0].seq, rows->changes[rows->n_changes - 1].seq});
    return err ? err : store_drive(&s, (struct sqlite_tx *)base);
}
