/* One HTTP exchange with a gateway, inside remote/: connections, tokens, and problem documents turned into errnos. */
#ifndef CAIRN_FUSEFS_REMOTE_HTTP_H
#define CAIRN_FUSEFS_REMOTE_HTTP_H
#include "common/curl_pool.h"
#include "fusefs/remote/direct.h"
#include "fusefs/remote/remote.h"

#define API "/api/v1"
#define FS API "/fs/v1/"
#define ANSWER_MAX (64u << 20) /* the longest JSON that is taken */
#define CHUNK_ANSWER_MAX (CHUNK_SIZE_MAX + (1u << 20))

struct remote {
    char *base; /* "http://host:port", no slash at the end */
    bool loopback;
    unsigned stall_s; /* set before there are other threads */
    struct curl_pool connections;
    struct direct direct;
    pthread_mutex_t lock; /* guards all below; never held across a network call */
    pthread_cond_t refreshed;
    char *access, *refresh;
    char refresh_key[UUID_TEXT]; /* Idempotency-Key for this refresh token */
    bool refreshing;
    void (*on_tokens)(void *ctx, const char *access, const char *refresh);
    void *ctx;
    struct remote_token_store store;
    struct remote_mount_info info;
    char drive[UUID_TEXT], session[UUID_TEXT], journal[UUID_TEXT], device[129];
};

struct http_request {
    const char *method, *path; /* path with its query, below the base URL */
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
    const char *content_type;   /* of the body */
    const void *body;
    size_t body_len;
    size_t limit;        /* a longer answer is -EMSGSIZE; 0: ANSWER_MAX */
    size_t expect;       /* room to have ready for the answer */
    unsigned timeout_ms; /* for the whole exchange, 0: only the stall time-out */
    bool compressed;     /* takes a compressed answer */
    bool open;           /* sent without a token */
    bool want_headers;
};
struct http_answer {
    long status;
    struct buf body;
    uint64_t head;  /* X-Cairn-Head, UINT64_MAX: absent or none */
    uint64_t size;  /* X-Cairn-Size, likewise */
    char codec[16]; /* X-Cairn-Codec, "" absent */
    uint64_t retry_after; /* seconds */
    json_t *headers;
};
void http_answer_fini(struct http_answer *a);
/* The exchange, with a renewed token where the first was too old, and after a wait where the gateway asked for one (429). 0 on 2xx; else the errno of
   remote.h, and remote_problem() tells more. a is filled in any case; the caller ends it. */
int http_exchange(struct remote *r, const struct http_request *req, struct http_answer *a);
/* One try with this token (NULL: none). */
int http_once(struct remote *r, const struct http_request *req, const char *token, struct http_answer *a);

/* What every handle of ours is given: no signals, HTTP/1.1, kept alive; no proxy for this machine. */
void http_set_transport(CURL *c, bool loopback, unsigned connect_ms);
/* Performs what c is set to; without a byte for stall_s it is CURLE_OPERATION_TIMEDOUT, and *ret_silent_ms says for how long there was none (0 with any other result).
   why: the failure in words; "" at first. */
CURLcode http_perform(CURL *c, unsigned stall_s, char why[CURL_ERROR_SIZE], unsigned *ret_silent_ms);

/* tokens.c: 0: there is a token other than `stale` now. -EACCES: sign in again. */
int tokens_renew(struct remote *r, const char *stale);

/* problem.c */
int problem_from_curl(CURLcode code, const char *detail, unsigned silent_ms);
int problem_from_answer(const struct http_answer *a); /* status is not 2xx */
int problem_protocol(const char *what);               /* -EPROTO: an answer that is none */
/* The answer's body as a JSON object; -EPROTO. */
int answer_object(const struct http_answer *a, json_t **ret);
/* GET below FS: appends nothing; the object is the caller's. */
int fs_get(struct remote *r, const struct buf *path, json_t **ret);
int fs_post(struct remote *r, const char *name, const json_t *body, json_t **ret);
/* The same with an answer in the framed form of docs/protocol.md: head + contents, which are appended. */
int fs_post_framed(struct remote *r, const char *name, const json_t *body, json_t **ret_head, struct buf *ret_contents);
/* "FS name ? drive=…": begins a path. */
void fs_path(struct remote *r, struct buf *ret, const char *name);
#endif
