/* One numbered batch: operations, and the small contents that they name, in one request. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/remote/http.h"

#include <errno.h>
#include <string.h>

static json_t *contents_to_json(const struct remote_inline *const *contents, size_t n)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < n; i++) {
        char hex[HASH_HEX_LEN + 1];
        hash_hex(&contents[i]->hash, hex);
        json_t *row = json_object();
        json_object_set_new_nocheck(row, "sha256", json_string_nocheck(hex));
        jsonx_set_u64(row, "size", contents[i]->size);
        jsonx_set_u64(row, "stored", contents[i]->stored.len);
        json_object_set_new_nocheck(row, "codec", json_string_nocheck(codec_name(contents[i]->codec)));
        json_array_append_new(rows, row);
    }
    return rows;
}

void remote_batch_encode(struct remote *r, uint64_t batch, uint64_t confirmed, bool lazy, const struct op *ops, size_t n_ops,
                         const struct remote_inline *const *contents, size_t n_contents, struct buf *ret_body, size_t *ret_head_len)
{
    CLEANUP_JSON json_t *head = json_object();
    json_object_set_new_nocheck(head, "drive", json_string_nocheck(r->drive));
    {
        ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
        json_object_set_new_nocheck(head, "session", json_string_nocheck(r->session));
        json_object_set_new_nocheck(head, "journal", json_string_nocheck(r->journal));
        if (r->device[0])
            json_object_set_new(head, "device", json_string(r->device)); /* one that is no UTF-8 goes unsaid */
    }
    jsonx_set_u64(head, "batch", batch);
    jsonx_set_u64(head, "confirmed", confirmed);
    if (lazy)
        json_object_set_new_nocheck(head, "lazy", json_true());
    json_t *rows = json_array();
    for (size_t i = 0; i < n_ops; i++)
        json_array_append_new(rows, op_to_json(&ops[i]));
    json_object_set_new_nocheck(head, "ops", rows);
    json_object_set_new_nocheck(head, "contents", contents_to_json(contents, n_contents));
    size_t start = ret_body->len;
    jsonx_dump(head, ret_body);
    *ret_head_len = ret_body->len - start;
    for (size_t i = 0; i < n_contents; i++)
        buf_append(ret_body, contents[i]->stored.data, contents[i]->stored.len);
}

/* 409 batch-out-of-order and batch-differs: the journal's numbers have gone on without us. */
static int refused(const struct http_answer *a, int err, uint64_t *ret_last)
{
    const char *code = remote_problem()->code;
    if (a->status != 409 || (strcmp(code, "batch-out-of-order") != 0 && strcmp(code, "batch-differs") != 0))
        return err;
    CLEANUP_JSON json_t *o = jsonx_parse(a->body.data, a->body.len, NULL);
    *ret_last = UINT64_MAX;
    jsonx_u64(o, "last", ret_last);
    return -ESTALE;
}

int remote_batch_send(struct remote *r, const struct buf *body, size_t head_len, size_t n_ops, json_t **ret_results, uint64_t *ret_seq, uint64_t *ret_last)
{
    CLEANUP_FREE char *length = mem_printf("X-Cairn-Head: %zu", head_len);
    const char *headers[] = {length, NULL};
    struct http_request req = {.method = "POST", .path = FS "batch", .headers = headers, .content_type = "application/vnd.cairn.framed",
                               .body = body->data, .body_len = body->len};
    CLEANUP(http_answer_fini) struct http_answer a = {0};
    int err = http_exchange(r, &req, &a);
    if (err)
        return refused(&a, err, ret_last);
    CLEANUP_JSON json_t *o = NULL;
    json_t *rows;
    if (a.head != UINT64_MAX && a.head <= a.body.len)
        a.body.len = a.head;
    if ((err = answer_object(&a, &o)))
        return err;
    if (jsonx_u64(o, "seq", ret_seq) || jsonx_arr(o, "results", &rows) || json_array_size(rows) != n_ops)
        return problem_protocol("the answer to a batch does not fit it");
    *ret_results = json_incref(rows);
    return 0;
}
