#include "gateway/adapters/sqlite_wal_vfs.h"
#include "common/buf.h"

#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

#define GATHER_MAX (120u << 10) /* SQLite's own xWrite takes less than 128 KiB at once */

struct wal_file { /* the real file's own struct lies behind it */
    sqlite3_file base;
    struct buf gathered;
    sqlite3_int64 offset; /* where it goes */
};

static _Thread_local bool lazy;
static _Thread_local enum sqlite_wal_end became;

void sqlite_wal_commit_begin(bool is_lazy)
{
    lazy = is_lazy;
    became = WAL_UNTOUCHED;
}

enum sqlite_wal_end sqlite_wal_commit_end(void)
{
    lazy = false;
    return became;
}

static sqlite3_file *real_of(sqlite3_file *f)
{
    return (sqlite3_file *)((struct wal_file *)f + 1);
}

static int flush(sqlite3_file *f)
{
    struct wal_file *w = (struct wal_file *)f;
    if (w->gathered.len == 0)
        return SQLITE_OK;
    int rc = real_of(f)->pMethods->xWrite(real_of(f), w->gathered.data, (int)w->gathered.len, w->offset);
    w->gathered.len = 0; /* if that failed, so does the transaction */
    return rc;
}

static int wal_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 offset)
{
    struct wal_file *w = (struct wal_file *)f;
    bool follows = offset == w->offset + (sqlite3_int64)w->gathered.len;
    if (w->gathered.len && (!follows || w->gathered.len + (size_t)n > GATHER_MAX)) {
        int rc = flush(f);
        if (rc != SQLITE_OK)
            return rc;
    }
    if (w->gathered.len == 0)
        w->offset = offset;
    buf_append(&w->gathered, p, (size_t)n);
    return SQLITE_OK;
}

static int wal_read(sqlite3_file *f, void *ret, int n, sqlite3_int64 offset)
{
    int rc = flush(f);
    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xRead(real_of(f), ret, n, offset);
}

static int wal_sync(sqlite3_file *f, int flags)
{
    /* A log that begins anew has its header on the disk before its first frames, however lazy: frames of before would be taken for its own. */
    bool header = ((struct wal_file *)f)->offset == 0;
    int rc = flush(f);
    became = lazy && !header ? WAL_WRITTEN : WAL_SYNCED;
    if (rc == SQLITE_OK && became == WAL_WRITTEN)
        return SQLITE_OK;
    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int wal_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    int rc = flush(f);
    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int wal_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    int rc = flush(f);
    return rc != SQLITE_OK ? rc : real_of(f)->pMethods->xFileSize(real_of(f), ret);
}

static int wal_close(sqlite3_file *f)
{
    int flushed = flush(f), rc = real_of(f)->pMethods->xClose(real_of(f));
    buf_fini(&((struct wal_file *)f)->gathered);
    return flushed != SQLITE_OK ? flushed : rc;
}

static int wal_lock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xLock(real_of(f), level);
}
static int wal_unlock(sqlite3_file *f, int level)
{
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}
static int wal_check_reserved_lock(sqlite3_file *f, int *ret)
{
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), ret);
}
static int wal_file_control(sqlite3_file *f, int op, void *arg)
{
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}
static int wal_sector_size(sqlite3_file *f)
{
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}
static int wal_device_characteristics(sqlite3_file *f)
{
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static const sqlite3_io_methods wal_methods = {
    .iVersion = 1,
    .xClose = wal_close,
    .xRead = wal_read,
    .xWrite = wal_write,
    .xTruncate = wal_truncate,
    .xSync = wal_sync,
    .xFileSize = wal_size,
    .xLock = wal_lock,
    .xUnlock = wal_unlock,
    .xCheckReservedLock = wal_check_reserved_lock,
    .xFileControl = wal_file_control,
    .xSectorSize = wal_sector_size,
    .xDeviceCharacteristics = wal_device_characteristics,
};

static sqlite3_vfs vfs;     /* the default one with another xOpen; set once */
static sqlite3_vfs *system_vfs;

static int open_file(sqlite3_vfs *self, const char *path, sqlite3_file *f, int flags, int *ret_flags)
{
    (void)self;
    if (!(flags & SQLITE_OPEN_WAL))
        return system_vfs->xOpen(system_vfs, path, f, flags, ret_flags);
    struct wal_file *w = (struct wal_file *)f;
    *w = (struct wal_file){0};
    memset(real_of(f), 0, (size_t)system_vfs->szOsFile);
    int rc = system_vfs->xOpen(system_vfs, path, real_of(f), flags, ret_flags);
    if (rc == SQLITE_OK)
        w->base.pMethods = &wal_methods;
    return rc;
}

static void prepare(void)
{
    system_vfs = sqlite3_vfs_find(NULL);
    if (!system_vfs)
        return;
    vfs = *system_vfs;
    vfs.pNext = NULL;
    vfs.zName = "cairn-wal";
    vfs.szOsFile = (int)sizeof(struct wal_file) + system_vfs->szOsFile;
    vfs.xOpen = open_file;
    if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK)
        system_vfs = NULL;
}

const char *sqlite_wal_vfs(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    return system_vfs ? vfs.zName : NULL;
}
