#include "fusefs/remote/direct.h"
#include "common/clock.h"
#include "common/jsonx.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/url.h"
#include "fusefs/remote/http.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

#define CONNECT_MS 2000 /* a store that cannot be reached costs this, once in a pause */
#define PAUSE_S 30 /* doubled each time */
#define PAUSE_MAX_S 120
#define PLACES_MAX 4096
#define ABSENT_S 60
#define NOT_OFFERED_S 60 /* then the gateway may be a newer one */
#define URL_MAX_LEN 8192

struct direct_place {
    struct hash hash;
    uint32_t size, stored;
    enum codec codec;
    uint64_t offset;
    char *url; /* NULL: it has no place */
    int64_t until_ms;
    UT_hash_handle hh;
};

static void place_free(struct direct_place *p)
{
    free(p->url);
    free(p);
}

static void forget_locked(struct direct *d, struct direct_place *p)
{
    HASH_DEL(d->places, p);
    place_free(p);
}

void direct_init(struct direct *d)
{
    *d = (struct direct){.offer = DIRECT_UNKNOWN};
    curl_pool_init(&d->connections);
    pthread_mutex_init(&d->lock, NULL);
}

void direct_fini(struct direct *d)
{
    while (d->places)
        forget_locked(d, d->places);
    curl_pool_fini(&d->connections);
    pthread_mutex_destroy(&d->lock);
}

/* ---- whether to try ---- */

static bool may_try_locked(const struct direct *d, int64_t now)
{
    return d->again_ms == 0 || (!d->trying && now >= d->again_ms);
}

bool direct_wanted(struct direct *d)
{
    if (d->unwanted)
        return false;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    int64_t now = clock_boot_ms();
    return now >= d->ask_again_ms && may_try_locked(d, now);
}

bool direct_may_bring(struct direct *d)
{
    if (d->unwanted)
        return false;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    int64_t now = clock_boot_ms();
    return now >= d->ask_again_ms && now >= d->bring_again_ms && may_try_locked(d, now);
}

static int64_t ask_again(bool offered)
{
    return offered ? 0 : clock_boot_ms() + NOT_OFFERED_S * 1000;
}

void direct_offered(struct direct *d, bool offered)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    d->bring_again_ms = ask_again(offered);
    if (offered)
        d->offer = DIRECT_OFFERED;
}

void direct_new_gateway(struct direct *d)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    d->ask_again_ms = d->bring_again_ms = 0;
}

/* True: this thread may try, and says by try_end what came of it. */
static bool try_begin(struct direct *d)
{
    if (d->unwanted)
        return false;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    if (!may_try_locked(d, clock_boot_ms()))
        return false;
    d->trying = d->again_ms != 0;
    return true;
}

static void try_end(struct direct *d, bool reached, const char *why)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    int64_t now = clock_boot_ms();
    if (reached) {
        if (d->again_ms)
            log_info("the object store can be reached again");
        d->again_ms = 0;
        d->pause_s = 0;
    } else if (d->again_ms <= now) { /* several may have tried at once: it is one failure */
        d->pause_s = d->pause_s == 0 ? PAUSE_S : d->pause_s * 2 > PAUSE_MAX_S ? PAUSE_MAX_S : d->pause_s * 2;
        d->again_ms = now + d->pause_s * INT64_C(1000);
        log_info("chunks go through the gateway for %u s: the object store: %s", d->pause_s, why);
    }
    d->trying = false;
}

/* ---- places ---- */

static struct direct_place *place_from_json(const json_t *o, int64_t until_ms)
{
    struct direct_place p = {.until_ms = until_ms};
    const char *hex, *codec, *url;
    if (jsonx_str(o, "sha256", &hex) || strlen(hex) != HASH_HEX_LEN || hash_parse(hex, &p.hash) || jsonx_u32(o, "size", &p.size) || jsonx_u32(o, "stored", &p.stored) ||
        jsonx_str(o, "codec", &codec) || codec_parse(codec, &p.codec) || jsonx_u64(o, "offset", &p.offset) || jsonx_str(o, "url", &url) || p.size == 0 ||
        p.size > CHUNK_SIZE_MAX || p.stored == 0 || p.stored > CHUNK_SIZE_MAX || strlen(url) > URL_MAX_LEN)
        return NULL;
    struct direct_place *ret = mem_dup(&p, sizeof p);
    ret->url = mem_strdup(url);
    return ret;
}

static void keep_locked(struct direct *d, struct direct_place *p)
{
    struct direct_place *old;
    HASH_FIND(hh, d->places, &p->hash, sizeof p->hash, old);
    if (old)
        forget_locked(d, old);
    HASH_ADD(hh, d->places, hash, sizeof p->hash, p);
    while (HASH_COUNT(d->places) > PLACES_MAX)
        forget_locked(d, d->places);
}

void direct_take_places(struct direct *d, const json_t *places, uint64_t seconds)
{
    if (d->unwanted)
        return;
    /* what is fetched with it must have begun before it ends */
    int64_t until_ms = clock_boot_ms() + (int64_t)(seconds > 86400 ? 86400 : seconds) * 750;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    d->offer = seconds ? DIRECT_OFFERED : DIRECT_NOT_OFFERED;
    d->ask_again_ms = ask_again(seconds);
    for (size_t i = 0; seconds && i < json_array_size(places) && i < PLACES_MAX; i++) {
        struct direct_place *p = place_from_json(json_array_get(places, i), until_ms);
        if (p)
            keep_locked(d, p);
    }
}

static struct direct_place *find_locked(struct direct *d, const struct hash *h)
{
    struct direct_place *p;
    HASH_FIND(hh, d->places, h, sizeof *h, p);
    if (p && p->until_ms <= clock_boot_ms()) {
        forget_locked(d, p);
        p = NULL;
    }
    return p;
}

void direct_take_absent(struct direct *d, const struct hash *h, size_t n)
{
    int64_t until_ms = clock_boot_ms() + ABSENT_S * 1000;
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    for (size_t i = 0; i < n; i++) {
        if (find_locked(d, &h[i]))
            continue;
        struct direct_place *p = mem_alloc(sizeof *p);
        *p = (struct direct_place){.hash = h[i], .until_ms = until_ms};
        keep_locked(d, p);
    }
}

bool direct_knows(struct direct *d, const struct hash *h)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    return find_locked(d, h) != NULL;
}

static bool place_of(struct direct *d, const struct hash *h, struct direct_place *ret)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    struct direct_place *p = find_locked(d, h);
    if (!p || !p->url)
        return false;
    *ret = *p;
    ret->url = mem_strdup(p->url);
    return true;
}

static void place_drop(struct direct *d, const struct hash *h)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&d->lock);
    struct direct_place *p = find_locked(d, h);
    if (p)
        forget_locked(d, p);
}

/* ---- transfers ---- */

struct transfer {
    const char *url;
    char range[64]; /* "" none */
    char *to;
    size_t room, got;
    const json_t *headers; /* of a PUT */
    const void *body;
    size_t body_len;
    char why[CURL_ERROR_SIZE];
};

static size_t take_body(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size *= n;
    if (!t->to)
        return size; /* nobody wants to know */
    if (size > t->room - t->got)
        return 0;
    memcpy(t->to + t->got, p, size);
    t->got += size;
    return size;
}

static struct curl_slist *put_headers(const json_t *headers)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    const char *name;
    json_t *value;
    list = curl_slist_append(list, "Content-Type:"); /* else libcurl invents one */
    json_object_foreach((json_t *)headers, name, value)
    {
        const char *text = json_string_value(value);
        if (!text || strcmp(name, "content-length") == 0 || strpbrk(name, ":\r\n") || strpbrk(text, "\r\n"))
            continue; /* its length libcurl tells itself */
        CLEANUP_FREE char *line = mem_printf("%s: %s", name, text);
        list = curl_slist_append(list, line);
    }
    return list;
}

/* The answer's status; 0: there was none. */
static long perform(struct direct *d, struct transfer *t)
{
    CURL *c = curl_pool_take(&d->connections);
    long status = 0;
    unsigned silent_ms;
    http_set_transport(c, url_is_loopback(t->url), CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_URL, t->url);
    if (t->range[0])
        curl_easy_setopt(c, CURLOPT_RANGE, t->range);
    struct curl_slist *headers = t->headers ? put_headers(t->headers) : NULL;
    if (t->headers) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->body_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, t->body);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, "PUT");
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    }
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    CURLcode code = http_perform(c, d->stall_s, t->why, &silent_ms);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_pool_give(&d->connections, c);
    if (code == CURLE_WRITE_ERROR && status && status != 200 && status != 206)
        return status; /* the text of a refusal */
    return code == CURLE_OK ? status : 0;
}

static bool decoded(const struct direct_place *p, const struct hash *h, const char *stored, void *ret)
{
    struct hash got;
    if (stored != ret && codec_decode(p->codec, stored, p->stored, ret, p->size))
        return false;
    hash_bytes(ret, p->size, &got);
    return hash_equal(&got, h);
}

static bool fetch(struct direct *d, const struct direct_place *p, const struct hash *h, void *ret)
{
    bool raw = p->codec == CODEC_RAW;
    CLEANUP_FREE char *room = raw ? NULL : mem_alloc(p->stored);
    struct transfer t = {.url = p->url, .to = raw ? ret : room, .room = p->stored};
    snprintf(t.range, sizeof t.range, "%llu-%llu", (unsigned long long)p->offset, (unsigned long long)(p->offset + p->stored - 1));
    long status = perform(d, &t);
    if (status == 206 && t.got == p->stored && decoded(p, h, t.to, ret)) {
        try_end(d, true, NULL);
        return true;
    }
    if (status == 206)
        snprintf(t.why, sizeof t.why, "its bytes are not those of the chunk");
    else if (status)
        snprintf(t.why, sizeof t.why, "it answers %ld", status);
    try_end(d, status == 404, t.why); /* 404: the chunk has moved */
    return false;
}

bool direct_get(struct direct *d, const struct hash *h, void *ret, uint32_t size)
{
    struct direct_place p;
    if (d->unwanted || !place_of(d, h, &p))
        return false;
    bool done = p.size == size && (p.codec != CODEC_RAW || p.stored == size) && try_begin(d);
    if (done) {
        done = fetch(d, &p, h, ret);
        if (!done)
            place_drop(d, h);
    }
    free(p.url);
    if (done)
        atomic_fetch_add(&d->fetched, size);
    return done;
}

bool direct_put(struct direct *d, const char *url, const json_t *headers, const void *p, size_t n, uint32_t size)
{
    struct transfer t = {.url = url, .headers = headers, .body = p, .body_len = n};
    if (!try_begin(d))
        return false;
    long status = perform(d, &t);
    bool done = status >= 200 && status < 300;
    if (status && !done)
        snprintf(t.why, sizeof t.why, "it answers %ld to what is brought", status);
    try_end(d, done, t.why);
    if (done)
        atomic_fetch_add(&d->sent, size);
    return done;
}
