/* POST batch: a mount's operations, applied exactly once.

   The framed body is checked completely before anything waits for the drive. Then it is one work in the drive's queue: `prepare` finds out, under the drive's lock,
   whether this batch was applied before; `conclude` makes the answer and stores it with the operations; `done` sends it. */
#include "common/errname.h"
#include "common/jsonx.h"
#include "common/mem.h"
#include "gateway/api/framed.h"
#include "gateway/api/fs.h"
#include "gateway/api/streams.h"

#include <errno.h>
#include <string.h>

enum refusal { REFUSED_NOT, REFUSED_DIFFERS, REFUSED_OUT_OF_ORDER };

struct batch {
    struct drive_work work;
    struct call *call;
    struct framed framed;
    struct hash digest; /* SHA-256 of the whole body */
    uint64_t number, confirmed;
    enum refusal refusal;
    uint64_t last; /* with REFUSED_OUT_OF_ORDER: the highest number known */
    bool locks;    /* it takes some */
    bool deferred; /* another of its journal is before it in the group: it comes again once that one is decided */
    struct buf answer;
};

static void batch_free(struct batch *b)
{
    for (size_t i = 0; i < b->work.n_ops; i++) {
        op_fini(&b->work.ops[i]);
        op_result_fini(&b->work.results[i]);
    }
    free(b->work.ops);
    free(b->work.results);
    framed_fini(&b->framed);
    buf_fini(&b->answer);
    free(b);
}

/* ---- in the drive's queue ---- */

/* An answer begins with {"seq":N: how far the drive had come, and what a repeat waits for as the first did. */
static uint64_t seq_of_answer(const struct buf *answer)
{
    static const char begin[] = "{\"seq\":";
    if (answer->len < sizeof begin || memcmp(answer->data, begin, sizeof begin - 1) != 0)
        return 0;
    return strtoull(answer->data + sizeof begin - 1, NULL, 10);
}

static void batch_done(struct drive_work *w);

/* A group prepares all its works before it applies any: what comes behind in the same journal, a repeat above all, cannot know yet
   what becomes of this one. */
static void defer_followers(struct drive_work *w)
{
    for (struct drive_work *other = w->next; other; other = other->next)
        if (other->done == batch_done && uuid_equal(&other->actor.journal, &w->actor.journal))
            ((struct batch *)other->ctx)->deferred = true;
}

static int batch_prepare(struct drive_work *w, struct meta_tx *tx)
{
    struct batch *b = w->ctx;
    const struct meta_ops *ops = tx->meta->ops;
    struct hash digest;
    if (b->deferred)
        return -EBUSY;
    defer_followers(w);
    b->refusal = REFUSED_NOT;
    b->answer.len = 0;
    int err = ops->applied_get(tx, &w->actor.journal, b->number, &digest, &b->answer);
    if (err == 0 && hash_equal(&digest, &b->digest)) {
        w->last_seq = seq_of_answer(&b->answer);
        return 1;
    }
    if (err == 0) {
        b->refusal = REFUSED_DIFFERS;
        return -ESTALE;
    }
    if (err != -ENOENT)
        return err;
    err = ops->applied_last(tx, &w->actor.journal, &b->last);
    if (err == 0 && b->number != b->last + 1) {
        b->refusal = REFUSED_OUT_OF_ORDER;
        return -ESTALE;
    }
    if (err == 0 && b->locks)
        err = streams_session_locks(app_of(b->call)->streams, tx, &w->actor.session, &w->actor.user);
    return err;
}

static void make_answer(struct batch *b, uint64_t seq)
{
    const struct drive_work *w = &b->work;
    for (size_t i = 0; i < w->n_ops; i++)
        if (w->results[i].error == 0 && w->results[i].seq > seq)
            seq = w->results[i].seq;
    b->answer.len = 0;
    jout_open(&b->answer, NULL, '{');
    jout_u64(&b->answer, "seq", seq);
    jout_open(&b->answer, "results", '[');
    for (size_t i = 0; i < w->n_ops; i++) {
        CLEANUP_JSON json_t *o = op_result_to_json(&w->results[i]);
        if (i)
            buf_append(&b->answer, ",", 1);
        jsonx_dump(o, &b->answer);
    }
    jout_close(&b->answer, ']');
    jout_close(&b->answer, '}');
}

static int batch_conclude(struct drive_work *w, struct meta_tx *tx)
{
    struct batch *b = w->ctx;
    make_answer(b, tx->drive.seq);
    int err = tx->meta->ops->applied_put(tx, &w->actor.journal, b->number, &b->digest, b->answer.data, b->answer.len);
    if (err == 0 && b->confirmed)
        err = tx->meta->ops->applied_confirm(tx, &w->actor.journal, b->confirmed);
    return err;
}

static void batch_done(struct drive_work *w)
{
    struct batch *b = w->ctx;
    struct call *c = b->call;
    if (b->deferred) {
        b->deferred = false;
        drive_queues_submit(app_of(c)->queues, w);
        return;
    }
    if (b->refusal == REFUSED_DIFFERS) {
        call_problem(c, 409, "batch-differs", "batch %llu was sent before with another body", (unsigned long long)b->number);
    } else if (b->refusal == REFUSED_OUT_OF_ORDER) {
        call_problem_with(c, 409, "batch-out-of-order", json_pack("{sI}", "last", (json_int_t)b->last), "the next batch is %llu",
                          (unsigned long long)b->last + 1);
    } else if (w->error < 0) {
        fs_fail(c, w->error, "the batch");
    } else {
        c->status = 200;
        buf_fini(&c->out);
        c->out = b->answer;
        b->answer = (struct buf){0};
    }
    batch_free(b);
    call_finish(c);
}

/* ---- the request ---- */

static bool writes(const struct op *op)
{
    return op->kind != OP_LOCK && op->kind != OP_LOCK_RELEASE_ALL;
}

/* Operations of the head; false: a problem was filled. */
static bool parse_ops(struct batch *b)
{
    struct call *c = b->call;
    json_t *list;
    if (jsonx_arr(b->framed.head, "ops", &list)) {
        call_problem(c, 400, "bad-json", "ops is not an array");
        return false;
    }
    size_t n = json_array_size(list);
    if (n > FS_BATCH_OPS_MAX) {
        call_problem(c, 413, "too-many-ops", "a batch has at most %d operations", FS_BATCH_OPS_MAX);
        return false;
    }
    b->work.ops = mem_calloc(n, sizeof *b->work.ops);
    b->work.results = mem_calloc(n, sizeof *b->work.results);
    for (size_t i = 0; i < n; i++) {
        const char *why;
        int err = op_from_json(json_array_get(list, i), &b->work.ops[i], &why);
        if (err) {
            call_problem_with(c, 400, "bad-op", json_pack("{sIss}", "index", (json_int_t)i, "errno", errname_of(err)), "operation %zu: %s", i, why);
            return false;
        }
        b->work.n_ops++;
    }
    return true;
}

/* Session, journal, numbers, and whether the answer waits for the disk. */
static bool parse_numbers(struct batch *b)
{
    const json_t *head = b->framed.head;
    const char *session, *journal;
    if (jsonx_str(head, "session", &session) || uuid_parse(session, &b->work.actor.session) || jsonx_str(head, "journal", &journal) ||
        uuid_parse(journal, &b->work.actor.journal) || jsonx_u64(head, "batch", &b->number) || jsonx_u64(head, "confirmed", &b->confirmed) ||
        b->number == 0 || b->confirmed >= b->number) {
        call_problem(b->call, 400, "bad-json", "batch needs session, journal (UUIDs), batch and confirmed (below batch)");
        return false;
    }
    int err = jsonx_bool(head, "lazy", &b->work.lazy);
    if (err && err != -ENOENT) {
        call_problem(b->call, 400, "bad-json", "lazy is true or false");
        return false;
    }
    return true;
}

/* The device that versions and conflict siblings are named after: the mount's, else that of the log-in. */
static bool parse_device(struct batch *b)
{
    const char *device;
    int err = jsonx_str(b->framed.head, "device", &device);
    if (err == -ENOENT)
        return true;
    if (err || !device[0] || strlen(device) >= sizeof b->work.actor.device) {
        call_problem(b->call, 400, "bad-json", "device is a name of 1 to %zu bytes", sizeof b->work.actor.device - 1);
        return false;
    }
    memcpy(b->work.actor.device, device, strlen(device) + 1);
    return true;
}

static bool check_access(struct batch *b)
{
    struct call *c = b->call;
    struct drive_row drive;
    const char *text = NULL;
    bool any_writes = false, locks = false;
    if (jsonx_str(b->framed.head, "drive", &text) == -EINVAL)
        text = NULL;
    if (!roles_drive(c, text, ROLE_VIEWER, &drive))
        return false;
    for (size_t i = 0; i < b->work.n_ops; i++) {
        any_writes |= writes(&b->work.ops[i]);
        locks |= b->work.ops[i].kind == OP_LOCK;
    }
    if (any_writes && drive.role < ROLE_EDITOR) {
        call_problem_with(c, 403, "read-only", json_pack("{ss}", "errno", errname_of(EROFS)), "you may only read this drive");
        return false;
    }
    b->locks = locks;
    int err = streams_session_use(app_of(c)->streams, &b->work.actor.session, &drive.id, principal_of(c), locks);
    if (err == -EACCES)
        call_problem(c, 403, "not-yours", "this session belongs to another user or drive");
    else if (err)
        fs_fail(c, err, "the session");
    if (err)
        return false;
    b->work.drive = drive.id;
    return true;
}

static bool check_contents(struct batch *b)
{
    size_t bad;
    if (framed_verify(&b->framed, &bad)) {
        char hex[HASH_HEX_LEN + 1];
        hash_hex(&b->framed.contents[bad].hash, hex);
        call_problem(b->call, 422, "chunk-checksum", "content %zu is not what its hash %s says", bad, hex);
        return false;
    }
    b->work.chunks = b->framed.contents;
    b->work.n_chunks = b->framed.n_contents;
    return true;
}

enum call_state fs_batch(struct call *c)
{
    struct batch *b = mem_alloc(sizeof *b);
    const char *why;
    b->call = c;
    int err = framed_parse(call_header(c, "x-cairn-head"), c->body.data, c->body.len, &b->framed, &why);
    if (err) {
        free(b);
        return call_problem(c, err == -EMSGSIZE ? 413 : 400, err == -EMSGSIZE ? "too-large" : "bad-frame", "%s", why);
    }
    access_actor(c, &b->work.actor);
    if (!parse_numbers(b) || !parse_device(b) || !parse_ops(b) || !check_access(b) || !check_contents(b)) {
        batch_free(b);
        return CALL_DONE;
    }
    hash_bytes(c->body.data, c->body.len, &b->digest);
    b->work.prepare = batch_prepare;
    b->work.conclude = batch_conclude;
    b->work.done = batch_done;
    b->work.ctx = b;
    drive_queues_submit_here(app_of(c)->queues, &b->work);
    return CALL_PENDING; /* c and b may be gone by now */
}
