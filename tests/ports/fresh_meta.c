#include "tests/ports/fresh_meta.h"
#include "common/cleanup.h"
#include "common/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *server(void)
{
    const char *url = getenv("CAIRN_TEST_META");
    return url && strncmp(url, "postgres", 8) == 0 ? url : NULL;
}

static void run_on_server(const char *sql)
{
    PGconn *c = PQconnectdb(server());
    if (PQstatus(c) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(c));
    PGresult *res = PQexec(c, sql);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(c));
    PQclear(res);
    PQfinish(c);
}

void fresh_meta_init(struct fresh_meta *f)
{
    static unsigned n;
    strcpy(f->dir, "/tmp/cairn-meta-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    if (!server()) {
        f->url = mem_printf("sqlite:%s/meta.db", f->dir);
        return;
    }
    CLEANUP_FREE char *sql = mem_printf("CREATE DATABASE cairn_test_%d_%u", (int)getpid(), ++n);
    run_on_server(sql);
    int before = (int)(strrchr(server(), '/') - server());
    f->url = mem_printf("%.*s/cairn_test_%d_%u", before, server(), (int)getpid(), n);
}

static int unlink_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
    (void)st;
    (void)type;
    (void)w;
    return remove(path);
}

void fresh_meta_fini(struct fresh_meta *f)
{
    if (server()) {
        CLEANUP_FREE char *sql = mem_printf("DROP DATABASE %s WITH (FORCE)", strrchr(f->url, '/') + 1);
        run_on_server(sql);
    }
    nftw(f->dir, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
    free(f->url);
}

void fresh_meta_sql(const char *url, const char *text)
{
    PGconn *c = PQconnectdb(url);
    PGresult *res = PQexec(c, text);
    ExecStatusType status = PQresultStatus(res);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", text, PQerrorMessage(c));
    PQclear(res);
    PQfinish(c);
}
