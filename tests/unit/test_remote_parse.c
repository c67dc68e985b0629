/* What a hostile or broken gateway may answer, and what a token that is too old leads to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "fake_http.h"
#include "fusefs/remote/remote.h"

#include <stdatomic.h>

struct gateway {
    struct fake_http http;
    pthread_mutex_t lock;
    /* the next answers */
    int status;
    const char *headers, *text;
    size_t text_len;
    int too_many; /* 429s first */
    /* tokens: the one that is good, and how often it was renewed */
    char good[32];
    int renewals, lost_renewals;
    char last_key[64];
    bool keys_differ;
    char last_path[1024];
    int questions; /* for places, of either kind */
    bool frozen;
    pthread_cond_t thaw;
    int asked; /* since it is */
};

/* The clock of the test goes ahead of the real one. */
static _Atomic int64_t later_ms;
int64_t __real_clock_boot_ms(void);
int64_t __wrap_clock_boot_ms(void);
int64_t __wrap_clock_boot_ms(void)
{
    return __real_clock_boot_ms() + later_ms;
}

static void renew(struct gateway *g, const struct fake_request *req, struct fake_answer *a)
{
    if (g->last_key[0] && strcmp(g->last_key, req->idempotency_key) != 0)
        g->keys_differ = true;
    strcpy(g->last_key, req->idempotency_key);
    if (g->lost_renewals > 0) {
        g->lost_renewals--;
        a->status = 503;
        return;
    }
    g->renewals++;
    snprintf(g->good, sizeof g->good, "token-%d", g->renewals);
    buf_appendf(&a->body, "{\"accessToken\":\"%s\",\"refreshToken\":\"refresh-%d\",\"tokenType\":\"Bearer\",\"expiresIn\":900}", g->good, g->renewals);
}

static void handle(void *ctx, const struct fake_request *req, struct fake_answer *a)
{
    struct gateway *g = ctx;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&g->lock);
    g->asked++;
    while (g->frozen)
        pthread_cond_wait(&g->thaw, &g->lock);
    if (strstr(req->path, "/auth/refresh")) {
        renew(g, req, a);
        return;
    }
    if (g->good[0] && (strncmp(req->authorization, "Bearer ", 7) != 0 || strcmp(req->authorization + 7, g->good) != 0)) {
        a->status = 401;
        buf_append_str(&a->body, "{\"code\":\"token-expired\",\"detail\":\"the token is too old\"}");
        return;
    }
    if (g->too_many > 0) {
        g->too_many--;
        a->status = 429;
        a->headers = "Retry-After: 0\r\n";
        return;
    }
    strcpy(g->last_path, req->path);
    g->questions += strstr(req->path, "/where") || strstr(req->path, "/places");
    a->status = g->status;
    a->headers = g->headers;
    buf_append(&a->body, g->text, g->text_len ? g->text_len : strlen(g->text));
}

struct fixture {
    struct gateway g;
    struct remote *r;
    int saved;
};

static void saved(void *ctx, const char *access, const char *refresh)
{
    struct fixture *f = ctx;
    assert_non_null(access);
    assert_non_null(refresh);
    f->saved++;
}

static const char mounted[] = "{\"session\":\"01890000-0000-7000-8000-000000000001\",\"drive\":\"01890000-0000-7000-8000-000000000002\","
                              "\"name\":\"d\",\"role\":\"owner\",\"root\":1,\"seq\":1,\"used\":0,\"quota\":null,\"inoFirst\":100,\"inoCount\":100,"
                              "\"leaseMs\":1800,\"heartbeatMs\":500,\"inlineMax\":65536,\"batchMax\":16}";

static void answer(struct fixture *f, int status, const char *headers, const char *text)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->g.lock);
    f->g.status = status;
    f->g.headers = headers;
    f->g.text = text;
    f->g.text_len = 0;
}

/* As a driver that has just started. */
static void connect_anew(struct fixture *f)
{
    char url[64];
    remote_free(f->r);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", f->g.http.port);
    f->r = remote_new(url, "token-0", "refresh-0", saved, f);
    answer(f, 200, NULL, mounted);
    struct remote_mount_info info;
    struct uuid journal;
    uuid_new(&journal);
    assert_int_equal(remote_mount(f->r, "d", "test", &journal, false, &info), 0);
    assert_int_equal(info.batch_max, 16);
}

static int begin(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    pthread_mutex_init(&f->g.lock, NULL);
    pthread_cond_init(&f->g.thaw, NULL);
    f->g.http.handle = handle;
    f->g.http.ctx = &f->g;
    fake_start(&f->g.http, 0);
    connect_anew(f);
    *state = f;
    return 0;
}

static void freeze(struct fixture *f, bool frozen)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->g.lock);
    f->g.frozen = frozen;
    f->g.asked = 0;
    pthread_cond_broadcast(&f->g.thaw);
}

static int end(void **state)
{
    struct fixture *f = *state;
    freeze(f, false);
    remote_free(f->r);
    fake_stop(&f->g.http);
    free(f);
    return 0;
}

#define ATTR "{\"ino\":7,\"mode\":33188,\"nlink\":1,\"uid\":0,\"gid\":0,\"size\":5,\"atime\":1,\"mtime\":2,\"ctime\":3,\"btime\":4,\"version\":9,\"chunkSize\":65536}"

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
#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
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

/* A gateway may name any place; what is strange is left out, what is not the chunk is not believed, and in any case the gateway itself is asked. */
static void places_are_hints(void **state)
{
    struct fixture *f = *state;
    struct hash h;
    char got[5];
    hash_bytes("hello", 5, &h);
    static const char *const odd[] = {
        "{\"sha256\":\"" HELLO "\",\"size\":5,\"stored\":5,\"codec\":\"lzma\",\"offset\":0,\"url\":\"http://127.0.0.1:1/\"}",
        "{\"sha256\":\"" HELLO "\",\"size\":4000000000,\"stored\":4000000000,\"codec\":\"raw\",\"offset\":0,\"url\":\"http://127.0.0.1:1/\"}",
        "{\"sha256\":\"" HELLO "\",\"size\":5,\"stored\":70,\"codec\":\"raw\",\"offset\":0,\"url\":\"http://127.0.0.1:1/\"}",
        "{\"sha256\":\"" HELLO "\",\"size\":6,\"stored\":6,\"codec\":\"raw\",\"offset\":0,\"url\":\"http://127.0.0.1:1/\"}",
        "{\"sha256\":\"12\",\"size\":5,\"stored\":5,\"codec\":\"raw\",\"offset\":0,\"url\":\"http://127.0.0.1:1/\"}",
        "{\"sha256\":\"" HELLO "\",\"size\":5,\"stored\":5,\"codec\":\"raw\",\"offset\":-1,\"url\":\"http://127.0.0.1:1/\"}",
        "7", "{}",
    };
    struct remote_direct figures;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        CLEANUP_FREE char *text = mem_printf("{\"seconds\":900,\"places\":[%s]}", odd[i]);
        answer(f, 200, NULL, text);
        remote_expect(f->r, &h, 1);
        answer(f, 200, "X-Cairn-Codec: raw\r\n", "hello");
        assert_int_equal(remote_chunk_get(f->r, &h, got, 5), 0);
        remote_direct_figures(f->r, &figures);
        assert_string_equal(figures.state, "on"); /* nothing was tried */
        connect_anew(f);
    }
    /* one that leads to a file of this machine, and one where nobody listens */
    static const char *const urls[] = {"file:///etc/hostname", "http://127.0.0.1:1/"};
    for (size_t i = 0; i < 2; i++) {
        CLEANUP_FREE char *text =
            mem_printf("{\"seconds\":900,\"places\":[{\"sha256\":\"" HELLO "\",\"size\":5,\"stored\":5,\"codec\":\"raw\",\"offset\":0,\"url\":\"%s\"}]}", urls[i]);
        answer(f, 200, NULL, text);
        remote_expect(f->r, &h, 1);
        answer(f, 200, "X-Cairn-Codec: raw\r\n", "hello");
        assert_int_equal(remote_chunk_get(f->r, &h, got, 5), 0);
        remote_direct_figures(f->r, &figures);
        assert_string_equal(figures.state, "unreachable");
        connect_anew(f);
    }
}

static int questions(struct fixture *f)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->g.lock);
    int n = f->g.questions;
    f->g.questions = 0;
    return n;
}

/* An older gateway, or one whose store is not for clients, is asked once; but there may be another one in its place. */
static void what_is_not_offered_is_asked_for_again_later(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int status;
        const char *text;
    } no[] = {{404, "{}"}, {200, "{\"seconds\":0,\"places\":[]}"}};
    struct remote_direct figures;
    struct hash h = {0};
    for (int i = 0; i < 4; i++) {
        h.b[0]++;
        answer(f, no[i / 2].status, NULL, no[i / 2].text);
        remote_expect(f->r, &h, 1);
        remote_expect(f->r, &h, 1);
        assert_int_equal(questions(f), 1);
        remote_direct_figures(f->r, &figures);
        assert_string_equal(figures.state, "not offered");
        if (i % 2)
            remote_reconnected(f->r);
        else
            later_ms += 61000;
        answer(f, 200, NULL, "{\"seconds\":900,\"places\":[]}");
        remote_expect(f->r, &h, 1);
        assert_int_equal(questions(f), 1);
        remote_direct_figures(f->r, &figures);
        assert_string_equal(figures.state, "on");
    }
}

static char *noise_new(uint32_t n)
{
    char *noise = mem_alloc(n);
    uint64_t x = 1;
    for (uint32_t i = 0; i < n; i++, x = x * 6364136223846793005u + 1442695040888963407u)
        noise[i] = (char)(x >> 56);
    return noise;
}

/* Whatever a place for a new chunk turns out to be, the chunk reaches the gateway. */
static void places_to_bring_to_are_hints(void **state)
{
    struct fixture *f = *state;
    struct remote_direct figures;
    struct hash h;
    uint32_t n = 100000;
    CLEANUP_FREE char *noise = noise_new(n);
    hash_bytes(noise, n, &h);
    static const struct {
        const char *places, *state;
    } odd[] = {
        {"[null]", "on"},
        {"[]", "unknown"},
        {"[{}]", "on"},
        {"[7]", "on"},
        {"[{\"there\":1}]", "on"},
        {"[{\"pack\":3,\"url\":\"http://127.0.0.1:1/\",\"headers\":{}}]", "on"},
        {"[{\"pack\":\"p\",\"url\":\"http://127.0.0.1:1/\"}]", "on"},
        {"[{\"pack\":\"p\",\"url\":\"http://127.0.0.1:1/\",\"headers\":{}}]", "unreachable"},
        {"[{\"pack\":\"p\",\"url\":\"file:///tmp/cairn-test-never\",\"headers\":{\"a\\r\\nb\":\"c\\nd\",\"e\":7}}]", "unreachable"},
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        CLEANUP_FREE char *text = mem_printf("{\"seconds\":900,\"places\":%s}", odd[i].places);
        bool sent = false;
        answer(f, 200, NULL, text); /* to whatever is asked */
        assert_int_equal(remote_chunk_bring(f->r, &h, noise, n, false, &sent), 0);
        assert_true(sent);
        assert_non_null(strstr(f->g.last_path, "/chunk?drive="));
        remote_direct_figures(f->r, &figures);
        assert_string_equal(figures.state, odd[i].state);
        assert_int_equal(figures.sent, 0);
        connect_anew(f);
    }
    bool sent = true;
    answer(f, 200, NULL, "{\"seconds\":900,\"places\":[{\"there\":true}]}");
    assert_int_equal(remote_chunk_bring(f->r, &h, noise, n, true, &sent), 0);
    assert_false(sent);
    answer(f, 404, NULL, "{}"); /* an older gateway */
    assert_int_equal(remote_chunk_bring(f->r, &h, noise, n, false, &sent), -ENOENT);
    answer(f, 503, NULL, "{}");
    assert_int_equal(remote_chunk_bring(f->r, &h, noise, n, false, &sent), -EHOSTUNREACH);
}

static void places_to_bring_to_are_asked_for_again_later(void **state)
{
    struct fixture *f = *state;
    enum { N = CHUNK_INLINE_MAX + 4096 };
    CLEANUP_FREE char *noise = noise_new(N);
    struct hash h;
    bool sent;
    hash_bytes(noise, N, &h);
    for (int i = 0; i < 2; i++) {
        answer(f, 200, NULL, "{}"); /* to whatever is asked */
        assert_int_equal(remote_chunk_bring(f->r, &h, noise, N, false, &sent), 0);
        assert_int_equal(remote_chunk_bring(f->r, &h, noise, N, false, &sent), 0);
        assert_int_equal(questions(f), 1);
        if (i)
            remote_reconnected(f->r);
        else
            later_ms += 61000;
        assert_int_equal(remote_chunk_bring(f->r, &h, noise, N, false, &sent), 0);
        assert_int_equal(questions(f), 1);
        remote_reconnected(f->r);
    }
    answer(f, 503, NULL, "{}"); /* one that is away has not said no */
    assert_int_equal(remote_chunk_bring(f->r, &h, noise, N, false, &sent), -EHOSTUNREACH);
    assert_int_equal(remote_chunk_bring(f->r, &h, noise, N, false, &sent), -EHOSTUNREACH);
    assert_int_equal(questions(f), 2);
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

static void *ask(void *arg)
{
    struct fixture *f = arg;
    struct attr a;
    uint64_t seq;
    return (void *)(intptr_t)remote_inode(f->r, 7, 0, &seq, &a);
}

static void a_token_is_renewed_once_for_all_threads(void **state)
{
    struct fixture *f = *state;
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    strcpy(f->g.good, "another");
    pthread_t t[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], NULL, ask, f);
    for (int i = 0; i < 8; i++) {
        void *err;
        pthread_join(t[i], &err);
        assert_null(err);
    }
    assert_int_equal(f->g.renewals, 1);
    assert_int_equal(f->saved, 1);
    CLEANUP_FREE char *token = remote_token(f->r);
    assert_string_equal(token, "token-1");
}

static void a_repeated_renewal_carries_the_same_key(void **state)
{
    struct fixture *f = *state;
    struct attr a;
    uint64_t seq;
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    strcpy(f->g.good, "another");
    f->g.lost_renewals = 1;
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), -EHOSTUNREACH);
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_false(f->g.keys_differ);
    strcpy(f->g.good, "a third");
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_true(f->g.keys_differ);
}

static int locked, unlocked;
static void store_lock(void *ctx, char **ret_access, char **ret_refresh)
{
    locked++;
    *ret_access = mem_strdup(ctx);
    *ret_refresh = mem_strdup("refresh-x");
}
static void store_unlock(void *ctx)
{
    (void)ctx;
    unlocked++;
}

static void a_token_that_another_program_renewed_is_taken(void **state)
{
    struct fixture *f = *state;
    struct attr a;
    uint64_t seq;
    char newer[] = "newer";
    struct remote_token_store store = {store_lock, store_unlock, newer};
    remote_share_tokens(f->r, &store);
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    strcpy(f->g.good, newer);
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_int_equal(f->g.renewals, 0);
    strcpy(f->g.good, "another"); /* nothing newer is kept: it renews */
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
    assert_int_equal(f->g.renewals, 1);
    assert_int_equal(locked, 2);
    assert_int_equal(unlocked, 2);
}

static int times_asked(struct fixture *f)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&f->g.lock);
    return f->g.asked;
}

enum question { CHUNK, NAME, LISTING, QUESTIONS };

static int put_question(struct remote *r, enum question q)
{
    static const struct hash h = {{7}};
    CLEANUP_FREE char *bytes = mem_alloc(2 * CHUNK_INLINE_MAX);
    struct remote_page page;
    struct attr a;
    uint64_t seq;
    bool found;
    switch (q) {
    case CHUNK: /* where it is, first */
        return remote_chunk_get(r, &h, bytes, 2 * CHUNK_INLINE_MAX);
    case NAME:
        return remote_lookup(r, 1, "x", 0, &seq, &found, &a);
    default:
        return remote_directory(r, 1, 0, "", 10, &page);
    }
}

/* Who waits a second for a gateway that is away waits a second for one that says nothing, once more in case that there is another, and no longer. */
static void one_that_is_frozen_is_not_waited_for_longer_than_one_that_is_away(void **state)
{
    struct fixture *f = *state;
    for (enum question q = CHUNK; q < QUESTIONS; q++) {
        connect_anew(f);
        remote_set_timeout(f->r, 900);
        freeze(f, true);
        int64_t begin = clock_boot_ms();
        assert_int_equal(put_question(f->r, q), -EHOSTUNREACH);
        assert_int_equal(times_asked(f), 1);
        assert_in_range(clock_boot_ms() - begin, 900, 8000); /* 10 s are usual */
        struct remote_wait w = {.timeout_ms = 900};
        int err, tries = 0;
        begin = clock_boot_ms();
        do {
            err = put_question(f->r, q);
            tries++;
        } while (remote_wait(&w, err));
        assert_int_equal(tries, 2);
        assert_in_range(clock_boot_ms() - begin, 1800, 16000);
        freeze(f, false);
    }
}

static void who_asks_too_often_waits(void **state)
{
    struct fixture *f = *state;
    struct attr a;
    uint64_t seq;
    answer(f, 200, NULL, "{\"seq\":12,\"attr\":" ATTR "}");
    f->g.too_many = 2;
    assert_int_equal(remote_inode(f->r, 7, 0, &seq, &a), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lookups),
        TEST(errors_have_their_errno),
        TEST(pages_with_names_that_lead_elsewhere_are_refused),
        TEST(changes_that_lead_nowhere_are_refused),
        TEST(frames_are_checked_against_their_head_and_hashes),
        TEST(chunks_are_verified),
        TEST(places_are_hints),
        TEST(what_is_not_offered_is_asked_for_again_later),
        TEST(places_to_bring_to_are_hints),
        TEST(places_to_bring_to_are_asked_for_again_later),
        TEST(batch_answers_fit_the_batch),
        TEST(a_token_is_renewed_once_for_all_threads),
        TEST(a_repeated_renewal_carries_the_same_key),
        TEST(a_token_that_another_program_renewed_is_taken),
        TEST(one_that_is_frozen_is_not_waited_for_longer_than_one_that_is_away),
        TEST(who_asks_too_often_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
