/* Who is present, in Redis. All gateways are one sorted set, by when their time is over. A device is a field in two hashes: its user's, which answers who is there, and its
   gateway's, which says who was there when that one is gone. The three keys may lie on three nodes: nothing is done to two of them in one step, and nothing needs to be. */
#include "common/hash.h"
#include "common/mem.h"
#include "common/uuid_list.h"
#include "gateway/adapters/redis_cache.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define GATEWAYS_KEY REDIS_PREFIX "gateways"
#define SCAN_COUNT "500"
#define TEXT(n) #n
#define NUMBER(n) TEXT(n)
#define NOW_MS                                                                                                                                                           \
    "local t = redis.call('TIME')\n"                                                                                                                                     \
    "local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)\n"

/* ARGV: gateway, ms. Returns 1 where it was alive. */
static const char alive_text[] = NOW_MS "local known = (tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') or 0) > now\n"
                                        "if ARGV[2] == '0' then\n"
                                        "  redis.call('ZREM', KEYS[1], ARGV[1])\n"
                                        "else\n"
                                        "  redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])\n"
                                        "  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - " NUMBER(CACHE_GATEWAY_GONE_MS) "))\n"
                                        "end\n"
                                        "return known and 1 or 0";

/* Returns two lists: those that are alive, and those that fell silent not long ago. */
static const char gateways_text[] = NOW_MS "local at = string.format('%.0f', now)\n"
                                           "local since = string.format('%.0f', now - " NUMBER(CACHE_GATEWAY_GONE_MS) ")\n"
                                           "return {redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. at, '+inf'), redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. since, at)}";

void redis_presence_init(struct redis_cache *r)
{
    redis_script_init(&r->alive, alive_text);
    redis_script_init(&r->gateways, gateways_text);
}

/* ---- gateways ---- */

int redis_gateway_alive(struct cache *c, const struct uuid *gateway, unsigned ms, bool *ret_known)
{
    struct redis_cache *r = redis_of(c);
    char id[UUID_TEXT], time[12];
    struct redis_command cmd;
    uuid_text(gateway, id);
    snprintf(time, sizeof time, "%u", ms);
    redis_begin(&cmd, GATEWAYS_KEY);
    redis_script_args(&cmd, &r->alive);
    redis_arg_text(&cmd, id);
    redis_arg_text(&cmd, time);
    redis_run_all(r, &r->alive, &cmd, 1);
    int err = redis_result(&cmd);
    if (!err && ret_known)
        *ret_known = cmd.reply->type == REDIS_REPLY_INTEGER && cmd.reply->integer == 1;
    redis_command_fini(&cmd);
    return err;
}

static void tell_gateways(const redisReply *list, bool alive, void (*each)(void *ctx, const struct uuid *gateway, bool alive), void *ctx)
{
    struct uuid id;
    for (size_t i = 0; list->type == REDIS_REPLY_ARRAY && i < list->elements; i++)
        if (list->element[i]->type == REDIS_REPLY_STRING && uuid_parse(list->element[i]->str, &id) == 0)
            each(ctx, &id, alive);
}

int redis_gateways(struct cache *c, void (*each)(void *ctx, const struct uuid *gateway, bool alive), void *ctx)
{
    struct redis_cache *r = redis_of(c);
    struct redis_command cmd;
    redis_begin(&cmd, GATEWAYS_KEY);
    redis_script_args(&cmd, &r->gateways);
    redis_run_all(r, &r->gateways, &cmd, 1);
    int err = redis_result(&cmd);
    if (!err && (cmd.reply->type != REDIS_REPLY_ARRAY || cmd.reply->elements != 2))
        err = -EIO;
    for (size_t i = 0; i < 2 && !err; i++)
        tell_gateways(cmd.reply->element[i], i == 0, each, ctx);
    redis_command_fini(&cmd);
    return err;
}

/* ---- devices ---- */

#define ID_HEX 32 /* a uuid in hexadecimal */

struct device_text {
    char user_key[REDIS_KEY_ROOM], gateway_key[REDIS_KEY_ROOM];
    char user_field[ID_HEX + CACHE_DEVICE_MAX + 1], gateway_field[ID_HEX + CACHE_DEVICE_MAX + 1]; /* the other's id, then the device */
    char value[24 + 66];                                                                         /* since, the user's name */
};

static void key_of(char kind, const struct uuid *id, char ret[REDIS_KEY_ROOM])
{
    char text[UUID_TEXT];
    uuid_text(id, text);
    snprintf(ret, REDIS_KEY_ROOM, REDIS_PREFIX "%c:%s", kind, text);
}

static void field_of(const struct uuid *other, const char *device, char ret[ID_HEX + CACHE_DEVICE_MAX + 1])
{
    hex_encode(other->b, sizeof other->b, ret);
    snprintf(ret + ID_HEX, CACHE_DEVICE_MAX + 1, "%s", device);
}

static void device_text(const struct presence *p, struct device_text *t)
{
    key_of('p', &p->user, t->user_key);
    key_of('d', &p->gateway, t->gateway_key);
    field_of(&p->gateway, p->device, t->user_field);
    field_of(&p->user, p->device, t->gateway_field);
    snprintf(t->value, sizeof t->value, "%lld %s", (long long)p->since, p->name);
}

/* How a device's commands are made: into cmds[PER_DEVICE]. */
#define PER_DEVICE 4
typedef size_t device_commands(const struct device_text *t, const char *ms, struct redis_command cmds[PER_DEVICE]);

static void field_command(struct redis_command *c, const char *word, const char *key, const char *field)
{
    redis_begin(c, key);
    redis_word(c, word);
    redis_arg_text(c, field);
}

static size_t put_commands(const struct device_text *t, const char *ms, struct redis_command cmds[PER_DEVICE])
{
    field_command(&cmds[0], "HSET", t->user_key, t->user_field);
    redis_arg_text(&cmds[0], t->value);
    field_command(&cmds[1], "PEXPIRE", t->user_key, ms);
    field_command(&cmds[2], "HSET", t->gateway_key, t->gateway_field);
    redis_arg_text(&cmds[2], t->value);
    field_command(&cmds[3], "PEXPIRE", t->gateway_key, ms);
    return 4;
}

static size_t remove_commands(const struct device_text *t, const char *ms, struct redis_command cmds[PER_DEVICE])
{
    (void)ms;
    field_command(&cmds[0], "HDEL", t->user_key, t->user_field);
    field_command(&cmds[1], "HDEL", t->gateway_key, t->gateway_field);
    return 2;
}

static int change_some(struct redis_cache *r, const struct presence *p, size_t n, device_commands *make, const char *ms)
{
    CLEANUP_FREE struct device_text *texts = mem_calloc(n, sizeof *texts);
    CLEANUP_FREE struct redis_command *cmds = mem_calloc(PER_DEVICE * n, sizeof *cmds);
    size_t n_cmds = 0;
    int err = 0;
    for (size_t i = 0; i < n; i++) {
        device_text(&p[i], &texts[i]);
        n_cmds += make(&texts[i], ms, cmds + n_cmds);
    }
    redis_run_all(r, NULL, cmds, n_cmds);
    for (size_t i = 0; i < n_cmds; i++) {
        int result = redis_result(&cmds[i]);
        err = err ? err : result;
        redis_command_fini(&cmds[i]);
    }
    return err;
}

static int change(struct cache *c, const struct presence *p, size_t n, device_commands *make, const char *ms)
{
    const size_t most = REDIS_TOGETHER_MAX / PER_DEVICE;
    int err = 0;
    for (size_t at = 0; at < n && !err; at += most)
        err = change_some(redis_of(c), p + at, n - at < most ? n - at : most, make, ms);
    return err;
}

int redis_present_put(struct cache *c, const struct presence *p, size_t n, unsigned ms)
{
    char time[12];
    snprintf(time, sizeof time, "%u", ms);
    return change(c, p, n, put_commands, time);
}

int redis_present_remove(struct cache *c, const struct presence *p, size_t n)
{
    return change(c, p, n, remove_commands, NULL);
}

/* Fills all but the one whose hash it is; ret_other: whose id the field begins with. false: it is none of ours. */
static bool parse_device(const redisReply *field, const redisReply *value, struct presence *ret, struct uuid *ret_other)
{
    char id[ID_HEX + 1], *name;
    if (field->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING || strlen(field->str) < ID_HEX)
        return false;
    snprintf(id, sizeof id, "%s", field->str);
    const char *device = field->str + ID_HEX;
    ret->since = strtoll(value->str, &name, 10);
    if (hex_decode(id, sizeof ret_other->b, ret_other->b) || *name++ != ' ' || strlen(name) >= sizeof ret->name || strlen(device) >= sizeof ret->device)
        return false;
    memcpy(ret->name, name, strlen(name) + 1);
    memcpy(ret->device, device, strlen(device) + 1);
    return true;
}

static void note_living(void *ctx, const struct uuid *gateway, bool alive)
{
    if (alive)
        uuid_list_add(ctx, gateway);
}

/* One user's hash. */
static int tell_user(const struct uuid *user, const redisReply *r, const struct uuid_list *living, cache_presence_each *each, void *ctx)
{
    int stop = 0;
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i + 1 < r->elements && !stop; i += 2) {
        struct presence p = {.user = *user};
        if (parse_device(r->element[i], r->element[i + 1], &p, &p.gateway) && uuid_list_has(living, &p.gateway))
            stop = each(ctx, &p);
    }
    return stop;
}

static int list_some(struct redis_cache *r, const struct uuid *users, size_t n, const struct uuid_list *living, cache_presence_each *each, void *ctx)
{
    CLEANUP_FREE struct device_text *texts = mem_calloc(n, sizeof *texts);
    CLEANUP_FREE struct redis_command *cmds = mem_calloc(n, sizeof *cmds);
    int err = 0, stop = 0;
    for (size_t i = 0; i < n; i++) {
        key_of('p', &users[i], texts[i].user_key);
        redis_begin(&cmds[i], texts[i].user_key);
        redis_word(&cmds[i], "HGETALL");
    }
    redis_run_all(r, NULL, cmds, n);
    for (size_t i = 0; i < n; i++) {
        int result = redis_result(&cmds[i]);
        err = err ? err : result;
        if (!result && !stop)
            stop = tell_user(&users[i], cmds[i].reply, living, each, ctx);
        redis_command_fini(&cmds[i]);
    }
    return stop ? stop : err;
}

int redis_present_list(struct cache *c, const struct uuid *users, size_t n, cache_presence_each *each, void *ctx)
{
    CLEANUP(uuid_list_fini) struct uuid_list living = {0};
    int err = redis_gateways(c, note_living, &living);
    for (size_t at = 0; at < n && !err; at += REDIS_TOGETHER_MAX)
        err = list_some(redis_of(c), users + at, n - at < REDIS_TOGETHER_MAX ? n - at : REDIS_TOGETHER_MAX, &living, each, ctx);
    return err;
}

/* [cursor, [field, value, …]]. Copies the cursor. */
static int tell_page(const struct uuid *gateway, const redisReply *r, char cursor[24], cache_presence_each *each, void *ctx)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0]->type != REDIS_REPLY_STRING || r->element[1]->type != REDIS_REPLY_ARRAY)
        return -EIO;
    const redisReply *list = r->element[1];
    int stop = 0;
    snprintf(cursor, 24, "%s", r->element[0]->str);
    for (size_t i = 0; i + 1 < list->elements && !stop; i += 2) {
        struct presence p = {.gateway = *gateway};
        if (parse_device(list->element[i], list->element[i + 1], &p, &p.user))
            stop = each(ctx, &p);
    }
    return stop;
}

/* In pages, so that a gateway with very many devices holds nobody up. */
int redis_present_at(struct cache *c, const struct uuid *gateway, cache_presence_each *each, void *ctx)
{
    char key[REDIS_KEY_ROOM], cursor[24] = "0";
    int err;
    key_of('d', gateway, key);
    do {
        struct redis_command cmd;
        redis_begin(&cmd, key);
        redis_word(&cmd, "HSCAN");
        redis_arg_text(&cmd, cursor);
        redis_arg_text(&cmd, "COUNT");
        redis_arg_text(&cmd, SCAN_COUNT);
        redis_run_all(redis_of(c), NULL, &cmd, 1);
        err = redis_result(&cmd);
        if (!err)
            err = tell_page(gateway, cmd.reply, cursor, each, ctx);
        redis_command_fini(&cmd);
    } while (!err && strcmp(cursor, "0") != 0);
    return err;
}
