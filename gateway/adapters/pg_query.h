/* Statements with arguments, and their rows, in binary:

       PG_QUERY(q, c, "SELECT size, at FROM version WHERE drive = $1 AND ino = $2");
       pg_put_id(&q, &drive);        arguments in the order of their numbers
       pg_put_int(&q, ino);
       int err = pg_one(&q);         0, -ENOENT, or another negative errno
       size = pg_int(&q);            columns in their order
       at = pg_int(&q);

   In the schema every number is a bigint, every truth a boolean, an id a uuid, a hash or a name bytea. Arrays, for unnest, are filled element by element:

       pg_put_array(&q, PG_INT, n);
       for (size_t i = 0; i < n; i++)
           pg_add_int(&q, rows[i].ino);

   What is put is copied. What is got lives until the query ends. */
#ifndef CAIRN_GATEWAY_ADAPTERS_PG_QUERY_H
#define CAIRN_GATEWAY_ADAPTERS_PG_QUERY_H
#include "common/buf.h"
#include "common/hash.h"
#include "common/uuid.h"
#include "gateway/adapters/pg_conn.h"

#define PG_ARGS 32
enum pg_type { PG_INT, PG_BOOL, PG_BYTES, PG_TEXT, PG_ID }; /* of an array's elements */

struct pg_query {
    struct pg_conn *c;
    const char *sql;
    struct buf args; /* all of them, one behind the other */
    struct {
        size_t at;
        int len; /* -1: NULL */
    } arg[PG_ARGS];
    int n_args;
    bool sent;
    unsigned tries; /* how often it was sent again: what it was to do may have been done by the first */
    PGresult *res;
    int err; /* of its result */
    int row, col;
};
/* sql: a string literal. c may be NULL: every step then gives -EHOSTUNREACH. */
struct pg_query pg_query_begin(struct pg_conn *c, const char *sql);
void pg_query_end(struct pg_query *q);
#define PG_QUERY(q, c, sql) CLEANUP(pg_query_end) struct pg_query q = pg_query_begin(c, "" sql)

/* Sends it; its rows are there after the next pg_wait (or the first step). q must live as long. */
void pg_send(struct pg_query *q);
/* Sends it, and nobody reads what it answers; an error fails the transaction. */
void pg_later(struct pg_query *q);
/* Outside of transactions, one that may run twice: it is sent anew when the connection was lost, or the server says so. Others fail then. -EAGAIN: it has not been done;
   -EHOSTUNREACH: it may have been. */
int pg_run(struct pg_query *q);  /* 0 or <0 */
/* Of an INSERT … ON CONFLICT (its id) DO NOTHING, whose id is fresh: -EEXIST where there was one, unless it is from having been sent before. */
int pg_run_once(struct pg_query *q);
int pg_one(struct pg_query *q);  /* 0: a row; -ENOENT: none; <0 */
int pg_step(struct pg_query *q); /* 1: a row; 0: no more; <0 */
uint64_t pg_changes(const struct pg_query *q); /* rows that it changed */

void pg_put_int(struct pg_query *q, int64_t v);
void pg_put_seq(struct pg_query *q, uint64_t v); /* what is beyond INT64_MAX means "the last" */
void pg_put_bool(struct pg_query *q, bool v);
void pg_put_null(struct pg_query *q);
void pg_put_blob(struct pg_query *q, const void *p, size_t n);
void pg_put_text(struct pg_query *q, const char *s); /* NULL is NULL */
void pg_put_name(struct pg_query *q, const char *s); /* bytes */
void pg_put_id(struct pg_query *q, const struct uuid *id);
void pg_put_hash(struct pg_query *q, const struct hash *h);
void pg_put_hash_or_null(struct pg_query *q, const struct hash *h); /* zero is NULL */

void pg_put_array(struct pg_query *q, enum pg_type t, size_t n); /* n elements follow */
void pg_add_int(struct pg_query *q, int64_t v);
void pg_add_seq(struct pg_query *q, uint64_t v);
void pg_add_bool(struct pg_query *q, bool v);
void pg_add_blob(struct pg_query *q, const void *p, size_t n); /* p NULL is NULL */
void pg_add_text(struct pg_query *q, const char *s);           /* also a name; NULL is NULL */
void pg_add_id(struct pg_query *q, const struct uuid *id);
void pg_add_id_or_null(struct pg_query *q, const struct uuid *id); /* zero is NULL */
void pg_add_hash(struct pg_query *q, const struct hash *h);
void pg_add_hash_or_null(struct pg_query *q, const struct hash *h);

/* One column for the next argument: `expr`, in terms of i, for each of n rows. */
#define PG_INTS(q, n, expr)                                                                                                        \
    do {                                                                                                                           \
        pg_put_array(q, PG_INT, n);                                                                                                \
        for (size_t i = 0; i < (n); i++)                                                                                           \
            pg_add_seq(q, (uint64_t)(expr));                                                                                       \
    } while (0)
#define PG_SIGNED(q, n, expr)                                                                                                      \
    do {                                                                                                                           \
        pg_put_array(q, PG_INT, n);                                                                                                \
        for (size_t i = 0; i < (n); i++)                                                                                           \
            pg_add_int(q, (int64_t)(expr));                                                                                        \
    } while (0)
#define PG_COLUMN(q, type, n, add)                                                                                                 \
    do {                                                                                                                           \
        pg_put_array(q, type, n);                                                                                                  \
        for (size_t i = 0; i < (n); i++)                                                                                           \
            add;                                                                                                                   \
    } while (0)

int64_t pg_int(struct pg_query *q);
uint32_t pg_u32(struct pg_query *q);
bool pg_bool(struct pg_query *q);
bool pg_is_null(struct pg_query *q); /* of the next column, which stays the next */
const void *pg_blob(struct pg_query *q, size_t *ret_len);
void pg_text(struct pg_query *q, char *ret, size_t size); /* cut at size-1 bytes; also for names; NULL is "" */
char *pg_str(struct pg_query *q);                         /* owned by the caller; NULL is NULL */
void pg_id(struct pg_query *q, struct uuid *ret);
void pg_hash(struct pg_query *q, struct hash *ret);       /* NULL is zero */
#endif
