/* A URL picks an adapter. */
#include "common/cleanup.h"
#include "common/log.h"
#include "common/url.h"
#include "gateway/adapters/rabbit.h"
#include "gateway/adapters/redis_net.h"
#include "gateway/adapters/s3_url.h"
#include "gateway/ports/cache.h"
#include "gateway/ports/events.h"
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"
#include "gateway/ports/scanner.h"

#include <errno.h>
#include <string.h>

#define CACHE_MEMORY_BYTES (64u << 20)

static const char *after_scheme(const char *url, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncmp(url, scheme, n) == 0 ? url + n : NULL;
}

static bool is_postgres(const char *url)
{
    return after_scheme(url, "postgres://") || after_scheme(url, "postgresql://");
}

const char *meta_url_wrong(const char *url)
{
    const char *path = after_scheme(url, "sqlite:");
    if (is_postgres(url))
        return postgres_url_wrong(url);
    return path && *path ? NULL : "must be sqlite:PATH or postgres://[USER:PASSWORD@]HOST[:PORT]/DATABASE";
}

int meta_open(const char *url, struct meta **ret)
{
    const char *path = after_scheme(url, "sqlite:");
    if (is_postgres(url))
        return meta_postgres_open(url, ret);
    if (!path) {
        CLEANUP_FREE char *shown = url_shown(url);
        log_error("metadata store: no adapter for %s", shown);
        return -ENOTSUP;
    }
    if (!*path) {
        log_error("metadata store: sqlite: needs a path");
        return -EINVAL;
    }
    return meta_sqlite_open(path, ret);
}

const char *objects_url_wrong(const char *url)
{
    const char *dir = after_scheme(url, "file:");
    if (after_scheme(url, "s3:"))
        return s3_url_wrong(url);
    return dir && *dir ? NULL : "must be file:DIR or s3://BUCKET?endpoint=URL";
}

int objects_open(const char *url, struct objects **ret)
{
    const char *dir = after_scheme(url, "file:");
    if (after_scheme(url, "s3://"))
        return objects_s3_open(url, ret);
    if (!dir) {
        CLEANUP_FREE char *shown = url_shown(url);
        log_error("object store: no adapter for %s", shown);
        return -ENOTSUP;
    }
    if (!*dir) {
        log_error("object store: file: needs a directory");
        return -EINVAL;
    }
    return objects_dir_open(dir, ret);
}

int scanner_open(const char *url, struct scanner **ret)
{
    *ret = NULL;
    if (!url || strcmp(url, "none") == 0)
        return 0;
    if (!after_scheme(url, "clamd:")) {
        log_error("virus scanner: no adapter for %s", url);
        return -ENOTSUP;
    }
    return scanner_clamd_open(url, ret);
}

const char *events_url_wrong(const char *url)
{
    struct rabbit_url u;
    if (after_scheme(url, "memory:"))
        return NULL;
    if (!after_scheme(url, "amqp://") && !after_scheme(url, "amqps://"))
        return "must be memory: or amqp://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/VHOST]";
    const char *wrong = rabbit_url_parse(url, &u);
    if (!wrong)
        rabbit_url_fini(&u);
    return wrong;
}

int events_open(const char *url, struct events **ret)
{
    const char *name = after_scheme(url, "memory:");
    if (name)
        return events_memory_open(name, ret);
    if (after_scheme(url, "amqp://") || after_scheme(url, "amqps://"))
        return events_rabbitmq_open(url, ret);
    log_error("messages: no adapter for that URL");
    return -ENOTSUP;
}

const char *cache_url_wrong(const char *url)
{
    struct redis_url u;
    if (strcmp(url, "memory:") == 0)
        return NULL;
    if (!after_scheme(url, "redis:") && !after_scheme(url, "rediss:"))
        return "must be memory: or redis://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DB]";
    const char *wrong = redis_url_parse(url, &u);
    if (!wrong)
        redis_url_fini(&u);
    return wrong;
}

int cache_open(const char *url, struct cache **ret)
{
    if (strcmp(url, "memory:") == 0) {
        *ret = cache_memory_new(CACHE_MEMORY_BYTES);
        return 0;
    }
    if (after_scheme(url, "redis:") || after_scheme(url, "rediss:"))
        return cache_redis_open(url, ret);
    log_error("cache: no adapter for that URL");
    return -ENOTSUP;
}
