/* An SQLite VFS that writes the write-ahead log in one piece per commit.

   SQLite writes each page of a commit with two calls of pwrite, some 35 for a small file: as much time as all its other work. Here what is written to
   the log gathers in memory, as long as it is contiguous, until SQLite syncs the log, or reads it. With synchronous = FULL (which a connection opened with
   this must have) a commit is published to other connections only after that sync, so nobody can miss what is still gathered. All other files are those of
   SQLite's default VFS. */
#ifndef CAIRN_GATEWAY_ADAPTERS_SQLITE_WAL_VFS_H
#define CAIRN_GATEWAY_ADAPTERS_SQLITE_WAL_VFS_H
#include <stdbool.h>

/* Around a COMMIT, on its thread. lazy: the log is written and not synced. */
enum sqlite_wal_end { WAL_UNTOUCHED, WAL_WRITTEN, WAL_SYNCED };
void sqlite_wal_commit_begin(bool lazy);
enum sqlite_wal_end sqlite_wal_commit_end(void); /* what became of the log: a COMMIT that changed nothing leaves it alone */
const char *sqlite_wal_vfs(void); /* its name, for sqlite3_open_v2; NULL, the default, where it cannot be registered */
#endif
