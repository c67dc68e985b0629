/* Uploads in flight at once. All are begun before any sends a chunk, all have sent theirs before any is completed, and then each is read back and compared: so
   that as many sessions are open together as the load has. `parallel` connections serve each upload. */
#include "common/hash.h"
#include "common/mem.h"
#include "load.h"

#include <jansson.h>
#include <string.h>

enum phase { INITIATE, CHUNKS, COMPLETE, CHECK, PHASES };
static const char *const phase_names[] = {"initiate", "chunk", "complete", "read back"};

struct run;
struct upload {
    struct run *run;
    uint64_t number;
    char session[64];
    unsigned next_chunk;
    bool failed;
    struct hash_stream *hash;
};
struct lane { /* a connection of an upload */
    struct link link; /* first */
    struct upload *upload;
};
struct run {
    const struct options *o;
    struct client client;
    enum phase phase;
    unsigned pending, chunks;
    struct result *result;
    char *scratch;
};

/* Content that no other upload has, so that nothing is spared; cheap to make. */
static void fill(const struct upload *u, uint64_t offset, char *p, size_t n)
{
    uint64_t x = (u->number + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (offset + 1) * UINT64_C(0xd1342543de82ef95);
    for (size_t i = 0; i < n; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(p + i, &x, n - i < 8 ? n - i : 8);
    }
}

static size_t chunk_size(const struct run *r, unsigned n)
{
    uint64_t at = (uint64_t)n * r->o->chunk;
    return r->o->size - at < r->o->chunk ? (size_t)(r->o->size - at) : (size_t)r->o->chunk;
}

static void path_of(const struct upload *u, char ret[256])
{
    snprintf(ret, 256, "%s-%llu", u->run->o->prefix, (unsigned long long)u->number);
}

static void send_initiate(struct lane *l)
{
    const struct options *o = l->upload->run->o;
    char path[256], body[600];
    path_of(l->upload, path);
    int n = snprintf(body, sizeof body, "{\"drive\":\"%s\",\"path\":\"%s\",\"size\":%llu,\"chunkSize\":%llu}", o->drive, path, (unsigned long long)o->size,
                     (unsigned long long)o->chunk);
    link_request(&l->link, "POST", "/api/v1/upload/initiate", "Content-Type: application/json\r\n", body, (size_t)n);
}

static void send_chunk(struct lane *l)
{
    struct upload *u = l->upload;
    struct run *r = u->run;
    char path[128];
    unsigned n = u->next_chunk++;
    fill(u, (uint64_t)n * r->o->chunk, r->scratch, chunk_size(r, n));
    snprintf(path, sizeof path, "/api/v1/upload/%s/chunk/%u", u->session, n);
    link_request(&l->link, "POST", path, NULL, r->scratch, chunk_size(r, n));
}

static void send_complete(struct lane *l)
{
    char path[128];
    snprintf(path, sizeof path, "/api/v1/upload/%s/complete", l->upload->session);
    link_request(&l->link, "POST", path, "Content-Type: application/json\r\n", "{}", 2);
}

static void send_check(struct lane *l)
{
    char path[256];
    CLEANUP_BUF struct buf target = {0};
    path_of(l->upload, path);
    buf_appendf(&target, "/api/v1/files/content?drive=%s&path=%s", l->upload->run->o->drive, path);
    l->upload->hash = hash_stream_new();
    link_request(&l->link, "GET", target.data, NULL, NULL, 0);
}

static void over(struct lane *l)
{
    l->upload->run->pending--;
}

static void lane_begin(struct lane *l)
{
    static void (*const begin[])(struct lane *) = {send_initiate, send_chunk, send_complete, send_check};
    struct run *r = l->upload->run;
    if (l->upload->failed || (r->phase == CHUNKS && l->upload->next_chunk >= r->chunks))
        over(l);
    else
        begin[r->phase](l);
}

static void lane_failed(struct lane *l, const char *why)
{
    struct run *r = l->upload->run;
    l->upload->failed = true;
    result_failed(r->result, result_row(r->result, phase_names[r->phase]), why);
    over(l);
}

static bool keep_session(struct lane *l)
{
    CLEANUP_JSON json_t *answer = json_loadb(l->link.body.data ? l->link.body.data : "", l->link.body.len, 0, NULL);
    const char *session = json_string_value(json_object_get(answer, "sessionId"));
    snprintf(l->upload->session, sizeof l->upload->session, "%s", session ? session : "");
    return session;
}

static bool content_is_right(struct upload *u)
{
    struct run *r = u->run;
    struct hash got, wanted;
    hash_stream_final(u->hash, &got);
    struct hash_stream *s = hash_stream_new();
    for (unsigned n = 0; n < r->chunks; n++) {
        fill(u, (uint64_t)n * r->o->chunk, r->scratch, chunk_size(r, n));
        hash_stream_update(s, r->scratch, chunk_size(r, n));
    }
    hash_stream_final(s, &wanted);
    hash_stream_free(s);
    return hash_equal(&got, &wanted);
}

static void on_body(struct link *link, const char *p, size_t n)
{
    struct lane *l = (struct lane *)link;
    if (l->upload->run->phase == CHECK)
        hash_stream_update(l->upload->hash, p, n);
    else
        buf_append(&link->body, p, n);
}

static void on_answer(struct link *link, int status)
{
    struct lane *l = (struct lane *)link;
    struct run *r = l->upload->run;
    char why[100];
    if (status / 100 != 2) {
        snprintf(why, sizeof why, "%s: status %d %.60s", phase_names[r->phase], status, r->phase != CHECK && link->body.len ? link->body.data : "");
        lane_failed(l, why);
        return;
    }
    histogram_add(&result_row(r->result, phase_names[r->phase])->times, now_us() - link->began_us);
    if (r->phase == INITIATE && !keep_session(l)) {
        lane_failed(l, "initiate: no session");
    } else if (r->phase == CHECK && !content_is_right(l->upload)) {
        lane_failed(l, "the content that was read back is another");
    } else if (r->phase == CHUNKS) {
        r->result->bytes += r->o->chunk;
        lane_begin(l);
    } else {
        over(l);
    }
}

static void on_failure(struct link *link, const char *why)
{
    lane_failed((struct lane *)link, why);
}

void load_upload(const struct options *o, unsigned part, unsigned parts, struct result *ret)
{
    uint64_t count = o->count / parts + (part < o->count % parts);
    struct run r = {.o = o, .result = ret, .chunks = (unsigned)((o->size + o->chunk - 1) / o->chunk), .scratch = mem_alloc(o->chunk + 8)};
    if (client_init(&r.client, o->url, o->token, o->sources, o->limit) != 0)
        return;
    struct upload *uploads = mem_calloc(count, sizeof *uploads);
    struct lane *lanes = mem_calloc(count * o->parallel, sizeof *lanes);
    for (uint64_t i = 0; i < count; i++)
        uploads[i] = (struct upload){.run = &r, .number = part + i * parts};
    for (uint64_t i = 0; i < count * o->parallel; i++)
        lanes[i] = (struct lane){.upload = &uploads[i / o->parallel],
                                 .link = {.client = &r.client, .on_body = on_body, .on_answer = on_answer, .on_failure = on_failure}};
    uint64_t begin = now_us();
    bool in_time = true;
    for (r.phase = INITIATE; r.phase < PHASES && in_time; r.phase++) {
        unsigned each = r.phase == CHUNKS ? 1 : o->parallel; /* all of an upload's connections, or one */
        if (r.phase == CHECK)
            ret->seconds = (double)(now_us() - begin) / 1e6;
        for (uint64_t i = 0; i < count * o->parallel; i += each) {
            r.pending++;
            lane_begin(&lanes[i]);
        }
        while (r.pending && (in_time = client_step(&r.client, 100)))
            ret->ready = r.client.open > ret->ready ? r.client.open : ret->ready;
    }
    if (ret->seconds == 0)
        ret->seconds = (double)(now_us() - begin) / 1e6;
    ret->left_out = r.pending;
    for (uint64_t i = 0; i < count * o->parallel; i++)
        link_close(&lanes[i].link);
    for (uint64_t i = 0; i < count; i++)
        hash_stream_free(uploads[i].hash);
    free(lanes);
    free(uploads);
    free(r.scratch);
    client_fini(&r.client);
}
