/* Operations on content: what a commit, a put, a rename over and a restore leave behind. */
#include "content_fixture.h"

static void first_content(void **state)
{
    struct fake_world *w = *state;
    w->now += 10;
    assert_int_equal(commit_chunk(w, 0, 1000, 0, 1, 1000), 0);
    uint64_t v = w->res.version;
    assert_int_equal(v, w->store.drive.seq);
    assert_int_equal(w->res.seq, v);
    assert_int_equal(w->res.content_ino, FILE_INO);
    assert_int_equal(w->res.content_from, 0);
    assert_int_equal(w->res.content_to, 1000);
    const struct attr *a = attr_of(w, FILE_INO);
    assert_int_equal(a->size, 1000);
    assert_int_equal(a->version, v);
    assert_int_equal(a->chunk_size, CS);
    assert_int_equal(a->mtime, w->now);
    assert_int_equal(w->store.drive.used, 1000);
    struct hash tree, one = chunk(1);
    hash_bytes(&one, sizeof one, &tree);
    assert_memory_equal(&version_of(w, FILE_INO, v)->tree_hash, &tree, sizeof tree);
    assert_true(hash_is_zero(&version_of(w, FILE_INO, v)->sha256)); /* nobody knows where chunk 1 ends */
    assert_int_equal(w->store.changes[w->store.n_changes - 1].row.kind, 'm');
    assert_int_equal(w->store.changes[w->store.n_changes - 1].row.version, v);
    assert_string_equal(w->store.changes[w->store.n_changes - 1].row.name, "f.txt");
}

static void content_that_comes_along_has_its_hash(void **state)
{
    struct fake_world *w = *state;
    struct chunk_row row = {.size = 5, .stored_size = 5, .bytes = (char *)"hello"};
    hash_bytes("hello", 5, &row.hash);
    struct chunk_change c = {.ref = {.hash = row.hash, .len = 5}};
    struct op op = commit(0, 5, &c, 1);
    struct rows *r = rows_new(&w->store.drive, w->now);
    rows_chunk_add(r, &row);
    assert_int_equal(world_apply(w, r, &op), 0);
    fake_save(&w->store, r);
    rows_free(r);
    assert_memory_equal(&version_of(w, FILE_INO, w->res.version)->sha256, &row.hash, sizeof row.hash);
}

static void missing_chunks_are_listed(void **state)
{
    struct fake_world *w = *state;
    struct chunk_change c[] = {change(0, 1, CS), change(1, 500, CS), change(2, 0, 0), change(3, 501, CS)};
    struct op op = commit(0, 4 * CS, c, 4);
    assert_int_equal(world_do(w, &op), -ENODATA);
    assert_int_equal(w->res.n_missing, 2);
    assert_memory_equal(&w->res.missing[0], &c[1].ref.hash, HASH_LEN);
    assert_memory_equal(&w->res.missing[1], &c[3].ref.hash, HASH_LEN);
    assert_int_equal(w->res.seq, 0);
}

static void bad_geometry_is_refused(void **state)
{
    struct fake_world *w = *state;
    assert_int_equal(commit_chunk(w, 0, CS, 1, 1, 10), -EINVAL); /* beyond the end */
    assert_int_equal(commit_chunk(w, 0, FILE_SIZE_MAX, 0, 1, 10), -EFBIG);
    assert_int_equal(commit_chunk(w, 0, 10, 0, 1, 10), 0);
    uint64_t v = w->res.version;
    struct chunk_change c = change(0, 2, 10);
    struct op op = commit(v, 10, &c, 1);
    op.chunk_size = 2 * CS;
    assert_int_equal(world_do(w, &op), -EINVAL);
    op.whole = true; /* nothing is inherited: another geometry is fine */
    assert_int_equal(world_do(w, &op), 0);
    assert_int_equal(attr_of(w, FILE_INO)->chunk_size, 2 * CS);
    op = commit(w->res.version, 10, &c, 1);
    op.ino = 1;
    assert_int_equal(world_do(w, &op), -EISDIR);
    op.ino = 999;
    assert_int_equal(world_do(w, &op), -ENOENT);
}

static void a_tail_never_comes_back(void **state)
{
    struct fake_world *w = *state;
    struct chunk_change c[] = {change(0, 1, CS), change(1, 2, CS), change(2, 3, 500), change(70, 4, CS), change(140, 5, CS)};
    struct op op = commit(0, 150 * (uint64_t)CS, c, 5);
    assert_int_equal(world_do(w, &op), 0);
    uint64_t full = w->res.version;
    op = commit(full, CS + 100, NULL, 0); /* within chunk 1 */
    assert_int_equal(world_do(w, &op), 0);
    uint64_t cut = w->res.version;
    assert_int_equal(w->res.content_from, CS + 100);
    assert_int_equal(w->res.content_to, 150 * (uint64_t)CS);
    op = commit(cut, 150 * (uint64_t)CS, NULL, 0); /* ftruncate upwards */
    assert_int_equal(world_do(w, &op), 0);
    uint64_t grown = w->res.version;
    for (uint64_t v = cut; v <= grown; v += grown - cut) {
        assert_chunk(w, FILE_INO, v, 0, 1, CS);
        assert_chunk(w, FILE_INO, v, 1, 2, 100);
        assert_chunk(w, FILE_INO, v, 2, 0, 0);
        assert_chunk(w, FILE_INO, v, 70, 0, 0);
        assert_chunk(w, FILE_INO, v, 140, 0, 0);
    }
    assert_chunk(w, FILE_INO, full, 140, 5, CS); /* the past stays */
    /* Shrunk and grown again between two commits. */
    struct chunk_change back = change(140, 6, CS);
    op = commit(grown, 150 * (uint64_t)CS, &back, 1);
    assert_int_equal(world_do(w, &op), 0);
    op = commit(w->res.version, 150 * (uint64_t)CS, NULL, 0);
    op.shrunk_to = 50;
    assert_int_equal(world_do(w, &op), 0);
    assert_chunk(w, FILE_INO, w->res.version, 0, 1, 50);
    assert_chunk(w, FILE_INO, w->res.version, 1, 0, 0);
    assert_chunk(w, FILE_INO, w->res.version, 140, 0, 0);
}

static void one_changed_chunk_writes_one_segment(void **state)
{
    struct fake_world *w = *state;
    struct chunk_change c[300];
    for (unsigned i = 0; i < 300; i++)
        c[i] = change(i, 1 + i % 50, CS);
    struct op op = commit(0, 300 * (uint64_t)CS, c, 300);
    assert_int_equal(world_do(w, &op), 0);
    assert_int_equal(w->store.n_segments, 5);
    assert_int_equal(commit_chunk(w, w->res.version, 300 * (uint64_t)CS, 200, 60, CS), 0);
    assert_int_equal(w->store.n_segments, 6);
    assert_int_equal(w->store.n_cuts, 0);
    assert_int_equal(w->res.content_from, 200 * (uint64_t)CS);
    assert_int_equal(w->res.content_to, 201 * (uint64_t)CS);
    c[200] = change(200, 60, CS);
    struct hash hashes[300], tree;
    for (unsigned i = 0; i < 300; i++)
        hashes[i] = c[i].ref.hash;
    hash_bytes(hashes, sizeof hashes, &tree);
    assert_memory_equal(&version_of(w, FILE_INO, w->res.version)->tree_hash, &tree, sizeof tree);
}

static void quota_bounds_growth_only(void **state)
{
    struct fake_world *w = *state;
    w->store.drive.quota = 1000;
    assert_int_equal(commit_chunk(w, 0, 1001, 0, 1, 1001), -EDQUOT);
    assert_int_equal(commit_chunk(w, 0, 1000, 0, 1, 1000), 0);
    uint64_t v = w->res.version;
    w->store.drive.quota = 100;
    assert_int_equal(commit_chunk(w, v, 500, 0, 1, 500), 0); /* less is allowed above it, too */
    assert_int_equal(w->store.drive.used, 500);
    world_do(w, &(struct op){.kind = OP_UNLINK, .parent = 1, .name = (char *)"f.txt"});
    assert_int_equal(w->store.drive.used, 0);
    assert_int_equal(commit_chunk(w, w->store.versions[w->store.n_versions - 1].version, 5000, 0, 2, 5000), 0); /* open, without a name: counts for nobody */
    assert_int_equal(w->store.drive.used, 0);
}

static void one_open_file_leaves_one_version(void **state)
{
    struct fake_world *w = *state;
    commit_chunk(w, 0, 10, 0, 1, 10);
    uint64_t first = w->res.version;
    struct chunk_change c = change(0, 2, 20);
    struct op op = commit(first, 20, &c, 1);
    op.replaces = first;
    assert_int_equal(world_do(w, &op), 0);
    uint64_t second = w->res.version;
    assert_false(version_of(w, FILE_INO, first)->listed);
    op.replaces = second; /* its base is older, but what stands there is its own */
    op.base = 0;
    assert_int_equal(world_do(w, &op), 0);
    assert_int_equal(w->res.conflict_parent, 0);
    assert_int_equal(w->res.ino, FILE_INO);
    assert_false(version_of(w, FILE_INO, second)->listed);
    assert_true(version_of(w, FILE_INO, w->res.version)->listed);
}

static void a_stale_commit_becomes_a_sibling(void **state)
{
    struct fake_world *w = *state;
    struct chunk_change two[] = {change(0, 1, CS), change(1, 2, 50)};
    struct op op = commit(0, CS + 50, two, 2);
    world_do(w, &op);
    uint64_t base = w->res.version;
    commit_chunk(w, base, CS + 50, 0, 3, CS); /* somebody else */
    uint64_t theirs = w->res.version;
    w->now += 5000000000;
    assert_int_equal(commit_chunk(w, base, CS + 60, 1, 4, 60), 0); /* mine, on the old base */
    uint64_t sibling = w->res.ino;
    assert_int_equal(sibling, 1000);
    assert_int_equal(w->store.drive.next_ino, 1001);
    assert_int_equal(w->res.conflict_parent, 1);
    assert_string_equal(w->res.conflict_name, "f (conflict, laptop, 2023-11-14T22-13-25Z).txt");
    assert_int_equal(world_lookup(w, 1, w->res.conflict_name), sibling);
    assert_int_equal(attr_of(w, FILE_INO)->version, theirs);
    assert_chunk(w, FILE_INO, theirs, 0, 3, CS);
    assert_chunk(w, sibling, w->res.version, 0, 1, CS); /* from the base */
    assert_chunk(w, sibling, w->res.version, 1, 4, 60);
    assert_int_equal(attr_of(w, sibling)->mode, S_IFREG | 0640);
    assert_int_equal(attr_of(w, sibling)->uid, 7);
    assert_int_equal(attr_of(w, sibling)->size, CS + 60);
    assert_int_equal(w->store.drive.used, 2 * CS + 110);
    assert_int_equal(w->store.drive.files, 3);
    assert_int_equal(world_inode(w, 1)->children, 2);
    assert_int_equal(commit_chunk(w, base, CS + 60, 1, 5, 60), 0); /* again within the second: the next name */
    assert_string_equal(w->res.conflict_name, "f (conflict, laptop, 2023-11-14T22-13-25Z 2).txt");
    /* With nobody's name left, there is nobody to be in conflict with. */
    world_do(w, &(struct op){.kind = OP_UNLINK, .parent = 1, .name = (char *)"f.txt"});
    assert_int_equal(commit_chunk(w, base, CS + 60, 1, 6, 60), 0);
    assert_int_equal(w->res.ino, FILE_INO);
    assert_int_equal(w->res.conflict_parent, 0);
    assert_chunk(w, FILE_INO, w->res.version, 0, 1, CS);
    assert_chunk(w, FILE_INO, w->res.version, 1, 6, 60);
    /* A base that is kept no longer cannot be built upon. */
    assert_int_equal(commit_chunk(w, 7, CS + 60, 1, 6, 60), -ESTALE);
}

static void what_lost_its_lock_becomes_a_sibling(void **state)
{
    struct fake_world *w = *state;
    commit_chunk(w, 0, 10, 0, 1, 10);
    uint64_t base = w->res.version;
    struct chunk_change c = change(0, 2, 20);
    struct op op = commit(base, 20, &c, 1);
    op.aside = op.append = true; /* an append does not go behind what those who have the lock write */
    op.append_from = 10;
    assert_int_equal(world_do(w, &op), 0);
    assert_int_not_equal(w->res.conflict_parent, 0);
    assert_chunk(w, w->res.ino, w->res.version, 0, 2, 20);
    assert_int_equal(attr_of(w, FILE_INO)->version, base);
}

static void a_stale_append_is_sent_back(void **state)
{
    struct fake_world *w = *state;
    commit_chunk(w, 0, 10, 0, 1, 10);
    uint64_t base = w->res.version;
    commit_chunk(w, base, 20, 0, 2, 20);
    uint64_t theirs = w->res.version;
    struct chunk_change c = change(0, 3, 15);
    struct op op = commit(base, 15, &c, 1);
    op.append = true;
    op.append_from = 10;
    assert_int_equal(world_do(w, &op), -ESTALE);
    assert_int_equal(w->res.n_attrs, 1);
    assert_int_equal(w->res.attrs[0].version, theirs);
    assert_int_equal(w->res.attrs[0].size, 20);
    assert_int_equal(w->res.seq, 0);
}

static int put(struct fake_world *w, const char *name, uint64_t ino, unsigned id, uint32_t len, bool has_base, uint64_t base)
{
    struct chunk_change c = change(0, id, len);
    return world_do(w, &(struct op){.kind = OP_PUT, .parent = 1, .name = (char *)name, .ino = ino, .mode = 0600, .size = len, .shrunk_to = len, .chunk_size = CS,
                                    .changes = &c, .n_changes = 1, .whole = true, .has_base = has_base, .base = base, .has_mtime = true, .mtime = 77});
}

static void putting(void **state)
{
    struct fake_world *w = *state;
    assert_int_equal(put(w, "new", 200, 1, 10, false, 0), 0);
    assert_int_equal(w->res.ino, 200);
    assert_int_equal(w->res.seq, w->res.version); /* made and filled by one number */
    assert_int_equal(attr_of(w, 200)->mode, S_IFREG | 0600);
    assert_int_equal(attr_of(w, 200)->mtime, 77);
    assert_int_equal(w->store.changes[w->store.n_changes - 1].row.kind, 'c');
    uint64_t v = w->res.version;
    assert_int_equal(put(w, "new", 201, 2, 20, false, 0), 0); /* no base: replaces */
    assert_int_equal(w->res.ino, 200);
    assert_int_equal(w->store.changes[w->store.n_changes - 1].row.kind, 'm');
    assert_int_equal(put(w, "new", 202, 3, 30, true, v), 0); /* a stale one: a sibling */
    assert_int_equal(w->res.ino, 1000);
    assert_int_equal(w->res.conflict_parent, 1);
    assert_int_equal(attr_of(w, 200)->size, 20);
    assert_int_equal(attr_of(w, 1000)->size, 30);
    world_do(w, &(struct op){.kind = OP_CREATE, .parent = 1, .name = (char *)"d", .ino = 300, .mode = S_IFDIR | 0755});
    world_do(w, &(struct op){.kind = OP_CREATE, .parent = 1, .name = (char *)"l", .ino = 301, .mode = S_IFLNK | 0777, .target = (char *)"d"});
    assert_int_equal(put(w, "d", 203, 1, 10, false, 0), -EISDIR);
    assert_int_equal(put(w, "l", 203, 1, 10, false, 0), -ELOOP);
    assert_int_equal(put(w, "newer", 200, 1, 10, false, 0), -EINVAL);
}

static void renaming_over_what_changed_meanwhile(void **state)
{
    struct fake_world *w = *state;
    put(w, "doc", 200, 1, 10, false, 0);
    uint64_t read = w->res.version;
    put(w, "tmp", 201, 2, 20, false, 0);
    put(w, "doc", 0, 3, 30, false, 0); /* somebody else saves */
    struct op op = {.kind = OP_RENAME, .parent = 1, .name = (char *)"tmp", .new_parent = 1, .new_name = (char *)"doc", .target_base = read};
    assert_int_equal(world_do(w, &op), 0);
    assert_int_equal(w->res.conflict_parent, 1);
    assert_int_equal(world_lookup(w, 1, w->res.conflict_name), 201);
    assert_int_equal(world_lookup(w, 1, "doc"), 200);
    assert_int_equal(world_lookup(w, 1, "tmp"), 0);
    assert_int_equal(w->res.n_names, 3);
    put(w, "tmp", 202, 2, 20, false, 0);
    op.target_base = attr_of(w, 200)->version;
    assert_int_equal(world_do(w, &op), 0);
    assert_int_equal(w->res.conflict_parent, 0);
    assert_int_equal(world_lookup(w, 1, "doc"), 202);
}

static void restoring(void **state)
{
    struct fake_world *w = *state;
    struct chunk_change c[] = {change(0, 1, CS), change(70, 2, 100)};
    struct op op = commit(0, 70 * (uint64_t)CS + 100, c, 2);
    world_do(w, &op);
    uint64_t old = w->res.version;
    op = commit(old, 5, NULL, 0);
    world_do(w, &op);
    struct op restore = {.kind = OP_RESTORE, .ino = FILE_INO, .version = old};
    assert_int_equal(world_do(w, &restore), 0);
    assert_true(w->res.version > old);
    assert_int_equal(attr_of(w, FILE_INO)->size, 70 * (uint64_t)CS + 100);
    assert_chunk(w, FILE_INO, w->res.version, 70, 2, 100);
    assert_memory_equal(&version_of(w, FILE_INO, w->res.version)->tree_hash, &version_of(w, FILE_INO, old)->tree_hash, HASH_LEN);
    assert_int_equal(w->store.changes[w->store.n_changes - 1].row.kind, 'r');
    restore.version = 5;
    assert_int_equal(world_do(w, &restore), -ENOENT);

    restore.version = old;
    uint64_t used = w->store.drive.used, files = w->store.drive.files;
    world_do(w, &(struct op){.kind = OP_UNLINK, .parent = 1, .name = (char *)"f.txt"});
    assert_int_equal(world_do(w, &restore), -ENOENT); /* where to? */
    restore.parent = 1;
    restore.name = (char *)"f.txt";
    assert_int_equal(world_do(w, &restore), 0); /* the deleted file comes back */
    assert_int_equal(world_lookup(w, 1, "f.txt"), FILE_INO);
    assert_int_equal(attr_of(w, FILE_INO)->nlink, 1);
    assert_int_equal(w->store.drive.used, used);
    assert_int_equal(w->store.drive.files, files);

    world_do(w, &(struct op){.kind = OP_UNLINK, .parent = 1, .name = (char *)"f.txt"});
    put(w, "f.txt", 200, 9, 10, false, 0); /* the path lives on as another inode */
    assert_int_equal(world_do(w, &restore), 0);
    assert_int_equal(w->res.ino, 200);
    assert_int_equal(attr_of(w, 200)->size, 70 * (uint64_t)CS + 100);
    assert_chunk(w, 200, w->res.version, 0, 1, CS);
    assert_chunk(w, 200, w->res.version, 70, 2, 100);

    restore.ino = 200;
    restore.version = w->res.version;
    restore.name = (char *)"copy";
    assert_int_equal(world_do(w, &restore), 0); /* a living file's version, to a free name */
    assert_int_equal(w->res.ino, 1000);
    assert_chunk(w, 1000, w->res.version, 70, 2, 100);
}

/* ---- random commits against flat arrays ---- */

#define CHUNKS_MAX 200
struct model {
    uint64_t ino, version, size;
    uint32_t chunk_size;
    struct chunk_ref refs[CHUNKS_MAX];
};
struct history {
    struct model *all;
    size_t n;
};

static void model_change(struct model *to, const struct model *from, const struct op *op)
{
    uint64_t limit = op->whole ? 0 : op->shrunk_to < op->size ? op->shrunk_to : op->size;
    uint64_t keep = limit < from->size ? limit : from->size;
    struct model m = {.size = op->size, .chunk_size = op->chunk_size};
    for (uint64_t n = 0; n < CHUNKS_MAX; n++) {
        uint64_t start = n * op->chunk_size, len = from->refs[n].len;
        if (start + len > keep)
            len = start < keep ? keep - start : 0;
        if (len)
            m.refs[n] = (struct chunk_ref){from->refs[n].hash, (uint32_t)len};
    }
    for (size_t i = 0; i < op->n_changes; i++) {
        struct chunk_ref ref = op->changes[i].ref;
        uint32_t room = chunk_length(op->size, op->chunk_size, op->changes[i].n);
        ref.len = ref.len < room ? ref.len : room;
        m.refs[op->changes[i].n] = ref;
    }
    *to = m;
}

static const struct model *newest(const struct history *h, uint64_t ino)
{
    const struct model *best = NULL;
    for (size_t i = 0; i < h->n; i++)
        if (h->all[i].ino == ino)
            best = &h->all[i];
    return best;
}

static void check_version(struct fake_world *w, const struct model *m)
{
    const struct version_row *v = version_of(w, m->ino, m->version);
    assert_non_null(v);
    assert_int_equal(v->size, m->size);
    assert_int_equal(v->chunk_size, m->chunk_size);
    struct hash hashes[CHUNKS_MAX], tree;
    uint64_t count = chunk_count(m->size, m->chunk_size);
    for (uint64_t n = 0; n < CHUNKS_MAX; n++) {
        struct chunk_ref ref = ref_at(w, m->ino, m->version, n);
        assert_int_equal(ref.len, m->refs[n].len);
        assert_memory_equal(&ref.hash, &m->refs[n].hash, HASH_LEN);
        hashes[n] = ref.hash;
    }
    hash_bytes(hashes, count * sizeof *hashes, &tree);
    assert_memory_equal(&v->tree_hash, &tree, sizeof tree);
}

static unsigned below(unsigned *seed, unsigned n)
{
    return (unsigned)rand_r(seed) % n;
}

static void random_content(unsigned *seed, struct op *op, struct chunk_change *changes)
{
    uint32_t cs = op->chunk_size;
    op->size = below(seed, 8) == 0 ? below(seed, 3) * cs : (uint64_t)below(seed, CHUNKS_MAX) * cs + below(seed, cs);
    if (op->size > (uint64_t)CHUNKS_MAX * cs)
        op->size = (uint64_t)CHUNKS_MAX * cs;
    op->shrunk_to = below(seed, 3) ? op->size : op->size / (1 + below(seed, 4));
    if (below(seed, 4) == 0)
        op->shrunk_to -= op->shrunk_to % (cs * SEGMENT_CHUNKS);
    uint64_t count = chunk_count(op->size, cs);
    unsigned density = (unsigned[]){1, 2, 20, 100}[below(seed, 4)];
    op->n_changes = 0;
    op->changes = changes;
    for (uint64_t n = 0; n < count; n++)
        if (below(seed, density) == 0)
            changes[op->n_changes++] = change(n, below(seed, 20), 1 + below(seed, cs));
}

static void random_against_arrays(void **state)
{
    struct fake_world *w = *state;
    const char *given = getenv("CAIRN_TEST_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)getpid();
    printf("seed %u\n", seed);
    struct history h = {.all = mem_calloc(2000, sizeof *h.all)};
    struct chunk_change changes[CHUNKS_MAX];
    h.all[h.n++] = (struct model){.ino = FILE_INO, .chunk_size = CS};
    for (int transaction = 0; transaction < 150; transaction++) {
        struct rows *r = rows_new(&w->store.drive, w->now);
        w->now += 300000000;
        size_t first = h.n;
        for (unsigned i = 1 + below(&seed, 4); i > 0; i--) {
            const struct model *base = &h.all[below(&seed, (unsigned)h.n)], *current = newest(&h, base->ino);
            if (below(&seed, 3))
                base = current;
            struct op op = {.kind = OP_COMMIT, .ino = base->ino, .has_base = true, .base = base->version, .chunk_size = base->chunk_size};
            struct model next;
            unsigned what = below(&seed, 10);
            if (what == 0 && base->version) {
                op.kind = OP_RESTORE;
                op.version = base->version;
                next = *base;
            } else {
                op.whole = what == 1;
                op.chunk_size = op.whole && below(&seed, 2) ? CS << below(&seed, 2) : op.chunk_size;
                op.replaces = below(&seed, 4) == 0 ? current->version : 0;
                random_content(&seed, &op, changes);
                model_change(&next, op.replaces ? current : base, &op);
                if (op.replaces && current->chunk_size != op.chunk_size && !op.whole)
                    continue;
            }
            assert_int_equal(world_apply(w, r, &op), 0);
            bool stale = op.kind == OP_COMMIT && base != current && !op.replaces;
            assert_int_equal(w->res.conflict_parent, stale);
            assert_int_equal(w->res.ino == base->ino, !stale);
            next.ino = w->res.ino;
            next.version = w->res.version;
            h.all[h.n++] = next;
        }
        fake_save(&w->store, r);
        rows_free(r);
        for (size_t i = 1; i < h.n; i++)
            if (i >= first || below(&seed, 10) == 0)
                check_version(w, &h.all[i]);
    }
    uint64_t used = 0;
    for (size_t i = 0; i < w->store.n_inodes; i++)
        if (S_ISREG(w->store.inodes[i].attr.mode))
            used += w->store.inodes[i].attr.size;
    assert_int_equal(w->store.drive.used, used);
    free(h.all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(first_content),
        CASE(content_that_comes_along_has_its_hash),
        CASE(missing_chunks_are_listed),
        CASE(bad_geometry_is_refused),
        CASE(a_tail_never_comes_back),
        CASE(one_changed_chunk_writes_one_segment),
        CASE(quota_bounds_growth_only),
        CASE(one_open_file_leaves_one_version),
        CASE(a_stale_commit_becomes_a_sibling),
        CASE(what_lost_its_lock_becomes_a_sibling),
        CASE(a_stale_append_is_sent_back),
        CASE(putting),
        CASE(renaming_over_what_changed_meanwhile),
        CASE(restoring),
        CASE(random_against_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
