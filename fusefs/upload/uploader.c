#include "fusefs/upload/uploader.h"
#include "common/mem.h"
#include "common/pool.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define TRY_ENCODE_MAX (256u << 10) /* plain bytes up to which it is worth seeing whether the stored form may ride */
#define ASK_MIN (256u << 10)        /* from here on asking first is cheaper than storing what is there already */

struct uploader {
    struct remote *remote;
    struct pool *pool;
    _Atomic uint64_t done, sending;
};

struct uploader *uploader_new(struct remote *r, unsigned threads)
{
    struct uploader *u = mem_alloc(sizeof *u);
    u->remote = r;
    u->pool = pool_new(threads, "upload");
    return u;
}

void uploader_free(struct uploader *u)
{
    if (!u)
        return;
    pool_free(u->pool);
    free(u);
}

void uploader_run(struct uploader *u, void (*fn)(void *), void *arg)
{
    pool_run(u->pool, fn, arg);
}

uint64_t uploader_bytes(struct uploader *u)
{
    return atomic_load(&u->done);
}

uint64_t uploader_sending(struct uploader *u)
{
    return atomic_load(&u->sending);
}

void uploaded_fini(struct uploaded *u)
{
    buf_fini(&u->content.stored);
    *u = (struct uploaded){0};
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int store(struct uploader *u, const struct hash *h, const void *bytes, uint32_t n, bool ask)
{
    bool sent;
    int err = remote_chunk_bring(u->remote, h, bytes, n, ask, &sent);
    if (!err && sent)
        atomic_fetch_add(&u->done, n);
    return err;
}

int uploader_send(struct uploader *u, const void *bytes, uint32_t n, unsigned flags, unsigned timeout_ms, struct uploaded *ret)
{
    *ret = (struct uploaded){0};
    if (all_zero(bytes, n))
        return 0;
    ret->ref.len = n;
    hash_bytes(bytes, n, &ret->ref.hash);
    if (flags & UPLOAD_HASH_ONLY)
        return 0;
    if (flags & UPLOAD_MAY_RIDE && n <= TRY_ENCODE_MAX) {
        struct remote_inline *c = &ret->content;
        c->codec = codec_encode(bytes, n, &c->stored);
        if (c->stored.len <= CHUNK_INLINE_MAX && c->stored.len <= remote_info(u->remote)->inline_max) {
            c->hash = ret->ref.hash;
            c->size = n;
            ret->rides = true;
            return 0;
        }
        buf_fini(&c->stored);
    }
    struct remote_wait w = {.timeout_ms = timeout_ms};
    int err;
    atomic_fetch_add(&u->sending, n);
    do
        err = store(u, &ret->ref.hash, bytes, n, n >= ASK_MIN && !(flags & UPLOAD_FORCE));
    while (remote_wait(&w, err));
    atomic_fetch_sub(&u->sending, n);
    return err;
}
