/* The cache port on Redis (≥ 5), one or a cluster. Values are strings; a rate is a string with the time at which it will be full again (GCRA). Presence: cache_redis_presence.c. */
#include "gateway/adapters/redis_cache.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <math.h>
#include <openssl/evp.h>
#include <string.h>

/* ARGV: microseconds that one takes to come back, burst, how many are taken. Returns the room that is left, as text: Redis cuts numbers to whole ones.
   What is full again needs no key. */
static const char charge_text[] = "local t = redis.call('TIME')\n"
                                  "local now = tonumber(t[1]) * 1000000 + tonumber(t[2])\n"
                                  "local each, burst, n = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n"
                                  "local full = tonumber(redis.call('GET', KEYS[1]) or '0') or 0\n"
                                  "local taken = math.max(full - now, 0) / each + n\n"
                                  "taken = math.min(math.max(taken, 0), 2 * burst)\n"
                                  "if taken > 0 then\n"
                                  "  redis.call('SET', KEYS[1], string.format('%.0f', now + taken * each), 'PX', math.floor(taken * each / 1000) + 1)\n"
                                  "else\n"
                                  "  redis.call('DEL', KEYS[1])\n"
                                  "end\n"
                                  "return string.format('%.6f', burst - taken)";

void redis_script_init(struct redis_script *s, const char *text)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    s->text = text;
    EVP_Digest(text, strlen(text), digest, &n, EVP_sha1(), NULL); /* nothing rests on its strength */
    hex_encode(digest, n, s->sha1);
}

/* ---- commands ---- */

void redis_begin(struct redis_command *c, const char *key)
{
    memset(c, 0, sizeof *c);
    c->key = key;
}

void redis_arg(struct redis_command *c, const void *p, size_t n)
{
    c->argv[c->argc] = n ? p : "";
    c->len[c->argc++] = n;
}

void redis_arg_text(struct redis_command *c, const char *text)
{
    redis_arg(c, text, strlen(text));
}

void redis_word(struct redis_command *c, const char *word)
{
    redis_arg_text(c, word);
    redis_arg_text(c, c->key);
}

void redis_script_args(struct redis_command *c, const struct redis_script *s)
{
    redis_arg_text(c, "EVALSHA");
    redis_arg_text(c, s->sha1);
    redis_arg_text(c, "1");
    redis_arg_text(c, c->key);
}

static bool wants_text(const struct redis_command *c)
{
    return c->reply && c->reply->type == REDIS_REPLY_ERROR && strncmp(c->reply->str, "NOSCRIPT", 8) == 0;
}

int redis_run_all(struct redis_cache *r, const struct redis_script *s, struct redis_command *c, size_t n)
{
    int err = redis_run(r->net, c, n);
    for (size_t i = 0; s && i < n; i++) {
        if (!wants_text(&c[i]))
            continue;
        redis_command_fini(&c[i]);
        c[i].argv[0] = "EVAL";
        c[i].len[0] = 4;
        c[i].argv[1] = s->text;
        c[i].len[1] = strlen(s->text);
        int again = redis_run(r->net, &c[i], 1);
        err = err ? err : again;
    }
    return err;
}

int redis_result(const struct redis_command *c)
{
    if (!c->reply)
        return -EHOSTUNREACH;
    if (c->reply->type != REDIS_REPLY_ERROR)
        return 0;
    log_debug("redis: %s: %s", c->argv[0], c->reply->str);
    return -EIO;
}

int redis_run_one(struct redis_cache *r, const struct redis_script *s, struct redis_command *c)
{
    redis_run_all(r, s, c, 1);
    int err = redis_result(c);
    redis_command_fini(c);
    return err;
}

/* ---- values ---- */

static void key_of(const char *key, char ret[REDIS_KEY_ROOM])
{
    snprintf(ret, REDIS_KEY_ROOM, REDIS_PREFIX "%s", key);
}

static int get(struct cache *c, const char *key, struct buf *ret)
{
    char name[REDIS_KEY_ROOM];
    struct redis_command cmd;
    key_of(key, name);
    redis_begin(&cmd, name);
    cmd.hasty = true;
    redis_word(&cmd, "GET");
    redis_run_all(redis_of(c), NULL, &cmd, 1);
    int err = redis_result(&cmd);
    if (!err && cmd.reply->type == REDIS_REPLY_STRING)
        buf_append(ret, cmd.reply->str, (size_t)cmd.reply->len);
    else if (!err)
        err = -ENOENT;
    redis_command_fini(&cmd);
    return err;
}

static int put(struct cache *c, const char *key, const void *p, size_t n, unsigned ms)
{
    char name[REDIS_KEY_ROOM], time[12];
    struct redis_command cmd;
    if (n > CACHE_VALUE_MAX)
        return -E2BIG;
    key_of(key, name);
    snprintf(time, sizeof time, "%u", ms);
    redis_begin(&cmd, name);
    cmd.hasty = true;
    redis_word(&cmd, "SET");
    redis_arg(&cmd, p, n);
    redis_arg_text(&cmd, "PX");
    redis_arg_text(&cmd, time);
    return redis_run_one(redis_of(c), NULL, &cmd);
}

static int remove_value(struct cache *c, const char *key)
{
    char name[REDIS_KEY_ROOM];
    struct redis_command cmd;
    key_of(key, name);
    redis_begin(&cmd, name);
    redis_word(&cmd, "DEL");
    return redis_run_one(redis_of(c), NULL, &cmd);
}

/* ---- rates ---- */

struct charge_text {
    char key[REDIS_KEY_ROOM], each[40], burst[40], n[40];
};

static int charge_some(struct redis_cache *r, struct cache_charge *list, size_t n)
{
    CLEANUP_FREE struct charge_text *texts = mem_calloc(n, sizeof *texts);
    CLEANUP_FREE struct redis_command *cmds = mem_calloc(n, sizeof *cmds);
    int err = 0;
    for (size_t i = 0; i < n; i++) {
        struct charge_text *t = &texts[i];
        key_of(list[i].key, t->key);
        snprintf(t->each, sizeof t->each, "%.3f", 1e6 / list[i].per_second);
        snprintf(t->burst, sizeof t->burst, "%.3f", list[i].burst);
        snprintf(t->n, sizeof t->n, "%.3f", list[i].n);
        redis_begin(&cmds[i], t->key);
        redis_script_args(&cmds[i], &r->charge);
        redis_arg_text(&cmds[i], t->each);
        redis_arg_text(&cmds[i], t->burst);
        redis_arg_text(&cmds[i], t->n);
    }
    redis_run_all(r, &r->charge, cmds, n);
    for (size_t i = 0; i < n; i++) {
        int result = redis_result(&cmds[i]);
        if (!result && cmds[i].reply->type != REDIS_REPLY_STRING)
            result = -EIO;
        list[i].answered = result == 0;
        if (!result)
            list[i].room = strtod(cmds[i].reply->str, NULL);
        err = err ? err : result;
        redis_command_fini(&cmds[i]);
    }
    return err;
}

static int charge(struct cache *c, struct cache_charge *list, size_t n)
{
    int err = 0;
    for (size_t at = 0; at < n; at += REDIS_TOGETHER_MAX) {
        int some = charge_some(redis_of(c), list + at, n - at < REDIS_TOGETHER_MAX ? n - at : REDIS_TOGETHER_MAX);
        err = err ? err : some;
    }
    return err;
}

/* ---- life ---- */

static int ping(struct cache *c)
{
    return redis_net_state(redis_of(c)->net);
}

static void redis_free(struct cache *c)
{
    struct redis_cache *r = redis_of(c);
    redis_net_free(r->net);
    free(r);
}

static const struct cache_ops redis_ops = {
    .get = get,
    .put = put,
    .remove = remove_value,
    .charge = charge,
    .gateway_alive = redis_gateway_alive,
    .gateways = redis_gateways,
    .present_put = redis_present_put,
    .present_remove = redis_present_remove,
    .present_list = redis_present_list,
    .present_at = redis_present_at,
    .ping = ping,
    .free = redis_free,
};

int cache_redis_open(const char *url, struct cache **ret)
{
    struct redis_url u;
    const char *wrong = redis_url_parse(url, &u);
    if (wrong) {
        log_error("cache: the URL %s", wrong);
        return -EINVAL;
    }
    struct redis_cache *r = mem_alloc(sizeof *r);
    r->c = (struct cache){.ops = &redis_ops, .shared = true};
    redis_script_init(&r->charge, charge_text);
    redis_presence_init(r);
    r->net = redis_net_new(&u);
    *ret = &r->c;
    return 0;
}
