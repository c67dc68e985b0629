#include "gateway/api/tokens.h"
#include "common/base64.h"
#include "common/jsonx.h"
#include "common/mem.h"

#include <errno.h>
#include <jwt.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

static void cleanup_jwt(jwt_t **j)
{
    jwt_free(*j);
}
#define CLEANUP_JWT CLEANUP(cleanup_jwt)

char *token_make(const uint8_t secret[32], const struct principal *who, int64_t issued, int64_t expires)
{
    CLEANUP_JWT jwt_t *j = NULL;
    char user[UUID_TEXT], session[UUID_TEXT];
    uuid_text(&who->user, user);
    uuid_text(&who->session, session);
    if (jwt_new(&j) || jwt_set_alg(j, JWT_ALG_HS256, secret, 32) || jwt_add_grant(j, "sub", user) || jwt_add_grant(j, "name", who->name) ||
        jwt_add_grant(j, "sid", session) || jwt_add_grant(j, "dev", who->device) || jwt_add_grant_bool(j, "adm", who->admin) ||
        jwt_add_grant(j, "typ", "access") || jwt_add_grant_int(j, "iat", issued) || jwt_add_grant_int(j, "exp", expires))
        return NULL;
    return jwt_encode_str(j);
}

/* libjwt takes whichever algorithm the token itself asks for: the header is looked at before it is. */
static bool header_is_ours(const char *token)
{
    const char *dot = strchr(token, '.');
    CLEANUP_BUF struct buf text = {0};
    if (!dot || base64_decode(token, (size_t)(dot - token), true, &text))
        return false;
    CLEANUP_JSON json_t *head = jsonx_parse(text.data, text.len, NULL);
    const char *alg, *typ = "JWT";
    if (!json_is_object(head) || jsonx_str(head, "alg", &alg) || strcmp(alg, "HS256") != 0)
        return false;
    int err = jsonx_str(head, "typ", &typ);
    return (err == 0 || err == -ENOENT) && strcmp(typ, "JWT") == 0;
}

static int copy_grant(jwt_t *j, const char *name, char *ret, size_t size)
{
    const char *v = jwt_get_grant(j, name);
    if (!v || strlen(v) >= size)
        return -EINVAL;
    memcpy(ret, v, strlen(v) + 1);
    return 0;
}

static int uuid_grant(jwt_t *j, const char *name, struct uuid *ret)
{
    const char *v = jwt_get_grant(j, name);
    return v ? uuid_parse(v, ret) : -EINVAL;
}

int token_parse(const uint8_t secret[32], const char *token, int64_t now, struct principal *ret, int64_t *ret_expires)
{
    CLEANUP_JWT jwt_t *j = NULL;
    struct principal p = {0};
    char type[16];
    if (strlen(token) > TOKEN_LEN_MAX || !header_is_ours(token) || jwt_decode(&j, token, secret, 32))
        return -EINVAL;
    if (jwt_get_alg(j) != JWT_ALG_HS256 || copy_grant(j, "typ", type, sizeof type) || strcmp(type, "access") != 0 ||
        uuid_grant(j, "sub", &p.user) || uuid_grant(j, "sid", &p.session) || copy_grant(j, "name", p.name, sizeof p.name) ||
        copy_grant(j, "dev", p.device, sizeof p.device))
        return -EINVAL;
    p.admin = jwt_get_grant_bool(j, "adm") == 1;
    long expires = jwt_get_grant_int(j, "exp"); /* 0 where it is missing: long past */
    if (expires <= now)
        return -EKEYEXPIRED;
    *ret = p;
    *ret_expires = expires;
    return 0;
}

/* ---- refresh tokens ---- */

#define MAC_LEN 16
struct refresh_secret {
    uint8_t random[16];
    uint8_t mac[MAC_LEN];
};

/* HMAC-SHA-256 over three pieces, each with its length in front so that no two inputs meet, cut to 16 bytes. */
static void mac3(const uint8_t secret[32], const char *label, const void *a, size_t a_len, const void *b, size_t b_len, uint8_t ret[MAC_LEN])
{
    CLEANUP_BUF struct buf in = {0};
    uint8_t full[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    buf_appendf(&in, "%s:%zu:%zu:", label, a_len, b_len);
    buf_append(&in, a, a_len);
    buf_append(&in, b, b_len);
    HMAC(EVP_sha256(), secret, 32, (const unsigned char *)in.data, in.len, full, &n);
    memcpy(ret, full, MAC_LEN);
    OPENSSL_cleanse(in.data, in.len);
}

void refresh_make(const uint8_t secret[32], const struct uuid *session, const uint8_t random[16], char ret[REFRESH_TEXT])
{
    CLEANUP_BUF struct buf b = {0};
    struct refresh_secret s;
    memcpy(s.random, random, sizeof s.random);
    mac3(secret, "refresh", session->b, sizeof session->b, random, sizeof s.random, s.mac);
    base64_append(&b, session->b, sizeof session->b, true);
    buf_append_str(&b, ".");
    base64_append(&b, &s, sizeof s, true);
    snprintf(ret, REFRESH_TEXT, "%s", b.data);
}

int refresh_parse(const uint8_t secret[32], const char *token, struct uuid *ret_session)
{
    const char *dot = strchr(token, '.');
    CLEANUP_BUF struct buf id = {0};
    CLEANUP_BUF struct buf rest = {0};
    if (!dot || strlen(token) >= REFRESH_TEXT || base64_decode(token, (size_t)(dot - token), true, &id) ||
        base64_decode(dot + 1, strlen(dot + 1), true, &rest) || id.len != sizeof ret_session->b || rest.len != sizeof(struct refresh_secret))
        return -EINVAL;
    struct refresh_secret s;
    uint8_t mac[MAC_LEN];
    memcpy(&s, rest.data, sizeof s);
    mac3(secret, "refresh", id.data, id.len, s.random, sizeof s.random, mac);
    if (CRYPTO_memcmp(mac, s.mac, sizeof mac) != 0)
        return -EINVAL;
    memcpy(ret_session->b, id.data, sizeof ret_session->b);
    return 0;
}

void refresh_derive(const uint8_t secret[32], const char *token, const char *key, uint8_t ret[16])
{
    mac3(secret, "rotate", token, strlen(token), key, strlen(key), ret);
}
