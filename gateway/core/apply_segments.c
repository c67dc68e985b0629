/* A version's content from an earlier one's and changes.

   Rows are written copy-on-write, one per segment that differs. Of the newest version it always holds that no chunk says anything beyond the file's size: what a shrinking
   version cuts off becomes holes at once (whole segments by one `cut`), so that growing again shows zeros, as POSIX wants. */
#include "gateway/core/apply_internal.h"

static uint64_t segments_of(uint64_t size, uint32_t chunk_size)
{
    return size ? (chunk_count(size, chunk_size) + SEGMENT_CHUNKS - 1) / SEGMENT_CHUNKS : 0;
}

/* Bytes of the source that the result keeps. */
static uint64_t inherited(const struct content_plan *p)
{
    uint64_t n = p->limit < p->from.size ? p->limit : p->from.size;
    return n < p->size ? n : p->size;
}

/* The first change at or behind chunk n. */
static size_t changes_from(const struct content_plan *p, uint64_t n)
{
    size_t lo = 0, hi = p->n_changes;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (p->changes[mid].n < n)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Every chunk of segment k is changed: what was there does not matter. */
static bool covered(const struct content_plan *p, uint64_t k)
{
    uint64_t first = k * SEGMENT_CHUNKS, end = chunk_count(p->size, p->chunk_size);
    if (end > first + SEGMENT_CHUNKS)
        end = first + SEGMENT_CHUNKS;
    return changes_from(p, end) - changes_from(p, first) == end - first;
}

int content_gather(struct apply *a, const struct content_plan *p)
{
    if (p->size > FILE_SIZE_MAX)
        return -EFBIG;
    if (!chunk_size_valid(p->chunk_size))
        return -EINVAL;
    uint64_t count = chunk_count(p->size, p->chunk_size);
    if (count > CONTENT_CHUNKS_MAX)
        return -EFBIG;
    for (size_t i = 0; i < p->n_changes; i++)
        if (p->changes[i].n >= count || (i && p->changes[i].n <= p->changes[i - 1].n))
            return -EINVAL;
    uint64_t keep = inherited(p);
    if (keep && p->from.chunk_size != p->chunk_size)
        return -EINVAL;
    for (uint64_t k = 0; k < segments_of(keep, p->chunk_size); k++) {
        const struct segment_row *g;
        if (!covered(p, k) && rows_segment(a->r, p->from.ino, k, p->from.at, &g) == -EAGAIN)
            a->again = true;
    }
    return 0;
}

static void set_ref(struct chunk_ref *ref, const struct hash *hash, uint64_t len)
{
    bool hole = len == 0 || hash_is_zero(hash);
    ref->hash = hole ? (struct hash){0} : *hash;
    ref->len = hole ? 0 : (uint32_t)len;
}

static bool same_ref(const struct chunk_ref *a, const struct chunk_ref *b)
{
    return a->len == b->len && hash_equal(&a->hash, &b->hash);
}

/* What the source has in segment k, cut at `keep`. Tells whether that is less than it had. */
static bool inherit(struct apply *a, const struct content_plan *p, uint64_t k, uint64_t keep, struct chunk_ref chunks[SEGMENT_CHUNKS])
{
    const struct segment_row *g;
    bool less = false;
    if (rows_segment(a->r, p->from.ino, k, p->from.at, &g))
        return false; /* not reached: content_gather saw to it */
    for (unsigned c = 0; c < SEGMENT_CHUNKS; c++) {
        uint64_t start = (k * SEGMENT_CHUNKS + c) * p->chunk_size, len = g->chunks[c].len;
        if (start + len > keep)
            len = start < keep ? keep - start : 0;
        less |= len < g->chunks[c].len;
        set_ref(&chunks[c], &g->chunks[c].hash, len);
    }
    return less;
}

/* Segment k of the result; false: it is what the source has there. */
static bool make_segment(struct apply *a, const struct content_plan *p, uint64_t k, uint64_t keep, struct chunk_ref chunks[SEGMENT_CHUNKS])
{
    bool differs = false;
    memset(chunks, 0, SEGMENT_CHUNKS * sizeof *chunks);
    if (k < segments_of(keep, p->chunk_size)) {
        if (covered(p, k))
            differs = true;
        else
            differs = inherit(a, p, k, keep, chunks);
    }
    for (size_t i = changes_from(p, k * SEGMENT_CHUNKS); i < p->n_changes && p->changes[i].n < (k + 1) * SEGMENT_CHUNKS; i++) {
        const struct chunk_change *change = &p->changes[i];
        uint32_t room = chunk_length(p->size, p->chunk_size, change->n);
        struct chunk_ref ref;
        set_ref(&ref, &change->ref.hash, change->ref.len < room ? change->ref.len : room);
        struct chunk_ref *at = &chunks[change->n % SEGMENT_CHUNKS];
        differs |= !same_ref(at, &ref);
        *at = ref;
    }
    return differs;
}

static bool all_holes(const struct chunk_ref chunks[SEGMENT_CHUNKS])
{
    for (unsigned c = 0; c < SEGMENT_CHUNKS; c++)
        if (chunks[c].len)
            return false;
    return true;
}

/* A file that is one chunk has that chunk's hash, where the chunk came along and so is known to end where the file does. */
static void fill_sha256(struct apply *a, const struct content_plan *p, struct version_row *v)
{
    if (!hash_is_zero(&v->sha256))
        return;
    if (p->size == 0)
        hash_bytes("", 0, &v->sha256);
    else if (p->n_changes == 1 && p->size <= p->chunk_size && rows_chunk_size(a->r, &p->changes[0].ref.hash) == p->size &&
             p->changes[0].ref.len == p->size)
        v->sha256 = p->changes[0].ref.hash;
}

static void cut_what_goes(struct apply *a, const struct content_plan *p, uint64_t ino, uint64_t had, uint64_t keep)
{
    uint64_t had_segments = p->in_place ? segments_of(had, p->from.chunk_size) : had > 0;
    uint64_t kept_segments = p->in_place ? segments_of(keep, p->chunk_size) : 0;
    if (had_segments > kept_segments)
        rows_cut_add(a->r, ino, a->seq, kept_segments);
}

void content_write(struct apply *a, const struct content_plan *p, uint64_t ino, uint64_t had, struct version_row *v)
{
    uint64_t keep = inherited(p), count = chunk_count(p->size, p->chunk_size), segments = segments_of(p->size, p->chunk_size);
    struct chunk_ref chunks[SEGMENT_CHUNKS];
    struct hash hashes[SEGMENT_CHUNKS];
    struct hash_stream *tree = segments > 1 ? hash_stream_new() : NULL;
    size_t n = 0;
    cut_what_goes(a, p, ino, had, keep);
    for (uint64_t k = 0; k < segments; k++) {
        bool differs = make_segment(a, p, k, keep, chunks);
        if (p->in_place && k < segments_of(keep, p->chunk_size) ? differs : !all_holes(chunks))
            rows_segment_add(a->r, ino, k, a->seq, chunks);
        for (n = 0; n < SEGMENT_CHUNKS && k * SEGMENT_CHUNKS + n < count; n++)
            hashes[n] = chunks[n].hash;
        if (tree)
            hash_stream_update(tree, hashes, n * sizeof *hashes);
    }
    if (tree)
        hash_stream_final(tree, &v->tree_hash);
    else
        hash_bytes(hashes, n * sizeof *hashes, &v->tree_hash);
    hash_stream_free(tree);
    v->size = p->size;
    v->chunk_size = p->chunk_size;
    fill_sha256(a, p, v);
}

void content_range(const struct content_plan *p, uint64_t *ret_from, uint64_t *ret_to)
{
    uint64_t from = UINT64_MAX, to = 0, keep = inherited(p);
    uint64_t longer = p->size > p->from.size ? p->size : p->from.size;
    if (p->n_changes) {
        from = p->changes[0].n * p->chunk_size;
        to = (p->changes[p->n_changes - 1].n + 1) * p->chunk_size;
    }
    if (keep < longer) { /* shrunk, grown, or shrunk in between */
        from = keep < from ? keep : from;
        to = longer;
    }
    to = to < longer ? to : longer;
    *ret_from = from < to ? from : to;
    *ret_to = to;
}
