#include "gateway/adapters/pg_query.h"
#include "common/mem.h"
#include "gateway/adapters/pg_conn_internal.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#define TRIES 6

struct pg_query pg_query_begin(struct pg_conn *c, const char *sql)
{
    return (struct pg_query){.c = c, .sql = sql, .row = -1};
}

void pg_query_end(struct pg_query *q)
{
    PQclear(q->res);
    buf_fini(&q->args);
    *q = (struct pg_query){0};
}

/* ---- sending ---- */

static int enqueue(struct pg_query *q, struct pg_query *reader)
{
    struct pg_conn *c = q->c;
    char name[24];
    const char *values[PG_ARGS];
    int lengths[PG_ARGS], formats[PG_ARGS];
    if (!c || !c->pq)
        return -EHOSTUNREACH;
    int err = pg_prepare(c, q->sql, name);
    if (err)
        return err;
    for (int i = 0; i < q->n_args; i++) {
        values[i] = q->arg[i].len < 0 ? NULL : q->args.data + q->arg[i].at;
        lengths[i] = q->arg[i].len;
        formats[i] = 1;
    }
    if (PQsendQueryPrepared(c->pq, name, q->n_args, values, lengths, formats, 1) != 1)
        return -EHOSTUNREACH;
    pg_sent_add(c, reader);
    return 0;
}

static void lost(struct pg_query *q, int err)
{
    q->err = err;
    if (q->c)
        pg_fail(q->c, err);
}

void pg_send(struct pg_query *q)
{
    q->sent = true;
    int err = enqueue(q, q);
    if (err)
        lost(q, err);
}

void pg_later(struct pg_query *q)
{
    int err = enqueue(q, NULL);
    if (err)
        lost(q, err);
}

static bool worth_again(const struct pg_query *q, int err)
{
    return (err == -EAGAIN || err == -EHOSTUNREACH) && q->c;
}

/* A failed transaction takes no more; alone, it is tried again. Where a try was lost, it is not known what it did, whatever the last one says. */
static int answer(struct pg_query *q)
{
    bool lost_one = false;
    if (!q->sent && q->c && q->c->in_tx && q->c->failed)
        return q->err = q->c->failed;
    for (unsigned i = 0;; i++) {
        if (!q->sent)
            pg_send(q);
        if (q->c && q->c->n_sent)
            pg_wait(q->c);
        if (q->err && q->c && q->c->in_tx)
            return q->err = q->c->failed;
        lost_one |= q->err == -EHOSTUNREACH;
        if (q->err == -EAGAIN && i == TRIES && lost_one)
            return q->err = -EHOSTUNREACH;
        if (!worth_again(q, q->err) || i == TRIES)
            return q->err;
        if (q->err == -EAGAIN)
            nanosleep(&(struct timespec){.tv_nsec = 1000000L << i}, NULL);
        if (!q->c->pq && pg_conn_again(q->c))
            return q->err = -EHOSTUNREACH;
        PQclear(q->res);
        q->res = NULL;
        q->sent = false;
        q->err = 0;
        q->tries++;
    }
}

int pg_run(struct pg_query *q)
{
    return answer(q);
}

int pg_run_once(struct pg_query *q)
{
    int err = answer(q);
    return err ? err : pg_changes(q) || q->tries ? 0 : -EEXIST;
}

int pg_step(struct pg_query *q)
{
    if (!q->res) {
        int err = answer(q);
        if (err)
            return err;
    }
    if (q->err)
        return q->err;
    q->col = 0;
    return ++q->row < PQntuples(q->res);
}

int pg_one(struct pg_query *q)
{
    int n = pg_step(q);
    return n < 0 ? n : n ? 0 : -ENOENT;
}

uint64_t pg_changes(const struct pg_query *q)
{
    return q->res ? strtoull(PQcmdTuples(q->res), NULL, 10) : 0;
}

/* ---- arguments ---- */

static void put(struct pg_query *q, const void *p, size_t n)
{
    q->arg[q->n_args].at = q->args.len;
    q->arg[q->n_args++].len = (int)n;
    buf_append(&q->args, p, n);
    if (!q->args.data)
        buf_reserve(&q->args, 1); /* an empty value is not NULL */
}

void pg_put_int(struct pg_query *q, int64_t v)
{
    uint64_t be = htobe64((uint64_t)v);
    put(q, &be, sizeof be);
}

void pg_put_seq(struct pg_query *q, uint64_t v)
{
    pg_put_int(q, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}

void pg_put_bool(struct pg_query *q, bool v)
{
    put(q, &(uint8_t){v}, 1);
}

void pg_put_null(struct pg_query *q)
{
    q->arg[q->n_args++].len = -1;
}

void pg_put_blob(struct pg_query *q, const void *p, size_t n)
{
    put(q, p, n);
}

void pg_put_text(struct pg_query *q, const char *s)
{
    if (s)
        put(q, s, strlen(s));
    else
        pg_put_null(q);
}

void pg_put_name(struct pg_query *q, const char *s)
{
    put(q, s, strlen(s));
}

void pg_put_id(struct pg_query *q, const struct uuid *id)
{
    put(q, id->b, sizeof id->b);
}

void pg_put_hash(struct pg_query *q, const struct hash *h)
{
    put(q, h->b, HASH_LEN);
}

void pg_put_hash_or_null(struct pg_query *q, const struct hash *h)
{
    if (hash_is_zero(h))
        pg_put_null(q);
    else
        pg_put_hash(q, h);
}

/* ---- arrays: PostgreSQL's array_recv(): dimensions, whether there are NULLs, the elements' type, size and lower bound, then each ---- */

static void append32(struct buf *b, uint32_t v)
{
    v = htobe32(v);
    buf_append(b, &v, sizeof v);
}

void pg_put_array(struct pg_query *q, enum pg_type t, size_t n)
{
    static const uint32_t oids[] = {[PG_INT] = 20, [PG_BOOL] = 16, [PG_BYTES] = 17, [PG_TEXT] = 25, [PG_ID] = 2950};
    put(q, NULL, 0);
    append32(&q->args, n ? 1 : 0);
    append32(&q->args, 1);
    append32(&q->args, oids[t]);
    if (n) {
        append32(&q->args, (uint32_t)n);
        append32(&q->args, 1);
    }
    q->arg[q->n_args - 1].len = (int)(q->args.len - q->arg[q->n_args - 1].at);
}

static void add(struct pg_query *q, const void *p, size_t n)
{
    append32(&q->args, p ? (uint32_t)n : UINT32_MAX);
    if (p)
        buf_append(&q->args, p, n);
    q->arg[q->n_args - 1].len = (int)(q->args.len - q->arg[q->n_args - 1].at);
}

void pg_add_int(struct pg_query *q, int64_t v)
{
    uint64_t be = htobe64((uint64_t)v);
    add(q, &be, sizeof be);
}

void pg_add_seq(struct pg_query *q, uint64_t v)
{
    pg_add_int(q, v > INT64_MAX ? INT64_MAX : (int64_t)v);
}

void pg_add_bool(struct pg_query *q, bool v)
{
    add(q, &(uint8_t){v}, 1);
}

void pg_add_blob(struct pg_query *q, const void *p, size_t n)
{
    add(q, p, n);
}

void pg_add_text(struct pg_query *q, const char *s)
{
    add(q, s, s ? strlen(s) : 0);
}

void pg_add_id(struct pg_query *q, const struct uuid *id)
{
    add(q, id->b, sizeof id->b);
}

void pg_add_id_or_null(struct pg_query *q, const struct uuid *id)
{
    add(q, uuid_is_zero(id) ? NULL : id->b, sizeof id->b);
}

void pg_add_hash(struct pg_query *q, const struct hash *h)
{
    add(q, h->b, HASH_LEN);
}

void pg_add_hash_or_null(struct pg_query *q, const struct hash *h)
{
    add(q, hash_is_zero(h) ? NULL : h->b, HASH_LEN);
}

/* ---- columns ---- */

static const char *value(struct pg_query *q, size_t *ret_len)
{
    int col = q->col++;
    bool null = PQgetisnull(q->res, q->row, col);
    *ret_len = null ? 0 : (size_t)PQgetlength(q->res, q->row, col);
    return null ? NULL : PQgetvalue(q->res, q->row, col);
}

int64_t pg_int(struct pg_query *q)
{
    size_t len;
    const char *p = value(q, &len);
    uint64_t be = 0;
    if (len == sizeof be)
        memcpy(&be, p, sizeof be);
    return (int64_t)be64toh(be);
}

uint32_t pg_u32(struct pg_query *q)
{
    return (uint32_t)pg_int(q);
}

bool pg_bool(struct pg_query *q)
{
    size_t len;
    const char *p = value(q, &len);
    return len == 1 && *p;
}

bool pg_is_null(struct pg_query *q)
{
    return PQgetisnull(q->res, q->row, q->col);
}

const void *pg_blob(struct pg_query *q, size_t *ret_len)
{
    return value(q, ret_len);
}

void pg_text(struct pg_query *q, char *ret, size_t size)
{
    size_t len;
    const char *p = value(q, &len);
    if (len >= size)
        len = size - 1;
    if (len)
        memcpy(ret, p, len);
    ret[len] = 0;
}

char *pg_str(struct pg_query *q)
{
    size_t len;
    const char *p = value(q, &len);
    return p ? mem_dup(p, len) : NULL;
}

static void fixed(struct pg_query *q, void *ret, size_t n)
{
    size_t len;
    const char *p = value(q, &len);
    if (len == n)
        memcpy(ret, p, n);
    else
        memset(ret, 0, n);
}

void pg_id(struct pg_query *q, struct uuid *ret)
{
    fixed(q, ret->b, sizeof ret->b);
}

void pg_hash(struct pg_query *q, struct hash *ret)
{
    fixed(q, ret->b, HASH_LEN);
}
