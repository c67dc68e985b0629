#include "fake_gateway.h"
#include "common/chunk.h"
#include "common/mem.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

/* Also where NDEBUG is set. */
static void must_hold(bool is, const char *what, int line)
{
    if (is)
        return;
    fprintf(stderr, "the gateway of the test, line %d: %s does not hold\n", line, what);
    abort();
}
#define must(x) must_hold(x, #x, __LINE__)

struct chunk {
    struct hash hash;
    uint32_t size;
    void *bytes;
    bool in_row;
    UT_hash_handle hh;
};
struct version {
    uint64_t number, size;
    int64_t mtime;
    uint32_t chunk_size;
    struct chunk_ref *refs;
    struct version *before;
};
struct file {
    uint64_t ino;
    struct version *newest;
    UT_hash_handle hh;
};

struct gw_counts gw_counts;
_Atomic bool gw_away, gw_lose_answer, gw_damage;
_Atomic int gw_refuse;
_Atomic unsigned gw_delay_us;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below and gw_counts */
static struct chunk *chunks;
static struct file *files;
static uint64_t seq, last_ino = 1000;

void gw_reset_counts(void)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    gw_counts = (struct gw_counts){0};
}

static void free_file(struct file *f)
{
    for (struct version *v = f->newest, *before; v; v = before) {
        before = v->before;
        free(v->refs);
        free(v);
    }
    HASH_DEL(files, f);
    free(f);
}

static void free_chunk(struct chunk *c)
{
    HASH_DEL(chunks, c);
    free(c->bytes);
    free(c);
}

void gw_reset(void)
{
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
        struct file *f, *fn;
        HASH_ITER(hh, files, f, fn)
        {
            free_file(f);
        }
        struct chunk *c, *cn;
        HASH_ITER(hh, chunks, c, cn)
        {
            free_chunk(c);
        }
        gw_away = gw_lose_answer = gw_damage = false;
        gw_refuse = 0;
        gw_delay_us = 0;
    }
    gw_reset_counts();
}

static struct file *find(uint64_t ino)
{
    struct file *f;
    HASH_FIND(hh, files, &ino, sizeof ino, f);
    return f;
}

static struct chunk *find_chunk(const struct hash *h)
{
    struct chunk *c;
    HASH_FIND(hh, chunks, h, sizeof *h, c);
    return c;
}

static void keep_chunk(const struct hash *h, const void *bytes, uint32_t size, bool in_row)
{
    if (find_chunk(h))
        return;
    struct chunk *c = mem_alloc(sizeof *c);
    *c = (struct chunk){.hash = *h, .size = size, .bytes = mem_dup(bytes, size), .in_row = in_row};
    HASH_ADD(hh, chunks, hash, sizeof c->hash, c);
}

static struct attr attr_of(const struct file *f)
{
    const struct version *v = f->newest;
    struct attr a = {.ino = f->ino, .mode = S_IFREG | 0644, .nlink = 1};
    if (v) {
        a.size = v->size;
        a.version = v->number;
        a.chunk_size = v->chunk_size;
        a.mtime = v->mtime;
    }
    return a;
}

static struct file *add_file(uint64_t ino)
{
    struct file *f = mem_alloc(sizeof *f);
    f->ino = ino;
    HASH_ADD(hh, files, ino, sizeof f->ino, f);
    if (ino > last_ino)
        last_ino = ino;
    return f;
}

struct attr gw_create(uint64_t ino)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    return attr_of(add_file(ino));
}

struct attr gw_attr(uint64_t ino)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    struct file *f = find(ino);
    must(f);
    return attr_of(f);
}

uint64_t gw_last_ino(void)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    return last_ino;
}

void gw_delete(uint64_t ino)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    free_file(find(ino));
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

static struct attr write_whole(struct file *f, const uint8_t *bytes, uint64_t size, uint32_t chunk_size)
{
    struct version *v = mem_alloc(sizeof *v);
    uint64_t n = chunk_count(size, chunk_size);
    seq++;
    *v = (struct version){.number = seq, .size = size, .chunk_size = chunk_size, .before = f->newest, .mtime = (int64_t)seq};
    v->refs = mem_calloc(n ? n : 1, sizeof *v->refs);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t len = chunk_length(size, chunk_size, i);
        const uint8_t *p = bytes + i * chunk_size;
        if (all_zero(p, len))
            continue;
        hash_bytes(p, len, &v->refs[i].hash);
        v->refs[i].len = len;
        keep_chunk(&v->refs[i].hash, p, len, len <= CHUNK_INLINE_MAX);
    }
    f->newest = v;
    return attr_of(f);
}

struct attr gw_write(uint64_t ino, const void *bytes, uint64_t size, uint32_t chunk_size)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    struct file *f = find(ino);
    return write_whole(f ? f : add_file(ino), bytes, size, chunk_size);
}

static const struct version *find_version(const struct file *f, uint64_t number)
{
    const struct version *v = f->newest;
    while (v && number && v->number != number)
        v = v->before;
    return v;
}

static void *bytes_of(const struct version *v, uint64_t *ret_size)
{
    *ret_size = v ? v->size : 0;
    uint8_t *p = mem_alloc(*ret_size + 1);
    for (uint64_t i = 0; v && v->chunk_size && i < chunk_count(v->size, v->chunk_size); i++) {
        const struct chunk *c = hash_is_zero(&v->refs[i].hash) ? NULL : find_chunk(&v->refs[i].hash);
        must(c || hash_is_zero(&v->refs[i].hash));
        if (c)
            memcpy(p + i * v->chunk_size, c->bytes, c->size);
    }
    return p;
}

void *gw_content(uint64_t ino, uint64_t version, uint64_t *ret_size)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    struct file *f = find(ino);
    must(f);
    return bytes_of(find_version(f, version), ret_size);
}

struct attr gw_append(uint64_t ino, const void *bytes, uint64_t n)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    struct file *f = find(ino);
    uint64_t size;
    CLEANUP_FREE uint8_t *all = bytes_of(f->newest, &size);
    all = mem_realloc(all, size + n + 1);
    memcpy(all + size, bytes, n);
    return write_whole(f, all, size + n, f->newest && f->newest->chunk_size ? f->newest->chunk_size : CHUNK_SIZE_DEFAULT);
}

void gw_forget_chunks(void)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    struct chunk *c, *next;
    HASH_ITER(hh, chunks, c, next)
    {
        bool named = false;
        for (struct file *f = files; f; f = f->hh.next)
            for (uint64_t i = 0; f->newest && i < chunk_count(f->newest->size, f->newest->chunk_size); i++)
                named |= hash_equal(&f->newest->refs[i].hash, &c->hash);
        if (!named)
            free_chunk(c);
    }
}

/* ---- remote.h ---- */

static struct remote_mount_info info = {.inline_max = CHUNK_INLINE_MAX, .batch_max = 1000};
const struct remote_mount_info *remote_info(const struct remote *r)
{
    (void)r;
    return &info;
}

bool remote_wait(struct remote_wait *w, int err)
{
    if (err != -EHOSTUNREACH || w->timeout_ms == 0)
        return false;
    if (!w->delay_ms)
        w->until_ms = w->timeout_ms;
    w->delay_ms = 10;
    w->until_ms -= 10;
    usleep(10000);
    return w->until_ms > 0;
}

void remote_read_fini(struct remote_read *r)
{
    for (size_t i = 0; i < r->n_maps; i++)
        free(r->maps[i].chunks);
    for (size_t i = 0; i < r->n_contents; i++)
        free(r->contents[i].bytes);
    free(r->maps);
    free(r->contents);
    *r = (struct remote_read){0};
}

static void add_contents(struct remote_read *rd, const struct remote_map *m, uint32_t *room)
{
    rd->contents = mem_realloc(rd->contents, (rd->n_contents + m->n + 1) * sizeof *rd->contents);
    for (size_t i = 0; i < m->n; i++) {
        const struct chunk *c = find_chunk(&m->chunks[i].hash);
        if (!c || !c->in_row || c->size > *room)
            continue;
        *room -= c->size;
        rd->contents[rd->n_contents++] = (struct remote_content){c->hash, mem_dup(c->bytes, c->size), c->size};
    }
}

int remote_read(struct remote *r, const struct remote_want *wants, size_t n, uint32_t inline_max, struct remote_read *ret)
{
    (void)r;
    if (gw_away)
        return -EHOSTUNREACH;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    gw_counts.reads++;
    *ret = (struct remote_read){.seq = seq, .maps = mem_calloc(n, sizeof *ret->maps), .n_maps = n};
    for (size_t i = 0; i < n; i++) {
        struct remote_map *m = &ret->maps[i];
        struct file *f = find(wants[i].ino);
        const struct version *v = f ? find_version(f, wants[i].version) : NULL;
        *m = (struct remote_map){.ino = wants[i].ino, .first = wants[i].first};
        if (!f || (!v && wants[i].version)) {
            m->error = -ENOENT;
            continue;
        }
        if (!v)
            continue;
        m->version = v->number;
        m->size = v->size;
        m->chunk_size = v->chunk_size;
        m->mtime = v->mtime;
        uint64_t count = chunk_count(v->size, v->chunk_size);
        m->n = wants[i].first < count ? count - wants[i].first : 0;
        if (m->n > wants[i].count)
            m->n = wants[i].count;
        m->chunks = mem_dup(v->refs + (m->n ? wants[i].first : 0), m->n * sizeof *m->chunks);
        add_contents(ret, m, &inline_max);
    }
    return 0;
}

int remote_expect(struct remote *r, const struct hash *h, size_t n)
{
    (void)r, (void)h, (void)n;
    return gw_away ? -EHOSTUNREACH : 0;
}

int remote_chunk_get(struct remote *r, const struct hash *h, void *ret, uint32_t size)
{
    (void)r;
    if (gw_delay_us)
        usleep(gw_delay_us);
    if (gw_away)
        return -EHOSTUNREACH;
    if (atomic_exchange(&gw_damage, false))
        return -EBADMSG;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    gw_counts.gets++;
    struct chunk *c = find_chunk(h);
    if (!c)
        return -ENOENT;
    if (c->size != size)
        return -EBADMSG;
    memcpy(ret, c->bytes, size);
    return 0;
}

static int chunk_put(const struct hash *h, const void *bytes, uint32_t size)
{
    if (gw_delay_us)
        usleep(gw_delay_us);
    if (gw_away)
        return -EHOSTUNREACH;
    struct hash got;
    hash_bytes(bytes, size, &got);
    must(hash_equal(&got, h));
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    gw_counts.puts++;
    gw_counts.put_bytes += size;
    keep_chunk(h, bytes, size, false);
    return 0;
}

int remote_missing(struct remote *r, const struct hash *h, size_t n, bool *ret_missing)
{
    (void)r;
    if (gw_away)
        return -EHOSTUNREACH;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    gw_counts.asks++;
    for (size_t i = 0; i < n; i++)
        ret_missing[i] = !find_chunk(&h[i]);
    return 0;
}

int remote_chunk_bring(struct remote *r, const struct hash *h, const void *bytes, uint32_t size, bool ask, bool *ret_sent)
{
    bool missing = true;
    int err = ask ? remote_missing(r, h, 1, &missing) : 0;
    *ret_sent = missing;
    return err || !missing ? err : chunk_put(h, bytes, size);
}

/* ---- opqueue.h ---- */

static int missing(const struct op *op, struct op_result *res)
{
    res->missing = mem_calloc(op->n_changes + 1, sizeof *res->missing);
    for (size_t i = 0; i < op->n_changes; i++)
        if (!hash_is_zero(&op->changes[i].ref.hash) && !find_chunk(&op->changes[i].ref.hash))
            res->missing[res->n_missing++] = op->changes[i].ref.hash;
    return res->n_missing ? -ENODATA : 0;
}

static bool is_changed(const struct op *op, uint64_t n)
{
    for (size_t i = 0; i < op->n_changes; i++)
        if (op->changes[i].n == n)
            return true;
    return false;
}

/* Base, cuts, changes: and nothing that was cut off may come back. */
static struct version *derive(const struct version *base, const struct op *op)
{
    struct version *v = mem_alloc(sizeof *v);
    uint64_t n = chunk_count(op->size, op->chunk_size), had = base ? chunk_count(base->size, base->chunk_size) : 0;
    *v = (struct version){.number = ++seq, .size = op->size, .chunk_size = op->chunk_size, .mtime = op->mtime};
    v->refs = mem_calloc(n ? n : 1, sizeof *v->refs);
    uint64_t kept = op->shrunk_to < op->size ? op->shrunk_to : op->size;
    for (uint64_t i = 0; i < n && i < had; i++) {
        must(base->chunk_size == op->chunk_size);
        uint64_t start = i * op->chunk_size;
        if (start < kept)
            v->refs[i] = base->refs[i];
        must(hash_is_zero(&v->refs[i].hash) || is_changed(op, i) || start + v->refs[i].len <= kept);
    }
    for (size_t i = 0; i < op->n_changes; i++) {
        must(op->changes[i].n < n && (i == 0 || op->changes[i].n > op->changes[i - 1].n));
        must(op->changes[i].ref.len <= chunk_length(op->size, op->chunk_size, op->changes[i].n));
        v->refs[op->changes[i].n] = op->changes[i].ref;
    }
    return v;
}

static int commit(const struct op *op, struct op_result *res)
{
    int refuse = atomic_exchange(&gw_refuse, 0);
    struct file *f = find(op->ino);
    if (refuse || !f)
        return refuse ? refuse : -ENOENT;
    int err = missing(op, res);
    if (err)
        return err;
    uint64_t newest = f->newest ? f->newest->number : 0;
    if (op->base != newest && op->append) {
        gw_counts.late_appends++;
        return -ESTALE;
    }
    const struct version *base = op->base ? find_version(f, op->base) : NULL;
    must(!op->base || base);
    struct version *v = derive(base, op);
    if (op->base != newest) {
        gw_counts.conflicts++;
        f = add_file(last_ino + 1);
    }
    v->before = f->newest;
    f->newest = v;
    res->version = res->seq = v->number;
    res->ino = f->ino;
    res->n_attrs = 1;
    res->attrs[0] = attr_of(f);
    return 0;
}

int opqueue_run(struct opqueue *q, const struct op *ops, size_t n, const struct remote_inline *contents, size_t n_contents,
                struct op_result *results)
{
    (void)q;
    if (gw_away) {
        usleep(10000);
        return -EIO;
    }
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&lock);
    gw_counts.batches++;
    for (size_t i = 0; i < n_contents; i++) {
        CLEANUP_FREE void *plain = mem_alloc(contents[i].size + 1);
        must(!codec_decode(contents[i].codec, contents[i].stored.data, contents[i].stored.len, plain, contents[i].size));
        struct hash h;
        hash_bytes(plain, contents[i].size, &h);
        must(hash_equal(&h, &contents[i].hash));
        keep_chunk(&h, plain, contents[i].size, true);
    }
    int failed = 0;
    for (size_t i = 0; i < n; i++) {
        results[i].error = failed ? -ECANCELED : ops[i].kind == OP_COMMIT ? commit(&ops[i], &results[i]) : ops[i].kind == OP_RMDIR ? -ENOTEMPTY : 0;
        failed = failed ? failed : results[i].error;
    }
    if (atomic_exchange(&gw_lose_answer, false)) {
        for (size_t i = 0; i < n; i++) {
            op_result_fini(&results[i]);
            results[i].error = -EIO;
        }
        return -EIO;
    }
    return 0;
}
