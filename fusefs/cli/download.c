/* `get`: the file's chunk map first, then its chunks, several at a time, each verified against its hash. FILE.part is the resumable state and the whole of it:
   whatever in it already has the right hash is not fetched again, whichever version it came from. */
#include "common/jsonx.h"
#include "common/mem.h"
#include "fusefs/cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#define PARALLEL 4
#define MAP_PAGE 1024
#define WAIT_MS 60000

struct fetch {
    struct remote *r;
    uint64_t ino, version, size, n;
    uint32_t chunk_size;
    struct chunk_ref *refs;
    int fd; /* FILE.part, or stdout */
    bool stream;
    struct progress *progress;
    atomic_uint_fast64_t next, fetched;
    atomic_int error;
};

static void fetch_fini(struct fetch *f)
{
    free(f->refs);
    progress_free(f->progress);
}

static int read_map(struct fetch *f, uint64_t first, struct remote_read *ret)
{
    struct remote_want want = {.ino = f->ino, .version = f->version, .first = first, .count = MAP_PAGE};
    struct remote_wait w = {.timeout_ms = WAIT_MS};
    int err;
    do
        err = remote_read(f->r, &want, 1, 0, ret);
    while (!cli_interrupted() && remote_wait(&w, err));
    if (!err && (err = ret->maps[0].error))
        remote_read_fini(ret);
    return err;
}

static int fetch_map(struct fetch *f)
{
    for (uint64_t first = 0; first == 0 || first < f->n; first += MAP_PAGE) {
        CLEANUP(remote_read_fini) struct remote_read rd = {0};
        int err = read_map(f, first, &rd);
        if (err)
            return err;
        const struct remote_map *m = &rd.maps[0];
        if (first == 0) {
            f->size = m->size;
            f->chunk_size = chunk_size_valid(m->chunk_size) ? m->chunk_size : CHUNK_SIZE_DEFAULT;
            f->n = chunk_count(f->size, f->chunk_size);
            f->refs = mem_calloc(f->n, sizeof *f->refs);
        }
        if (m->size != f->size || m->n > f->n - first)
            return -EPROTO;
        for (size_t i = 0; i < m->n; i++) /* what is not told is a hole */
            f->refs[first + i] = m->chunks[i];
    }
    return 0;
}

static int write_all(int fd, const char *p, size_t n, int64_t at)
{
    while (n) {
        ssize_t k = at < 0 ? write(fd, p, n) : pwrite(fd, p, n, (off_t)at);
        if (k < 0 && errno == EINTR && !cli_interrupted())
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -EIO;
        p += k;
        n -= (size_t)k;
        at += at < 0 ? 0 : k;
    }
    return 0;
}

static bool have_already(const struct fetch *f, uint64_t n, char *bytes)
{
    const struct chunk_ref *ref = &f->refs[n];
    struct hash h;
    if (f->stream || pread(f->fd, bytes, ref->len, (off_t)(n * f->chunk_size)) != (ssize_t)ref->len)
        return false;
    hash_bytes(bytes, ref->len, &h);
    return hash_equal(&h, &ref->hash);
}

static int expect(struct fetch *f, uint64_t n)
{
    struct hash h[REMOTE_EXPECTED];
    size_t k = 0;
    for (uint64_t i = n; i < f->n && k < REMOTE_EXPECTED; i++)
        if (!hash_is_zero(&f->refs[i].hash))
            h[k++] = f->refs[i].hash;
    return remote_expect(f->r, h, k);
}

/* One chunk with the zeros behind its valid bytes. bytes: room for a chunk. */
static int fetch_chunk(struct fetch *f, uint64_t n, char *bytes)
{
    const struct chunk_ref *ref = &f->refs[n];
    uint32_t extent = chunk_length(f->size, f->chunk_size, n);
    int err = 0;
    bool hole = hash_is_zero(&ref->hash);
    if (ref->len > extent)
        return -EPROTO;
    if (!hole && !have_already(f, n, bytes)) {
        struct remote_wait w = {.timeout_ms = WAIT_MS};
        do {
            err = expect(f, n);
            if (!err)
                err = remote_chunk_get(f->r, &ref->hash, bytes, ref->len);
        } while (!cli_interrupted() && remote_wait(&w, err));
        if (err)
            return err;
        atomic_fetch_add(&f->fetched, 1);
        if (!f->stream)
            err = write_all(f->fd, bytes, ref->len, (int64_t)(n * f->chunk_size));
    }
    if (f->stream) {
        memset(bytes + ref->len, 0, extent - ref->len);
        err = write_all(f->fd, bytes, extent, -1);
    } else if (!err && ref->len < extent) {
        uint64_t at = n * f->chunk_size + ref->len; /* FILE.part may hold something else there */
        if (fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, extent - ref->len)) {
            memset(bytes, 0, extent - ref->len);
            err = write_all(f->fd, bytes, extent - ref->len, (int64_t)at);
        }
    }
    if (!err)
        progress_add(f->progress, extent);
    return err;
}

static void *fetcher(void *arg)
{
    struct fetch *f = arg;
    CLEANUP_FREE char *bytes = mem_alloc(f->chunk_size);
    uint64_t n;
    while (!atomic_load(&f->error) && (n = atomic_fetch_add(&f->next, 1)) < f->n) {
        int err = cli_interrupted() ? -EINTR : fetch_chunk(f, n, bytes);
        int none = 0;
        if (err)
            atomic_compare_exchange_strong(&f->error, &none, err);
    }
    return NULL;
}

static int fetch_all(struct fetch *f)
{
    f->progress = progress_new("fetching", f->size);
    pthread_t threads[PARALLEL];
    unsigned started = 0;
    while (!f->stream && started + 1 < PARALLEL && started + 1 < f->n && pthread_create(&threads[started], NULL, fetcher, f) == 0)
        started++;
    fetcher(f);
    while (started--)
        pthread_join(threads[started], NULL);
    progress_free(f->progress);
    f->progress = NULL;
    return atomic_load(&f->error);
}

/* ---- which file, and where to ---- */

static int bind_drive(struct remote *r, const struct target *from)
{
    CLEANUP_JSON json_t *o = NULL;
    int err = remote_json(r, "GET", "/api/v1/drives", NULL, &o, NULL);
    if (err)
        return cli_fail_remote(r, err, "your drives cannot be listed");
    const json_t *drives = json_object_get(o, "drives");
    for (int by_id = 1; by_id >= 0; by_id--)
        for (size_t i = 0; i < json_array_size(drives); i++) {
            const json_t *d = json_array_get(drives, i);
            struct uuid id;
            if (strcmp(cli_text(d, by_id ? "id" : "name"), from->drive) == 0 && uuid_parse(cli_text(d, "id"), &id) == 0) {
                remote_bind(r, &id);
                return 0;
            }
        }
    return cli_fail("you have no drive \"%s\" at %s: \"cairn drives\" lists them.", cli_name(from->drive), remote_url(r));
}

/* The inode that holds version `wanted` of the path: it may have been another one's, before a save by renaming. */
static int find_version(struct remote *r, const struct target *from, uint64_t wanted, struct fetch *f)
{
    CLEANUP_JSON json_t *file = NULL;
    if (wanted == 0) {
        if (cli_stat(r, from, &file))
            return CLI_FAILED;
        if (!file)
            return cli_fail("there is no %s:%s.", cli_name(from->drive), cli_name(from->path));
        if (strcmp(cli_text(file, "kind"), "file") != 0)
            return cli_fail("%s:%s is a %s, not a file.", cli_name(from->drive), cli_name(from->path), cli_name(cli_text(file, "kind")));
        f->ino = cli_number(file, "ino");
        f->version = cli_number(file, "version");
        return 0;
    }
    char *slash = strrchr(from->path, '/');
    CLEANUP_FREE char *dir = slash == from->path ? mem_strdup("/") : mem_dup(from->path, (size_t)(slash - from->path));
    struct target parent = {.drive = from->drive, .path = dir};
    if (cli_stat(r, &parent, &file))
        return CLI_FAILED;
    CLEANUP_JSON json_t *versions = NULL;
    uint64_t seq;
    int err = file ? remote_versions(r, cli_number(file, "ino"), slash + 1, &seq, &versions) : -ENOENT;
    if (err && err != -ENOENT)
        return cli_fail_remote(r, err, "%s:%s", cli_name(from->drive), cli_name(from->path));
    for (size_t i = 0; i < json_array_size(versions); i++) {
        const json_t *v = json_array_get(versions, i);
        if (cli_number(v, "version") == wanted && cli_number(v, "ino")) {
            f->ino = cli_number(v, "ino");
            f->version = wanted;
            return 0;
        }
    }
    return cli_fail("%s:%s has no version %llu: \"cairn versions\" lists them.", cli_name(from->drive), cli_name(from->path), (unsigned long long)wanted);
}

static char *local_name(const struct target *from, const char *file)
{
    const char *base = strrchr(from->path, '/') + 1;
    struct stat st;
    if (!file)
        return mem_strdup(base);
    if (file[strlen(file) - 1] == '/' || (stat(file, &st) == 0 && S_ISDIR(st.st_mode)))
        return mem_printf("%s%s%s", file, file[strlen(file) - 1] == '/' ? "" : "/", base);
    return mem_strdup(file);
}

static int fail_fetching(struct fetch *f, int err, const char *name)
{
    if (err == -EINTR)
        return cli_fail("stopped; %s.part is kept, and the same command goes on from there.", cli_name(name));
    if (err == -ENOSPC || err == -EFBIG || err == -EDQUOT)
        return cli_fail("%s cannot be written: %s.", cli_name(name), strerror(-err));
    if (err == -EPIPE && f->stream)
        return CLI_FAILED;
    if (err == -EBADMSG)
        return cli_fail("%s: the gateway sent bytes that are not what their hash says.", cli_name(name));
    return cli_fail_remote(f->r, err, "%s cannot be fetched", cli_name(name));
}

static int to_file(struct fetch *f, const char *name)
{
    CLEANUP_FREE char *part = mem_printf("%s.part", name);
    CLEANUP_CLOSE int fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return cli_fail("%s cannot be written: %s.", cli_name(part), strerror(errno));
    f->fd = fd;
    if (ftruncate(fd, (off_t)f->size))
        return cli_fail("%s cannot be written: %s.", cli_name(part), strerror(errno));
    int err = fetch_all(f);
    if (err)
        return fail_fetching(f, err, name);
    if (fsync(fd) || rename(part, name))
        return cli_fail("%s cannot be written: %s.", cli_name(name), strerror(errno));
    char size[32];
    unsigned long long fetched = atomic_load(&f->fetched);
    printf("%s  version %llu, %s: fetched %llu of %llu chunks\n", cli_name(name), (unsigned long long)f->version, cli_size(f->size, size), fetched,
           (unsigned long long)f->n);
    return cli_finish_output();
}

int download_file(struct remote *r, const struct target *from, const struct download *how)
{
    CLEANUP(fetch_fini) struct fetch f = {.r = r, .fd = -1};
    if (bind_drive(r, from) || find_version(r, from, how->version, &f))
        return CLI_FAILED;
    int err = f.version ? fetch_map(&f) : 0; /* version 0: never written, empty */
    if (err)
        return cli_fail_remote(r, err, "%s:%s", cli_name(from->drive), cli_name(from->path));
    if (how->file && strcmp(how->file, "-") == 0) {
        f.fd = STDOUT_FILENO;
        f.stream = true;
        err = fetch_all(&f);
        return err ? fail_fetching(&f, err, from->path) : CLI_DONE;
    }
    CLEANUP_FREE char *name = local_name(from, how->file);
    return to_file(&f, name);
}
