/* A file's bytes over HTTP: with a bearer token by its path, or by a signed URL. */
#include "common/clock.h"
#include "common/mem.h"
#include "gateway/api/answers.h"
#include "gateway/api/conditional.h"
#include "gateway/api/content_reader.h"
#include "gateway/api/files.h"
#include "gateway/api/history.h"
#include "gateway/api/signed_url.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#define URL_SECONDS 3600
#define URL_SECONDS_MAX (7 * 24 * 3600)

/* Types that a browser may be told: none of them can carry a script that would run with this site's rights. */
static const char *content_type(const char *name)
{
    static const struct {
        const char *extension, *type;
    } known[] = {
        {"txt", "text/plain; charset=utf-8"}, {"md", "text/plain; charset=utf-8"},  {"log", "text/plain; charset=utf-8"},
        {"csv", "text/csv; charset=utf-8"},   {"json", "application/json"},         {"pdf", "application/pdf"},
        {"png", "image/png"},                 {"jpg", "image/jpeg"},                {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},                 {"webp", "image/webp"},               {"mp4", "video/mp4"},
        {"webm", "video/webm"},               {"mp3", "audio/mpeg"},                {"ogg", "audio/ogg"},
        {"wav", "audio/wav"},                 {"zip", "application/zip"},           {"gz", "application/gzip"},
    };
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof known / sizeof *known; i++)
        if (strcasecmp(dot + 1, known[i].extension) == 0)
            return known[i].type;
    return "application/octet-stream";
}

/* RFC 6266: a plain name for the old, the true one for all others. */
static void add_disposition(struct call *c, const char *name)
{
    CLEANUP_BUF struct buf b = {0};
    buf_append_str(&b, "attachment; filename=\"");
    for (const char *p = name; *p; p++)
        buf_append(&b, *p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\' && *p != '%' ? p : "_", 1);
    buf_append_str(&b, "\"; filename*=UTF-8''");
    buf_append_percent(&b, name, strlen(name));
    call_add_header(c, "Content-Disposition", b.data);
}

static void add_last_modified(struct call *c, int64_t mtime)
{
    struct timespec ts = clock_timespec(mtime);
    struct tm tm;
    char text[64];
    gmtime_r(&ts.tv_sec, &tm);
    if (strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        call_add_header(c, "Last-Modified", text);
}

static enum call_state infected(struct call *c)
{
    return call_problem(c, 403, "infected", "this version is infected");
}

static int serve(struct call *c, struct meta_tx *tx, const struct version_row *v, const char *name, const char *cache)
{
    char etag[32], text[96];
    uint64_t from = 0, to = v->size;
    const char *if_none_match = call_header(c, "if-none-match"), *if_range = call_header(c, "if-range");
    struct content_reader *reader;

    if (v->quarantined) {
        infected(c);
        return 0;
    }
    snprintf(etag, sizeof etag, "\"%llu\"", (unsigned long long)v->version);
    enum range_kind range = range_parse(if_range && strcmp(if_range, etag) != 0 ? NULL : call_header(c, "range"), v->size, &from, &to);
    bool same = if_none_match && etag_listed(if_none_match, etag, true);
    if (!same && range == RANGE_NONE) {
        snprintf(text, sizeof text, "bytes */%llu", (unsigned long long)v->size);
        call_add_header(c, "Content-Range", text);
        call_problem(c, 416, "range-not-satisfiable", "the file has %llu bytes", (unsigned long long)v->size);
        return 0;
    }
    call_add_header(c, "ETag", etag);
    call_add_header(c, "Cache-Control", cache);
    if (same) {
        c->status = 304;
        return 0;
    }
    int err = content_reader_new(app_of(c), tx, v->ino, v, from, to, &reader);
    if (err)
        return err;
    add_last_modified(c, v->mtime);
    add_disposition(c, name);
    call_add_header(c, "Accept-Ranges", "bytes");
    if (range == RANGE_PART) {
        snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)from, (unsigned long long)to - 1, (unsigned long long)v->size);
        call_add_header(c, "Content-Range", text);
    }
    c->content_type = content_type(name);
    c->status = range == RANGE_PART ? 206 : 200;
    err = content_reader_serve(reader, c);
    if (err) { /* no header of an answer that is not given */
        buf_fini(&c->headers);
        c->content_type = NULL;
        c->status = 0;
    }
    return err;
}

/* Which version is asked for; false: a problem was filled. */
static bool version_wanted(struct call *c, struct place *p, struct version_row *ret)
{
    uint64_t number;
    const struct attr *a = &p->entry.attr;
    int err = place_query_u64(c, "version", &number);
    if (err == -EINVAL) {
        call_problem(c, 400, "bad-query", "version is a number");
        return false;
    }
    if (p->entry.ino && !S_ISREG(a->mode)) {
        call_problem(c, 409, S_ISDIR(a->mode) ? "is-a-directory" : "not-a-file", "%s is no file", p->path);
        return false;
    }
    if (err == -ENOENT || (p->entry.ino && number == a->version)) {
        if (!p->entry.ino)
            call_problem(c, 404, "not-found", "%s does not exist", p->path);
        *ret = (struct version_row){.ino = a->ino, .version = a->version, .size = a->size, .chunk_size = a->chunk_size,
                                    .mtime = a->mtime, .quarantined = a->quarantined};
        return p->entry.ino != 0;
    }
    CLEANUP(history_fini) struct history h = {0};
    err = history_of_path(p->tx, p->path, &h);
    if (err == 0)
        err = history_version(p->tx, &h, number, ret);
    if (err == -ENOENT)
        call_problem(c, 404, "version-not-found", "%s has no version %llu", p->path, (unsigned long long)number);
    else if (err)
        call_errno(c, err, p->path);
    return err == 0;
}

enum call_state file_content_get(struct call *c)
{
    struct version_row v;
    CLEANUP_PLACE struct place p = {0};
    if (!place_enter_query(c, ROLE_VIEWER, &p) || !version_wanted(c, &p, &v))
        return CALL_DONE;
    /* a version never changes; a path may hold another one any time */
    bool fixed = call_query(c, "version", NULL) != NULL;
    int err = serve(c, p.tx, &v, p.entry.name, fixed ? "private, max-age=86400, immutable" : "private, no-cache");
    return err ? call_errno(c, err, p.path) : CALL_DONE;
}

/* ---- signed URLs ---- */

static void append_base(struct call *c, struct buf *url)
{
    struct app *app = app_of(c);
    const char *host = call_header(c, "host");
    if (app->public_url)
        buf_append(url, app->public_url, strlen(app->public_url) - (app->public_url[strlen(app->public_url) - 1] == '/'));
    else if (host && *host && !host[strcspn(host, "/\\@?#\" <>")]) /* the name by which the asker reaches us */
        buf_appendf(url, "http://%s", host);
    else
        buf_appendf(url, "http://127.0.0.1:%d", http_server_port(app->server));
}

/* Which version of which file a URL is to be for, as it is kept (api/answers.h). */
struct target {
    uint64_t ino, version;
};

/* The newest version of the path, or the one that is asked for. False: the answer is made. */
static bool find_target(struct call *c, const struct drive_row *drive, const char *path, struct target *ret)
{
    struct version_row v;
    struct answer_name name;
    CLEANUP_PLACE struct place p = {0};
    CLEANUP_BUF struct buf kept = {0};
    bool newest = !call_query(c, "version", NULL);
    answer_name(&name, 'd', &drive->id, drive->seq, path, strlen(path));
    if (newest && answer_find(app_of(c), &name, &kept) && kept.len == sizeof *ret) {
        memcpy(ret, kept.data, sizeof *ret);
        return true;
    }
    if (!place_enter_drive(c, drive, path, ROLE_VIEWER, &p) || !version_wanted(c, &p, &v))
        return false;
    if (v.quarantined) {
        infected(c);
        return false;
    }
    *ret = (struct target){v.ino, v.version};
    buf_fini(&kept);
    buf_append(&kept, ret, sizeof *ret);
    answer_name(&name, 'd', &drive->id, p.tx->drive.seq, path, strlen(path));
    if (newest)
        answer_keep(app_of(c), &name, &kept);
    return true;
}

enum call_state file_download_url(struct call *c)
{
    struct drive_row drive;
    struct target t;
    uint64_t seconds = URL_SECONDS;
    CLEANUP_BUF struct buf url = {0};
    char until[CLOCK_TEXT];
    if (place_query_u64(c, "seconds", &seconds) == -EINVAL || seconds == 0 || seconds > URL_SECONDS_MAX)
        return call_problem(c, 400, "bad-query", "seconds is a number from 1 to %d", URL_SECONDS_MAX);
    const char *path = access_path_query(c, "path");
    if (!path || !answer_drive(c, &drive) || !find_target(c, &drive, path, &t))
        return CALL_DONE;
    const char *name = strrchr(path, '/') + 1;
    struct signed_file f = {drive.id, t.ino, t.version, clock_wall_ns() / 1000000000 + (int64_t)seconds};
    append_base(c, &url);
    buf_append_str(&url, "/d/");
    signed_url_make(app_of(c)->url_secret, &f, name, &url);
    buf_append_str(&url, "/");
    buf_append_percent(&url, name, strlen(name));
    clock_format_rfc3339(f.expires * 1000000000, until);
    call_json(c, 200, json_pack("{ssss}", "url", url.data, "expiresAt", until));
    return CALL_DONE;
}

static int signed_version(struct meta_tx *tx, const struct signed_file *f, struct version_row *ret)
{
    struct attr a;
    if (f->version)
        return tx->meta->ops->version(tx, f->ino, f->version, ret);
    /* never written to: empty, whatever was written since */
    int err = tx->meta->ops->inode(tx, f->ino, 0, &a);
    *ret = (struct version_row){.ino = f->ino, .mtime = err ? 0 : a.btime};
    return err;
}

enum call_state file_download(struct call *c)
{
    struct app *app = app_of(c);
    struct signed_file f;
    struct version_row v;
    struct meta_tx *tx;
    char cache[64];
    int64_t now = clock_wall_ns() / 1000000000;
    int err = signed_url_open(app->url_secret, c->params[0], c->params[1], now, &f);
    if (err == -ETIME)
        return call_problem(c, 403, "url-expired", "this URL was good until it expired");
    if (err)
        return call_problem(c, 403, "url-invalid", "this URL is not one of ours");
    err = app->meta->ops->snapshot(app->meta, &f.drive, &tx);
    if (err)
        return call_errno(c, err, "the drive");
    err = signed_version(tx, &f, &v);
    v.ino = f.ino;
    snprintf(cache, sizeof cache, "private, max-age=%lld, immutable", (long long)(f.expires - now));
    if (err == 0)
        err = serve(c, tx, &v, c->params[1], cache);
    app->meta->ops->rollback(tx);
    return err ? call_errno(c, err, "the file") : CALL_DONE;
}
