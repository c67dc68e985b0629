/* A metadata store that is empty, for one test: what $CAIRN_TEST_META names, or an SQLite file in a fresh folder. In PostgreSQL it is a database of its own. */
#ifndef CAIRN_TESTS_FRESH_META_H
#define CAIRN_TESTS_FRESH_META_H

struct fresh_meta {
    char *url;    /* for meta_open */
    char dir[64]; /* SQLite's folder, also for what else the test needs */
};
void fresh_meta_init(struct fresh_meta *f); /* a failure ends the test */
void fresh_meta_fini(struct fresh_meta *f); /* the store must be closed */
void fresh_meta_sql(const char *url, const char *text); /* of PostgreSQL, past the store */
#endif
