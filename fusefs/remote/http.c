#include "fusefs/remote/http.h"
#include "common/clock.h"
#include "common/mem.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define CONNECT_MS 5000u
#define STORE_STALL_S 30u       /* where the gateway stores what it was given */
#define READ_ALL_STALL_S 120u
#define RETRY_AFTER_MAX_MS 5000 /* for one 429 */
#define RETRY_TOTAL_MS 15000    /* for one exchange */
#define BUFFER_BYTES (128L << 10)

void http_answer_fini(struct http_answer *a)
{
    buf_fini(&a->body);
    json_decref(a->headers);
    *a = (struct http_answer){0};
}

struct sink {
    struct buf *body;
    size_t limit;
    bool overflow;
};

static size_t take_body(char *p, size_t size, size_t n, void *ctx)
{
    struct sink *s = ctx;
    size *= n;
    if (size > s->limit - s->body->len) {
        s->overflow = true;
        return 0;
    }
    buf_append(s->body, p, size);
    return size;
}

static uint64_t number_header(CURL *c, const char *name)
{
    struct curl_header *h;
    if (curl_easy_header(c, name, 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
        return UINT64_MAX;
    size_t digits = strspn(h->value, "0123456789");
    if (digits == 0 || digits > 18 || h->value[digits])
        return UINT64_MAX;
    return strtoull(h->value, NULL, 10);
}

static json_t *all_headers(CURL *c)
{
    json_t *o = json_object();
    struct curl_header *h = NULL;
    while ((h = curl_easy_nextheader(c, CURLH_HEADER, -1, h))) {
        CLEANUP_FREE char *name = mem_strdup(h->name);
        for (char *p = name; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
        json_object_set_new(o, name, json_string(h->value)); /* one that is not UTF-8 is left out */
    }
    return o;
}

static void read_headers(CURL *c, const struct http_request *req, struct http_answer *a)
{
    a->head = number_header(c, "X-Cairn-Head");
    a->size = number_header(c, "X-Cairn-Size");
    a->retry_after = number_header(c, "Retry-After");
    struct curl_header *h;
    if (curl_easy_header(c, "X-Cairn-Codec", 0, CURLH_HEADER, -1, &h) == CURLHE_OK && strlen(h->value) < sizeof a->codec)
        strcpy(a->codec, h->value);
    if (req->want_headers)
        a->headers = all_headers(c);
}

static struct curl_slist *add_header(struct curl_slist *list, const char *name, const char *value)
{
    CLEANUP_FREE char *line = mem_printf("%s: %s", name, value);
    return curl_slist_append(list, line);
}

static struct curl_slist *request_headers(const struct http_request *req, const char *token)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    if (token) {
        CLEANUP_FREE char *bearer = mem_printf("Bearer %s", token);
        list = add_header(list, "Authorization", bearer);
    }
    if (req->body)
        list = add_header(list, "Content-Type", req->content_type ? req->content_type : "application/octet-stream");
    for (size_t i = 0; req->headers && req->headers[i]; i++)
        list = curl_slist_append(list, req->headers[i]);
    return list;
}

static void set_method(CURL *c, const struct http_request *req)
{
    bool post = strcmp(req->method, "POST") == 0;
    if (req->body || post || strcmp(req->method, "PUT") == 0) { /* an empty body has a length too */
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)req->body_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, req->body ? req->body : "");
        if (!post)
            curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, req->method);
    } else if (strcmp(req->method, "HEAD") == 0) {
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(c, CURLOPT_HTTPGET, 1L);
        if (strcmp(req->method, "GET") != 0)
            curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, req->method);
    }
}

void http_set_transport(CURL *c, bool loopback, unsigned connect_ms)
{
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPIDLE, 30L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPINTVL, 10L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "cairn/" CAIRN_VERSION);
    if (loopback)
        curl_easy_setopt(c, CURLOPT_PROXY, "");
}

/* Whether bytes still move. libcurl's own low speed is one of the last five seconds: what was sent counts for so long. */
struct movement {
    curl_off_t bytes;
    int64_t since_ms;
    unsigned stall_ms;
};

static unsigned silence_ms(const struct movement *m)
{
    return (unsigned)(clock_boot_ms() - m->since_ms);
}

static int is_silent(void *ctx, curl_off_t to_get, curl_off_t got, curl_off_t to_send, curl_off_t sent)
{
    (void)to_get, (void)to_send;
    struct movement *m = ctx;
    if (m->bytes != got + sent) {
        m->bytes = got + sent;
        m->since_ms = clock_boot_ms();
    }
    return silence_ms(m) >= m->stall_ms;
}

CURLcode http_perform(CURL *c, unsigned stall_s, char why[CURL_ERROR_SIZE], unsigned *ret_silent_ms)
{
    struct movement m = {.since_ms = clock_boot_ms(), .stall_ms = stall_s * 1000};
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, is_silent);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, &m);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
    CURLcode code = curl_easy_perform(c);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 1L);
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        code = CURLE_OPERATION_TIMEDOUT;
        snprintf(why, CURL_ERROR_SIZE, "nothing was heard for %u s", stall_s);
    } else if (code != CURLE_OK && !why[0]) {
        snprintf(why, CURL_ERROR_SIZE, "%s", curl_easy_strerror(code));
    }
    *ret_silent_ms = code == CURLE_OPERATION_TIMEDOUT ? silence_ms(&m) : 0;
    return code;
}

/* Seconds without a byte after which the gateway is taken for frozen. The end of an upload may read all of it once more. */
static unsigned patience(const struct remote *r, const struct http_request *req)
{
    static const char last[] = "/complete";
    size_t n = strlen(req->path);
    if (n >= sizeof last - 1 && strcmp(req->path + n - (sizeof last - 1), last) == 0)
        return READ_ALL_STALL_S;
    return strcmp(req->method, "PUT") == 0 || strstr(req->path, "/chunk/") ? STORE_STALL_S : r->stall_s;
}

int http_once(struct remote *r, const struct http_request *req, const char *token, struct http_answer *a)
{
    CURL *c = curl_pool_take(&r->connections);
    CLEANUP_FREE char *url = mem_printf("%s%s", r->base, req->path);
    char detail[CURL_ERROR_SIZE] = "";
    struct sink sink = {&a->body, req->limit ? req->limit : ANSWER_MAX, false};
    if (req->expect)
        buf_reserve(&a->body, req->expect);
    struct curl_slist *headers = request_headers(req, token);
    unsigned silent_ms;
    http_set_transport(c, r->loopback, CONNECT_MS);
    if (req->timeout_ms)
        curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)req->timeout_ms);
    if (req->compressed)
        curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    set_method(c, req);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &sink);
    CURLcode code = http_perform(c, patience(r, req), detail, &silent_ms);
    if (code == CURLE_OK) {
        curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &a->status);
        read_headers(c, req, a);
    }
    curl_slist_free_all(headers);
    curl_pool_give(&r->connections, c);
    if (code == CURLE_OPERATION_TIMEDOUT)
        curl_pool_close_idle(&r->connections); /* they may lead to the same gateway; new ones may lead to another */
    if (sink.overflow)
        return -EMSGSIZE;
    if (code != CURLE_OK)
        return problem_from_curl(code, detail, silent_ms);
    return a->status >= 200 && a->status < 300 ? 0 : problem_from_answer(a);
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static char *current_token(struct remote *r)
{
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&r->lock);
    return mem_strdup(r->access);
}

int http_exchange(struct remote *r, const struct http_request *req, struct http_answer *a)
{
    bool renewed = false;
    unsigned waited_ms = 0;
    for (;;) {
        CLEANUP_FREE char *token = req->open ? NULL : current_token(r);
        *a = (struct http_answer){.head = UINT64_MAX, .size = UINT64_MAX};
        int err = http_once(r, req, token, a);
        if (a->status == 401 && !req->open && !renewed) {
            renewed = true;
            int renew = tokens_renew(r, token);
            if (renew)
                return renew;
            http_answer_fini(a);
        } else if (a->status == 429) {
            uint64_t ms = a->retry_after > 60 ? 1000 : a->retry_after * 1000;
            ms = ms < 100 ? 100 : ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : ms;
            if (waited_ms + ms > (req->timeout_ms ? req->timeout_ms : RETRY_TOTAL_MS))
                return -EHOSTUNREACH;
            waited_ms += (unsigned)ms;
            sleep_ms((unsigned)ms);
            http_answer_fini(a);
        } else {
            return err;
        }
    }
}

bool remote_wait(struct remote_wait *w, int err)
{
    if (err != -EHOSTUNREACH || !w->timeout_ms)
        return false;
    int64_t now = clock_boot_ms();
    bool first = !w->delay_ms;
    if (first) {
        w->delay_ms = 50;
        w->until_ms = now + w->timeout_ms - remote_problem()->silent_ms;
    }
    if (now >= w->until_ms)
        return first;
    int64_t left = w->until_ms - now;
    sleep_ms(left < w->delay_ms ? (unsigned)left : w->delay_ms);
    w->delay_ms = w->delay_ms >= 500 ? 1000 : w->delay_ms * 2;
    return true;
}
