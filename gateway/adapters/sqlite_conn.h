/* A connection to an SQLite database with its statements kept prepared, and queries that read like sentences:

       QUERY(q, c, "SELECT size, at FROM version WHERE drive = ?1 AND ino = ?2");
       put_id(&q, &drive);           arguments in the order of their numbers
       put_int(&q, ino);
       int err = query_one(&q);      0, -ENOENT, or another negative errno
       size = get_int(&q);           columns in their order
       at = get_int(&q);

   One thread at a time uses a connection. What is put is borrowed until the query ends, what is got until the next step. */
#ifndef CAIRN_GATEWAY_ADAPTERS_SQLITE_CONN_H
#define CAIRN_GATEWAY_ADAPTERS_SQLITE_CONN_H
#include "common/buf.h"
#include "common/hash.h"
#include "common/uuid.h"
#include <sqlite3.h>

#define CONN_STATEMENTS 512 /* a power of two, well above the number of statements in the code */
struct conn_statement {
    const char *sql; /* the literal's address is the key */
    sqlite3_stmt *st;
    bool busy; /* by a query that has not ended */
};
struct conn {
    sqlite3 *db;
    struct conn *next; /* in a pool */
    void *owner;       /* whoever keeps it in a pool */
    struct conn_statement statements[CONN_STATEMENTS];
};

int conn_open(const char *path, struct conn **ret); /* WAL, commits durable; creates the file */
void conn_free(struct conn *c);
int conn_exec(struct conn *c, const char *sql); /* several statements, nothing kept */
int conn_errno(struct conn *c, int rc, const char *what); /* an SQLite code as a negative errno, logged where it is unexpected */

struct query {
    struct conn *c;
    sqlite3_stmt *st;
    struct conn_statement *kept; /* NULL: it was in use already, this one is for once */
    int arg, col;
};
/* sql: a string literal. c may be NULL (none could be opened): every step gives -EIO. */
struct query query_begin(struct conn *c, const char *sql);
void query_end(struct query *q);
void query_again(struct query *q); /* the same statement with new arguments */
#define QUERY(q, c, sql) CLEANUP(query_end) struct query q = query_begin(c, "" sql)

int query_step(struct query *q); /* 1: a row; 0: no more; <0 */
int query_one(struct query *q);  /* 0: a row; -ENOENT: none; <0 */
int query_run(struct query *q);  /* to its end: 0 or <0 */
int query_changes(const struct query *q); /* rows that the last statement changed */

void put_int(struct query *q, int64_t v);
void put_seq(struct query *q, uint64_t v); /* what is beyond INT64_MAX means "the last" */
void put_null(struct query *q);
void put_blob(struct query *q, const void *p, size_t n);
void put_text(struct query *q, const char *s);              /* NULL is NULL */
void put_name(struct query *q, const char *s);              /* bytes, as a blob */
void put_id(struct query *q, const struct uuid *id);
void put_hash(struct query *q, const struct hash *h);
void put_hash_or_null(struct query *q, const struct hash *h); /* zero is NULL */

int64_t get_int(struct query *q);
uint32_t get_u32(struct query *q);
bool get_bool(struct query *q);
bool get_is_null(struct query *q); /* of the next column, which stays the next */
const void *get_blob(struct query *q, size_t *ret_len);
void get_text(struct query *q, char *ret, size_t size); /* cut at size-1 bytes; also for names; NULL is "" */
char *get_str(struct query *q);                         /* owned by the caller; NULL is NULL */
void get_id(struct query *q, struct uuid *ret);
void get_hash(struct query *q, struct hash *ret);       /* NULL is zero */
#endif
