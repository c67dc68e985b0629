/* What of a database is there after its machine stopped: what had been synced. Each fdatasync of the log, here, leaves a copy of the files as they were at that moment. */
#include "tests/ports/meta_fixture.h"

#include "gateway/adapters/meta_sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t copying = PTHREAD_MUTEX_INITIALIZER;
static char copied_dir[64]; /* guarded by copying; "": nothing is copied */
static atomic_int syncs;

static bool copy(const char *dir, const char *from, const char *to)
{
    CLEANUP_FREE char *a = mem_printf("%s/%s", dir, from), *b = mem_printf("%s/%s", dir, to);
    CLEANUP_CLOSE int in = open(a, O_RDONLY | O_CLOEXEC);
    CLEANUP_CLOSE int out = open(b, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct stat st;
    return in >= 0 && out >= 0 && fstat(in, &st) == 0 && sendfile(out, in, NULL, (size_t)st.st_size) == st.st_size;
}

/* In place of libc's, for SQLite too. */
int fdatasync(int fd)
{
    char link[32], path[256] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 4 && strcmp(path + strlen(path) - 4, "-wal") == 0) {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&copying);
        atomic_fetch_add(&syncs, 1);
        if (copied_dir[0]) {
            if (!copy(copied_dir, "meta.db", "disk.db") || !copy(copied_dir, "meta.db-wal", "disk.db-wal"))
                abort();
        }
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static int setup(void **state)
{
    fixture_setup(state);
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "first", 10, S_IFREG);
    step_end(&s); /* the log has begun */
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&copying);
    strcpy(copied_dir, f->dir);
    return 0;
}

static int teardown(void **state)
{
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&copying);
        copied_dir[0] = 0;
    }
    return fixture_teardown(state);
}

static void commit(struct fixture *f, const char *name, uint64_t ino, bool lazily)
{
    struct step s = step_begin(f, 0);
    make(&s, 1, name, ino, S_IFREG);
    s.tx->lazy = lazily;
    step_end(&s);
}

/* Whether the disk has the name. */
static bool kept(struct fixture *f, const char *name)
{
    CLEANUP_FREE char *path = mem_printf("%s/kept.db", f->dir), *shm = mem_printf("%s/kept.db-shm", f->dir);
    sqlite3 *db;
    sqlite3_stmt *st;
    bool copied;
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&copying);
        copied = copy(f->dir, "disk.db", "kept.db") && copy(f->dir, "disk.db-wal", "kept.db-wal");
        unlink(shm);
    }
    if (!copied)
        return false;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT 1 FROM dentry WHERE name = CAST(?1 AS BLOB)", -1, &st, NULL), SQLITE_OK);
    sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
    bool found = sqlite3_step(st) == SQLITE_ROW;
    sqlite3_finalize(st);
    sqlite3_close(db);
    return found;
}

static void a_commit_is_on_the_disk(void **state)
{
    commit(*state, "second", 11, false);
    assert_true(kept(*state, "second"));
}

static void a_lazy_one_comes_with_the_next(void **state)
{
    int before = atomic_load(&syncs);
    commit(*state, "second", 11, true);
    assert_int_equal(atomic_load(&syncs), before);
    commit(*state, "third", 12, false);
    assert_true(kept(*state, "second"));
    assert_true(kept(*state, "third"));
}

static void wait_until_kept(struct fixture *f, const char *name)
{
    int before = atomic_load(&syncs);
    for (int i = 0; i < 1000 && atomic_load(&syncs) == before; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(kept(f, name));
}

static void a_lazy_one_comes_by_itself(void **state)
{
    commit(*state, "second", 11, true);
    wait_until_kept(*state, "second");
}

static void a_commit_that_changes_nothing_syncs_nothing(void **state)
{
    struct fixture *f = *state;
    struct meta_tx *tx;
    commit(f, "second", 11, true);
    assert_int_equal(CALL(f, begin, &f->drive.id, &tx), 0);
    assert_int_equal(tx->meta->ops->commit(tx), 0); /* and is not taken for one that brought the other along */
    wait_until_kept(f, "second");
}

static void a_log_that_begins_anew_is_synced(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(sqlite3_wal_checkpoint_v2(sqlite_of(f->m)->writer->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL), SQLITE_OK);
    int before = atomic_load(&syncs);
    commit(f, "second", 11, true);
    assert_true(atomic_load(&syncs) > before); /* its header, or frames of before might be taken for its own */
}

static void set_boot(struct fixture *f, const char *boot)
{
    CLEANUP_FREE char *sql = mem_printf("UPDATE lineage SET boot = '%s'", boot);
    assert_int_equal(sqlite3_exec(sqlite_of(f->m)->writer->db, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void another_boot_is_another_generation(void **state)
{
    struct fixture *f = *state;
    struct drive_row before, d;
    assert_int_equal(CALL(f, drive_by_id, &f->drive.id, &before), 0);
    fixture_reopen(f);
    assert_int_equal(CALL(f, drive_by_id, &f->drive.id, &d), 0);
    assert_int_equal(d.seq, before.seq); /* the machine runs on: nothing was lost */
    set_boot(f, "another");
    fixture_reopen(f);
    assert_int_equal(CALL(f, drive_by_id, &f->drive.id, &d), 0);
    assert_int_equal(d.seq >> 40, (before.seq >> 40) + 1);
    assert_int_equal(d.prior_end, before.seq);
    assert_true(drive_row_follows(&d, before.seq));
    assert_false(drive_row_follows(&d, before.seq + 1)); /* it was given, and is lost */
}

static void cursors(void **state)
{
    (void)state;
    const uint64_t g = UINT64_C(1) << 40;
    struct drive_row d = {.seq = 3 * g + 5, .prior_end = 2 * g + 7, .oldest_change = 0};
    assert_true(drive_row_follows(&d, 0));
    assert_true(drive_row_follows(&d, 3 * g + 5));
    assert_true(drive_row_follows(&d, 3 * g));
    assert_true(drive_row_follows(&d, 2 * g + 7));
    assert_false(drive_row_follows(&d, 3 * g + 6));
    assert_false(drive_row_follows(&d, 2 * g + 8));
    assert_false(drive_row_follows(&d, g + 3)); /* where that one ended is not known any more */
    d.oldest_change = 3 * g + 2;
    assert_false(drive_row_follows(&d, 2 * g + 7));
    assert_false(drive_row_follows(&d, 0));
    assert_true(drive_row_follows(&d, 3 * g + 2));
}

#define HERE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HERE(a_commit_is_on_the_disk),
        HERE(a_lazy_one_comes_with_the_next),
        HERE(a_lazy_one_comes_by_itself),
        HERE(a_commit_that_changes_nothing_syncs_nothing),
        HERE(a_log_that_begins_anew_is_synced),
        HERE(another_boot_is_another_generation),
        cmocka_unit_test(cursors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
