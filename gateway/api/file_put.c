/* PUT /files/content: a whole file in one request. */
#include "common/log.h"
#include "common/mem.h"
#include "gateway/api/change.h"
#include "gateway/api/conditional.h"
#include "gateway/api/content.h"
#include "gateway/api/files.h"
#include "gateway/api/put_result.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define RIDING_MAX (4u << 20) /* bytes of small chunks that ride in the operation's transaction; more go ahead of it */

/* What the request asks for besides the content. */
struct put_request {
    char *path;
    struct hash promised, sha256; /* of the whole; promised may be zero */
};

static void put_request_free(void *ctx)
{
    struct put_request *q = ctx;
    free(q->path);
    free(q);
}

static enum call_state precondition_problem(struct call *c)
{
    return call_problem(c, 412, "precondition-failed", "the file is another version than If-Match or If-None-Match asks for");
}

/* If-Match and If-None-Match become an exact base, which is compared under the drive's lock. */
static bool check_conditions(struct call *c, const struct entry_row *now, struct op *op)
{
    const char *match = call_header(c, "if-match"), *none = call_header(c, "if-none-match");
    char etag[32];
    if (!match && !none)
        return true;
    snprintf(etag, sizeof etag, "\"%llu\"", (unsigned long long)now->attr.version);
    if ((match && (!now->ino || !etag_listed(match, etag, false))) || (none && now->ino && etag_listed(none, etag, true))) {
        precondition_problem(c);
        return false;
    }
    op->exact = op->has_base = true;
    op->base = now->attr.version;
    return true;
}

static void answer(struct change *ch)
{
    struct put_request *q = ch->ctx;
    struct app *app = app_of(ch->call);
    const struct op_result *r = &ch->work.results[0];
    struct meta_tx *tx;
    json_t *result;
    if (ch->work.ops[0].exact && (r->error == -ESTALE || r->error == -EEXIST)) {
        precondition_problem(ch->call);
        return;
    }
    if (r->error) {
        put_result_problem(ch->call, r->error, q->path);
        return;
    }
    int err = app->meta->ops->snapshot(app->meta, &ch->work.drive, &tx);
    if (err == 0) {
        err = put_result_json(tx, &ch->work, &q->sha256, &result);
        app->meta->ops->rollback(tx);
    }
    if (err)
        call_errno(ch->call, err, q->path);
    else /* a new name: the file itself, or the sibling of a conflict */
        call_json(ch->call, r->n_names ? 201 : 200, result);
}

/* ---- the body, chunk by chunk ---- */

static int body_read(struct call *c, uint64_t offset, void *ret, size_t n)
{
    if (c->body_fd < 0) {
        memcpy(ret, c->body.data + offset, n);
        return 0;
    }
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(c->body_fd, (char *)ret + done, n - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        done += (size_t)got;
    }
    return 0;
}

/* Rows of chunks that are not to be lost with the memory they take. */
static int flush_chunks(struct app *app, struct drive_work *w)
{
    int err = app->meta->ops->chunks_add(app->meta, &w->drive, w->chunks, w->n_chunks);
    for (size_t i = 0; i < w->n_chunks; i++)
        chunk_row_fini(&w->chunks[i]);
    w->n_chunks = 0;
    return err;
}

static int take_body(struct call *c, struct change *ch, struct hash *ret_sha256)
{
    struct app *app = app_of(c);
    struct op *op = &ch->work.ops[0];
    CLEANUP_FREE char *buffer = mem_alloc(op->n_changes ? chunk_length(op->size, op->chunk_size, 0) : 0);
    struct hash_stream *whole = hash_stream_new();
    size_t riding = 0;
    int err = 0;
    for (size_t n = 0; n < op->n_changes && err >= 0; n++) {
        struct chunk_row row = {0};
        uint32_t len = chunk_length(op->size, op->chunk_size, n);
        err = body_read(c, n * (uint64_t)op->chunk_size, buffer, len);
        if (err)
            break;
        if (op->n_changes > 1)
            hash_stream_update(whole, buffer, len);
        err = content_chunk_make(app, &ch->work.drive, buffer, len, &row);
        if (err < 0)
            break;
        op->changes[n] = (struct chunk_change){n, {row.hash, len}};
        if (err == 1)
            continue;
        riding += row.bytes ? row.stored_size : 0;
        change_add_chunk(ch, &row);
        if (riding > RIDING_MAX) {
            err = flush_chunks(app, &ch->work);
            riding = 0;
        }
    }
    if (op->n_changes == 1)
        *ret_sha256 = op->changes[0].ref.hash;
    else
        hash_stream_final(whole, ret_sha256);
    hash_stream_free(whole);
    return err < 0 ? err : 0;
}

/* ---- the request ---- */

static bool read_query(struct call *c, struct put_request *q, struct op *op)
{
    const char *sha256 = call_query(c, "sha256", NULL);
    uint64_t mode = 0644;
    int err = place_query_u64(c, "baseVersion", &op->base);
    op->has_base = err == 0;
    if (err == -EINVAL || place_query_u64(c, "mode", &mode) == -EINVAL || mode > 07777 || (sha256 && hash_parse(sha256, &q->promised))) {
        call_problem(c, 400, "bad-query", "baseVersion is a number, mode one of at most 4095, sha256 64 hex digits");
        return false;
    }
    op->mode = S_IFREG | (uint32_t)mode;
    return true;
}

static bool flag_query(struct call *c, const char *name)
{
    const char *v = call_query(c, name, NULL);
    return v && (strcmp(v, "true") == 0 || strcmp(v, "1") == 0);
}

/* Where the file goes; the snapshot is over when it returns, before the body is read. */
static bool find_place(struct call *c, const char *path, struct uuid *ret_drive, struct op *op)
{
    CLEANUP_PLACE struct place p = {0};
    const char *drive = call_query(c, "drive", NULL);
    if (flag_query(c, "createParents")) {
        struct drive_row d;
        if (!access_drive(c, drive, ROLE_EDITOR, &d) || !place_make_parents(c, &d, path))
            return false;
    }
    if (!place_enter(c, drive, path, ROLE_EDITOR, &p))
        return false;
    if (!place_takes_file(c, &p) || !check_conditions(c, &p.entry, op))
        return false;
    *ret_drive = p.drive.id;
    op->parent = p.entry.parent;
    op->name = mem_strdup(p.entry.name);
    place_leave(&p); /* a number may have to be reserved, which writes */
    int err = access_new_ino(app_of(c), &p.drive.id, &op->ino);
    if (err)
        call_errno(c, err, "an inode number");
    return err == 0;
}

static enum call_state put(struct call *c, struct change *ch)
{
    struct put_request *q = ch->ctx;
    struct op *op = &ch->work.ops[0];
    if (c->body_len > (uint64_t)FILE_SIZE_MAX)
        return call_problem(c, 413, "too-large", "a file has at most 64 TiB");
    op->kind = OP_PUT;
    op->whole = true;
    op->size = op->shrunk_to = c->body_len;
    op->chunk_size = content_chunk_size(op->size);
    op->n_changes = chunk_count(op->size, op->chunk_size);
    op->changes = mem_calloc(op->n_changes, sizeof *op->changes);
    int err = take_body(c, ch, &q->sha256);
    if (err)
        return call_errno(c, err, "the content");
    if (!hash_is_zero(&q->promised) && !hash_equal(&q->promised, &q->sha256))
        return call_problem(c, 422, "sha256-mismatch", "the content's SHA-256 is another");
    op->sha256 = q->sha256;
    ch->answer = answer;
    return change_submit(ch);
}

enum call_state file_content_put(struct call *c)
{
    const char *path = access_path_query(c, "path");
    struct op op = {0};
    struct uuid drive;
    if (!path)
        return CALL_DONE;
    struct put_request *q = mem_alloc(sizeof *q);
    q->path = mem_strdup(path);
    if (!read_query(c, q, &op) || !find_place(c, path, &drive, &op)) {
        op_fini(&op);
        put_request_free(q);
        return CALL_DONE;
    }
    struct change *ch = change_new(c, &drive, 1);
    ch->ctx = q;
    ch->free_ctx = put_request_free;
    ch->work.ops[0] = op;
    enum call_state state = put(c, ch);
    if (state == CALL_DONE)
        change_free(ch);
    return state;
}
