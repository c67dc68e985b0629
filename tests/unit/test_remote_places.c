/* Where chunks may be exchanged with the store itself: what a gateway says of it is a hint. */
#include "remote_fixture.h"

#include "common/clock.h"

#include <stdatomic.h>

/* The clock of the test goes ahead of the real one. */
static _Atomic int64_t later_ms;
int64_t __real_clock_boot_ms(void);
int64_t __wrap_clock_boot_ms(void);
int64_t __wrap_clock_boot_ms(void)
{
    return __real_clock_boot_ms() + later_ms;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(places_are_hints),
        TEST(what_is_not_offered_is_asked_for_again_later),
        TEST(places_to_bring_to_are_hints),
        TEST(places_to_bring_to_are_asked_for_again_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
