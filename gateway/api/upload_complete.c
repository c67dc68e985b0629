/* The end of an upload: the file appears whole, in the same transaction that closes the session, or not at all. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/change.h"
#include "gateway/api/content.h"
#include "gateway/api/put_result.h"
#include "gateway/api/uploads.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct ending {
    struct upload_row upload;
};

static void ending_free(void *ctx)
{
    struct ending *e = ctx;
    upload_release(&e->upload.id);
    upload_row_fini(&e->upload);
    free(e);
}

/* Under the drive's lock: another gateway may have ended the session. Its answer is ours then. */
static int still_active(struct drive_work *w, struct meta_tx *tx)
{
    struct change *ch = w->ctx;
    struct ending *e = ch->ctx;
    struct upload_row now = {0};
    int err = tx->meta->ops->upload_get(tx->meta, &e->upload.id, &now);
    if (err)
        return err;
    upload_row_fini(&e->upload);
    e->upload = now;
    return now.state == 'a' ? 0 : 1;
}

static enum call_state answer_stored(struct call *c, const struct upload_row *u)
{
    buf_append_str(&c->out, u->answer ? u->answer : "{}");
    c->status = 200;
    return CALL_DONE;
}

/* ---- complete ---- */

static enum call_state missing_problem(struct call *c, json_t *numbers /* taken */)
{
    return call_problem_with(c, 409, "chunks-missing", json_pack("{so}", "missing", numbers), "chunks are missing");
}

/* The same for chunks that the drive does not have any more. */
static enum call_state gone_problem(struct call *c, const struct op *op, const struct hash *gone, size_t n)
{
    json_t *numbers = json_array();
    for (size_t i = 0; i < op->n_changes; i++)
        for (size_t k = 0; k < n; k++)
            if (hash_equal(&op->changes[i].ref.hash, &gone[k])) {
                json_array_append_new(numbers, json_integer((json_int_t)op->changes[i].n));
                break;
            }
    return missing_problem(c, numbers);
}

struct collecting {
    struct op *op;
    json_t *missing;
    uint64_t total;
};

static void skip_to(struct collecting *k, uint64_t from, uint64_t to)
{
    for (uint64_t n = from; n < to; n++)
        json_array_append_new(k->missing, json_integer((json_int_t)n));
}

static int collect(void *ctx, const struct upload_chunk_row *r)
{
    struct collecting *k = ctx;
    struct op *op = k->op;
    uint64_t next = op->n_changes ? op->changes[op->n_changes - 1].n + 1 : 0;
    if (r->n < next || r->n >= k->total)
        return -EIO;
    skip_to(k, next, r->n);
    op->changes[op->n_changes++] = (struct chunk_change){r->n, {r->sha256, r->size}};
    return 0;
}

/* The content's chunks into op. False: a problem was filled. */
static bool collect_chunks(struct call *c, const struct upload_row *u, struct op *op)
{
    struct meta *meta = app_of(c)->meta;
    struct collecting k = {.op = op, .missing = json_array(), .total = upload_total(u)};
    op->changes = mem_calloc(k.total, sizeof *op->changes);
    int err = meta->ops->upload_chunks(meta, &u->id, collect, &k);
    skip_to(&k, op->n_changes ? op->changes[op->n_changes - 1].n + 1 : 0, k.total);
    if (err)
        call_errno(c, err, "the upload's chunks");
    else if (json_array_size(k.missing))
        missing_problem(c, json_incref(k.missing));
    bool complete = !err && json_array_size(k.missing) == 0;
    json_decref(k.missing);
    return complete;
}

/* SHA-256 of the whole, from the chunks as they are stored. False: a problem was filled. */
static bool hash_whole(struct call *c, const struct uuid *drive, const struct op *op, struct hash *ret)
{
    if (op->n_changes == 1) {
        *ret = op->changes[0].ref.hash;
        return true;
    }
    struct hash_stream *s = hash_stream_new();
    int err = 0;
    for (size_t i = 0; i < op->n_changes && err == 0; i++) {
        struct chunk_data *d;
        err = content_chunk_get(app_of(c), drive, &op->changes[i].ref.hash, &d);
        if (err == -ENOENT)
            gone_problem(c, op, &op->changes[i].ref.hash, 1);
        else if (err)
            call_errno(c, err, "the upload's chunks");
        if (err == 0) {
            hash_stream_update(s, chunk_data_bytes(d), chunk_data_len(d));
            chunk_data_unref(d);
        }
    }
    hash_stream_final(s, ret);
    hash_stream_free(s);
    return err == 0;
}

/* Checks what was promised, if anything was. */
static bool check_whole(struct call *c, const struct upload_row *u, const struct hash *given, struct op *op)
{
    const struct hash *want = hash_is_zero(given) ? &u->sha256 : given;
    if (hash_is_zero(want) && op->n_changes > 1)
        return true; /* not asked for: it stays unknown */
    if (!hash_whole(c, &u->drive, op, &op->sha256))
        return false;
    bool differs = (!hash_is_zero(&u->sha256) && !hash_equal(&u->sha256, &op->sha256)) || (!hash_is_zero(given) && !hash_equal(given, &op->sha256));
    if (differs)
        call_problem(c, 422, "sha256-mismatch", "the whole's SHA-256 is another than the one given");
    return !differs;
}

/* After the operation, in its transaction: the session is closed with its answer. */
static int conclude(struct drive_work *w, struct meta_tx *tx)
{
    struct change *ch = w->ctx;
    struct ending *e = ch->ctx;
    CLEANUP_BUF struct buf text = {0};
    CLEANUP_JSON json_t *result = NULL;
    if (w->results[0].error)
        return 0;
    int err = put_result_json(tx, w, &w->ops[0].sha256, &result);
    if (err)
        return err;
    jsonx_dump(result, &text);
    e->upload.state = 'c';
    free(e->upload.answer);
    e->upload.answer = buf_detach(&text);
    return tx->meta->ops->upload_update(tx->meta, tx, &e->upload);
}

static void answer_complete(struct change *ch)
{
    struct ending *e = ch->ctx;
    struct call *c = ch->call;
    const struct op_result *r = &ch->work.results[0];
    if (r->error == -ENODATA)
        gone_problem(c, &ch->work.ops[0], r->missing, r->n_missing);
    else if (r->error)
        put_result_problem(c, r->error, e->upload.path);
    else if (e->upload.state != 'c')
        upload_not_active(c, e->upload.state);
    else
        answer_stored(c, &e->upload);
}

static bool parse_body(struct call *c, struct hash *ret)
{
    const char *hex;
    if (c->body.len == 0)
        return true;
    CLEANUP_JSON json_t *body = access_body(c);
    if (!body)
        return false;
    int err = jsonx_str(body, "sha256", &hex);
    if (err == -ENOENT || (err == 0 && hash_parse(hex, ret) == 0))
        return true;
    call_problem(c, 400, "bad-request", "sha256 is 64 hex digits");
    return false;
}

static struct change *ending_new(struct call *c, struct upload_row *u, size_t n_ops)
{
    struct change *ch = change_new(c, &u->drive, n_ops);
    struct ending *e = mem_alloc(sizeof *e);
    e->upload = *u;
    *u = (struct upload_row){0};
    ch->ctx = e;
    ch->free_ctx = ending_free;
    ch->work.prepare = still_active;
    return ch;
}

static bool build_put(struct call *c, const struct upload_row *u, const struct hash *given, struct op *op)
{
    struct drive_row drive;
    char id[UUID_TEXT];
    uuid_text(&u->drive, id);
    if (!access_drive(c, id, ROLE_EDITOR, &drive)) /* the role may have changed since the upload began */
        return false;
    *op = (struct op){.kind = OP_PUT, .parent = u->parent, .name = mem_strdup(u->name), .mode = S_IFREG | u->mode, .whole = true,
                      .size = u->size, .shrunk_to = u->size, .chunk_size = u->chunk_size, .has_base = u->has_base, .base = u->base};
    if (!collect_chunks(c, u, op) || !check_whole(c, u, given, op))
        return false;
    int err = access_new_ino(app_of(c), &u->drive, &op->ino);
    if (err)
        call_errno(c, err, "an inode number");
    return err == 0;
}

/* The session is claimed. Takes the row. */
static enum call_state complete_claimed(struct call *c, struct upload_row *u)
{
    struct hash given = {0};
    if (u->state == 'c')
        return answer_stored(c, u);
    if (u->state != 'a')
        return upload_not_active(c, u->state);
    struct op op = {0};
    int err = upload_take_arrived(app_of(c), u);
    if (err)
        return call_errno(c, err, "the upload's chunks");
    if (!parse_body(c, &given) || !build_put(c, u, &given, &op)) {
        op_fini(&op);
        return CALL_DONE;
    }
    struct change *ch = ending_new(c, u, 1);
    ch->work.ops[0] = op;
    ch->work.conclude = conclude;
    ch->answer = answer_complete;
    return change_submit(ch);
}

/* ---- both ---- */

static enum call_state with_claim(struct call *c, enum call_state (*self)(struct call *c), enum call_state (*fn)(struct call *c, struct upload_row *u))
{
    CLEANUP(upload_row_fini) struct upload_row u = {0};
    struct uuid id;
    if (uuid_parse(c->params[0], &id) == 0 && !upload_claim(&id, c, self))
        return CALL_PENDING;
    enum call_state state = upload_load(c, &u) ? fn(c, &u) : CALL_DONE; /* read with the claim held */
    if (state == CALL_DONE && uuid_parse(c->params[0], &id) == 0)
        upload_release(&id);
    return state;
}

enum call_state upload_complete(struct call *c)
{
    return with_claim(c, upload_complete, complete_claimed);
}

/* ---- cancel ---- */

static int conclude_cancel(struct drive_work *w, struct meta_tx *tx)
{
    struct change *ch = w->ctx;
    struct ending *e = ch->ctx;
    e->upload.state = 'x';
    return tx->meta->ops->upload_update(tx->meta, tx, &e->upload);
}

static void answer_cancel(struct change *ch)
{
    struct ending *e = ch->ctx;
    if (e->upload.state == 'c')
        upload_not_active(ch->call, 'c');
    else
        ch->call->status = 204;
}

static enum call_state cancel_claimed(struct call *c, struct upload_row *u)
{
    if (u->state == 'c')
        return upload_not_active(c, 'c');
    if (u->state != 'a') {
        c->status = 204;
        return CALL_DONE;
    }
    /* in the drive's queue, so that it cannot fall into the middle of a completion elsewhere */
    struct change *ch = ending_new(c, u, 0);
    ch->work.conclude = conclude_cancel;
    ch->answer = answer_cancel;
    return change_submit(ch);
}

enum call_state upload_cancel(struct call *c)
{
    return with_claim(c, upload_cancel, cancel_claimed);
}
