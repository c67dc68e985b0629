/* Who is let in: passwords, access tokens and their forgeries, refresh tokens that rotate, guessing. On a real database. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base64.h"
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/api/attempts.h"
#include "gateway/api/auth.h"
#include "gateway/api/password.h"
#include "gateway/api/sessions.h"
#include "gateway/server/limits.h"

#include <errno.h>
#include <jwt.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <string.h>

#define NS INT64_C(1000000000)
#define NOW_S INT64_C(1800000000)
#define NOW (NOW_S * NS)

struct fixture {
    char dir[32];
    struct app app;
    struct user_row user;
};

static int setup(void **state)
{
    struct fixture *f = mem_alloc(sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/cairn-auth-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    CLEANUP_FREE char *path = mem_printf("%s/meta.db", f->dir);
    assert_int_equal(meta_sqlite_open(path, &f->app.meta), 0);
    assert_int_equal(f->app.meta->ops->secret(f->app.meta, "token", f->app.token_secret), 0);
    f->app.auth = auth_new(&f->app);
    f->user = (struct user_row){.name = "ann", .password_hash = mem_strdup("none"), .created = NOW};
    uuid_new(&f->user.id);
    assert_int_equal(f->app.meta->ops->user_add(f->app.meta, &f->user), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    auth_free(f->app.auth);
    f->app.meta->ops->free(f->app.meta);
    user_row_fini(&f->user);
    CLEANUP_FREE char *command = mem_printf("rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* ---- passwords ---- */

static void passwords_are_salted_and_checked(void **state)
{
    (void)state;
    CLEANUP_FREE char *a = NULL;
    CLEANUP_FREE char *b = NULL;
    assert_int_equal(auth_hash_password("correct horse", &a), 0);
    assert_int_equal(auth_hash_password("correct horse", &b), 0);
    assert_int_equal(strncmp(a, "$argon2id$v=19$", 15), 0);
    assert_string_not_equal(a, b);
    assert_true(password_matches(a, "correct horse"));
    assert_false(password_matches(a, "correct horsf"));
    assert_false(password_matches(a, ""));
    assert_false(password_matches(NULL, "correct horse"));
    assert_false(password_matches("not a hash", "correct horse"));
    CLEANUP_FREE char *endless = mem_alloc(PASSWORD_LEN_MAX + 2);
    memset(endless, 'x', PASSWORD_LEN_MAX + 1);
    assert_false(password_matches(a, endless));
    assert_int_equal(auth_hash_password(endless, &b), -EINVAL);
}

/* ---- access tokens ---- */

static struct principal somebody(void)
{
    struct principal p = {.name = "ann", .device = "desk \xe2\x80\x93 \"1\"", .admin = true};
    uuid_new(&p.user);
    uuid_new(&p.session);
    return p;
}

static void a_token_says_who_it_is_for(void **state)
{
    struct fixture *f = *state;
    struct principal p = somebody(), back;
    int64_t expires = 0;
    CLEANUP_FREE char *token = token_make(f->app.token_secret, &p, NOW_S, NOW_S + 900);
    assert_int_equal(token_parse(f->app.token_secret, token, NOW_S, &back, &expires), 0);
    assert_true(uuid_equal(&p.user, &back.user) && uuid_equal(&p.session, &back.session));
    assert_string_equal(back.name, p.name);
    assert_string_equal(back.device, p.device);
    assert_true(back.admin);
    assert_int_equal(expires, NOW_S + 900);
    assert_int_equal(token_parse(f->app.token_secret, token, NOW_S + 899, &back, &expires), 0);
    assert_int_equal(token_parse(f->app.token_secret, token, NOW_S + 900, &back, &expires), -EKEYEXPIRED);
}

/* A JWT of the given head and claims, signed by HMAC with `md` (NULL: no signature). */
static char *forge(const char *head, const char *claims, const EVP_MD *md, const void *key, size_t key_len)
{
    struct buf b = {0};
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    base64_append(&b, head, strlen(head), true);
    buf_append_str(&b, ".");
    base64_append(&b, claims, strlen(claims), true);
    if (md)
        HMAC(md, key, (int)key_len, (const unsigned char *)b.data, b.len, mac, &n);
    buf_append_str(&b, ".");
    base64_append(&b, mac, n, true);
    return buf_detach(&b);
}

static void assert_refused(struct fixture *f, char *token)
{
    struct principal p;
    int64_t expires;
    if (token_parse(f->app.token_secret, token, NOW_S, &p, &expires) != -EINVAL)
        fail_msg("taken: %s", token);
    free(token);
}

#define CLAIMS_OF(type)                                                                                                                                \
    "{\"sub\":\"01890a5d-ac96-774b-bcce-b302099a8057\",\"sid\":\"01890a5d-ac96-774b-bcce-b302099a8058\",\"name\":\"ann\",\"dev\":\"d\",\"adm\":true," \
    "\"typ\":\"" type "\",\"iat\":1800000000,\"exp\":1900000000}"

static void forged_tokens_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char claims[] = CLAIMS_OF("access"), head[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";
    const uint8_t *key = f->app.token_secret;
    struct principal p;
    int64_t expires;
    /* the forger's tool makes what we take, given our key */
    CLEANUP_FREE char *good = forge(head, claims, EVP_sha256(), key, 32);
    assert_int_equal(token_parse(key, good, NOW_S, &p, &expires), 0);

    assert_refused(f, forge(head, claims, EVP_sha256(), "another key, 32 bytes of it…....", 32));
    assert_refused(f, forge(head, claims, EVP_sha256(), "", 0));
    assert_refused(f, forge(head, claims, NULL, NULL, 0));
    assert_refused(f, forge("{\"alg\":\"none\"}", claims, NULL, NULL, 0));
    assert_refused(f, forge("{\"alg\":\"None\",\"typ\":\"JWT\"}", claims, NULL, NULL, 0));
    assert_refused(f, forge("{\"typ\":\"JWT\"}", claims, EVP_sha256(), key, 32));
    /* other algorithms, even with our key */
    assert_refused(f, forge("{\"alg\":\"HS384\",\"typ\":\"JWT\"}", claims, EVP_sha384(), key, 32));
    assert_refused(f, forge("{\"alg\":\"HS512\",\"typ\":\"JWT\"}", claims, EVP_sha512(), key, 32));
    assert_refused(f, forge("{\"alg\":\"hs256\",\"typ\":\"JWT\"}", claims, EVP_sha256(), key, 32));
    assert_refused(f, forge("{\"alg\":\"RS256\",\"typ\":\"JWT\"}", claims, EVP_sha256(), key, 32));
    assert_refused(f, forge("{\"alg\":[\"HS256\"],\"typ\":\"JWT\"}", claims, EVP_sha256(), key, 32));
    assert_refused(f, forge("{\"alg\":\"none\",\"alg\":\"HS256\"}", claims, EVP_sha256(), key, 32));
    /* well signed, but nothing we would have said */
    assert_refused(f, forge(head, CLAIMS_OF("refresh"), EVP_sha256(), key, 32));
    assert_refused(f, forge(head, "{\"sub\":\"x\",\"typ\":\"access\",\"exp\":1900000000}", EVP_sha256(), key, 32));
    assert_refused(f, forge(head, "[]", EVP_sha256(), key, 32));
    assert_refused(f, forge(head, "{", EVP_sha256(), key, 32));
    /* damaged */
    assert_refused(f, mem_strdup(""));
    assert_refused(f, mem_strdup("."));
    assert_refused(f, mem_strdup(".."));
    assert_refused(f, mem_printf("%.*s", (int)(strrchr(good, '.') - good), good));
    assert_refused(f, mem_printf("%sA", good));
    char *changed = mem_strdup(good);
    changed[strcspn(changed, ".") + 20] ^= 1;
    assert_refused(f, changed);
    CLEANUP_FREE char *endless = mem_alloc(1 << 20);
    memset(endless, 'a', (1 << 20) - 1);
    assert_refused(f, mem_printf("%s%s", good, endless));
}

static void a_token_of_another_algorithm_by_libjwt_is_refused(void **state)
{
    struct fixture *f = *state;
    EVP_PKEY *key = EVP_RSA_gen(2048);
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;
    jwt_t *j;
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    long n = BIO_get_mem_data(bio, &pem);
    assert_int_equal(jwt_new(&j), 0);
    jwt_add_grants_json(j, CLAIMS_OF("access"));
    assert_int_equal(jwt_set_alg(j, JWT_ALG_RS256, (const unsigned char *)pem, (int)n), 0);
    assert_refused(f, jwt_encode_str(j));
    jwt_free(j);
    BIO_free(bio);
    EVP_PKEY_free(key);
}

/* ---- what stands behind a token ---- */

static int verify(struct fixture *f, const char *token, struct principal *ret, const char **ret_code)
{
    CLEANUP_FREE char *header = mem_printf("Bearer %s", token);
    return auth_verify(&f->app, header, ret, ret_code);
}

static void a_token_ends_with_its_session_and_its_user(void **state)
{
    struct fixture *f = *state;
    struct principal p;
    const char *code = "";
    struct token_pair pair = {0}, other = {0};
    int64_t now = clock_wall_ns();
    assert_int_equal(session_open(&f->app, &f->user, "desk", now, &pair), 0);
    assert_int_equal(session_open(&f->app, &f->user, "phone", now, &other), 0);
    assert_int_equal(verify(f, pair.access, &p, &code), 0);
    assert_string_equal(p.name, "ann");
    assert_string_equal(p.device, "desk");
    assert_int_equal(verify(f, pair.access, &p, &code), 0); /* from memory */
    assert_int_equal(session_end(&f->app, &p.session), 0);
    assert_int_equal(verify(f, pair.access, &p, &code), -EACCES);
    assert_string_equal(code, "token-invalid");
    assert_int_equal(verify(f, other.access, &p, &code), 0);

    assert_int_equal(auth_verify(&f->app, NULL, &p, &code), -EACCES);
    assert_string_equal(code, "token-missing");
    assert_int_equal(auth_verify(&f->app, "Basic YTpi", &p, &code), -EACCES);
    assert_string_equal(code, "token-missing");
    struct uuid none = {0};
    CLEANUP_FREE char *late = auth_issue(&f->app, &f->user, "desk", &none, -1);
    assert_int_equal(verify(f, late, &p, &code), -EACCES);
    assert_string_equal(code, "token-expired");

    f->user.disabled = true;
    assert_int_equal(f->app.meta->ops->user_update(f->app.meta, &f->user), 0);
    auth_forget(&f->app, &f->user.id, NULL);
    assert_int_equal(verify(f, other.access, &p, &code), -EACCES);
    token_pair_fini(&pair);
    token_pair_fini(&other);
}

static void script_tokens_can_be_ended(void **state)
{
    struct fixture *f = *state;
    struct principal p;
    const char *code = "";
    CLEANUP_FREE char *token = NULL;
    assert_int_equal(session_script(&f->app, &f->user, "script", clock_wall_ns(), 86400, &token), 0);
    assert_int_equal(verify(f, token, &p, &code), 0);
    assert_int_equal(session_end_all(&f->app, &f->user.id, NULL), 0);
    assert_int_equal(verify(f, token, &p, &code), -EACCES);
}

/* ---- refresh tokens ---- */

static int rotate(struct fixture *f, const struct token_pair *from, const char *key, int64_t now, struct token_pair *ret)
{
    token_pair_fini(ret);
    return session_rotate(&f->app, from->refresh, key, now, ret);
}

static void each_refresh_token_serves_once(void **state)
{
    struct fixture *f = *state;
    struct token_pair a = {0}, b = {0}, c = {0};
    assert_int_equal(session_open(&f->app, &f->user, "desk", NOW, &a), 0);
    assert_int_equal(rotate(f, &a, "", NOW + NS, &b), 0);
    assert_string_not_equal(a.refresh, b.refresh);
    assert_int_equal(rotate(f, &b, "", NOW + 2 * NS, &c), 0);
    token_pair_fini(&b);
    /* the first one again, two generations later: whoever holds the newest may be the thief */
    assert_int_equal(rotate(f, &a, "", NOW + 3 * NS, &b), -EKEYREJECTED);
    assert_int_equal(rotate(f, &c, "", NOW + 4 * NS, &b), -EKEYREVOKED);
    token_pair_fini(&a);
    token_pair_fini(&c);
}

static void a_made_up_refresh_token_ends_nothing(void **state)
{
    struct fixture *f = *state;
    struct token_pair a = {0}, b = {0};
    uint8_t other_secret[32] = {7}, random[16] = {0};
    struct uuid id;
    char made_up[REFRESH_TEXT];
    assert_int_equal(session_open(&f->app, &f->user, "desk", NOW, &a), 0);
    assert_int_equal(refresh_parse(f->app.token_secret, a.refresh, &id), 0);
    refresh_make(other_secret, &id, random, made_up);
    assert_int_equal(session_rotate(&f->app, made_up, "", NOW, &b), -EINVAL);
    static const char *const bad[] = {"", ".", "x.y", "AAAAAAAAAAAAAAAAAAAAAA.", "AAAAAAAAAAAAAAAAAAAAAA.AAAA"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(session_rotate(&f->app, bad[i], "", NOW, &b), -EINVAL);
    assert_int_equal(session_rotate(&f->app, a.access, "", NOW, &b), -EINVAL);
    assert_int_equal(rotate(f, &a, "", NOW, &b), 0); /* still good */
    token_pair_fini(&a);
    token_pair_fini(&b);
}

static void a_repeat_with_its_key_gets_the_same_answer(void **state)
{
    struct fixture *f = *state;
    struct token_pair a = {0}, b = {0}, again = {0};
    assert_int_equal(session_open(&f->app, &f->user, "desk", NOW, &a), 0);
    assert_int_equal(rotate(f, &a, "k", NOW + NS, &b), 0);
    assert_int_equal(rotate(f, &a, "k", NOW + 61 * NS, &again), 0);
    assert_string_equal(again.refresh, b.refresh);
    assert_string_equal(again.access, b.access);
    assert_int_equal(rotate(f, &a, "k", NOW + 62 * NS, &again), -EKEYREJECTED); /* too late */
    assert_int_equal(rotate(f, &b, "", NOW + 63 * NS, &again), -EKEYREVOKED);
    token_pair_fini(&a);
    token_pair_fini(&b);
}

static void another_key_is_no_repeat(void **state)
{
    struct fixture *f = *state;
    struct token_pair a = {0}, b = {0}, again = {0};
    assert_int_equal(session_open(&f->app, &f->user, "desk", NOW, &a), 0);
    assert_int_equal(rotate(f, &a, "k", NOW + NS, &b), 0);
    assert_int_equal(rotate(f, &a, "other", NOW + 2 * NS, &again), -EKEYREJECTED);
    token_pair_fini(&a);
    token_pair_fini(&b);
}

static void a_refresh_on_its_way_does_not_bring_an_ended_session_back(void **state)
{
    struct fixture *f = *state;
    const struct meta_ops *ops = f->app.meta->ops;
    struct token_pair a = {0}, b = {0};
    struct session_row read_before;
    struct hash expected;
    struct uuid id;
    assert_int_equal(session_open(&f->app, &f->user, "desk", NOW, &a), 0);
    assert_int_equal(refresh_parse(f->app.token_secret, a.refresh, &id), 0);
    assert_int_equal(ops->session_by_id(f->app.meta, &id, &read_before), 0);
    assert_int_equal(session_end(&f->app, &id), 0);
    expected = read_before.token;
    assert_int_equal(ops->session_update(f->app.meta, &read_before, &expected), -EAGAIN);
    assert_int_equal(rotate(f, &a, "", NOW, &b), -EKEYREVOKED);
    token_pair_fini(&a);
}

static void sessions_end_by_themselves(void **state)
{
    struct fixture *f = *state;
    struct token_pair a = {0}, b = {0};
    assert_int_equal(session_open(&f->app, &f->user, "desk", NOW, &a), 0);
    assert_int_equal(rotate(f, &a, "", NOW + SESSION_SECONDS * NS, &b), -EKEYREVOKED);
    assert_int_equal(rotate(f, &a, "", NOW + (SESSION_SECONDS - 1) * NS, &b), 0);
    f->user.disabled = true;
    assert_int_equal(f->app.meta->ops->user_update(f->app.meta, &f->user), 0);
    assert_int_equal(rotate(f, &b, "", NOW + SESSION_SECONDS * NS, &a), -EKEYREVOKED);
    token_pair_fini(&a);
    token_pair_fini(&b);
}

/* ---- guessing ---- */

static const uint8_t secret[32] = "known to all gateways";

static void failures_fill_a_bucket_that_drains(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(secret);
    int64_t now = 1000000;
    for (int i = 0; i < 10; i++)
        assert_int_equal(attempts_begin(a, "192.0.2.1", "ann", now), 0);
    unsigned wait = attempts_begin(a, "192.0.2.1", "ann", now);
    assert_int_equal(wait, 6);
    assert_int_equal(attempts_begin(a, "192.0.2.1", "bob", now), 0);
    assert_int_equal(attempts_begin(a, "192.0.2.2", "ann", now), 0); /* ann herself, elsewhere */
    assert_int_equal(attempts_begin(a, "192.0.2.1", "ann", now + 6000), 0);
    assert_int_not_equal(attempts_begin(a, "192.0.2.1", "ann", now + 6000), 0);
    attempts_free(a);
}

static void successes_do_not_count(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(secret);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(attempts_begin(a, "192.0.2.1", "ann", 5000), 0);
        attempts_succeeded(a, "192.0.2.1", "ann");
    }
    attempts_free(a);
}

static void one_address_cannot_try_every_user(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(secret);
    unsigned refused = 0;
    for (int i = 0; i < 100; i++) {
        char user[16];
        snprintf(user, sizeof user, "u%d", i);
        refused += attempts_begin(a, "192.0.2.1", user, 1000) != 0;
    }
    assert_int_equal(refused, 40);
    attempts_free(a);
}

/* Two gateways, and what they have together: of each key, how much is left of the burst. */
static void say_to(struct attempts *from, struct attempts *to, int64_t now)
{
    CLEANUP_BUF struct buf b = {0};
    attempts_spent(from, &b);
    const struct limits_spent *list = (const struct limits_spent *)(const void *)b.data;
    for (size_t i = 0; i < b.len / sizeof *list; i++)
        attempts_learn(to, list[i].key, list[i].burst - list[i].n, now);
}

static void failures_elsewhere_count(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(secret), *b = attempts_new(secret);
    assert_int_equal(attempts_begin(b, "192.0.2.1", "ann", 1000), 0);
    for (int i = 0; i < 9; i++)
        assert_int_equal(attempts_begin(a, "192.0.2.1", "ann", 1000), 0);
    say_to(a, b, 1000);
    assert_int_equal(attempts_begin(b, "192.0.2.1", "ann", 1000), 6); /* its own one was not said yet */
    assert_int_equal(attempts_begin(b, "192.0.2.1", "bob", 1000), 0);
    assert_int_equal(attempts_begin(b, "192.0.2.2", "ann", 1000), 0);
    attempts_free(a);
    attempts_free(b);
}

static void attempts_are_said_once(void **state)
{
    (void)state;
    struct attempts *a = attempts_new(secret);
    CLEANUP_BUF struct buf b = {0};
    attempts_begin(a, "192.0.2.1", "ann", 1000);
    attempts_begin(a, "192.0.2.1", "ann", 1000);
    attempts_succeeded(a, "192.0.2.1", "ann");
    attempts_spent(a, &b);
    const struct limits_spent *list = (const struct limits_spent *)(const void *)b.data;
    assert_int_equal(b.len / sizeof *list, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(list[i].n == 1);
    buf_fini(&b);
    attempts_spent(a, &b);
    assert_int_equal(b.len, 0);
    attempts_succeeded(a, "192.0.2.1", "ann");
    attempts_spent(a, &b);
    assert_true(((const struct limits_spent *)(const void *)b.data)->n == -1);
    attempts_free(a);
}

int main(void)
{
#define ON_DATABASE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passwords_are_salted_and_checked),
        ON_DATABASE(a_token_says_who_it_is_for),
        ON_DATABASE(forged_tokens_are_refused),
        ON_DATABASE(a_token_of_another_algorithm_by_libjwt_is_refused),
        ON_DATABASE(a_token_ends_with_its_session_and_its_user),
        ON_DATABASE(script_tokens_can_be_ended),
        ON_DATABASE(each_refresh_token_serves_once),
        ON_DATABASE(a_made_up_refresh_token_ends_nothing),
        ON_DATABASE(a_repeat_with_its_key_gets_the_same_answer),
        ON_DATABASE(another_key_is_no_repeat),
        ON_DATABASE(a_refresh_on_its_way_does_not_bring_an_ended_session_back),
        ON_DATABASE(sessions_end_by_themselves),
        cmocka_unit_test(failures_fill_a_bucket_that_drains),
        cmocka_unit_test(successes_do_not_count),
        cmocka_unit_test(one_address_cannot_try_every_user),
        cmocka_unit_test(failures_elsewhere_count),
        cmocka_unit_test(attempts_are_said_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
