/* What operators and their tools ask: health, metrics, and the description of the API. Open to all. */
#include "common/buf.h"
#include "gateway/api/app.h"

#include <string.h>

/* Made by cmake/embed.cmake. */
extern const unsigned char embedded_openapi[], embedded_swagger_ui[];
extern const size_t embedded_openapi_len, embedded_swagger_ui_len;

static void add_component(json_t *components, const char *name, bool up, const char *detail)
{
    json_object_set_new(components, name, detail ? json_pack("{s:s,s:s}", "status", up ? "UP" : "DOWN", "detail", detail) : json_pack("{s:s}", "status", up ? "UP" : "DOWN"));
}

static enum call_state health(struct call *c)
{
    struct app *app = app_of(c);
    bool metadata = app->meta->ops->ping(app->meta) == 0, objects = app->objects->ops->ping(app->objects) == 0;
    json_t *components = json_object();
    add_component(components, "metadata", metadata, NULL);
    add_component(components, "objects", objects, NULL);
    bool cache = app->cache->ops->ping(app->cache) == 0;
    add_component(components, "cache", cache, app->cache->shared ? "redis" : "memory");
    bool events = app->events->ops->status(app->events) == 0;
    add_component(components, "events", events, app->events->ops->shared ? "rabbitmq" : "memory");
    bool scanner = !app->scanner || app->scanner->ops->ping(app->scanner) == 0;
    if (app->scanner)
        add_component(components, "scanner", scanner, NULL);
    call_json(c, metadata ? 200 : 503, json_pack("{s:s,s:o}", "status", !metadata ? "DOWN" : objects && scanner && cache && events ? "UP" : "DEGRADED", "components", components));
    return CALL_DONE;
}

static enum call_state liveness(struct call *c)
{
    call_json(c, 200, json_pack("{s:s}", "status", "UP"));
    return CALL_DONE;
}

static enum call_state readiness(struct call *c)
{
    struct app *app = app_of(c);
    const char *why = http_server_draining(c->server) ? "draining" : app->meta->ops->ping(app->meta) ? "metadata" : NULL;
    call_json(c, why ? 503 : 200, why ? json_pack("{s:s,s:s}", "status", "DOWN", "reason", why) : json_pack("{s:s}", "status", "UP"));
    return CALL_DONE;
}

static enum call_state info(struct call *c)
{
    call_json(c, 200, json_pack("{s:{s:s,s:s},s:{s:i},s:b}", "app", "name", "cairn-gateway", "version", CAIRN_VERSION, "protocol", "fs", 1, "embedded",
                                app_of(c)->embedded));
    return CALL_DONE;
}

static enum call_state metrics(struct call *c)
{
    c->status = 200;
    c->content_type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_render(&c->out);
    return CALL_DONE;
}

static enum call_state answer_embedded(struct call *c, const char *type, const unsigned char *p, size_t n)
{
    c->status = 200;
    c->content_type = type;
    call_add_header(c, "Cache-Control", "no-cache");
    buf_append(&c->out, p, n);
    return CALL_DONE;
}

static enum call_state openapi(struct call *c)
{
    return answer_embedded(c, "application/yaml; charset=utf-8", embedded_openapi, embedded_openapi_len);
}

static enum call_state swagger_ui(struct call *c)
{
    call_add_header(c, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'");
    return answer_embedded(c, "text/html; charset=utf-8", embedded_swagger_ui, embedded_swagger_ui_len);
}

const struct route actuator_routes[] = {
    {HTTP_GET, "/actuator/health", health, ROUTE_OPEN | ROUTE_VITAL, 0},
    {HTTP_GET, "/actuator/health/liveness", liveness, ROUTE_OPEN | ROUTE_INLINE, 0},
    {HTTP_GET, "/actuator/health/readiness", readiness, ROUTE_OPEN | ROUTE_VITAL, 0},
    {HTTP_GET, "/actuator/info", info, ROUTE_OPEN | ROUTE_VITAL, 0},
    {HTTP_GET, "/actuator/prometheus", metrics, ROUTE_OPEN | ROUTE_VITAL, 0},
    {HTTP_GET, "/metrics", metrics, ROUTE_OPEN | ROUTE_VITAL, 0},
    {HTTP_GET, "/openapi.yaml", openapi, ROUTE_OPEN, 0},
    {HTTP_GET, "/swagger-ui.html", swagger_ui, ROUTE_OPEN, 0},
};
const size_t actuator_routes_n = sizeof actuator_routes / sizeof *actuator_routes;
