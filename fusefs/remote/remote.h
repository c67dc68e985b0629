/* The gateway's API as C functions. Every call blocks; thread-safe (each call has a connection of its own, kept alive for the next).

   Errors: the errno that the gateway named, else -EHOSTUNREACH (no gateway could be reached, or it answered 502/503: worth waiting),
   -EACCES (401/403), -EPROTO (an answer that is none), -EMSGSIZE. A call tries once (but renews a token that is too old, and waits a little where the gateway
   asks for it by 429); remote_wait decides about more. */
#ifndef CAIRN_FUSEFS_REMOTE_REMOTE_H
#define CAIRN_FUSEFS_REMOTE_REMOTE_H
#include "common/buf.h"
#include "common/codec.h"
#include "common/hash.h"
#include "common/op.h"
#include "common/uuid.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct remote;
struct remote_problem { /* what the last failed call of this thread was told; for messages to people */
    long status;        /* HTTP, 0: not reached */
    char code[64];
    char detail[512];
    unsigned silent_ms; /* so long nothing was heard before it was given up */
};
/* url: "http://host:port". Takes the access token and (optional) refresh token; renews by itself and calls on_tokens
   (may be NULL) with new ones so that they can be saved. */
struct remote *remote_new(const char *url, const char *access, const char *refresh,
                          void (*on_tokens)(void *ctx, const char *access, const char *refresh), void *ctx);
void remote_free(struct remote *r);
/* Several programs may share one refresh token, which serves only once. Before renewing, `lock` is called (it may wait for the other program, and tells the tokens
   kept now, malloc'd, NULL where there are none); tokens newer than ours are taken instead of renewing. on_tokens saves, `unlock` ends it. */
struct remote_token_store {
    void (*lock)(void *ctx, char **ret_access, char **ret_refresh);
    void (*unlock)(void *ctx);
    void *ctx;
};
void remote_share_tokens(struct remote *r, const struct remote_token_store *store);
/* How long those who use r wait for a gateway that is away: one that says nothing is not waited for longer than that (and a second) before it is asked anew. Before other threads use r. */
void remote_set_timeout(struct remote *r, unsigned timeout_ms);
/* For callers that may wait for a gateway that is away: `struct remote_wait w = {.timeout_ms = T}; do err = …; while (remote_wait(&w, err));`
   Sleeps (50 ms, rising to 1 s) and returns true while err is -EHOSTUNREACH and the time is not over. The time runs since the gateway fell silent; one that was silent for
   all of it is asked once more, since there may be another one. */
struct remote_wait {
    unsigned timeout_ms;
    unsigned delay_ms; /* private: zero at first */
    int64_t until_ms;
};
bool remote_wait(struct remote_wait *w, int err);
const char *remote_url(const struct remote *r);
/* The access token now good; caller frees. For the stream's upgrade. */
char *remote_token(struct remote *r);
const struct remote_problem *remote_problem(void); /* this thread's */
/* Any JSON endpoint: path below the base URL with its query ("/api/v1/drives"). body may be NULL. ret_json NULL: ignored; else owned by the caller
   (NULL where the answer was empty). 0 on 2xx, else as above; `ret_status` may be NULL. */
int remote_json(struct remote *r, const char *method, const char *path, json_t *body, json_t **ret_json, long *ret_status);
/* Raw bodies. headers: NULL-terminated "Name: value" array or NULL. */
int remote_raw(struct remote *r, const char *method, const char *path, const char *const *headers, const void *body,
               size_t body_len, struct buf *ret_body, json_t **ret_headers /* lower-case names; may be NULL */, long *ret_status);
int remote_login(const char *url, const char *user, const char *password, const char *device, char **ret_access, char **ret_refresh);

/* ---- the driver's protocol, bound to a drive by remote_mount ---- */
struct remote_mount_info {
    struct uuid session, drive;
    char name[129], role[16];
    uint64_t root, seq, used, quota, ino_first, ino_count;
    unsigned lease_ms, heartbeat_ms;
    uint32_t inline_max, batch_max;
};
int remote_mount(struct remote *r, const char *drive, const char *device, const struct uuid *journal, bool read_only,
                 struct remote_mount_info *ret);
/* For reading without a mount: the calls below but remote_batch_send, remote_inodes and remote_unmount work from now on. */
void remote_bind(struct remote *r, const struct uuid *drive);
int remote_unmount(struct remote *r);
const struct remote_mount_info *remote_info(const struct remote *r);
int remote_inodes(struct remote *r, uint64_t count, uint64_t *ret_first);
/* ret_found false: the name is not there (as of *ret_seq). at 0: now. */
int remote_lookup(struct remote *r, uint64_t parent, const char *name, uint64_t at, uint64_t *ret_seq, bool *ret_found, struct attr *ret);
int remote_inode(struct remote *r, uint64_t ino, uint64_t at, uint64_t *ret_seq, struct attr *ret);
struct remote_entry {
    char *name;
    struct attr attr;
};
struct remote_page {
    uint64_t seq, parent;
    struct attr attr;      /* the directory's own */
    struct remote_entry *entries;
    size_t n;
    char *next; /* NULL at the end */
};
void remote_page_fini(struct remote_page *p);
int remote_directory(struct remote *r, uint64_t ino, uint64_t at, const char *after, unsigned limit, struct remote_page *ret);
int remote_dead(struct remote *r, uint64_t ino, const char *after, unsigned limit, struct remote_page *ret);
int remote_symlink(struct remote *r, uint64_t ino, uint64_t *ret_seq, char **ret_target);
/* [{name,value}…] as JSON of the protocol; owned by the caller. */
int remote_xattrs(struct remote *r, uint64_t ino, uint64_t at, uint64_t *ret_seq, json_t **ret);
struct remote_map { /* a piece of a version's chunk map */
    uint64_t ino, version, size, first;
    uint32_t chunk_size;
    int64_t mtime;
    int error;
    struct chunk_ref *chunks;
    size_t n;
};
struct remote_content { /* a chunk's plain bytes that came along */
    struct hash hash;
    void *bytes;
    uint32_t size;
};
struct remote_read {
    uint64_t seq;
    struct remote_map *maps;
    size_t n_maps;
    struct remote_content *contents; /* verified against their hashes */
    size_t n_contents;
};
struct remote_want {
    uint64_t ino, version /* 0 newest */, first, count;
};
void remote_read_fini(struct remote_read *r);
int remote_read(struct remote *r, const struct remote_want *wants, size_t n, uint32_t inline_max, struct remote_read *ret);
#define REMOTE_EXPECTED 32
/* h[0] is fetched next, and the others perhaps soon: where they lie in the object store is asked for, all at once, if it is not known. n ≤ REMOTE_EXPECTED. A hint:
   the only error is -EHOSTUNREACH, where asking for the chunk would be of no use either. */
int remote_expect(struct remote *r, const struct hash *h, size_t n);
/* Fetches one chunk, decoded and verified, into ret[0..size): from the object store where that can be, else through the gateway. -ENOENT, -EBADMSG. */
int remote_chunk_get(struct remote *r, const struct hash *h, void *ret, uint32_t size);
/* Sees to it that the drive has a chunk: brought straight to the object store where that can be, else through the gateway; compressed here if that helps. ask: it may have it already (then *ret_sent is
   false), which is worth finding out. */
int remote_chunk_bring(struct remote *r, const struct hash *h, const void *bytes, uint32_t size, bool ask, bool *ret_sent);
/* Whether it is worth bringing bytes to a URL of the object store; and that: p[0..n) by PUT with these headers (an object). False: they are not there, as far as is known. */
bool remote_may_bring(struct remote *r);
bool remote_bring_to(struct remote *r, const char *url, const json_t *headers, const void *p, uint32_t n);
int remote_missing(struct remote *r, const struct hash *h, size_t n, bool *ret_missing);
struct remote_inline {
    struct hash hash;
    uint32_t size;
    enum codec codec;
    struct buf stored;
};
/* A batch of operations and what is in their chunks. It is sent again until it is answered: the bytes are made once. lazy: the answer need not wait for the gateway's disk.
   head_len: what the head takes of them. */
void remote_batch_encode(struct remote *r, uint64_t batch, uint64_t confirmed, bool lazy, const struct op *ops, size_t n_ops,
                         const struct remote_inline *const *contents, size_t n_contents, struct buf *ret_body, size_t *ret_head_len);
/* results: the array of the answer, n_ops long, owned by the caller. 409 batch-out-of-order and batch-differs are -ESTALE with the number
   that the gateway knows (UINT64_MAX: it did not say). */
int remote_batch_send(struct remote *r, const struct buf *body, size_t head_len, size_t n_ops, json_t **ret_results, uint64_t *ret_seq, uint64_t *ret_last);
/* Chunks straight from and to the object store: on, unless this says no. Before other threads use r. */
void remote_set_direct(struct remote *r, bool on);
/* There is a gateway again, perhaps a newer one: what was not offered is asked for again (else after a minute). Never blocks. */
void remote_reconnected(struct remote *r);
struct remote_direct {
    const char *state;      /* "on", "off" (not wanted), "not offered", "unreachable", "unknown" (nothing was asked yet); static */
    uint64_t fetched, sent; /* plain bytes that did not pass the gateway */
};
void remote_direct_figures(struct remote *r, struct remote_direct *ret);
int remote_seq(struct remote *r, uint64_t *ret);
int remote_statfs(struct remote *r, uint64_t *ret_used, uint64_t *ret_quota, uint64_t *ret_files);
/* Touches as JSON array; -ESTALE for 410. */
int remote_changes(struct remote *r, uint64_t since, json_t **ret_changes, uint64_t *ret_next, bool *ret_more);
/* The last seq given at or before that time; 0: none. */
int remote_moment(struct remote *r, int64_t time_ns, uint64_t *ret_seq);
int remote_versions(struct remote *r, uint64_t parent, const char *name, uint64_t *ret_seq, json_t **ret_versions);
#endif
