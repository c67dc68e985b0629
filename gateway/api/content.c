#include "gateway/api/content.h"
#include "common/mem.h"
#include "gateway/core/chunk_read.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

/* ---- the cache: least recently used out first, bounded in bytes ---- */

struct chunk_key {
    struct uuid drive;
    struct hash hash;
};

struct chunk_data {
    atomic_uint refs; /* one of them is the cache's while it is in there */
    struct chunk_key key;
    size_t len;
    UT_hash_handle hh;
    struct chunk_data *prev, *next; /* most recently used first */
    char bytes[];
};

struct content_cache {
    pthread_mutex_t lock; /* guards all below and the links in the chunks */
    struct chunk_data *by_key, *recent;
    size_t bytes, max_bytes;
};

struct content_cache *content_cache_new(size_t max_bytes)
{
    struct content_cache *c = mem_alloc(sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->max_bytes = max_bytes;
    return c;
}

const char *chunk_data_bytes(const struct chunk_data *d)
{
    return d->bytes;
}

size_t chunk_data_len(const struct chunk_data *d)
{
    return d->len;
}

void chunk_data_unref(struct chunk_data *d)
{
    if (d && atomic_fetch_sub(&d->refs, 1) == 1)
        free(d);
}

static void drop_locked(struct content_cache *c, struct chunk_data *d)
{
    HASH_DEL(c->by_key, d);
    DL_DELETE(c->recent, d);
    c->bytes -= sizeof *d + d->len;
    chunk_data_unref(d);
}

void content_cache_free(struct content_cache *c)
{
    if (!c)
        return;
    while (c->recent)
        drop_locked(c, c->recent);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static struct chunk_data *cache_find(struct content_cache *c, const struct chunk_key *key)
{
    struct chunk_data *d = NULL;
    if (!c)
        return NULL;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    HASH_FIND(hh, c->by_key, key, sizeof *key, d);
    if (d) {
        atomic_fetch_add(&d->refs, 1);
        if (d != c->recent) {
            DL_DELETE(c->recent, d);
            DL_PREPEND(c->recent, d);
        }
    }
    return d;
}

static void cache_keep(struct content_cache *c, struct chunk_data *d)
{
    struct chunk_data *other;
    if (!c || sizeof *d + d->len > c->max_bytes / 4)
        return; /* one large chunk must not push out everybody else's */
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&c->lock);
    HASH_FIND(hh, c->by_key, &d->key, sizeof d->key, other);
    if (other)
        return; /* somebody else read it meanwhile */
    atomic_fetch_add(&d->refs, 1);
    HASH_ADD(hh, c->by_key, key, sizeof d->key, d);
    DL_PREPEND(c->recent, d);
    c->bytes += sizeof *d + d->len;
    while (c->bytes > c->max_bytes)
        drop_locked(c, c->recent->prev); /* the head's prev is the tail */
}

/* ---- reading ---- */

/* Where chunk_read puts the bytes: into what is going to be shared. */
static char *room(void *ctx, size_t n)
{
    struct chunk_data **ret = ctx, *d = mem_alloc(sizeof *d + n);
    d->refs = 1;
    d->len = n;
    *ret = d;
    return d->bytes;
}

int content_chunk_get(struct app *app, const struct uuid *drive, const struct hash *h, struct chunk_data **ret)
{
    struct chunk_key key = {*drive, *h};
    *ret = cache_find(app->content, &key);
    if (*ret)
        return 0;
    int err = chunk_read(app->meta, objects_near(app), drive, h, room, ret);
    if (err) {
        chunk_data_unref(*ret);
        *ret = NULL;
        return err;
    }
    (*ret)->key = key;
    cache_keep(app->content, *ret);
    return 0;
}

int content_chunk_read(struct app *app, const struct uuid *drive, const struct hash *h, struct buf *ret)
{
    struct chunk_data *d;
    int err = content_chunk_get(app, drive, h, &d);
    if (err)
        return err;
    buf_append(ret, d->bytes, d->len);
    chunk_data_unref(d);
    return 0;
}

/* ---- storing ---- */

static int put_object(struct app *app, const struct buf *stored, char ret_key[64])
{
    struct uuid id;
    struct hash sum;
    char text[UUID_TEXT];
    uuid_new(&id);
    uuid_text(&id, text);
    /* the id's last byte is random: it spreads the objects over folders */
    snprintf(ret_key, 64, "pack/%02x/%s", id.b[15], text);
    hash_bytes(stored->data, stored->len, &sum);
    return app->objects->ops->put(app->objects, ret_key, stored->data, stored->len, &sum);
}

static int make_hashed(struct app *app, const struct uuid *drive, const void *p, size_t n, struct chunk_row *ret)
{
    /* what is small rides in a row in any case: asking first would cost more than adding it again */
    if (n > CHUNK_INLINE_MAX) {
        bool known = false;
        int err = app->meta->ops->chunks_known(app->meta, drive, &ret->hash, 1, &known);
        if (err)
            return err;
        if (known)
            return 1;
    }
    CLEANUP_BUF struct buf stored = {0};
    ret->codec = codec_encode(p, n, &stored);
    ret->stored_size = (uint32_t)stored.len;
    if (stored.len > CHUNK_INLINE_MAX)
        return put_object(app, &stored, ret->pack);
    ret->bytes = buf_detach(&stored);
    return 0;
}

int content_chunk_make(struct app *app, const struct uuid *drive, const void *p, size_t n, struct chunk_row *ret)
{
    *ret = (struct chunk_row){.size = (uint32_t)n};
    hash_bytes(p, n, &ret->hash);
    return make_hashed(app, drive, p, n, ret);
}

int content_chunk_store(struct app *app, const struct uuid *drive, const void *p, size_t n, struct hash *ret)
{
    CLEANUP(chunk_row_fini) struct chunk_row row;
    int err = content_chunk_make(app, drive, p, n, &row);
    if (err == 0)
        err = app->meta->ops->chunks_add(app->meta, drive, &row, 1);
    if (err >= 0)
        *ret = row.hash;
    return err < 0 ? err : 0;
}

uint32_t content_chunk_size(uint64_t size)
{
    uint32_t chunk = CHUNK_SIZE_DEFAULT;
    while (chunk < CHUNK_SIZE_MAX && chunk_count(size, chunk) > 65536)
        chunk *= 2;
    return chunk;
}

void content_tree_hash(const struct chunk_change *changes, size_t n, struct hash *ret)
{
    struct hash_stream *s = hash_stream_new();
    for (size_t i = 0; i < n; i++)
        hash_stream_update(s, changes[i].ref.hash.b, HASH_LEN);
    hash_stream_final(s, ret);
    hash_stream_free(s);
}
