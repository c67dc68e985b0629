/* redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DB] */
#include "common/mem.h"
#include "common/number.h"
#include "gateway/adapters/redis_net.h"

#include <stdlib.h>
#include <string.h>

#define PORT_DEFAULT 6379
#define DB_MAX 9999

/* In place. false: malformed, or empty. */
static bool decode(char *text)
{
    ssize_t n = url_decode(text, strlen(text), text);
    return n > 0 && strlen(text) == (size_t)n;
}

static bool parse_user(char *text, struct redis_url *u)
{
    char *colon = strchr(text, ':');
    if (!colon)
        return false;
    *colon = '\0';
    u->password = colon + 1;
    u->user = colon > text ? text : NULL;
    return decode(u->password) && (!u->user || decode(u->user));
}

static const char *parse(char *text, struct redis_url *u)
{
    char *at = strrchr(text, '@'), *hosts = at ? at + 1 : text, *slash = strchr(hosts, '/');
    uint64_t db = 0;
    if (slash)
        *slash++ = '\0';
    if (slash && *slash && !number_parse(slash, 0, DB_MAX, &db))
        return "must have a number as the database behind /";
    u->db = (unsigned)db;
    if (at) {
        *at = '\0';
        if (!parse_user(text, u))
            return "must have USER:PASSWORD or :PASSWORD before @, percent-encoded where it has @ : / or %";
    }
    u->n = url_addresses(hosts, PORT_DEFAULT, u->at, REDIS_SEEDS_MAX);
    return u->n ? NULL : "must be redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DB]";
}

const char *redis_url_parse(const char *url, struct redis_url *ret)
{
    static const char scheme[] = "redis://";
    *ret = (struct redis_url){0};
    if (strncmp(url, "rediss://", 9) == 0)
        return "must be redis://: TLS to Redis is not supported; put it on a network of its own, or a TLS proxy beside it";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return "must be redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DB]";
    ret->text = mem_strdup(url + sizeof scheme - 1);
    const char *wrong = parse(ret->text, ret);
    if (wrong)
        redis_url_fini(ret);
    return wrong;
}

void redis_url_fini(struct redis_url *u)
{
    free(u->text);
    *u = (struct redis_url){0};
}
