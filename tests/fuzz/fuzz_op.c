/* Operations and results from JSON: what is accepted is within its limits, and says the same again. */
#include "common/jsonx.h"
#include "common/op.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

#define HASH "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""
const struct fuzz_seed fuzz_seeds[] = {
    FUZZ_SEED("{\"op\":\"create\",\"parent\":1,\"name\":\"a\",\"ino\":7,\"mode\":33188,\"uid\":0,\"gid\":0}"),
    FUZZ_SEED("{\"op\":\"create\",\"parent\":1,\"name64\":\"Y2Fm6Q==\",\"ino\":7,\"mode\":41471,\"uid\":0,\"gid\":0,\"target\":\"b/c\"}"),
    FUZZ_SEED("{\"op\":\"rename\",\"parent\":1,\"name\":\"a\",\"newParent\":2,\"newName\":\"b\",\"flags\":2,\"ino\":7,\"targetBase\":9}"),
    FUZZ_SEED("{\"op\":\"setattr\",\"ino\":7,\"mode\":420,\"atime\":\"now\",\"mtime\":-5}"),
    FUZZ_SEED("{\"op\":\"setxattr\",\"ino\":7,\"xattr\":\"user.a\",\"value64\":\"AAE=\",\"flags\":1}"),
    FUZZ_SEED("{\"op\":\"commit\",\"ino\":7,\"base\":3,\"size\":70000,\"chunkSize\":65536,\"changes\":[[0," HASH ",65536],[1,null,0]],\"shrunkTo\":10,"
              "\"append\":true,\"appendFrom\":5,\"replaces\":2,\"mtime\":1}"),
    FUZZ_SEED("{\"op\":\"put\",\"parent\":1,\"name\":\"a\",\"ino\":7,\"mode\":420,\"size\":3,\"chunkSize\":4194304,\"changes\":[[0," HASH ",3]],\"whole\":true}"),
    FUZZ_SEED("{\"op\":\"lock\",\"ino\":7,\"type\":\"w\",\"start\":0,\"end\":9223372036854775807,\"owner\":5,\"pid\":9,\"flock\":false,\"test\":true}"),
    FUZZ_SEED("{\"error\":\"ENODATA\",\"seq\":0,\"missing\":[" HASH "],\"lock\":{\"type\":\"r\",\"start\":0,\"end\":4,\"pid\":1}}"),
    FUZZ_SEED("{\"seq\":9,\"ino\":7,\"version\":9,\"names\":[{\"parent\":1,\"name\":\"a\",\"ino\":7}],\"content\":{\"ino\":7,\"from\":0,\"to\":5},\"xattr\":7,"
              "\"conflict\":{\"parent\":1,\"name\":\"b\"},\"attrs\":[{\"ino\":7,\"mode\":33188,\"nlink\":1,\"uid\":0,\"gid\":0,\"size\":5,\"atime\":1,\"mtime\":1,"
              "\"ctime\":1,\"btime\":1,\"version\":9,\"chunkSize\":65536}]}"),
};
const size_t fuzz_seeds_n = sizeof fuzz_seeds / sizeof *fuzz_seeds;

static void check_op(const json_t *o)
{
    struct op op, again;
    const char *why = NULL;
    int err = op_from_json(o, &op, &why);
    if (err) {
        FUZZ_MUST(err < 0 && why);
        return;
    }
    FUZZ_MUST(!op.name || (op.name[0] && strlen(op.name) <= NAME_LEN_MAX && !strchr(op.name, '/')));
    FUZZ_MUST(op.value_len <= XATTR_VALUE_MAX && op.size <= FILE_SIZE_MAX);
    for (size_t i = 0; i < op.n_changes; i++)
        FUZZ_MUST(op.changes[i].ref.len <= op.chunk_size && op.changes[i].n < chunk_count(op.size, op.chunk_size));
    CLEANUP_JSON json_t *back = op_to_json(&op);
    FUZZ_MUST(op_from_json(back, &again, &why) == 0);
    CLEANUP_JSON json_t *twice = op_to_json(&again);
    if (op.kind != OP_LOCK) /* an owner loses its lowest bit on the wire */
        FUZZ_MUST(json_equal(back, twice));
    op_fini(&op);
    op_fini(&again);
}

static void check_result(const json_t *o)
{
    struct op_result r, again;
    if (op_result_from_json(o, &r))
        return;
    FUZZ_MUST(r.n_attrs <= OP_TOUCH_MAX && r.n_names <= sizeof r.names / sizeof *r.names);
    CLEANUP_JSON json_t *back = op_result_to_json(&r);
    FUZZ_MUST(op_result_from_json(back, &again) == 0);
    CLEANUP_JSON json_t *twice = op_result_to_json(&again);
    FUZZ_MUST(json_equal(back, twice));
    op_result_fini(&r);
    op_result_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_JSON json_t *o = jsonx_parse((const char *)data, size, NULL);
    if (!o)
        return 0;
    check_op(o);
    check_result(o);
    return 0;
}
