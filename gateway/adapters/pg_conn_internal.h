/* What pg_conn.c and pg_query.c share. */
#ifndef CAIRN_GATEWAY_ADAPTERS_PG_CONN_INTERNAL_H
#define CAIRN_GATEWAY_ADAPTERS_PG_CONN_INTERNAL_H
#include "gateway/adapters/pg_conn.h"

/* Notes that one more result is to come. */
void pg_sent_add(struct pg_conn *c, struct pg_query *reader);
/* Sends the statement to be prepared, where this connection has not yet. ret_name: what it goes by. 0 or -EHOSTUNREACH. */
int pg_prepare(struct pg_conn *c, const char *sql, char ret_name[24]);
int pg_state_errno(const char *sqlstate);
/* The transaction at hand, if there is one, has failed. */
void pg_fail(struct pg_conn *c, int err);
#endif
