/* What every endpoint works with: the process's ports and services, and who is asking. */
#ifndef CAIRN_GATEWAY_API_APP_H
#define CAIRN_GATEWAY_API_APP_H
#include "gateway/core/coherence.h"
#include "gateway/core/drive_queue.h"
#include "gateway/ports/cache.h"
#include "gateway/ports/events.h"
#include "gateway/ports/meta.h"
#include "gateway/ports/objects.h"
#include "gateway/ports/scanner.h"
#include "gateway/server/http.h"

struct app {
    struct meta *meta;
    struct objects *objects;
    struct objects *near; /* the same with the shared cache before it, for what many read; NULL: objects */
    struct scanner *scanner; /* NULL: none */
    struct cache *cache;     /* what gateways share and may lose */
    struct cache *answers;   /* api/answers.c: of this process alone; NULL: no answers are kept, and cache is not asked for them */
    struct events *events;       /* messages to and from other processes */
    struct publisher *publisher; /* api/publisher.c: changes as messages; NULL where nobody else hears them */
    struct content_cache *content; /* api/content.c: decoded chunks, shared by all threads; NULL: none are kept */
    struct drive_queues *queues;
    struct http_server *server;
    struct uuid gateway;     /* this process */
    char advertised[GATEWAY_URL_MAX + 1]; /* where other gateways reach it; "" where there are none */
    struct peers *peers;     /* api/peers.h: the other gateways that share the metadata store; NULL: there are none */
    struct streams *streams; /* api/fs_stream.c: mounts' streams and the coherence of their drives */
    struct hub *hub;         /* api/stomp.c: subscribers of /ws, and long-polls of /changes */
    struct shared *shared;   /* api/shared.c: what gateways keep together through the cache; NULL: nothing */
    struct auth *auth;       /* api/auth.c: verified tokens, log-in attempts, threads for passwords; NULL: every token is looked up */
    struct ino_range *inodes; /* api/access.c: inode numbers that this process may give, per drive */
    struct roles *roles;      /* api/roles.c: who may do what, remembered for a moment */
    uint8_t token_secret[32], url_secret[32], peer_secret[32];
    const char *public_url; /* NULL: http://ADDR:PORT of the listener */
    bool embedded;
};

struct principal {
    struct uuid user, session;
    char name[65];
    char device[129];
    bool admin;
};

/* ---- api/auth.c ---- */
struct auth *auth_new(struct app *app);
void auth_free(struct auth *a); /* after the server has stopped */
bool auth_authenticate(struct call *c);            /* http_config.authenticate */
const char *auth_user_key(struct call *c);         /* http_config.user_key */
/* "Bearer JWT" → principal; 0 or -EACCES with *ret_code ("token-missing", "token-expired", "token-invalid"); another errno ("unavailable") where the
   metadata store cannot say whether the session still stands. Mostly answered from memory; may ask the metadata store, and so block, every few seconds. */
int auth_verify(struct app *app, const char *authorization, struct principal *ret, const char **ret_code);
/* A token good for `seconds`; caller frees. session zero: bound to none, it ends only with its time or its user. */
char *auth_issue(struct app *app, const struct user_row *u, const char *device, const struct uuid *session, int64_t seconds);
int auth_hash_password(const char *password, char **ret_phc);
static inline const struct principal *principal_of(const struct call *c)
{
    return c->principal;
}
static inline struct objects *objects_near(const struct app *app)
{
    return app->near ? app->near : app->objects;
}
static inline struct app *app_of(const struct call *c)
{
    return c->app;
}

/* ---- api/access.c: what each request checks first; each fills a problem and returns false on failure ---- */
/* Body as a JSON object; caller owns. NULL: a 400 was filled (bad-json). */
json_t *access_body(struct call *c);
/* `drive` (id or name, text may be NULL → 400) that the caller may use with at least this role: 404 `drive-not-found` (also for somebody else's), 409
   `drive-ambiguous`, 403 `read-only`. */
bool access_drive(struct call *c, const char *drive, enum role least, struct drive_row *ret);
/* Fills a drive_work's actor from the caller. */
void access_actor(struct call *c, struct actor *ret);
/* What a path must be, whatever is there: starts with '/', components of 1…255 bytes, none "." or "..". NULL, or what is wrong with it. */
const char *access_path_wrong(const char *path);
/* The query argument `name` as a path: NULL where a problem was filled (400 `bad-path`, `bad-utf8`). Borrowed from the call. */
const char *access_path_query(struct call *c, const char *name);
/* The same for a member of a JSON body. Borrowed from body. */
const char *access_path_member(struct call *c, const json_t *body, const char *name);
/* "/a/b/c" → directories resolved in the snapshot: *ret_parent, ret_name ("" for the root). 0, -ENOENT (parent), -ENOTDIR, -EINVAL (bad path). */
int access_path(struct meta_tx *tx, const char *path, uint64_t at, uint64_t *ret_parent, char ret_name[NAME_LEN_MAX + 1]);
/* A fresh inode number for something made over HTTP (ranges are reserved per process). */
int access_new_ino(struct app *app, const struct uuid *drive, uint64_t *ret);
int access_reserve_inodes(struct app *app, const struct uuid *drive, uint64_t count, uint64_t *ret_first);
void access_free(struct app *app);

/* ---- content: api/content.c; more of it in content.h ---- */
struct content_cache *content_cache_new(size_t max_bytes);
void content_cache_free(struct content_cache *c);
/* Reads a chunk's plain bytes, wherever they are (row, pack), verified. */
int content_chunk_read(struct app *app, const struct uuid *drive, const struct hash *h, struct buf *ret);
/* Stores plain bytes as a chunk: in its row where small as stored (CHUNK_INLINE_MAX), else as an object. Known ones are not stored again. */
int content_chunk_store(struct app *app, const struct uuid *drive, const void *p, size_t n, struct hash *ret);

/* ---- api/fs_stream.c ---- */
struct streams *streams_new(struct app *app);          /* its drive_listener is given to drive_queues_new */
struct drive_listener *streams_listener(struct streams *s);
extern const struct ws_protocol fs_stream_protocol;
void streams_start(struct streams *s); /* once server and queues are there: watches over sessions that still hold locks */
void streams_over(struct streams *s);    /* loop, http_config.ended: nobody is waited for any more */
bool streams_may_end(struct streams *s); /* loop, http_config.may_end: no other gateway trusts this one any more */
void streams_free(struct streams *s);  /* after the server has ended */
void streams_notice(struct streams *s, const struct uuid *user, const char *json); /* {t:"notice"} to that user's mounts */

void streams_notice_name(struct streams *s, const char *user, const char *json);         /* by the user's name */

/* ---- api/stomp.c ---- */
struct hub *hub_new(struct app *app);
extern const struct ws_protocol stomp_protocols[3];
void hub_stop(struct hub *h); /* hears nothing from other processes any more; before the server is freed */
void hub_free(struct hub *h); /* after the server has ended */
/* Works were committed: called by streams' listener on the queue's worker. Reads results only. */
void hub_committed(struct hub *h, const struct uuid *drive, const struct drive_work *works);
void hub_notify_user(struct hub *h, const struct uuid *user, json_t *message); /* /queue/sync, and that user's mounts; takes the reference; any thread */
void hub_upload_progress(struct hub *h, const struct uuid *user, json_t *message, const char *session_id, bool last);
struct waiter { /* part of what waits; the caller's own */
    struct uuid drive;
    uint64_t since;
    void (*fn)(struct waiter *all);
    int64_t deadline; /* the hub's */
    struct waiter *prev, *next;
};
/* Hands w to fn once, on a worker, when the drive passes `since`, after about wait_ms, or when the server drains: as a list (by next, NULL-terminated) of waiters for the same thing whose wait
   ended with the same event, so that one look can do for all. Called on a worker. */
void hub_wait(struct hub *h, struct waiter *w, unsigned wait_ms);

/* ---- tables of routes, one per file; joined in main.c ---- */
extern const struct route auth_routes[], drive_routes[], upload_routes[], file_routes[], version_routes[], change_routes[],
    fs_routes[], presence_routes[], actuator_routes[];
extern const size_t auth_routes_n, drive_routes_n, upload_routes_n, file_routes_n, version_routes_n, change_routes_n,
    fs_routes_n, presence_routes_n, actuator_routes_n;
#endif
