/* Quarantine: what becomes of a version that was found to be infected. */
#include "content_fixture.h"

static void an_infected_version_is_quarantined(void **state)
{
    struct fake_world *w = *state;
    assert_int_equal(commit_chunk(w, 0, 10, 0, 1, 10), 0);
    uint64_t clean = w->res.version;
    assert_int_equal(commit_chunk(w, clean, 20, 0, 2, 20), 0);
    uint64_t infected = w->res.version;
    struct op quarantine = {.kind = OP_QUARANTINE, .ino = FILE_INO, .version = infected};
    assert_int_equal(world_do(w, &quarantine), 0);
    assert_true(w->res.seq > infected);
    assert_int_equal(w->res.version, 0); /* no new content: nothing to be scanned in turn */
    /* who has it open or cached is told that all of it changed */
    assert_int_equal(w->res.content_ino, FILE_INO);
    assert_int_equal(w->res.content_from, 0);
    assert_int_equal(w->res.content_to, 20);
    assert_true(w->res.attrs[0].quarantined);
    assert_int_equal(w->res.attrs[0].version, infected);
    const struct fake_change *c = &w->store.changes[w->store.n_changes - 1];
    assert_int_equal(c->row.kind, 'a');
    assert_int_equal(c->row.version, 0);
    assert_string_equal(c->row.name, "f.txt");
    assert_non_null(strstr(c->touch, "\"quarantined\":true"));
    assert_true(world_inode(w, FILE_INO)->attr.quarantined);
    assert_true(version_of(w, FILE_INO, infected)->quarantined);
    assert_false(version_of(w, FILE_INO, clean)->quarantined);

    uint64_t seq = w->store.drive.seq;
    assert_int_equal(world_do(w, &quarantine), 0); /* told again: it is so already */
    assert_int_equal(w->store.drive.seq, seq);

    struct op restore = {.kind = OP_RESTORE, .ino = FILE_INO, .version = infected};
    assert_int_equal(world_do(w, &restore), -EACCES);
    restore.version = clean;
    assert_int_equal(world_do(w, &restore), 0);
    assert_false(world_inode(w, FILE_INO)->attr.quarantined); /* usable again; the infected one stays as it is */
    assert_true(version_of(w, FILE_INO, infected)->quarantined);
    assert_false(version_of(w, FILE_INO, w->res.version)->quarantined);
}

static void what_is_no_longer_current_is_quarantined_too(void **state)
{
    struct fake_world *w = *state;
    assert_int_equal(commit_chunk(w, 0, 10, 0, 1, 10), 0);
    uint64_t infected = w->res.version;
    assert_int_equal(commit_chunk(w, infected, 20, 0, 2, 20), 0);
    uint64_t current = w->res.version;
    struct op quarantine = {.kind = OP_QUARANTINE, .ino = FILE_INO, .version = infected};
    assert_int_equal(world_do(w, &quarantine), 0);
    assert_int_equal(w->res.content_ino, 0);
    assert_false(world_inode(w, FILE_INO)->attr.quarantined);
    assert_true(version_of(w, FILE_INO, infected)->quarantined);
    assert_false(version_of(w, FILE_INO, current)->quarantined);

    quarantine.version = current;
    world_do(w, &(struct op){.kind = OP_UNLINK, .parent = 1, .name = (char *)"f.txt"});
    assert_int_equal(world_do(w, &quarantine), 0); /* in the trash: it does not come back either */
    struct op restore = {.kind = OP_RESTORE, .ino = FILE_INO, .version = current, .parent = 1, .name = (char *)"f.txt"};
    assert_int_equal(world_do(w, &restore), -EACCES);

    quarantine.version = 7777;
    assert_int_equal(world_do(w, &quarantine), -ENOENT);
    quarantine.ino = 7777;
    assert_int_equal(world_do(w, &quarantine), -ENOENT);
}

static void nobody_else_can_quarantine(void **state)
{
    struct op op;
    (void)state;
    CLEANUP_JSON json_t *named = json_pack("{sssisi}", "op", "quarantine", "ino", FILE_INO, "version", 1);
    assert_int_equal(op_from_json(named, &op, NULL), -EINVAL);
    CLEANUP_JSON json_t *made = op_to_json(&(struct op){.kind = OP_QUARANTINE, .ino = FILE_INO, .version = 1});
    assert_int_equal(op_from_json(made, &op, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_infected_version_is_quarantined),
        CASE(what_is_no_longer_current_is_quarantined_too),
        CASE(nobody_else_can_quarantine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
