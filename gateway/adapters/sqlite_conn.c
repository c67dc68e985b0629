#include "gateway/adapters/sqlite_conn.h"
#include "common/log.h"
#include "common/mem.h"
#include "gateway/adapters/sqlite_wal_vfs.h"

#include <errno.h>
#include <string.h>

/* How long to wait for another process (`cairn-gateway admin …`) that writes; threads of this one wait for a mutex. */
#define BUSY_MS 10000

static const char settings[] = "PRAGMA journal_mode = WAL;"
                               "PRAGMA synchronous = FULL;"    /* a commit is on the disk when it returns */
                               "PRAGMA foreign_keys = OFF;"
                               "PRAGMA wal_autocheckpoint = 0;" /* meta_sqlite_checkpoint.c */
                               "PRAGMA journal_size_limit = 67108864;"
                               "PRAGMA temp_store = MEMORY;"
                               "PRAGMA cache_size = -16000;"    /* KiB */
                               "PRAGMA mmap_size = 0;"; /* a reader would unmap all of it at every commit of the writer */

int conn_errno(struct conn *c, int rc, const char *what)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EAGAIN;
    case SQLITE_CONSTRAINT:
        return -EEXIST;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CANTOPEN:
        if (c && (sqlite3_system_errno(c->db) == EMFILE || sqlite3_system_errno(c->db) == ENFILE))
            return -EMFILE;
        break;
    default:
        break;
    }
    log_error("database: %s: %s (%d)", what, c ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc), rc);
    return -EIO;
}

int conn_open(const char *path, struct conn **ret)
{
    struct conn *c = mem_alloc(sizeof *c);
    int rc = sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                             sqlite_wal_vfs());
    int err = conn_errno(c, rc, path);
    if (!err) {
        sqlite3_busy_timeout(c->db, BUSY_MS);
        err = conn_exec(c, settings);
    }
    if (err) {
        conn_free(c);
        return err;
    }
    *ret = c;
    return 0;
}

void conn_free(struct conn *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < CONN_STATEMENTS; i++)
        sqlite3_finalize(c->statements[i].st);
    sqlite3_close(c->db);
    free(c);
}

int conn_exec(struct conn *c, const char *sql)
{
    return conn_errno(c, sqlite3_exec(c->db, sql, NULL, NULL, NULL), "a statement");
}

/* ---- statements ---- */

static struct conn_statement *statement_slot(struct conn *c, const char *sql)
{
    size_t i = (size_t)(((uintptr_t)sql * UINT64_C(0x9e3779b97f4a7c15)) >> 40) & (CONN_STATEMENTS - 1);
    for (size_t tries = 0; tries < CONN_STATEMENTS; tries++, i = (i + 1) & (CONN_STATEMENTS - 1))
        if (!c->statements[i].sql || c->statements[i].sql == sql)
            return &c->statements[i];
    return NULL;
}

static sqlite3_stmt *prepare(struct conn *c, const char *sql, unsigned flags)
{
    sqlite3_stmt *st = NULL;
    conn_errno(c, sqlite3_prepare_v3(c->db, sql, -1, flags, &st, NULL), sql);
    return st;
}

struct query query_begin(struct conn *c, const char *sql)
{
    struct query q = {.c = c};
    if (!c)
        return q;
    struct conn_statement *s = statement_slot(c, sql);
    if (!s || s->busy) {
        q.st = prepare(c, sql, 0);
        return q;
    }
    if (!s->st) {
        s->st = prepare(c, sql, SQLITE_PREPARE_PERSISTENT);
        s->sql = s->st ? sql : NULL;
    }
    s->busy = s->st;
    q.st = s->st;
    q.kept = s->st ? s : NULL;
    return q;
}

void query_end(struct query *q)
{
    if (!q->kept) {
        sqlite3_finalize(q->st);
    } else {
        sqlite3_reset(q->st);
        q->kept->busy = false;
    }
    *q = (struct query){0};
}

void query_again(struct query *q)
{
    sqlite3_reset(q->st);
    q->arg = q->col = 0;
}

int query_step(struct query *q)
{
    if (!q->c)
        return -EMFILE; /* no connection could be opened: there are too many files, or what else is wrong was logged */
    if (!q->st)
        return -EIO;
    int rc = sqlite3_step(q->st);
    q->col = 0;
    if (rc == SQLITE_ROW)
        return 1;
    return conn_errno(q->c, rc, sqlite3_sql(q->st));
}

int query_one(struct query *q)
{
    int n = query_step(q);
    return n == 1 ? 0 : n == 0 ? -ENOENT : n;
}

int query_run(struct query *q)
{
    int n;
    while ((n = query_step(q)) == 1)
        ;
    return n;
}

int query_changes(const struct query *q)
{
    return q->c ? sqlite3_changes(q->c->db) : 0;
}

/* ---- arguments ---- */

void put_int(struct query *q, int64_t v)
{
    sqlite3_bind_int64(q->st, ++q->arg, v);
}

void put_seq(struct query *q, uint64_t v)
{
    put_int(q, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}

void put_null(struct query *q)
{
    sqlite3_bind_null(q->st, ++q->arg);
}

void put_blob(struct query *q, const void *p, size_t n)
{
    sqlite3_bind_blob64(q->st, ++q->arg, p ? p : "", n, SQLITE_STATIC);
}

void put_text(struct query *q, const char *s)
{
    sqlite3_bind_text(q->st, ++q->arg, s, -1, SQLITE_STATIC);
}

void put_name(struct query *q, const char *s)
{
    put_blob(q, s, strlen(s));
}

void put_id(struct query *q, const struct uuid *id)
{
    put_blob(q, id->b, sizeof id->b);
}

void put_hash(struct query *q, const struct hash *h)
{
    put_blob(q, h->b, HASH_LEN);
}

void put_hash_or_null(struct query *q, const struct hash *h)
{
    if (hash_is_zero(h))
        put_null(q);
    else
        put_hash(q, h);
}

/* ---- columns ---- */

int64_t get_int(struct query *q)
{
    return sqlite3_column_int64(q->st, q->col++);
}

uint32_t get_u32(struct query *q)
{
    return (uint32_t)get_int(q);
}

bool get_bool(struct query *q)
{
    return get_int(q) != 0;
}

bool get_is_null(struct query *q)
{
    return sqlite3_column_type(q->st, q->col) == SQLITE_NULL;
}

const void *get_blob(struct query *q, size_t *ret_len)
{
    const void *p = sqlite3_column_blob(q->st, q->col);
    *ret_len = (size_t)sqlite3_column_bytes(q->st, q->col++);
    return p ? p : "";
}

void get_text(struct query *q, char *ret, size_t size)
{
    size_t len;
    const void *p = get_blob(q, &len);
    if (len >= size)
        len = size - 1;
    memcpy(ret, p, len);
    ret[len] = 0;
}

char *get_str(struct query *q)
{
    if (get_is_null(q)) {
        q->col++;
        return NULL;
    }
    size_t len;
    const void *p = get_blob(q, &len);
    return mem_dup(p, len);
}

static void get_bytes(struct query *q, void *ret, size_t size)
{
    size_t len;
    const void *p = get_blob(q, &len);
    memset(ret, 0, size);
    memcpy(ret, p, len < size ? len : size);
}

void get_id(struct query *q, struct uuid *ret)
{
    get_bytes(q, ret->b, sizeof ret->b);
}

void get_hash(struct query *q, struct hash *ret)
{
    get_bytes(q, ret->b, HASH_LEN);
}
