/* Transactions on a drive, and what was, as of a seq. */
#include "tests/ports/meta_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

static const char *names_at(struct meta_tx *tx, uint64_t dir, uint64_t at, struct buf *ret)
{
    buf_fini(ret);
    assert_int_equal(IN(tx, entries, dir, at, "", 100, add_name, ret), 0);
    return text_of(ret);
}

static void what_is_committed_is_there_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "caf\xe9", 10, S_IFREG | 0644)->attr.rdev = 0x1200000034;
    struct attr link = {.ino = 11, .mode = S_IFLNK | 0777, .nlink = 1, .size = 3};
    rows_inode_add(s.rows, &link, s.seq)->target = mem_strdup("a/b");
    name_set(&s, 1, "link", 11);
    s.rows->drive.used = 5;
    s.rows->drive.files = 6;
    step_end(&s);
    fixture_reopen(f);

    struct meta_tx *tx = snapshot(f);
    struct entry_row e;
    CLEANUP_BUF struct buf target = {0};
    assert_int_equal(IN(tx, entry, 1, "caf\xe9", 0, &e), 0);
    assert_int_equal(e.ino, 10);
    assert_int_equal(e.born, s.seq);
    assert_int_equal(e.died, ALIVE);
    assert_int_equal(e.attr.mode, S_IFREG | 0644);
    assert_int_equal(e.attr.rdev, 0x1200000034);
    assert_int_equal(IN(tx, entry, 1, "caf", 0, &e), -ENOENT);
    assert_int_equal(IN(tx, entry_of_ino, 11, 0, &e), 0);
    assert_string_equal(e.name, "link");
    assert_int_equal(IN(tx, entry_of_ino, 1, 0, &e), -ENOENT);
    assert_int_equal(IN(tx, symlink_target, 11, &target), 0);
    assert_string_equal(target.data, "a/b");
    assert_int_equal(IN(tx, symlink_target, 10, &target), -ENOENT);
    assert_int_equal(tx->drive.used, 5);
    assert_int_equal(tx->drive.files, 6);
    assert_int_equal(tx->drive.seq, s.seq);
    done(tx);
}

static void what_is_committed_outlives_its_process(void **state)
{
    struct fixture *f = *state;
    f->m->ops->free(f->m);
    pid_t child = fork();
    if (child == 0) { /* it dies with one transaction committed, and one not */
        if (meta_open(f->url, &f->m))
            _exit(1);
        struct step s = step_begin(f, 0);
        make(&s, 1, "committed", 10, S_IFREG);
        step_end(&s);
        s = step_begin(f, 0);
        make(&s, 1, "not", 11, S_IFREG);
        step_store(&s);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    fixture_open(f);
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    assert_string_equal(names_at(tx, 1, 0, &b), "committed");
    done(tx);
}

static void a_rollback_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    struct chunk_row c = {.hash = hash_of("x"), .size = 1, .stored_size = 1, .bytes = "x"};
    rows_chunk_add(s.rows, &c);
    step_store(&s);
    done(s.tx);
    struct meta_tx *tx = snapshot(f);
    struct entry_row e;
    struct attr a;
    bool known;
    assert_int_equal(IN(tx, entry, 1, "a", 0, &e), -ENOENT);
    assert_int_equal(IN(tx, inode, 10, 0, &a), -ENOENT);
    assert_int_equal(tx->drive.seq, s.seq - 1);
    assert_int_equal(CALL(f, chunks_known, &f->drive.id, &c.hash, 1, &known), 0);
    assert_false(known);
    done(tx);
}

static void a_snapshot_stays_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct meta_tx *before = snapshot(f);
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    step_end(&s);
    struct entry_row e;
    assert_int_equal(IN(before, entry, 1, "a", 0, &e), -ENOENT);
    assert_int_equal(before->drive.seq, s.seq - 1);
    done(before);
    before = snapshot(f);
    assert_int_equal(IN(before, entry, 1, "a", 0, &e), 0);
    done(before);
}

#define ROUNDS 20
static void *count_up(void *arg)
{
    struct fixture *f = arg;
    for (int i = 0; i < ROUNDS; i++) {
        struct step s = step_begin(f, 0);
        s.rows->drive.used = s.tx->drive.used + 1;
        step_end(&s);
    }
    return NULL;
}

static void a_snapshot_brings_an_entry_along(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, DRIVE_ROOT, "here", 10, S_IFREG | 0640);
    uint64_t seq = step_end(&s);
    struct meta_tx *tx;
    struct entry_row e;
    assert_int_equal(CALL(f, snapshot_entry, &f->drive.id, DRIVE_ROOT, "here", &tx, &e), 0);
    assert_int_equal(tx->drive.seq, seq);
    assert_int_equal(e.ino, 10);
    assert_int_equal(e.attr.mode, S_IFREG | 0640);
    s = step_begin(f, 0);
    name_set(&s, DRIVE_ROOT, "here", 0);
    step_end(&s);
    assert_int_equal(IN(tx, entry, DRIVE_ROOT, "here", 0, &e), 0); /* it is of the snapshot */
    done(tx);
    assert_int_equal(CALL(f, snapshot_entry, &f->drive.id, DRIVE_ROOT, "here", &tx, &e), 0);
    assert_int_equal(e.ino, 0);
    assert_int_equal(IN(tx, entry, DRIVE_ROOT, "here", 0, &e), -ENOENT);
    done(tx);
    struct uuid nobody;
    uuid_new(&nobody);
    assert_int_equal(CALL(f, snapshot_entry, &nobody, DRIVE_ROOT, "here", &tx, &e), -ENOENT);
}

static void a_name_is_looked_up(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, DRIVE_ROOT, "here", 10, S_IFREG | 0640);
    uint64_t seq = step_end(&s), got;
    struct entry_row e;
    assert_int_equal(CALL(f, lookup, &f->drive.id, DRIVE_ROOT, "here", &got, &e), 0);
    assert_int_equal(got, seq);
    assert_int_equal(e.ino, 10);
    assert_string_equal(e.name, "here");
    assert_int_equal(e.attr.mode, S_IFREG | 0640);
    got = 0;
    assert_int_equal(CALL(f, lookup, &f->drive.id, DRIVE_ROOT, "there", &got, &e), 0);
    assert_int_equal(got, seq);
    assert_int_equal(e.ino, 0);
    struct uuid nobody;
    uuid_new(&nobody);
    assert_int_equal(CALL(f, lookup, &nobody, DRIVE_ROOT, "here", &got, &e), -ENOENT);
}

static void two_writers_of_a_drive_take_turns(void **state)
{
    struct fixture *f = *state;
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, count_up, f), 0);
    count_up(f);
    pthread_join(other, NULL);
    struct drive_row d;
    assert_int_equal(CALL(f, drive_by_id, &f->drive.id, &d), 0);
    assert_int_equal(d.used, 2 * ROUNDS);
    assert_int_equal(d.seq, (UINT64_C(1) << 40) + 2 * ROUNDS);
}

static void a_long_log_is_moved_while_others_read(void **state)
{
    struct fixture *f = *state;
    static char bytes[CHUNK_INLINE_MAX];
    const int rounds = 24, chunks = 16; /* 24 MiB */
    for (int i = 0; i < rounds; i++) {
        struct meta_tx *reader = snapshot(f);
        struct step s = step_begin(f, 0);
        for (int n = 0; n < chunks; n++) {
            struct chunk_row c = {.size = sizeof bytes, .stored_size = sizeof bytes, .bytes = bytes};
            c.hash.b[0] = (uint8_t)(i + 1);
            c.hash.b[1] = (uint8_t)n;
            memset(bytes, i + n, sizeof bytes);
            assert_int_equal(CALL(f, chunks_add, &f->drive.id, &c, 1), 0);
        }
        step_end(&s);
        done(reader);
    }
    fixture_reopen(f);
    for (int i = 0; i < rounds; i++) {
        struct hash h = {{(uint8_t)(i + 1), 3}};
        CLEANUP(chunk_row_fini) struct chunk_row got = {0};
        assert_int_equal(CALL(f, chunk_get, &f->drive.id, &h, &got), 0);
        memset(bytes, i + 3, sizeof bytes);
        assert_memory_equal(got.bytes, bytes, sizeof bytes);
    }
}

static void a_directory_is_read_in_pages(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    const char *const names[] = {"b", "\xff", "a", "c", "B"};
    for (uint64_t i = 0; i < 5; i++)
        make(&s, 1, names[i], 10 + i, S_IFREG);
    make(&s, 11, "elsewhere", 20, S_IFREG);
    step_end(&s);
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf page = {0};
    assert_int_equal(IN(tx, entries, 1, 0, "", 3, add_name, &page), 0);
    assert_string_equal(page.data, "B a b");
    buf_fini(&page);
    assert_int_equal(IN(tx, entries, 1, 0, "b", 3, add_name, &page), 0);
    assert_string_equal(page.data, "c \xff");
    done(tx);
}

static void names_are_seen_as_they_were(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "old", 10, S_IFREG);
    make(&s, 1, "stays", 11, S_IFREG);
    uint64_t made = step_end(&s);
    s = step_begin(f, 1);
    name_set(&s, 1, "old", 0);
    name_set(&s, 1, "new", 10);
    uint64_t moved = step_end(&s);
    s = step_begin(f, 1);
    name_set(&s, 1, "new", 0);
    name_set(&s, 1, "old", 12); /* another file takes the name up again */
    struct attr a = {.ino = 12, .mode = S_IFREG | 0600, .nlink = 1};
    rows_inode_add(s.rows, &a, s.seq);
    uint64_t again = step_end(&s);

    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    struct entry_row e;
    assert_string_equal(names_at(tx, 1, made - 1, &b), "");
    assert_string_equal(names_at(tx, 1, made, &b), "old stays");
    assert_string_equal(names_at(tx, 1, moved, &b), "new stays");
    assert_string_equal(names_at(tx, 1, again, &b), "old stays");
    assert_string_equal(names_at(tx, 1, 0, &b), "old stays");
    assert_int_equal(IN(tx, entry, 1, "old", made, &e), 0);
    assert_int_equal(e.ino, 10);
    assert_int_equal(e.died, moved);
    assert_int_equal(IN(tx, entry, 1, "old", moved, &e), -ENOENT);
    assert_int_equal(IN(tx, entry, 1, "old", 0, &e), 0);
    assert_int_equal(e.ino, 12);
    assert_int_equal(IN(tx, entry_of_ino, 10, made, &e), 0);
    assert_string_equal(e.name, "old");
    assert_int_equal(IN(tx, entry_of_ino, 10, moved, &e), 0);
    assert_string_equal(e.name, "new");
    assert_int_equal(IN(tx, entry_of_ino, 10, 0, &e), -ENOENT);
    done(tx);
}

static int add_ino(void *ctx, const struct entry_row *e)
{
    buf_appendf(ctx, "%llu:%s ", (unsigned long long)e->ino, e->died == ALIVE ? "alive" : "dead");
    return 0;
}

static void a_name_tells_whom_it_belonged_to(void **state)
{
    struct fixture *f = *state;
    for (uint64_t ino = 10; ino < 13; ino++) {
        struct step s = step_begin(f, 1);
        make(&s, 1, "draft", ino, S_IFREG);
        step_end(&s);
    }
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(IN(tx, entry_history, 1, "draft", add_ino, &b), 0);
    assert_string_equal(b.data, "12:alive 11:dead 10:dead ");
    done(tx);
}

static void the_dead_of_a_directory_come_newest_first(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    const char *const names[] = {"a", "b", "c", "d", "e"};
    for (uint64_t i = 0; i < 5; i++)
        make(&s, 1, names[i], 10 + i, S_IFREG)->attr.size = 100 + i;
    step_end(&s);
    const char *const deaths[] = {"c", "a", "e", "b"};
    for (int i = 0; i < 4; i++) {
        s = step_begin(f, 1);
        name_set(&s, 1, deaths[i], 0);
        step_end(&s);
    }
    s = step_begin(f, 1);
    make(&s, 1, "e", 20, S_IFREG); /* it lives again */
    step_end(&s);
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    assert_int_equal(IN(tx, entries_dead, 1, "", 2, add_name, &b), 0);
    assert_string_equal(b.data, "b a");
    assert_int_equal(IN(tx, entries_dead, 1, "a", 2, add_name, &b), 0);
    assert_string_equal(b.data, "b a c");
    done(tx);
}

static void attributes_are_seen_as_they_were(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 1);
    make(&s, 1, "a", 10, S_IFREG | 0644);
    uint64_t made = step_end(&s);
    s = step_begin(f, 2);
    struct inode_row *i = inode_of(&s, 10);
    rows_inode_touch(s.rows, i, s.seq);
    i->attr.mode = S_IFREG | 0600;
    uint64_t changed = step_end(&s);
    s = step_begin(f, 0); /* in the same second: takes the place of the state before it */
    i = inode_of(&s, 10);
    rows_inode_touch(s.rows, i, s.seq);
    i->attr.uid = 7;
    i->parent = 3;
    i->children = 4;
    step_end(&s);

    struct meta_tx *tx = snapshot(f);
    struct attr a;
    assert_int_equal(IN(tx, inode, 10, made - 1, &a), -ENOENT);
    assert_int_equal(IN(tx, inode, 10, made, &a), 0);
    assert_int_equal(a.mode, S_IFREG | 0644);
    assert_int_equal(IN(tx, inode, 10, changed, &a), 0);
    assert_int_equal(a.mode, S_IFREG | 0600);
    assert_int_equal(IN(tx, inode, 10, 0, &a), 0);
    assert_int_equal(a.uid, 7);
    struct entry_row e;
    assert_int_equal(IN(tx, entry, 1, "a", made, &e), 0);
    assert_int_equal(e.attr.mode, S_IFREG | 0644);
    done(tx);
    s = step_begin(f, 0);
    i = inode_of(&s, 10);
    assert_int_equal(i->parent, 3);
    assert_int_equal(i->children, 4);
    rows_free(s.rows);
    done(s.tx);
}

static int add_xattr(void *ctx, const char *name, const void *value, size_t len)
{
    buf_appendf(ctx, "%s=%.*s ", name, (int)len, (const char *)value);
    return 0;
}

static const char *xattrs_at(struct meta_tx *tx, uint64_t at, struct buf *ret)
{
    buf_fini(ret);
    assert_int_equal(IN(tx, xattrs, 10, at, add_xattr, ret), 0);
    return text_of(ret);
}

static uint64_t set_xattr(struct fixture *f, const char *name, const char *value)
{
    struct step s = step_begin(f, 1);
    struct xattr_row *x;
    assert_int_equal(LOADED(&s, rows_xattr(s.rows, 10, name, &x)), 0);
    rows_xattr_set(s.rows, x, value, value ? strlen(value) : 0, s.seq);
    return step_end(&s);
}

static void xattrs_are_seen_as_they_were(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    step_end(&s);
    uint64_t one = set_xattr(f, "user.b", "1"), two = set_xattr(f, "user.a", ""), three = set_xattr(f, "user.b", "3"),
             four = set_xattr(f, "user.b", NULL);
    struct meta_tx *tx = snapshot(f);
    CLEANUP_BUF struct buf b = {0};
    assert_string_equal(xattrs_at(tx, one - 1, &b), "");
    assert_string_equal(xattrs_at(tx, one, &b), "user.b=1 ");
    assert_string_equal(xattrs_at(tx, two, &b), "user.a= user.b=1 ");
    assert_string_equal(xattrs_at(tx, three, &b), "user.a= user.b=3 ");
    assert_string_equal(xattrs_at(tx, four, &b), "user.a= ");
    assert_string_equal(xattrs_at(tx, 0, &b), "user.a= ");
    done(tx);
}

static struct lock_row lock_of(const struct uuid *session, uint64_t start)
{
    return (struct lock_row){.ino = 10, .owner = 5, .start = start, .end = UINT64_MAX >> 1, .session = *session, .type = F_WRLCK, .pid = 9};
}

static int count_locks(void *ctx, const struct lock_row *l)
{
    assert_int_equal(l->end, UINT64_MAX >> 1);
    assert_int_equal(l->type, F_WRLCK);
    *(uint64_t *)ctx += l->start;
    return 0;
}

static int count_sessions(void *ctx, const struct uuid *drive, const struct uuid *session)
{
    const struct fixture *f = ctx;
    return uuid_equal(drive, &f->drive.id) && uuid_equal(session, &f->user.id);
}

static uint64_t locks_sum(struct fixture *f)
{
    struct meta_tx *tx = snapshot(f);
    uint64_t sum = 0;
    assert_int_equal(IN(tx, locks, 10, count_locks, &sum), 0);
    done(tx);
    return sum;
}

static void locks_are_replaced_and_end_with_their_session(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    struct uuid other;
    uuid_new(&other);
    struct lock_row two[] = {lock_of(&f->user.id, 1), lock_of(&other, 10)}, *seen;
    size_t n;
    assert_int_equal(LOADED(&s, rows_locks(s.rows, 10, &seen, &n)), 0);
    assert_int_equal(n, 0);
    rows_locks_set(s.rows, 10, two, 2);
    step_end(&s);
    assert_int_equal(locks_sum(f), 11);
    assert_int_equal(CALL(f, lock_sessions, count_sessions, f), 1);
    s = step_begin(f, 0);
    rows_locks_release(s.rows, &f->user.id);
    assert_int_equal(LOADED(&s, rows_locks(s.rows, 10, &seen, &n)), 0);
    assert_int_equal(n, 1);
    assert_int_equal(seen->owner, 5);
    assert_int_equal(seen->pid, 9);
    step_end(&s);
    assert_int_equal(locks_sum(f), 10);
    assert_int_equal(CALL(f, lock_sessions, count_sessions, f), 0);
    s = step_begin(f, 0);
    assert_int_equal(LOADED(&s, rows_locks(s.rows, 10, &seen, &n)), 0);
    rows_locks_set(s.rows, 10, NULL, 0);
    step_end(&s);
    assert_int_equal(locks_sum(f), 0);
}

static void a_transaction_finds_what_is_stored(void **state)
{
    struct fixture *f = *state;
    struct step s = step_begin(f, 0);
    make(&s, 1, "a", 10, S_IFREG);
    make(&s, 1, "gone", 11, S_IFREG);
    step_end(&s);
    s = step_begin(f, 0);
    const struct dentry_row *entry;
    struct dentry_row *d;
    struct inode_row *i;
    const char *target;
    assert_int_equal(LOADED(&s, rows_entry_of(s.rows, 10, &entry)), 0);
    assert_string_equal(entry->name, "a");
    assert_int_equal(LOADED(&s, rows_dentry(s.rows, 1, "nothing", &d)), 0);
    assert_int_equal(d->ino, 0);
    assert_int_equal(LOADED(&s, rows_inode(s.rows, 99, &i)), -ENOENT);
    assert_int_equal(LOADED(&s, rows_target(s.rows, 10, &target)), -ENOENT);
    name_set(&s, 1, "gone", 0);
    assert_int_equal(LOADED(&s, rows_entry_of(s.rows, 11, &entry)), -ENOENT);
    step_end(&s);
}

/* ---- the outbox ---- */

static uint64_t step_with_change(struct fixture *f, const char *name)
{
    struct step s = step_begin(f, 0);
    make(&s, 1, name, s.seq + 100, S_IFREG);
    struct change_row *c = rows_change_add(s.rows);
    c->seq = s.seq;
    c->kind = 'c';
    c->ino = s.seq + 100;
    c->parent = 1;
    c->at = s.rows->now;
    strcpy(c->name, name);
    return step_end(&s);
}

static void what_is_committed_waits_in_the_outbox(void **state)
{
    struct fixture *f = *state;
    struct outbox_row rows[10];
    unsigned n = 9;
    const int64_t far = INT64_MAX / 2;
    step_with_change(f, "not published by anyone");
    assert_int_equal(CALL(f, outbox_claim, far, far, 10, rows, &n), 0);
    assert_int_equal(n, 0);
    f->m->outbox = true;
    uint64_t one = step_with_change(f, "a"), two = step_with_change(f, "b"), three = step_with_change(f, "c");
    fixture_reopen(f);
    f->m->outbox = true;
    /* whoever committed it has some seconds */
    struct meta_tx *tx = snapshot(f);
    assert_int_equal(CALL(f, outbox_claim, tx->now, far, 10, rows, &n), 0);
    done(tx);
    assert_int_equal(n, 0);
    assert_int_equal(CALL(f, outbox_claim, far, far + 5, 2, rows, &n), 0);
    assert_int_equal(n, 2);
    assert_true(uuid_equal(&rows[0].drive, &f->drive.id));
    assert_int_equal(rows[0].first, one);
    assert_int_equal(rows[0].last, one);
    assert_int_equal(rows[1].first, two);
    /* what one relay has claimed, no other gets, until it has not been removed for too long */
    assert_int_equal(CALL(f, outbox_claim, far + 1, far + 6, 10, rows, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].first, three);
    assert_int_equal(CALL(f, outbox_claim, far + 5, far + 9, 10, rows, &n), 0);
    assert_int_equal(n, 2);
    /* removed are those that lie within */
    assert_int_equal(CALL(f, outbox_remove, &(struct outbox_row){f->drive.id, two, three}, 1), 0);
    assert_int_equal(CALL(f, outbox_claim, far + 100, far + 101, 10, rows, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].first, one);
}

static void a_rollback_leaves_nothing_in_the_outbox(void **state)
{
    struct fixture *f = *state;
    struct outbox_row rows[1];
    unsigned n;
    f->m->outbox = true;
    struct step s = step_begin(f, 0);
    struct change_row *c = rows_change_add(s.rows);
    c->seq = s.seq;
    c->kind = 'c';
    c->ino = 10;
    step_store(&s);
    s.tx->meta->ops->rollback(s.tx);
    assert_int_equal(CALL(f, outbox_claim, INT64_MAX / 2, INT64_MAX / 2, 1, rows, &n), 0);
    assert_int_equal(n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_committed_is_there_after_a_restart),
        TEST(what_is_committed_outlives_its_process),
        TEST(a_rollback_leaves_nothing),
        TEST(a_snapshot_stays_as_it_was),
        TEST(a_snapshot_brings_an_entry_along),
        TEST(a_name_is_looked_up),
        TEST(two_writers_of_a_drive_take_turns),
        TEST(a_long_log_is_moved_while_others_read),
        TEST(a_directory_is_read_in_pages),
        TEST(names_are_seen_as_they_were),
        TEST(a_name_tells_whom_it_belonged_to),
        TEST(the_dead_of_a_directory_come_newest_first),
        TEST(attributes_are_seen_as_they_were),
        TEST(xattrs_are_seen_as_they_were),
        TEST(locks_are_replaced_and_end_with_their_session),
        TEST(a_transaction_finds_what_is_stored),
        TEST(what_is_committed_waits_in_the_outbox),
        TEST(a_rollback_leaves_nothing_in_the_outbox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
