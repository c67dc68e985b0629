#include "fusefs/cache/state.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <sqlite3.h>
#include <string.h>

enum query { LOAD, SAVE, DELETE, TOTAL, OLDEST, HAS, BEGIN, COMMIT, N_QUERIES };
static const char *const queries[N_QUERIES] = {
    [LOAD] = "SELECT version, size, bytes, chunk_size, used, epoch, chunks FROM content WHERE ino = ? AND of = ?",
    [SAVE] = "INSERT OR REPLACE INTO content(ino, of, version, size, bytes, chunk_size, used, epoch, chunks) VALUES(?,?,?,?,?,?,?,?,?)",
    [DELETE] = "DELETE FROM content WHERE ino = ? AND of = ?",
    [TOTAL] = "SELECT COALESCE(SUM(bytes), 0) FROM content",
    [OLDEST] = "SELECT ino, of, version, bytes, used FROM content WHERE bytes > 0 ORDER BY used LIMIT ?",
    [HAS] = "SELECT 1 FROM content WHERE ino = ? AND of = ? AND version = ? AND bytes > 0",
    [BEGIN] = "BEGIN",
    [COMMIT] = "COMMIT",
};

struct state {
    pthread_mutex_t lock; /* recursive: state_begin keeps it. Guards all below */
    sqlite3 *db;
    sqlite3_stmt *q[N_QUERIES];
    int64_t epoch; /* raised by each unclean end: rows of an earlier one are to be verified */
};

static int failed(struct state *s, const char *what)
{
    log_warn("cache state: %s: %s", what, sqlite3_errmsg(s->db));
    return sqlite3_errcode(s->db) == SQLITE_FULL ? -ENOSPC : -EIO;
}

#define BOOT_LEN 64
static void read_boot_id(char ret[BOOT_LEN])
{
    ret[0] = 0;
    CLEANUP_FILE FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!f || !fgets(ret, BOOT_LEN, f))
        ret[0] = 0; /* then nothing is ever believed unseen */
    ret[strcspn(ret, "\n")] = 0;
}

/* meta.closed holds the boot id under which the last user left as it should; it is empty while somebody is in. */
static int enter(struct state *s, bool *ret_unclean)
{
    char boot[BOOT_LEN];
    read_boot_id(boot);
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(s->db, "SELECT closed, epoch FROM meta", -1, &q, NULL) != SQLITE_OK)
        return -EIO;
    *ret_unclean = true;
    if (sqlite3_step(q) == SQLITE_ROW) {
        const char *closed = (const char *)sqlite3_column_text(q, 0);
        *ret_unclean = !closed || !closed[0] || strcmp(closed, boot) != 0;
        s->epoch = sqlite3_column_int64(q, 1) + (*ret_unclean ? 1 : 0);
    }
    sqlite3_finalize(q);
    CLEANUP_FREE char *sql = mem_printf("UPDATE meta SET closed = '', epoch = %lld", (long long)s->epoch);
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -EIO;
}

static void leave(struct state *s)
{
    char boot[BOOT_LEN];
    read_boot_id(boot);
    char *sql = sqlite3_mprintf("UPDATE meta SET closed = %Q", boot);
    if (!sql || sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        failed(s, "closing");
    sqlite3_free(sql);
}

static int prepare(struct state *s)
{
    const char *schema = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY;"
                         "CREATE TABLE IF NOT EXISTS content(ino INTEGER, of INTEGER, version INTEGER, size INTEGER, bytes INTEGER, chunk_size INTEGER,"
                         " used INTEGER, epoch INTEGER, chunks BLOB, PRIMARY KEY(ino, of)) WITHOUT ROWID;"
                         "CREATE TABLE IF NOT EXISTS meta(one INTEGER PRIMARY KEY CHECK(one = 1), closed TEXT, epoch INTEGER);"
                         "INSERT OR IGNORE INTO meta VALUES(1, '', 1);"
                         "CREATE INDEX IF NOT EXISTS content_used ON content(used) WHERE bytes > 0";
    if (sqlite3_exec(s->db, schema, NULL, NULL, NULL) != SQLITE_OK)
        return -EIO;
    for (int i = 0; i < N_QUERIES; i++)
        if (sqlite3_prepare_v3(s->db, queries[i], -1, SQLITE_PREPARE_PERSISTENT, &s->q[i], NULL) != SQLITE_OK)
            return -EIO;
    return 0;
}

int state_open(const char *path, struct state **ret, bool *ret_unclean)
{
    struct state *s = mem_alloc(sizeof *s);
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&s->lock, &a);
    pthread_mutexattr_destroy(&a);
    int err = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK ? 0 : -EIO;
    if (!err)
        err = prepare(s);
    if (!err)
        err = enter(s, ret_unclean);
    if (err) {
        log_error("%s: %s", path, sqlite3_errmsg(s->db));
        state_close(s, false);
        return err;
    }
    *ret = s;
    return 0;
}

void state_close(struct state *s, bool clean)
{
    if (!s)
        return;
    for (int i = 0; i < N_QUERIES; i++)
        sqlite3_finalize(s->q[i]);
    if (clean)
        leave(s);
    sqlite3_close(s->db);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static sqlite3_stmt *ask(struct state *s, enum query which, uint64_t ino, uint64_t of)
{
    sqlite3_stmt *q = s->q[which];
    sqlite3_bind_int64(q, 1, (int64_t)ino);
    sqlite3_bind_int64(q, 2, (int64_t)of);
    return q;
}

int state_load(struct state *s, uint64_t ino, uint64_t of, struct state_row *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    sqlite3_stmt *q = ask(s, LOAD, ino, of);
    int r = sqlite3_step(q), err = r == SQLITE_ROW ? 0 : -ENOENT;
    if (r == SQLITE_ROW) {
        *ret = (struct state_row){.ino = ino,
                                  .of = of,
                                  .version = (uint64_t)sqlite3_column_int64(q, 0),
                                  .size = (uint64_t)sqlite3_column_int64(q, 1),
                                  .bytes = (uint64_t)sqlite3_column_int64(q, 2),
                                  .chunk_size = (uint32_t)sqlite3_column_int64(q, 3),
                                  .used = (uint32_t)sqlite3_column_int64(q, 4),
                                  .unverified = sqlite3_column_int64(q, 5) != s->epoch};
        buf_append(&ret->chunks, sqlite3_column_blob(q, 6), (size_t)sqlite3_column_bytes(q, 6));
    } else if (r != SQLITE_DONE) {
        failed(s, "reading");
    }
    sqlite3_reset(q);
    return err;
}

int state_save(struct state *s, const struct state_row *row)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    sqlite3_stmt *q = ask(s, SAVE, row->ino, row->of);
    sqlite3_bind_int64(q, 3, (int64_t)row->version);
    sqlite3_bind_int64(q, 4, (int64_t)row->size);
    sqlite3_bind_int64(q, 5, (int64_t)row->bytes);
    sqlite3_bind_int64(q, 6, row->chunk_size);
    sqlite3_bind_int64(q, 7, row->used);
    sqlite3_bind_int64(q, 8, s->epoch);
    sqlite3_bind_blob64(q, 9, row->chunks.len ? row->chunks.data : "", row->chunks.len, SQLITE_STATIC);
    int err = sqlite3_step(q) == SQLITE_DONE ? 0 : failed(s, "saving");
    sqlite3_reset(q);
    sqlite3_bind_null(q, 9);
    return err;
}

void state_delete(struct state *s, uint64_t ino, uint64_t of)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    sqlite3_stmt *q = ask(s, DELETE, ino, of);
    if (sqlite3_step(q) != SQLITE_DONE)
        failed(s, "deleting");
    sqlite3_reset(q);
}

static void step(struct state *s, enum query which)
{
    if (sqlite3_step(s->q[which]) != SQLITE_DONE)
        failed(s, queries[which]);
    sqlite3_reset(s->q[which]);
}

void state_begin(struct state *s)
{
    pthread_mutex_lock(&s->lock);
    step(s, BEGIN);
}

void state_end(struct state *s)
{
    step(s, COMMIT);
    pthread_mutex_unlock(&s->lock);
}

uint64_t state_total(struct state *s)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    uint64_t total = sqlite3_step(s->q[TOTAL]) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(s->q[TOTAL], 0) : 0;
    sqlite3_reset(s->q[TOTAL]);
    return total;
}

size_t state_oldest(struct state *s, struct state_row *ret, size_t n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    sqlite3_stmt *q = s->q[OLDEST];
    sqlite3_bind_int64(q, 1, (int64_t)n);
    size_t k = 0;
    while (k < n && sqlite3_step(q) == SQLITE_ROW)
        ret[k++] = (struct state_row){.ino = (uint64_t)sqlite3_column_int64(q, 0),
                                      .of = (uint64_t)sqlite3_column_int64(q, 1),
                                      .version = (uint64_t)sqlite3_column_int64(q, 2),
                                      .bytes = (uint64_t)sqlite3_column_int64(q, 3),
                                      .used = (uint32_t)sqlite3_column_int64(q, 4)};
    sqlite3_reset(q);
    return k;
}

bool state_has(struct state *s, uint64_t ino, uint64_t of, uint64_t version)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&s->lock);
    sqlite3_stmt *q = ask(s, HAS, ino, of);
    sqlite3_bind_int64(q, 3, (int64_t)version);
    bool has = sqlite3_step(q) == SQLITE_ROW;
    sqlite3_reset(q);
    return has;
}
