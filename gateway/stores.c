#include "gateway/stores.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/url.h"

#include <string.h>

static int opened(const char *what, const char *url, int err)
{
    CLEANUP_FREE char *shown = err ? url_shown(url) : NULL;
    if (err)
        log_error("%s: %s (%s)", what, strerror(-err), shown);
    return err;
}

int stores_open(const struct config *c, struct app *app)
{
    const char *events = c->events ? c->events : "memory:", *cache = c->cache ? c->cache : "memory:";
    int err = opened("the metadata store", c->meta, meta_open(c->meta, &app->meta));
    if (!err)
        err = opened("the object store", c->objects, objects_open(c->objects, &app->objects));
    if (!err)
        err = opened("the scanner", c->scanner ? c->scanner : "none", scanner_open(c->scanner, &app->scanner));
    if (!err)
        err = opened("the cache", cache, cache_open(cache, &app->cache));
    if (!err)
        err = opened("messages", events, events_open(events, &app->events));
    if (!err && app->cache->shared && strncmp(c->objects, "s3:", 3) == 0)
        app->near = objects_cached_new(app->objects, app->cache);
    if (!err)
        app->meta->outbox = app->events->ops->shared;
    return err;
}

void stores_close(struct app *app)
{
    if (app->scanner)
        app->scanner->ops->free(app->scanner);
    if (app->near)
        app->near->ops->free(app->near);
    if (app->cache)
        app->cache->ops->free(app->cache);
    if (app->objects)
        app->objects->ops->free(app->objects);
    if (app->meta)
        app->meta->ops->free(app->meta);
}
