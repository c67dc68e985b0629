/* What a hostile or broken gateway may answer. */
#include "remote_fixture.h"

static void lookups(void **state)
{
    struct fixture *f = *state;
    struct attr a;
    uint64_t seq;
    bool found;
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    assert_int_equal(remote_lookup(f->r, 1, "a b\xff", 0, &seq, &found, &a), 0);
    assert_true(found);
    assert_int_equal(a.ino, 7);
    assert_int_equal(seq, 12);
    assert_non_null(strstr(f->g.last_path, "&name=a%20b%FF"));
    answer(f, 200, NULL, "{\"seq\":13,\"attr\":null}");
    assert_int_equal(remote_lookup(f->r, 1, "x", 0, &seq, &found, &a), 0);
    assert_false(found);
    static const char *const bad[] = {"", "[]", "nothing", "{\"attr\":null}", "{\"seq\":1}", "{\"seq\":\"1\",\"attr\":null}", "{\"seq\":-1,\"attr\":null}",
                                      "{\"seq\":1,\"attr\":{}}", "{\"seq\":1,\"attr\":7}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        answer(f, 200, NULL, bad[i]);
        assert_int_equal(remote_lookup(f->r, 1, "x", 0, &seq, &found, &a), -EPROTO);
    }
}

static void errors_have_their_errno(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int status;
        const char *text;
        int err;
    } cases[] = {
        {404, "{\"code\":\"not-found\",\"errno\":\"ENOENT\"}", -ENOENT}, {409, "{\"errno\":\"ENOTEMPTY\"}", -ENOTEMPTY},
        {404, "<html>", -ENOENT}, {403, "{}", -EACCES}, {403, "{\"errno\":\"EROFS\"}", -EROFS}, {410, "", -ESTALE}, {503, "{\"errno\":\"ENOENT\"}", -EHOSTUNREACH},
        {502, "", -EHOSTUNREACH}, {500, "", -EIO}, {302, "", -EPROTO}, {404, "{\"errno\":\"NONSENSE\"}", -EIO},
    };
    struct attr a;
    uint64_t seq;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer(f, cases[i].status, NULL, cases[i].text);
        assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), cases[i].err);
        assert_int_equal(remote_problem()->status, cases[i].status);
    }
}

static void pages_with_names_that_lead_elsewhere_are_refused(void **state)
{
    struct fixture *f = *state;
    struct remote_page p;
    answer(f, 200, NULL, "{\"seq\":1,\"attr\":" ATTR ",\"parent\":1,\"entries\":[{\"name\":\"a\",\"attr\":" ATTR "},{\"name64\":\"/w==\",\"attr\":" ATTR "}],\"next\":null}");
    assert_int_equal(remote_directory(f->r, 7, 0, NULL, 100, &p), 0);
    assert_int_equal(p.n, 2);
    assert_string_equal(p.entries[1].name, "\xff");
    assert_null(p.next);
    remote_page_fini(&p);
    static const char *const bad[] = {
        "{\"seq\":1,\"attr\":" ATTR ",\"parent\":1,\"entries\":[{\"name\":\"..\",\"attr\":" ATTR "}],\"next\":null}",
        "{\"seq\":1,\"attr\":" ATTR ",\"parent\":1,\"entries\":[{\"name\":\"a\",\"attr\":" ATTR "},{\"name\":\"a/b\",\"attr\":" ATTR "}],\"next\":null}",
        "{\"seq\":1,\"attr\":" ATTR ",\"parent\":1,\"entries\":[{\"name\":\"\",\"attr\":" ATTR "}],\"next\":null}",
        "{\"seq\":1,\"attr\":" ATTR ",\"parent\":1,\"entries\":[{\"name\":\"a\"}],\"next\":null}",
        "{\"seq\":1,\"attr\":" ATTR ",\"parent\":1,\"entries\":[],\"next\":\"a\"}",
        "{\"seq\":1,\"attr\":" ATTR ",\"parent\":1,\"entries\":{},\"next\":null}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        answer(f, 200, NULL, bad[i]);
        assert_int_equal(remote_directory(f->r, 7, 0, NULL, 100, &p), -EPROTO);
    }
}

static void changes_that_lead_nowhere_are_refused(void **state)
{
    struct fixture *f = *state;
    json_t *changes;
    uint64_t next;
    bool more;
    answer(f, 200, NULL, "{\"changes\":[],\"next\":5,\"more\":true}");
    assert_int_equal(remote_changes(f->r, 5, &changes, &next, &more), -EPROTO);
    answer(f, 200, NULL, "{\"changes\":[],\"next\":5,\"more\":false}");
    assert_int_equal(remote_changes(f->r, 5, &changes, &next, &more), 0);
    json_decref(changes);
}

/* "hello" and its hash */
#define FILES "\"files\":[{\"ino\":7,\"version\":9,\"size\":5,\"chunkSize\":65536,\"mtime\":2,\"first\":0,\"chunks\":[[\"" HELLO "\",5]]}]"

static int read_one(struct fixture *f, const char *head, const char *rest, size_t claim)
{
    char headers[64];
    CLEANUP_FREE char *text = mem_printf("%s%s", head, rest);
    snprintf(headers, sizeof headers, "X-Cairn-Head: %zu\r\n", claim ? claim : strlen(head));
    answer(f, 200, headers, text);
    struct remote_want want = {.ino = 7, .count = 1};
    struct remote_read rd;
    int err = remote_read(f->r, &want, 1, 65536, &rd);
    if (!err) {
        assert_int_equal(rd.n_maps, 1);
        assert_int_equal(rd.maps[0].n, 1);
        if (rd.n_contents)
            assert_memory_equal(rd.contents[0].bytes, "hello", 5);
        remote_read_fini(&rd);
    }
    return err;
}

static void frames_are_checked_against_their_head_and_hashes(void **state)
{
    struct fixture *f = *state;
    static const char good[] = "{\"seq\":3," FILES ",\"contents\":[{\"sha256\":\"" HELLO "\",\"size\":5,\"stored\":5,\"codec\":\"raw\"}]}";
    assert_int_equal(read_one(f, good, "hello", 0), 0);
    assert_int_equal(read_one(f, good, "hellO", 0), -EBADMSG);
    assert_int_equal(read_one(f, good, "hell", 0), -EPROTO);
    assert_int_equal(read_one(f, good, "hello!", 0), -EPROTO);
    assert_int_equal(read_one(f, good, "hello", 100000), -EPROTO);
    assert_int_equal(read_one(f, good, "hello", 5), -EPROTO);
    assert_int_equal(read_one(f, "{\"seq\":3," FILES ",\"contents\":[]}", "", 0), 0);
    assert_int_equal(read_one(f, "{\"seq\":3,\"files\":[],\"contents\":[]}", "", 0), -EPROTO);
    assert_int_equal(read_one(f, "{\"seq\":3," FILES ",\"contents\":[{\"sha256\":\"" HELLO "\",\"size\":4000000000,\"stored\":5,\"codec\":\"zstd\"}]}", "hello", 0), -EPROTO);
    assert_int_equal(read_one(f, "{\"seq\":3," FILES ",\"contents\":[{\"sha256\":\"" HELLO "\",\"size\":5,\"stored\":4294967295,\"codec\":\"raw\"}]}", "hello", 0), -EPROTO);
    assert_int_equal(read_one(f, "{\"seq\":3," FILES ",\"contents\":[{\"sha256\":\"" HELLO "\",\"size\":5,\"stored\":5,\"codec\":\"zstd\"}]}", "hello", 0), -EBADMSG);
    assert_int_equal(read_one(f, "{\"seq\":3,\"files\":[{\"ino\":7,\"version\":9,\"size\":5,\"chunkSize\":65537,\"mtime\":2,\"first\":0,\"chunks\":[[null,0]]}],\"contents\":[]}", "", 0), -EPROTO);
    assert_int_equal(read_one(f, "{\"seq\":3,\"files\":[{\"ino\":7,\"version\":9,\"size\":5,\"chunkSize\":65536,\"mtime\":2,\"first\":0,\"chunks\":[[null,0],[null,0]]}],\"contents\":[]}", "", 0), -EPROTO);
    assert_int_equal(read_one(f, "{\"seq\":3,\"files\":[{\"ino\":8,\"version\":9,\"size\":5,\"chunkSize\":65536,\"mtime\":2,\"first\":0,\"chunks\":[]}],\"contents\":[]}", "", 0), -EPROTO);
}

static void chunks_are_verified(void **state)
{
    struct fixture *f = *state;
    struct hash h;
    hash_bytes("hello", 5, &h);
    char got[5];
    answer(f, 200, "X-Cairn-Codec: raw\r\nX-Cairn-Size: 5\r\n", "hello");
    assert_int_equal(remote_chunk_get(f->r, &h, got, 5), 0);
    answer(f, 200, "X-Cairn-Codec: raw\r\n", "hellO");
    assert_int_equal(remote_chunk_get(f->r, &h, got, 5), -EBADMSG);
    answer(f, 200, "X-Cairn-Codec: raw\r\n", "hello, world");
    assert_int_equal(remote_chunk_get(f->r, &h, got, 5), -EBADMSG);
    answer(f, 200, "X-Cairn-Codec: lzma\r\n", "hello");
    assert_int_equal(remote_chunk_get(f->r, &h, got, 5), -EBADMSG);
    answer(f, 200, "X-Cairn-Size: 6\r\n", "hello");
    assert_int_equal(remote_chunk_get(f->r, &h, got, 5), -EBADMSG);
    answer(f, 404, NULL, "{}");
    assert_int_equal(remote_chunk_get(f->r, &h, got, 5), -ENOENT);
}

static int batch_of_one(struct fixture *f, json_t **ret, uint64_t *ret_last)
{
    struct op op = {.kind = OP_RMDIR, .parent = 1, .name = (char[]){"x"}};
    CLEANUP_BUF struct buf body = {0};
    size_t head_len;
    uint64_t seq;
    remote_batch_encode(f->r, 1, 0, false, &op, 1, NULL, 0, &body, &head_len);
    return remote_batch_send(f->r, &body, head_len, 1, ret, &seq, ret_last);
}

static void batch_answers_fit_the_batch(void **state)
{
    struct fixture *f = *state;
    CLEANUP_JSON json_t *rows = NULL;
    uint64_t last = 0;
    static const char *const bad[] = {"{\"seq\":1,\"results\":[]}", "{\"seq\":1,\"results\":[{},{}]}", "{\"results\":[{}]}", "[]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        answer(f, 200, NULL, bad[i]);
        assert_int_equal(batch_of_one(f, &rows, &last), -EPROTO);
    }
    answer(f, 409, NULL, "{\"code\":\"batch-out-of-order\",\"last\":41}");
    assert_int_equal(batch_of_one(f, &rows, &last), -ESTALE);
    assert_int_equal(last, 41);
    answer(f, 200, NULL, "{\"seq\":4,\"results\":[{\"error\":\"ENOENT\"}]}");
    assert_int_equal(batch_of_one(f, &rows, &last), 0);
    struct op_result res = {0};
    assert_int_equal(op_result_from_json(json_array_get(rows, 0), &res), 0);
    assert_int_equal(res.error, -ENOENT);
    CLEANUP_JSON json_t *odd = json_integer(7);
    assert_int_not_equal(op_result_from_json(odd, &res), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lookups),
        TEST(errors_have_their_errno),
        TEST(pages_with_names_that_lead_elsewhere_are_refused),
        TEST(changes_that_lead_nowhere_are_refused),
        TEST(frames_are_checked_against_their_head_and_hashes),
        TEST(chunks_are_verified),
        TEST(batch_answers_fit_the_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
