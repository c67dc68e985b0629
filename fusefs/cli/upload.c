/* `put`: hash the file by chunks, tell the gateway, send what it does not have, several at a time. The session's id is kept in
   $XDG_STATE_HOME/cairn/uploads until the upload is complete, so that the same command goes on where an earlier one stopped. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"
#include "fusefs/cli/credentials.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#define PARALLEL 4
#define URLS_AT_ONCE 1024 /* as many as a gateway gives */
#define CHUNKS_WANTED 16384 /* a larger file gets larger chunks */
#define WAIT_MS 60000       /* for a gateway that is away */

struct upload {
    struct remote *r;
    const char *name;
    int fd;
    const struct target *to;
    struct stat st;
    uint32_t chunk_size;
    uint64_t n;
    struct hash *hashes;
    bool *missing;
    uint64_t n_missing;
    char session[UUID_TEXT];
    char *state_path;
    struct progress *progress;
    json_t *urls; /* number → {url, headers}: straight to the object store; not changed while there are senders */
    bool through_gateway; /* something that was brought to the store has not arrived there */
    atomic_uint_fast64_t next, sent;
    uint64_t end; /* of those that are sent now */
    atomic_int error;
    pthread_mutex_t lock; /* guards why */
    struct remote_problem why;
};

static void upload_fini(struct upload *u)
{
    free(u->hashes);
    free(u->missing);
    free(u->state_path);
    json_decref(u->urls);
    progress_free(u->progress);
    pthread_mutex_destroy(&u->lock);
}

/* ---- the session on disk ---- */

static char *state_path_of(const struct upload *u)
{
    CLEANUP_FREE char *key = mem_printf("%s\n%s\n%s\n%llu %llu %lld %lld.%09ld", remote_url(u->r), u->to->drive, u->to->path,
                                        (unsigned long long)u->st.st_dev, (unsigned long long)u->st.st_ino, (long long)u->st.st_size,
                                        (long long)u->st.st_mtim.tv_sec, u->st.st_mtim.tv_nsec);
    struct hash h;
    char hex[HASH_HEX_LEN + 1];
    hash_bytes(key, strlen(key), &h);
    hash_hex(&h, hex);
    hex[32] = 0;
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/')
        return mem_printf("%s/cairn/uploads/%s.json", xdg, hex);
    return mem_printf("%s/.local/state/cairn/uploads/%s.json", home && home[0] ? home : "/root", hex);
}

static void remember_session(const struct upload *u)
{
    CLEANUP_JSON json_t *o = json_pack("{sssIss*}", "sessionId", u->session, "chunkSize", (json_int_t)u->chunk_size, "file", u->name);
    CLEANUP_BUF struct buf text = {0};
    if (!o) /* a name that is no UTF-8 */
        o = json_pack("{sssI}", "sessionId", u->session, "chunkSize", (json_int_t)u->chunk_size);
    jsonx_dump(o, &text);
    int err = cli_replace_file(u->state_path, text.data, text.len);
    if (err)
        cli_note("cairn: %s cannot be written (%s): an interrupted upload would begin anew.", u->state_path, strerror(-err));
}

static bool recall_session(struct upload *u)
{
    size_t n = 0;
    CLEANUP_FREE char *text = cli_read_file(u->state_path, 65536, &n);
    CLEANUP_JSON json_t *o = text ? jsonx_parse(text, n, NULL) : NULL;
    const char *session;
    struct uuid id;
    uint32_t chunk_size;
    if (jsonx_str(o, "sessionId", &session) || uuid_parse(session, &id) || jsonx_u32(o, "chunkSize", &chunk_size) || !chunk_size_valid(chunk_size))
        return false;
    uuid_text(&id, u->session);
    u->chunk_size = chunk_size;
    return true;
}

/* ---- what there is to send ---- */

static int read_chunk(const struct upload *u, uint64_t n, void *p, uint32_t len)
{
    for (uint32_t got = 0; got < len;) {
        ssize_t k = pread(u->fd, (char *)p + got, len - got, (off_t)(n * u->chunk_size + got));
        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -ESTALE; /* it has become shorter */
        got += (uint32_t)k;
    }
    return 0;
}

static int hash_file(struct upload *u)
{
    uint64_t size = (uint64_t)u->st.st_size;
    u->n = chunk_count(size, u->chunk_size);
    u->hashes = mem_calloc(u->n, sizeof *u->hashes);
    u->missing = mem_calloc(u->n, sizeof *u->missing);
    CLEANUP_FREE char *bytes = mem_alloc(u->chunk_size);
    u->progress = progress_new("hashing", size);
    int err = 0;
    for (uint64_t i = 0; i < u->n && !err; i++) {
        uint32_t len = chunk_length(size, u->chunk_size, i);
        err = cli_interrupted() ? -EINTR : read_chunk(u, i, bytes, len);
        if (err)
            break;
        hash_bytes(bytes, len, &u->hashes[i]);
        progress_add(u->progress, len);
    }
    progress_free(u->progress);
    u->progress = NULL;
    if (err == -EINTR)
        return cli_fail("stopped before anything of %s was sent.", cli_name(u->name));
    return err ? cli_fail("%s cannot be read: %s.", cli_name(u->name), err == -ESTALE ? "it changes while it is read" : strerror(-err)) : 0;
}

static int take_missing(struct upload *u, const json_t *o)
{
    json_t *rows;
    if (jsonx_arr(o, "missing", &rows))
        return -EPROTO;
    u->n_missing = 0;
    memset(u->missing, 0, u->n * sizeof *u->missing);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        if (!json_is_integer(row) || json_integer_value(row) < 0 || (uint64_t)json_integer_value(row) >= u->n)
            return -EPROTO;
        bool *m = &u->missing[json_integer_value(row)];
        u->n_missing += !*m;
        *m = true;
    }
    return 0;
}

static json_t *initiate_body(const struct upload *u)
{
    json_t *body = json_object(), *chunks = json_array();
    json_object_set_new(body, "drive", json_string(u->to->drive));
    json_object_set_new(body, "path", json_string(u->to->path));
    json_object_set_new(body, "size", json_integer(u->st.st_size));
    json_object_set_new(body, "chunkSize", json_integer(u->chunk_size));
    if (S_ISREG(u->st.st_mode))
        json_object_set_new(body, "mode", json_integer(u->st.st_mode & 0777));
    for (uint64_t i = 0; i < u->n; i++) {
        char hex[HASH_HEX_LEN + 1];
        hash_hex(&u->hashes[i], hex);
        json_array_append_new(chunks, json_pack("{sIsssI}", "n", (json_int_t)i, "sha256", hex, "size",
                                                (json_int_t)chunk_length((uint64_t)u->st.st_size, u->chunk_size, i)));
    }
    json_object_set_new(body, "chunks", chunks);
    return body;
}

static int ask(struct upload *u, const char *method, const char *what, json_t *body, json_t **ret)
{
    CLEANUP_FREE char *path = mem_printf("/api/v1/upload/%s%s", u->session, what);
    struct remote_wait w = {.timeout_ms = WAIT_MS};
    int err;
    do
        err = remote_json(u->r, method, path, body, ret, NULL);
    while (!cli_interrupted() && remote_wait(&w, err));
    return err == 0 && !*ret ? -EPROTO : err;
}

static int initiate(struct upload *u)
{
    CLEANUP_JSON json_t *body = initiate_body(u);
    CLEANUP_JSON json_t *o = NULL;
    const char *session;
    struct uuid id;
    int err = remote_json(u->r, "POST", "/api/v1/upload/initiate", body, &o, NULL);
    if (!err && (jsonx_str(o, "sessionId", &session) || uuid_parse(session, &id)))
        err = -EPROTO;
    if (!err)
        err = take_missing(u, o);
    u->urls = json_incref(json_object_get(o, "uploadUrls"));
    if (err)
        return cli_fail_remote(u->r, err, "%s cannot be put at %s:%s", cli_name(u->name), cli_name(u->to->drive), cli_name(u->to->path));
    uuid_text(&id, u->session);
    if (u->n_missing) /* else it is over in a moment */
        remember_session(u);
    return 0;
}

/* Goes on where an earlier command stopped; else begins. */
static int begin(struct upload *u)
{
    if (!u->session[0])
        return initiate(u);
    CLEANUP_JSON json_t *o = NULL;
    int err = ask(u, "GET", "/missing-chunks", NULL, &o);
    if (err == -EHOSTUNREACH)
        return cli_fail_remote(u->r, err, "%s cannot be put", cli_name(u->name));
    if (err == 0 && take_missing(u, o) == 0)
        return 0;
    u->session[0] = 0; /* it has run out, or was cancelled */
    unlink(u->state_path);
    return initiate(u);
}

/* ---- sending ---- */

static bool bring(struct upload *u, uint64_t n, const char *bytes, uint32_t len)
{
    char key[24];
    const char *url;
    json_t *headers;
    struct hash h;
    snprintf(key, sizeof key, "%llu", (unsigned long long)n);
    const json_t *place = json_object_get(u->urls, key);
    if (len <= CHUNK_INLINE_MAX /* the gateway keeps these in rows */ || !place || jsonx_str(place, "url", &url) || jsonx_obj(place, "headers", &headers))
        return false;
    hash_bytes(bytes, len, &h);
    return hash_equal(&h, &u->hashes[n]) && remote_bring_to(u->r, url, headers, bytes, len);
}

static int send_chunk(struct upload *u, uint64_t n, char *bytes)
{
    uint32_t len = chunk_length((uint64_t)u->st.st_size, u->chunk_size, n);
    int err = read_chunk(u, n, bytes, len);
    if (err)
        return err;
    if (bring(u, n, bytes, len)) {
        progress_add(u->progress, len);
        return 0;
    }
    char hex[HASH_HEX_LEN + 1];
    hash_hex(&u->hashes[n], hex);
    CLEANUP_FREE char *header = mem_printf("X-Chunk-SHA256: %s", hex);
    CLEANUP_FREE char *path = mem_printf("/api/v1/upload/%s/chunk/%llu", u->session, (unsigned long long)n);
    const char *headers[] = {header, NULL};
    struct remote_wait w = {.timeout_ms = WAIT_MS};
    do
        err = remote_raw(u->r, "POST", path, headers, bytes, len, NULL, NULL, NULL);
    while (!cli_interrupted() && remote_wait(&w, err));
    if (err == 0)
        progress_add(u->progress, len);
    return err;
}

static void *sender(void *arg)
{
    struct upload *u = arg;
    CLEANUP_FREE char *bytes = mem_alloc(u->chunk_size);
    uint64_t n;
    while (!atomic_load(&u->error) && (n = atomic_fetch_add(&u->next, 1)) < u->end) {
        if (!u->missing[n])
            continue;
        int err = cli_interrupted() ? -EINTR : send_chunk(u, n, bytes);
        int none = 0;
        if (err == 0) {
            atomic_fetch_add(&u->sent, 1);
        } else if (atomic_compare_exchange_strong(&u->error, &none, err)) {
            ACQUIRE_LOCK_FOR_CURRENT_SCOPE(&u->lock);
            u->why = *remote_problem();
        }
    }
    return NULL;
}

/* URLs for the chunks that are missing in [from, *ret_to), which end where as many are missing as are asked for at once. None, and all of them, where none are of use. */
static void ask_urls(struct upload *u, uint64_t from, uint64_t *ret_to)
{
    *ret_to = u->n;
    if (u->through_gateway || !remote_may_bring(u->r)) {
        json_decref(u->urls);
        u->urls = NULL;
        return;
    }
    CLEANUP_JSON json_t *chunks = json_array();
    for (uint64_t n = from; n < u->n && json_array_size(chunks) < URLS_AT_ONCE; n++) {
        char hex[HASH_HEX_LEN + 1];
        *ret_to = n + 1;
        if (!u->missing[n])
            continue;
        hash_hex(&u->hashes[n], hex);
        json_array_append_new(chunks, json_pack("{sIss}", "n", (json_int_t)n, "sha256", hex));
    }
    if (from == 0 && u->urls) /* those that came with the beginning */
        return;
    CLEANUP_JSON json_t *body = json_pack("{sO}", "chunks", chunks), *o = NULL;
    CLEANUP_FREE char *path = mem_printf("/api/v1/upload/%s/urls", u->session);
    json_decref(u->urls);
    u->urls = NULL;
    if (remote_json(u->r, "POST", path, body, &o, NULL) == 0) /* else the gateway takes them */
        u->urls = json_incref(json_object_get(o, "uploadUrls"));
    if (!u->urls)
        *ret_to = u->n;
}

static void send_range(struct upload *u, uint64_t from, uint64_t to)
{
    atomic_store(&u->next, from);
    u->end = to;
    pthread_t threads[PARALLEL];
    unsigned n_threads = u->n_missing < PARALLEL ? (unsigned)u->n_missing : PARALLEL, started = 0;
    while (started + 1 < n_threads && pthread_create(&threads[started], NULL, sender, u) == 0)
        started++;
    sender(u);
    while (started--)
        pthread_join(threads[started], NULL);
}

static int send_missing(struct upload *u)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < u->n; i++)
        total += u->missing[i] ? chunk_length((uint64_t)u->st.st_size, u->chunk_size, i) : 0;
    u->progress = progress_new("sending", total);
    for (uint64_t from = 0, to; from < u->n && !atomic_load(&u->error); from = to) {
        ask_urls(u, from, &to);
        send_range(u, from, to);
    }
    progress_free(u->progress);
    u->progress = NULL;
    return atomic_load(&u->error);
}

static int fail_sending(struct upload *u, int err)
{
    unsigned long long sent = atomic_load(&u->sent), left = u->n_missing - sent;
    if (err == -EINTR)
        return cli_fail("stopped; %llu chunks of %s are still to be sent. The same command goes on from there.", left, cli_name(u->name));
    if (err == -ESTALE && u->why.status == 0)
        return cli_fail("%s has changed while it was sent: run the same command again.", cli_name(u->name));
    const char *why = u->why.detail[0] ? u->why.detail : strerror(-err);
    return cli_fail("%s: %llu chunks could not be sent: %s. The same command goes on from there.", cli_name(u->name), left, cli_name(why));
}

static int complete(struct upload *u, json_t **ret)
{
    for (int tries = 0;; tries++) {
        int err = u->n_missing ? send_missing(u) : 0;
        if (err)
            return fail_sending(u, err);
        CLEANUP_JSON json_t *body = json_object();
        err = ask(u, "POST", "/complete", body, ret);
        if (err == 0)
            return 0;
        CLEANUP_JSON json_t *still = NULL;
        u->through_gateway = true;
        bool missing = remote_problem()->status == 409 && tries < 3;
        if (!missing || ask(u, "GET", "/missing-chunks", NULL, &still) || take_missing(u, still) || !u->n_missing) {
            if (err != -EHOSTUNREACH)
                unlink(u->state_path); /* it would fail for ever */
            return cli_fail_remote(u->r, err, "the upload of %s cannot be completed", cli_name(u->name));
        }
    }
}

static bool same_tree(const struct upload *u, const json_t *o)
{
    struct hash tree, told;
    hash_bytes(u->hashes, u->n * sizeof *u->hashes, &tree);
    return hash_parse(cli_text(o, "treeHash"), &told) || hash_equal(&tree, &told);
}

int upload_file(struct remote *r, const char *name, int fd, const struct target *to, struct upload_figures *figures)
{
    CLEANUP(upload_fini) struct upload u = {.r = r, .name = name, .fd = fd, .to = to, .chunk_size = CHUNK_SIZE_DEFAULT};
    pthread_mutex_init(&u.lock, NULL);
    if (fstat(fd, &u.st))
        return cli_fail("%s cannot be read: %s.", cli_name(name), strerror(errno));
    while (chunk_count((uint64_t)u.st.st_size, u.chunk_size) > CHUNKS_WANTED && u.chunk_size < CHUNK_SIZE_MAX)
        u.chunk_size *= 2;
    u.state_path = state_path_of(&u);
    recall_session(&u);
    int status = hash_file(&u);
    if (status == 0)
        status = begin(&u);
    uint64_t there = u.n - u.n_missing;
    CLEANUP_JSON json_t *o = NULL;
    if (status == 0)
        status = complete(&u, &o);
    if (status)
        return status;
    unlink(u.state_path);
    figures->files++;
    figures->chunks += u.n;
    figures->sent += atomic_load(&u.sent);
    figures->bytes += (uint64_t)u.st.st_size;
    if (!same_tree(&u, o))
        return cli_fail("what the gateway made of %s is not what was sent (treeHash differs).", cli_name(name));
    printf("%s → %s:%s  version %llu: sent %llu of %llu chunks (%llu already there)\n", cli_name(name), cli_name(to->drive), cli_name(to->path),
           (unsigned long long)cli_number(o, "version"), (unsigned long long)atomic_load(&u.sent), (unsigned long long)u.n, (unsigned long long)there);
    const char *conflict = cli_text(o, "conflict");
    if (conflict[0])
        cli_note("The file was changed meanwhile: yours is kept as %s.", cli_name(conflict));
    return 0;
}
