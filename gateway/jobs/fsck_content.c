/* Versions against the chunks that they are made of, and those against the bytes that are stored. */
#include "common/codec.h"
#include "gateway/jobs/fsck_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define LL(v) ((unsigned long long)(v))
#define MAP_CHUNKS 1024 /* of a version's map that are read at a time */

struct object { /* in the store */
    char key[64];
    uint64_t size;
    bool named; /* by a chunk */
    UT_hash_handle hh;
};
struct known { /* a chunk's row */
    struct hash hash;
    uint32_t size;
    struct uuid unverified_by;
    UT_hash_handle hh;
};
struct content {
    struct fsck *f;
    struct fsck_inode *inodes;
    struct object *objects;
    struct known *chunks;
};

static int take_object(void *ctx, const char *key, uint64_t size, int64_t modified_ns)
{
    struct content *c = ctx;
    (void)modified_ns;
    struct object *o = mem_alloc(sizeof *o);
    snprintf(o->key, sizeof o->key, "%s", key);
    o->size = size;
    HASH_ADD_STR(c->objects, key, o);
    return 0;
}

static int take_chunk(void *ctx, const struct chunk_row *row, uint64_t in_row)
{
    struct content *c = ctx;
    struct known *k = mem_alloc(sizeof *k);
    struct object *o;
    char hex[HASH_HEX_LEN + 1];
    hash_hex(&row->hash, hex);
    k->hash = row->hash;
    k->size = row->size;
    k->unverified_by = row->unverified_by;
    HASH_ADD(hh, c->chunks, hash, sizeof k->hash, k);
    c->f->report->chunks++;
    if (!row->pack[0]) {
        if (in_row != row->stored_size)
            fsck_wrong(c->f, "chunk %s: its row has %llu bytes of %u", hex, LL(in_row), row->stored_size);
        return 0;
    }
    HASH_FIND_STR(c->objects, row->pack, o);
    if (o)
        o->named = true;
    if (!o)
        fsck_wrong(c->f, "chunk %s: the object %s is not in the store", hex, row->pack);
    else if (row->offset > o->size || row->stored_size > o->size - row->offset)
        fsck_wrong(c->f, "chunk %s: the object %s ends at %llu, before %llu", hex, row->pack, LL(o->size), LL(row->offset + row->stored_size));
    return 0;
}

/* What is pending is removed one day. */
static int take_pending(void *ctx, const struct pending_row *p)
{
    struct content *c = ctx;
    struct object *o;
    HASH_FIND_STR(c->objects, p->chunk.pack, o);
    if (o && o->named)
        fsck_wrong(c->f, "the object %s is pending, and a chunk lies in it", p->chunk.pack);
    return 0;
}

static const struct known *known(const struct content *c, const struct hash *h)
{
    const struct known *k;
    HASH_FIND(hh, c->chunks, h, sizeof *h, k);
    return k;
}

static int take_segment(void *ctx, uint64_t ino, uint64_t number, uint64_t version, const struct chunk_ref chunks[SEGMENT_CHUNKS])
{
    struct content *c = ctx;
    for (unsigned i = 0; i < SEGMENT_CHUNKS; i++) {
        char hex[HASH_HEX_LEN + 1];
        if (hash_is_zero(&chunks[i].hash))
            continue;
        const struct known *k = known(c, &chunks[i].hash);
        hash_hex(&chunks[i].hash, hex);
        if (!k)
            fsck_wrong(c->f, "inode %llu version %llu: chunk %llu is %s, which is not there", LL(ino), LL(version), LL(number * SEGMENT_CHUNKS + i), hex);
        else if (chunks[i].len > k->size)
            fsck_wrong(c->f, "inode %llu version %llu: chunk %llu uses %u bytes of %s, which has %u", LL(ino), LL(version), LL(number * SEGMENT_CHUNKS + i),
                       chunks[i].len, hex, k->size);
    }
    return 0;
}

/* The tree hash of what the version's segments and cuts resolve to. */
static int tree_hash(struct content *c, const struct version_row *v, struct hash *ret)
{
    CLEANUP_FREE struct chunk_ref *map = mem_calloc(MAP_CHUNKS, sizeof *map);
    uint64_t n = v->chunk_size ? chunk_count(v->size, v->chunk_size) : 0;
    struct hash_stream *s = hash_stream_new();
    int err = 0;
    for (uint64_t at = 0; at < n && !err; at += MAP_CHUNKS) {
        size_t some = n - at < MAP_CHUNKS ? (size_t)(n - at) : MAP_CHUNKS;
        err = c->f->meta->ops->chunk_map(c->f->tx, v->ino, v->version, at, some, map);
        for (size_t i = 0; i < some && !err; i++)
            hash_stream_update(s, &map[i].hash, sizeof map[i].hash);
    }
    hash_stream_final(s, ret);
    hash_stream_free(s);
    return err;
}

static int take_version(void *ctx, const struct version_row *v)
{
    struct content *c = ctx;
    struct fsck_inode *i = fsck_inode_find(c->inodes, v->ino);
    bool newest = i && i->version == v->version;
    c->f->report->versions++;
    if (!i || !S_ISREG(i->mode))
        fsck_wrong(c->f, "version %llu is of inode %llu, which is no file", LL(v->version), LL(v->ino));
    if (v->version > c->f->tx->drive.seq)
        fsck_wrong(c->f, "inode %llu: version %llu is beyond the drive's seq %llu", LL(v->ino), LL(v->version), LL(c->f->tx->drive.seq));
    if (newest) {
        i->has_version = true;
        if (i->size != v->size || i->chunk_size != v->chunk_size)
            fsck_wrong(c->f, "inode %llu has %llu bytes in chunks of %u, its version %llu bytes in chunks of %u", LL(v->ino), LL(i->size), i->chunk_size, LL(v->size),
                       v->chunk_size);
    } else if (i && v->version > i->version) {
        fsck_wrong(c->f, "inode %llu: version %llu is newer than its newest, %llu", LL(v->ino), LL(v->version), LL(i->version));
    }
    if (!newest && !v->listed)
        return 0;
    struct hash tree;
    int err = tree_hash(c, v, &tree);
    if (!err && !hash_equal(&tree, &v->tree_hash))
        fsck_wrong(c->f, "inode %llu version %llu: its chunks are not those of its tree hash", LL(v->ino), LL(v->version));
    return err;
}

static void check_newest(struct content *c)
{
    struct fsck_inode *i, *next;
    HASH_ITER(hh, c->inodes, i, next)
    if (S_ISREG(i->mode) && i->version && !i->has_version)
        fsck_wrong(c->f, "inode %llu: its version %llu is not there", LL(i->ino), LL(i->version));
    else if (S_ISREG(i->mode) && !i->version && i->size)
        fsck_wrong(c->f, "inode %llu has %llu bytes and no version", LL(i->ino), LL(i->size));
}

/* ---- bytes ---- */

static int check_bytes(struct content *c, const struct known *k)
{
    CLEANUP(chunk_row_fini) struct chunk_row row = {0};
    CLEANUP_BUF struct buf stored = {0};
    CLEANUP_FREE char *plain = NULL;
    struct hash h;
    char hex[HASH_HEX_LEN + 1];
    char by[UUID_TEXT + 32] = "", user[UUID_TEXT];
    hash_hex(&k->hash, hex);
    uuid_text(&k->unverified_by, user);
    if (!uuid_is_zero(&k->unverified_by))
        snprintf(by, sizeof by, "; user %s brought them", user);
    int err = c->f->meta->ops->chunk_get(c->f->meta, &c->f->tx->drive.id, &k->hash, &row);
    if (!err && row.pack[0])
        err = c->f->objects->ops->get(c->f->objects, row.pack, row.offset, row.stored_size, &stored);
    else if (!err)
        buf_append(&stored, row.bytes, row.stored_size);
    if (err == -EHOSTUNREACH)
        return err;
    if (!err) {
        plain = mem_alloc(row.size + 1);
        err = codec_decode(row.codec, stored.data, stored.len, plain, row.size);
    }
    if (err) {
        fsck_wrong(c->f, "chunk %s: its bytes cannot be read: %s%s", hex, strerror(-err), by);
        return 0;
    }
    hash_bytes(plain, row.size, &h);
    if (!hash_equal(&h, &k->hash))
        fsck_wrong(c->f, "chunk %s: its bytes are not those of its hash%s", hex, by);
    return 0;
}

static int check_all_bytes(struct content *c)
{
    struct known *k, *next;
    HASH_ITER(hh, c->chunks, k, next)
    {
        int err = check_bytes(c, k);
        if (err)
            return err;
    }
    return 0;
}

static void content_fini(struct content *c)
{
    struct object *o, *next_object;
    struct known *k, *next;
    HASH_ITER(hh, c->objects, o, next_object)
    {
        HASH_DEL(c->objects, o);
        free(o);
    }
    HASH_ITER(hh, c->chunks, k, next)
    {
        HASH_DEL(c->chunks, k);
        free(k);
    }
}

int fsck_content(struct fsck *f, struct fsck_inode *inodes, bool contents)
{
    CLEANUP(content_fini) struct content c = {.f = f, .inodes = inodes};
    int err = f->objects->ops->list(f->objects, "", take_object, &c); /* after the snapshot: it has what the rows name */
    if (!err)
        err = f->meta->ops->chunks_each(f->tx, take_chunk, &c);
    if (!err)
        err = f->meta->ops->pendings_each(f->tx, take_pending, &c);
    if (!err)
        err = f->meta->ops->segments_each(f->tx, take_segment, &c);
    if (!err)
        err = f->meta->ops->versions_each(f->tx, take_version, &c);
    if (!err)
        check_newest(&c);
    return !err && contents ? check_all_bytes(&c) : err;
}
