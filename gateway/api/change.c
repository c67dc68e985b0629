#include "gateway/api/change.h"
#include "common/mem.h"

struct change *change_new(struct call *c, const struct uuid *drive, size_t n_ops)
{
    struct change *ch = mem_alloc(sizeof *ch);
    ch->call = c;
    ch->work.drive = *drive;
    access_actor(c, &ch->work.actor);
    ch->work.ops = mem_calloc(n_ops, sizeof *ch->work.ops);
    ch->work.results = mem_calloc(n_ops, sizeof *ch->work.results);
    ch->work.n_ops = n_ops;
    return ch;
}

void change_ops_clear(struct op *ops, size_t n)
{
    for (size_t i = 0; i < n; i++)
        op_fini(&ops[i]);
}

void change_ops_free(struct op *ops, size_t n)
{
    change_ops_clear(ops, n);
    free(ops);
}

static void results_free(struct op_result *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        op_result_fini(&r[i]);
    free(r);
}

void change_free(struct change *ch)
{
    if (ch->free_ctx)
        ch->free_ctx(ch->ctx);
    change_ops_free(ch->work.ops, ch->work.n_ops);
    results_free(ch->work.results, ch->work.n_ops);
    for (size_t i = 0; i < ch->work.n_chunks; i++)
        chunk_row_fini(&ch->work.chunks[i]);
    free(ch->work.chunks);
    free(ch);
}

void change_add_chunk(struct change *ch, const struct chunk_row *row)
{
    if (ch->work.n_chunks == ch->room_chunks) {
        ch->room_chunks = ch->room_chunks ? 2 * ch->room_chunks : 4;
        ch->work.chunks = mem_realloc(ch->work.chunks, ch->room_chunks * sizeof *row);
    }
    ch->work.chunks[ch->work.n_chunks++] = *row;
}

static void done(struct drive_work *w)
{
    struct change *ch = w->ctx;
    struct call *c = ch->call;
    if (w->error >= 0)
        ch->answer(ch);
    else if (ch->failed)
        ch->failed(ch);
    else
        call_errno(c, w->error, "the change");
    change_free(ch);
    call_finish(c);
}

enum call_state change_submit(struct change *ch)
{
    ch->work.done = done;
    ch->work.ctx = ch;
    drive_queues_submit(app_of(ch->call)->queues, &ch->work);
    return CALL_PENDING;
}

int change_run(struct call *c, const struct uuid *drive, struct op *ops, size_t n)
{
    struct drive_work w = {.drive = *drive, .ops = ops, .n_ops = n};
    w.results = mem_calloc(n, sizeof *w.results);
    access_actor(c, &w.actor);
    int err = drive_queues_run(app_of(c)->queues, &w);
    for (size_t i = 0; i < n && err == 0; i++)
        err = w.results[i].error; /* those behind it have ECANCELED */
    results_free(w.results, n);
    return err;
}
