#include "gateway/adapters/s3_url.h"
#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/url.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SECRET_MAX 1024

/* text[0..n) without its percent-encoding; NULL where that is wrong or makes a NUL. */
static char *decoded(const char *text, size_t n)
{
    char *s = mem_alloc(n + 1);
    ssize_t len = url_decode(text, n, s);
    if (len >= 0 && !memchr(s, 0, (size_t)len))
        return s;
    free(s);
    return NULL;
}

static bool bucket_valid(const char *b)
{
    size_t n = strlen(b);
    return n >= 3 && n <= 63 && strspn(b, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n && isalnum((unsigned char)b[0]) && isalnum((unsigned char)b[n - 1]);
}

/* An http(s) origin without a path. The bucket goes in front of the host unless path_style. */
static bool origin_parse(const char *url, const char *bucket, struct s3_origin *ret)
{
    bool tls = strncmp(url, "https://", 8) == 0;
    if (!tls && strncmp(url, "http://", 7) != 0)
        return false;
    CLEANUP_FREE char *host = mem_strdup(url + (tls ? 8 : 7));
    size_t n = strlen(host);
    if (n && host[n - 1] == '/')
        host[--n] = 0;
    for (char *p = host; *p; p++) {
        if (!isalnum((unsigned char)*p) && !strchr(".-:[]", *p))
            return false;
        *p = (char)tolower((unsigned char)*p);
    }
    const char *usual = tls ? ":443" : ":80"; /* no client sends these, so they are not signed */
    if (n > strlen(usual) && strcmp(host + n - strlen(usual), usual) == 0)
        host[n - strlen(usual)] = 0;
    if (!host[0])
        return false;
    ret->host = bucket ? mem_printf("%s.%s", bucket, host) : mem_strdup(host);
    ret->base = mem_printf("%s://%s", tls ? "https" : "http", ret->host);
    return true;
}

struct given { /* decoded, owned */
    char *user, *password, *bucket, *endpoint, *region, *path_style, *public_endpoint;
};

static void given_fini(struct given *g)
{
    char *all[] = {g->user, g->password, g->bucket, g->endpoint, g->region, g->path_style, g->public_endpoint};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static const char *split_options(const char *p, struct given *g)
{
    const struct {
        const char *name;
        char **value;
    } names[] = {{"endpoint=", &g->endpoint}, {"region=", &g->region}, {"path-style=", &g->path_style}, {"public-endpoint=", &g->public_endpoint}};
    while (*p) {
        size_t n = strcspn(p, "&"), i = 0;
        while (i < sizeof names / sizeof *names && strncmp(p, names[i].name, strlen(names[i].name)) != 0)
            i++;
        if (i == sizeof names / sizeof *names)
            return "has the options endpoint, region, path-style and public-endpoint, and no other";
        size_t skip = strlen(names[i].name);
        free(*names[i].value);
        *names[i].value = decoded(p + skip, n - skip);
        if (!*names[i].value)
            return "has an option that is not percent-encoded as it should be";
        p += n + (p[n] == '&');
    }
    return NULL;
}

static const char *split(const char *url, struct given *g)
{
    static const char form[] = "must be s3://[ACCESS:SECRET@]BUCKET?endpoint=http://HOST:PORT";
    if (strncmp(url, "s3://", 5) != 0)
        return form;
    const char *p = url + 5;
    size_t n = strcspn(p, "?");
    const char *at = memrchr(p, '@', n);
    if (at) {
        const char *colon = memchr(p, ':', (size_t)(at - p));
        if (!colon)
            return form;
        g->user = decoded(p, (size_t)(colon - p));
        g->password = decoded(colon + 1, (size_t)(at - colon - 1));
        if (!g->user || !g->user[0] || !g->password || !g->password[0])
            return form;
        n -= (size_t)(at + 1 - p);
        p = at + 1;
    }
    if (n && p[n - 1] == '/')
        g->bucket = decoded(p, n - 1);
    else
        g->bucket = decoded(p, n);
    if (!g->bucket || !bucket_valid(g->bucket))
        return "needs the name of a bucket: 3 to 63 lower-case letters, digits, '-' and '.'";
    p += n;
    return *p ? split_options(p + 1, g) : NULL;
}

static const char *take(const struct given *g, struct s3_config *c)
{
    c->bucket = mem_strdup(g->bucket);
    c->region = mem_strdup(g->region && g->region[0] ? g->region : "us-east-1");
    c->path_style = !g->path_style || strcmp(g->path_style, "1") == 0 || strcmp(g->path_style, "true") == 0;
    if (!c->path_style && strcmp(g->path_style, "0") != 0 && strcmp(g->path_style, "false") != 0)
        return "has path-style=0 or path-style=1";
    if (strspn(c->region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(c->region))
        return "has a region of lower-case letters, digits and '-'";
    const char *in_host = c->path_style ? NULL : c->bucket;
    if (!g->endpoint || !origin_parse(g->endpoint, in_host, &c->store))
        return "needs endpoint=http[s]://HOST[:PORT], without a path";
    const char *public = g->public_endpoint ? g->public_endpoint : g->endpoint;
    if (strcmp(public, "none") != 0 && !origin_parse(public, in_host, &c->public))
        return "has public-endpoint=http[s]://HOST[:PORT] without a path, or none";
    return NULL;
}

const char *s3_url_wrong(const char *url)
{
    CLEANUP(given_fini) struct given g = {0};
    struct s3_config c = {0};
    const char *wrong = split(url, &g);
    if (!wrong)
        wrong = take(&g, &c);
    s3_config_fini(&c);
    return wrong;
}

/* The first line of the file that $name names. */
static char *from_file(const char *name)
{
    const char *path = getenv(name);
    if (!path || !path[0])
        return NULL;
    CLEANUP_FILE FILE *f = fopen(path, "re");
    char line[SECRET_MAX] = "";
    if (!f || !fgets(line, sizeof line, f)) {
        log_error("object store: $%s: cannot read %s", name, path);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = 0;
    char *value = mem_strdup(line);
    explicit_bzero(line, sizeof line);
    return value;
}

static char *credential(const char *in_url, const char *file, const char *env)
{
    char *value = in_url ? mem_strdup(in_url) : from_file(file);
    if (!value && getenv(env))
        value = mem_strdup(getenv(env));
    if (value && !value[0]) {
        free(value);
        value = NULL;
    }
    return value;
}

int s3_url_parse(const char *url, struct s3_config *ret)
{
    CLEANUP(given_fini) struct given g = {0};
    *ret = (struct s3_config){0};
    int err = -EINVAL;
    const char *wrong = split(url, &g);
    if (!wrong)
        wrong = take(&g, ret);
    if (!wrong) {
        err = -EACCES;
        wrong = "has no credentials in it, and there are none in $CAIRN_S3_ACCESS_KEY_FILE and $CAIRN_S3_SECRET_KEY_FILE or $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY";
        ret->access_key = credential(g.user, "CAIRN_S3_ACCESS_KEY_FILE", "AWS_ACCESS_KEY_ID");
        ret->secret_key = credential(g.password, "CAIRN_S3_SECRET_KEY_FILE", "AWS_SECRET_ACCESS_KEY");
        if (ret->access_key && ret->secret_key)
            return 0;
    }
    log_error("object store: the URL %s", wrong);
    s3_config_fini(ret);
    return err;
}

void s3_config_fini(struct s3_config *c)
{
    if (c->secret_key)
        explicit_bzero(c->secret_key, strlen(c->secret_key));
    char *all[] = {c->bucket, c->region, c->access_key, c->secret_key, c->store.base, c->store.host, c->public.base, c->public.host};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    *c = (struct s3_config){0};
}
