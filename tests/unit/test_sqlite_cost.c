/* What an operation costs in SQLite does not depend on how much else the drive holds. Counted in steps of SQLite's virtual machine: the same on any machine, however
   busy it is. */
#include "tests/ports/meta_fixture.h"

#include "gateway/adapters/meta_sqlite.h"

#include <sqlite3.h>

static uint64_t steps_of(struct conn *c)
{
    uint64_t n = 0;
    for (sqlite3_stmt *st = sqlite3_next_stmt(c->db, NULL); st; st = sqlite3_next_stmt(c->db, st))
        n += (uint64_t)sqlite3_stmt_status(st, SQLITE_STMTSTATUS_VM_STEP, 1);
    return n;
}

/* Since it was last asked, by all connections. */
static uint64_t steps(struct fixture *f)
{
    struct sqlite_meta *m = sqlite_of(f->m);
    uint64_t n = steps_of(m->writer);
    for (struct conn *c = m->idle; c; c = c->next)
        n += steps_of(c);
    return n;
}

/* What a change of attributes, and of a name, reads and writes; ino has the only name `name`. */
static uint64_t change_one(struct fixture *f, uint64_t ino, const char *name)
{
    const struct dentry_row *entry;
    struct dentry_row *d;
    struct entry_row e;
    steps(f);
    struct step s = step_begin(f, 0);
    rows_inode_touch(s.rows, inode_of(&s, ino), s.seq);
    assert_int_equal(LOADED(&s, rows_entry_of(s.rows, ino, &entry)), 0);
    assert_string_equal(entry->name, name);
    assert_int_equal(LOADED(&s, rows_dentry(s.rows, 1, name, &d)), 0);
    rows_dentry_set(s.rows, d, ino, s.seq);
    step_end(&s);
    struct meta_tx *tx = snapshot(f);
    assert_int_equal(IN(tx, entry_of_ino, ino, 0, &e), 0);
    assert_int_equal(IN(tx, entry_of_ino, ino, s.seq, &e), 0);
    done(tx);
    return steps(f);
}

static void a_change_costs_the_same_in_a_full_drive(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "one", 10, S_IFREG);
    step_end(&s);
    change_one(f, 10, "one"); /* statements are prepared */
    uint64_t alone = change_one(f, 10, "one");
    for (unsigned round = 0; round < 2; round++) { /* names that live, and as many that died */
        s = step_begin(f, 0);
        for (uint64_t i = 0; i < 3000; i++) {
            char name[24];
            snprintf(name, sizeof name, "name%llu", (unsigned long long)i + 3000 * round);
            make(&s, 1, name, 1000 + i + 3000 * round, S_IFREG);
        }
        step_end(&s);
        s = step_begin(f, 0);
        for (uint64_t i = 0; round && i < 3000; i++) {
            char name[24];
            snprintf(name, sizeof name, "name%llu", (unsigned long long)i);
            name_set(&s, 1, name, 0);
        }
        step_end(&s);
    }
    uint64_t among_many = change_one(f, 10, "one");
    assert_true(alone > 20);
    assert_in_range(among_many, 0, alone * 3 / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(a_change_costs_the_same_in_a_full_drive)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
